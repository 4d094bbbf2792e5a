"""Compiled kernels that run a whole sequence of an Elman network, a GRU or an LSTM on a CPU, and its gradient."""
