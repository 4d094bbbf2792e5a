"""Recurrent neural networks as pure functions in JAX, equal to PyTorch's to rounding error.

Cells (`rnn`, `rnn_relu`, `lstm`, `gru`, your own) are NamedTuples of pure functions; `unroll` runs any of them over a
sequence on one `lax.scan`; `RNN`, `LSTM` and `GRU` are torch.nn's layers with torch's arguments and parameter names.
All of it is made for `jax.jit`, `jax.grad`, `jax.vmap` and the rest of JAX's transformations.

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.lstm.init(jax.random.key(0), 3, 8)
>>> state, ys = jr.unroll(jr.lstm, params, jnp.ones((5, 2, 3)))
>>> ys.shape
(5, 2, 8)
"""

from ._affine import AffineParams as AffineParams
from ._affine import affine_cell as affine_cell
from ._cell import Cell as Cell
from ._embedding import Embedding as Embedding
from ._generate import generate as generate
from ._gru import gru as gru
from ._linear import Linear as Linear
from ._lstm import LSTMParams as LSTMParams
from ._lstm import LSTMState as LSTMState
from ._lstm import lstm as lstm
from ._networks import GRU as GRU
from ._networks import LSTM as LSTM
from ._networks import RNN as RNN
from ._rnn import rnn as rnn
from ._rnn import rnn_relu as rnn_relu
from ._stack import stack as stack
from ._unroll import unroll as unroll

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AffineParams",
    "Cell",
    "Embedding",
    "LSTMParams",
    "LSTMState",
    "Linear",
    "affine_cell",
    "generate",
    "gru",
    "lstm",
    "rnn",
    "rnn_relu",
    "stack",
    "unroll",
]

__version__ = "0.1.0"
