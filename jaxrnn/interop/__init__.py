"""Trained recurrent networks from elsewhere, and to there.

What is exchanged is a spec and its params: a layer of jaxrnn with its parameters, or a dict of layers and one of
parameters under the same names. Packages are imported where they are used, and need not be installed.

    from_torch, to_torch    torch: modules, state_dicts, and files, which are read without running code in them
    save, load              safetensors files that say what they are, and notice each byte that has changed
    FormatError             what cannot be read, or cannot be held

>>> import jax, jaxrnn as jr, numpy as np
>>> from jaxrnn import interop
>>> state_dict = {"weight_ih": np.ones((9, 2), np.float32), "weight_hh": np.ones((9, 3), np.float32)}
>>> cell, params = interop.from_torch(state_dict)               # as torch.nn.GRUCell has them
>>> cell == jr.gru, params.weight_hh.shape
(True, (9, 3))
"""

from ._arrays import FormatError as FormatError
from ._models import Spec as Spec
from ._safetensors import load as load
from ._safetensors import save as save
from ._torch import from_torch as from_torch
from ._torch import to_torch as to_torch

__all__ = ["FormatError", "Spec", "from_torch", "load", "save", "to_torch"]
