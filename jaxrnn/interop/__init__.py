"""Trained recurrent networks from elsewhere, and to there.

What is exchanged is a spec and its params: a layer of jaxrnn with its parameters, or a dict of layers and one of
parameters under the same names. Packages are imported where they are used, and need not be installed.

    from_torch, to_torch        torch: modules, state_dicts, and files, which are read without running code in them
    from_linen, to_linen        flax.linen: variables
    from_nnx, to_nnx            flax.nnx: modules, and their parameters as a dict
    from_haiku, to_haiku        Haiku: parameters
    from_equinox, to_equinox    Equinox: modules
    from_keras, to_keras        Keras: layers and models, and their weights
    from_onnx, to_onnx          ONNX: models of the operators RNN, LSTM and GRU
    OnnxOperator, to_layers     such an operator, whole, and as a layer of jaxrnn
    split, join                 networks as cells, and cells as networks
    export_apply, export_step   programs that run without jaxrnn, any batch, any length; plain: their arguments
    save, load                  safetensors files that say what they are, and notice each byte that has changed
    FormatError                 what cannot be read, or cannot be held

>>> import jax, jaxrnn as jr, numpy as np
>>> from jaxrnn import interop
>>> state_dict = {"weight_ih": np.ones((9, 2), np.float32), "weight_hh": np.ones((9, 3), np.float32)}
>>> cell, params = interop.from_torch(state_dict)               # as torch.nn.GRUCell has them
>>> cell == jr.gru, params.weight_hh.shape
(True, (9, 3))
"""

from ._arrays import FormatError as FormatError
from ._deployment import export_apply as export_apply
from ._deployment import export_step as export_step
from ._deployment import plain as plain
from ._equinox import from_equinox as from_equinox
from ._equinox import to_equinox as to_equinox
from ._haiku import from_haiku as from_haiku
from ._haiku import to_haiku as to_haiku
from ._keras import from_keras as from_keras
from ._keras import to_keras as to_keras
from ._linen import from_linen as from_linen
from ._linen import to_linen as to_linen
from ._models import Spec as Spec
from ._networks import join as join
from ._networks import split as split
from ._nnx import from_nnx as from_nnx
from ._nnx import to_nnx as to_nnx
from ._onnx.layers import to_layers as to_layers
from ._onnx.operators import OnnxOperator as OnnxOperator
from ._onnx.reading import from_onnx as from_onnx
from ._onnx.writing import to_onnx as to_onnx
from ._safetensors import load as load
from ._safetensors import save as save
from ._torch import from_torch as from_torch
from ._torch import to_torch as to_torch

__all__ = [
    "FormatError",
    "OnnxOperator",
    "Spec",
    "export_apply",
    "export_step",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_onnx",
    "from_torch",
    "join",
    "load",
    "plain",
    "save",
    "split",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_layers",
    "to_linen",
    "to_nnx",
    "to_onnx",
    "to_torch",
]
