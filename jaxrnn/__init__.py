"""Recurrent neural networks as pure functions in JAX, equal to PyTorch's to rounding error.

Cells (`rnn`, `rnn_relu`, `lstm`, `gru`, your own) are NamedTuples of pure functions; `unroll` runs any of them over a
sequence, in compiled scans or kernels; `RNN`, `LSTM` and `GRU` are torch.nn's layers with torch's arguments and names.
All of it is made for `jax.jit`, `jax.grad`, `jax.vmap` and the rest of JAX's transformations.

    rnn, rnn_relu       cells: Elman's network, with tanh or relu
    lstm                cell: long short-term memory, with or without projection
    gru                 cell: gated recurrent unit, reset after the product
    gru_reset_before    the same, reset before the product
    stack               cells on top of each other, as one cell
    affine_cell         a cell of your own from its gates
    Cell                a cell of your own from its functions: init, initial_state, step, output
    Affine              what `affine_cell` tells others of a step: project, merge, gates
    AffineParams        parameters of rnn, rnn_relu, gru and of what affine_cell makes
    LSTMParams          parameters of lstm
    LSTMState           state of lstm: h and c
    unroll              a cell over a sequence, or a ragged batch of them
    cast                the floating-point arrays of a pytree in another dtype, for mixed precision
    generate            a step on its own outputs
    RNN                 torch.nn.RNN: layers of Elman cells
    LSTM                torch.nn.LSTM: layers of long short-term memory
    GRU                 torch.nn.GRU: layers of gated recurrent units
    Linear              torch.nn.Linear
    Embedding           torch.nn.Embedding
    jaxrnn.dynamics     Jacobians, Lyapunov exponents, fixed points, memory
    jaxrnn.gradients    gradients by truncated BPTT, RTRL, SnAp, UORO and more; compare, flow, check_gradient
    jaxrnn.interop      trained weights from elsewhere and to there, files
    jaxrnn.linen        the networks and cells as flax.linen modules
    jaxrnn.native       compiled kernels on a CPU: whether they run, and how to keep them out
    jaxrnn.nnx          the same as flax.nnx modules
    jaxrnn.training     an Optax loop that resumes bit for bit

>>> import jax, jax.numpy as jnp, jaxrnn as jr
>>> params = jr.lstm.init(jax.random.key(0), 3, 8)
>>> state, ys = jr.unroll(jr.lstm, params, jnp.ones((5, 2, 3)))
>>> ys.shape
(5, 2, 8)
"""

from . import native as native
from ._cells.affine import AffineParams as AffineParams
from ._cells.affine import affine_cell as affine_cell
from ._cells.gru import gru as gru
from ._cells.gru_reset_before import gru_reset_before as gru_reset_before
from ._cells.lstm import LSTMParams as LSTMParams
from ._cells.lstm import LSTMState as LSTMState
from ._cells.lstm import lstm as lstm
from ._cells.rnn import rnn as rnn
from ._cells.rnn import rnn_relu as rnn_relu
from ._cells.stack import stack as stack
from ._core.cell import Affine as Affine
from ._core.cell import Cell as Cell
from ._core.numerics import cast as cast
from ._layers.embedding import Embedding as Embedding
from ._layers.linear import Linear as Linear
from ._layers.networks import GRU as GRU
from ._layers.networks import LSTM as LSTM
from ._layers.networks import RNN as RNN
from ._scan.generate import generate as generate
from ._scan.unroll import unroll as unroll

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Affine",
    "AffineParams",
    "Cell",
    "Embedding",
    "LSTMParams",
    "LSTMState",
    "Linear",
    "affine_cell",
    "cast",
    "generate",
    "gru",
    "gru_reset_before",
    "lstm",
    "native",
    "rnn",
    "rnn_relu",
    "stack",
    "unroll",
]

__version__ = "0.1.0"
