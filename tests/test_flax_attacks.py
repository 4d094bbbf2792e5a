"""Every argument of the modules of jaxrnn.linen and jaxrnn.nnx against what is no good for it: see attacks.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

from .attacks import KEY, Argument, Attacks, Door
from .flax_table import flax_promotes

flax = pytest.importorskip("flax")

from flax import nnx as flax_nnx  # noqa: E402

from jaxrnn import linen, nnx  # noqa: E402

X, CARRY = np.ones((6, 2, 3), np.float32), np.zeros((2, 4), np.float32)
RNGS = flax_nnx.Rngs(0)
AFFINE = jr.affine_cell(lambda params, z, r, h: z + r, blocks=1)
SIZE, FLAG, INITIALIZER = Argument(4, "int"), Argument(False, "bool"), Argument(jax.nn.initializers.ones, "None")
DTYPE, PARAM_DTYPE = Argument(jnp.float32, "None"), Argument(jnp.float32, "None")
WHETHER = Argument(True, "None, bool")
LAYER = {
    "hidden_size": SIZE,
    "num_layers": Argument(2, "int"),
    "bias": Argument(True, "bool"),
    "batch_first": FLAG,
    "dropout": Argument(0.1, "scalar"),
    "bidirectional": FLAG,
    "dtype": DTYPE,
    "param_dtype": PARAM_DTYPE,
    "deterministic": WHETHER,
    "return_carry": FLAG,
}
KERNELS = {"kernel_init": INITIALIZER, "recurrent_kernel_init": INITIALIZER}
INITIALIZERS = KERNELS | {"bias_init": INITIALIZER}
BIAS, FUNCTION = {"bias": Argument(True, "bool")}, Argument(jnp.tanh)
CELL = {"dtype": DTYPE, "param_dtype": PARAM_DTYPE, "carry_init": Argument(jax.nn.initializers.zeros)}
GATES = {"gate_fn": FUNCTION, "activation_fn": FUNCTION}
OWN = {
    "RNN": INITIALIZERS | {"nonlinearity": Argument("relu")},
    "LSTM": INITIALIZERS | {"proj_size": Argument(2, "int")},
    "SimpleCell": INITIALIZERS | BIAS | {"activation_fn": FUNCTION, "residual": FLAG},
    "LSTMCell": INITIALIZERS | BIAS | GATES,
    "AffineCell": INITIALIZERS | BIAS | {"cell": Argument(AFFINE)},
    "MGUCell": KERNELS
    | BIAS
    | GATES
    | {"forget_bias_init": INITIALIZER, "activation_bias_init": INITIALIZER, "reset_gate": FLAG},
    "ConvLSTMCell": {
        "kernel_size": Argument((3,), "list, tuple"),
        "strides": Argument(1, "None"),
        "padding": Argument("SAME"),
        "use_bias": FLAG,
    },
}
METADATA = Argument({}, "dict")
OF_NNX = dict.fromkeys(("kernel_metadata", "recurrent_kernel_metadata", "bias_metadata"), METADATA)
CALL = {
    "x": Argument(X),
    "h_0": Argument(np.zeros((2, 2, 4), np.float32), "None"),
    "lengths": Argument(None, "None, old key"),
    "deterministic": Argument(False, "bool"),
    "checkpoint": Argument(2, "None, int"),
    "return_carry": Argument(False, "None, bool"),
}


def by_linen(kind, **arguments):
    """A layer or cell, and what it makes of inputs."""
    module = getattr(linen, kind)(**arguments)
    if not kind.endswith("Cell"):
        return jax.eval_shape(module.init, KEY, X)
    carry = module.initialize_carry(None, X[0].shape)
    return jax.eval_shape(module.init, KEY, carry, X[0])


def by_nnx(kind, **arguments):
    module = getattr(nnx, kind)(**arguments)
    return module.initialize_carry(X[0].shape) if kind.endswith("Cell") else module(X)


LINEN = linen.GRU(4, 2, dropout=0.5)
NNX = nnx.GRU(3, 4, 2, dropout=0.5, rngs=RNGS)
VARIABLES = LINEN.init(KEY, X)
LINEN_CELL, NNX_CELL = linen.GRUCell(4), nnx.GRUCell(3, 4, rngs=RNGS)
CELL_VARIABLES = LINEN_CELL.init(KEY, CARRY, X[0])
NEEDED = {"deterministic": FLAG}  # of nnx, as what follows
OPTIONAL = {
    "carry_init": Argument(jax.nn.initializers.zeros, "None"),
    "promote_dtype": Argument(flax_nnx.nn.dtypes.promote_dtype),
    "keep_rngs": FLAG,
}
STEP = {"carry": Argument(CARRY), "inputs": Argument(X[0], "nan, bools, half, complex")}
SHAPE = Argument((2, 3))
OTHER_SHAPES = flax.errors.ScopeParamShapeError  # by Flax itself
DOORS = {
    **{f"linen.{kind}": Door(functools.partial(by_linen, kind), LAYER | OWN.get(kind, {})) for kind in ("RNN", "LSTM")},
    **{
        f"linen.{kind}": Door(functools.partial(by_linen, kind), {"features": SIZE} | CELL | OWN.get(kind, {}))
        for kind in ("SimpleCell", "LSTMCell", "MGUCell", "ConvLSTMCell", "AffineCell")
    },
    "a linen.GRU": Door(functools.partial(LINEN.apply, VARIABLES, rngs={"dropout": KEY}), CALL, OTHER_SHAPES),
    "a linen.GRUCell": Door(functools.partial(LINEN_CELL.apply, CELL_VARIABLES), STEP, OTHER_SHAPES),
    "linen initialize_carry": Door(
        LINEN_CELL.initialize_carry, {"rng": Argument(KEY, "None, key, old key"), "input_shape": SHAPE}
    ),
    **{
        f"nnx.{kind}": Door(
            functools.partial(by_nnx, kind),
            {"in_features": Argument(3, "int"), "rngs": Argument(RNGS)} | LAYER | NEEDED | OF_NNX | OWN.get(kind, {}),
        )
        for kind in ("RNN", "LSTM")
    },
    **{
        f"nnx.{kind}": Door(
            functools.partial(by_nnx, kind),
            {"in_features": SIZE, "hidden_features": SIZE, "rngs": Argument(RNGS)}
            | CELL
            | OWN.get(kind, {})
            | OPTIONAL
            | OF_NNX,
        )
        for kind in ("SimpleCell", "LSTMCell", "AffineCell")
    },
    "a nnx.GRU": Door(
        NNX, CALL | {"deterministic": Argument(False, "None, bool"), "rngs": Argument(RNGS, "None, key")}
    ),
    "a nnx.GRUCell": Door(NNX_CELL, STEP),
    "nnx initialize_carry": Door(
        NNX_CELL.initialize_carry,
        {"input_shape": SHAPE, "rngs": Argument(RNGS, "None"), "carry_init": Argument(None, "None")},
    ),
}


@pytest.fixture(autouse=True)
def _promotes():
    """As Flax itself needs it."""
    with flax_promotes():
        yield


class TestDoors(Attacks):
    doors, more_than = DOORS, 3000
