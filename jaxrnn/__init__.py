"""Recurrent neural networks as pure functions in JAX, equal to PyTorch's to rounding error.

Cells (`rnn`, `rnn_relu`, `lstm`, `gru`, your own) are NamedTuples of pure functions; `unroll` runs any of them over a
sequence, in compiled scans or kernels; `RNN`, `LSTM` and `GRU` are torch.nn's layers with torch's arguments and names.
All of it is made for `jax.jit`, `jax.grad`, `jax.vmap` and the rest of JAX's transformations.

    rnn, rnn_relu       cells: Elman's network, with tanh or relu
    lstm                cell: long short-term memory, with or without projection
    lstm_peephole       the same with peepholes, whose gates see the cell
    gru                 cell: gated recurrent unit, reset after the product
    gru_reset_before    the same, reset before the product
    mgu                 cell: minimal gated unit
    mgu_without_reset   the same, whose gate mixes alone
    conv_lstm           cell: convolutional LSTM, of images, signals or volumes
    leaky_rnn           a cell of leaky units: a continuous-time network by Euler's method
    indrnn              cell: units that see themselves alone
    antisymmetric_rnn   a cell that is a stable differential equation by Euler's method
    cornn               a cell of coupled oscillators
    slstm               cell: long short-term memory with an exponential input gate
    layer_norm_rnn      cells with layer normalisation: Elman's network, ...
    layer_norm_gru      ... gated recurrent unit, ...
    layer_norm_lstm     ... long short-term memory
    orthogonal_cell     a cell whose recurrent weights stay orthogonal
    stack               cells on top of each other, as one cell
    affine_cell         a cell of your own from its gates
    Cell                a cell of your own from its functions: init, initial_state, step, output
    Affine              what `affine_cell` tells others of a step: project, merge, gates
    AffineParams        parameters of rnn, rnn_relu, gru, mgu, conv_lstm, of what affine_cell makes, and of others
    LSTMParams          parameters of lstm
    LSTMPeepholeParams  parameters of lstm_peephole
    LSTMState           state of lstm, lstm_peephole and conv_lstm: h and c
    CoRNNState          state of cornn: y and z
    SLSTMState          state of slstm: h, c, n and m
    LayerNormRNNParams  parameters of layer_norm_rnn
    LayerNormGRUParams  parameters of layer_norm_gru
    LayerNormLSTMParams  parameters of layer_norm_lstm
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
    jaxrnn.remedies     against vanishing and exploding gradients: initialisations, regularisers, zoneout, dropout
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
from ._cells.antisymmetric_rnn import antisymmetric_rnn as antisymmetric_rnn
from ._cells.conv_lstm import conv_lstm as conv_lstm
from ._cells.cornn import CoRNNState as CoRNNState
from ._cells.cornn import cornn as cornn
from ._cells.gru import gru as gru
from ._cells.gru_reset_before import gru_reset_before as gru_reset_before
from ._cells.indrnn import indrnn as indrnn
from ._cells.layer_norm import LayerNormGRUParams as LayerNormGRUParams
from ._cells.layer_norm import LayerNormLSTMParams as LayerNormLSTMParams
from ._cells.layer_norm import LayerNormRNNParams as LayerNormRNNParams
from ._cells.layer_norm import layer_norm_gru as layer_norm_gru
from ._cells.layer_norm import layer_norm_lstm as layer_norm_lstm
from ._cells.layer_norm import layer_norm_rnn as layer_norm_rnn
from ._cells.leaky_rnn import leaky_rnn as leaky_rnn
from ._cells.lstm import LSTMParams as LSTMParams
from ._cells.lstm import LSTMState as LSTMState
from ._cells.lstm import lstm as lstm
from ._cells.lstm_peephole import LSTMPeepholeParams as LSTMPeepholeParams
from ._cells.lstm_peephole import lstm_peephole as lstm_peephole
from ._cells.mgu import mgu as mgu
from ._cells.mgu import mgu_without_reset as mgu_without_reset
from ._cells.orthogonal_cell import orthogonal_cell as orthogonal_cell
from ._cells.rnn import rnn as rnn
from ._cells.rnn import rnn_relu as rnn_relu
from ._cells.slstm import SLSTMState as SLSTMState
from ._cells.slstm import slstm as slstm
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
    "CoRNNState",
    "Embedding",
    "LSTMParams",
    "LSTMPeepholeParams",
    "LSTMState",
    "LayerNormGRUParams",
    "LayerNormLSTMParams",
    "LayerNormRNNParams",
    "Linear",
    "SLSTMState",
    "affine_cell",
    "antisymmetric_rnn",
    "cast",
    "conv_lstm",
    "cornn",
    "generate",
    "gru",
    "gru_reset_before",
    "indrnn",
    "layer_norm_gru",
    "layer_norm_lstm",
    "layer_norm_rnn",
    "leaky_rnn",
    "lstm",
    "lstm_peephole",
    "mgu",
    "mgu_without_reset",
    "native",
    "orthogonal_cell",
    "rnn",
    "rnn_relu",
    "slstm",
    "stack",
    "unroll",
]

__version__ = "0.1.0"
