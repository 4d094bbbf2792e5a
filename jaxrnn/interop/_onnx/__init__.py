"""ONNX's operators RNN, LSTM and GRU, and models of them."""
