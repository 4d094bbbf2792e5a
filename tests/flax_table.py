"""The layers and cells that are checked through both of Flax's interfaces, and their references."""

import contextlib
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as jr

from .marks import few_of

STEPS, BATCH, FEATURES, HIDDEN = 6, 3, 4, 5
LENGTHS = np.array([6, 1, 4])

# name: (class, arguments after the sizes)
LAYERS = {
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu", "bias": False}),
    "gru": ("GRU", {}),
    "lstm": ("LSTM", {}),
    "lstm_proj": ("LSTM", {"proj_size": 2}),
    "deep_rnn": ("RNN", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    "deep_gru": ("GRU", {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False}),
    "deep_lstm": ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True, "proj_size": 2}),
}

# name: (class, arguments after the sizes, the core's cell)
CELLS = {
    "rnn": ("SimpleCell", {}, jr.rnn),
    "rnn_relu": ("SimpleCell", {"activation_fn": jax.nn.relu}, jr.rnn_relu),
    "gru": ("GRUCell", {}, jr.gru),
    "gru_no_bias": ("GRUCell", {"bias": False}, jr.gru),
    "lstm": ("LSTMCell", {}, jr.lstm),
    "affine": ("AffineCell", {"cell": jr.affine_cell(lambda params, z, r, h: h + jnp.sin(z + r), blocks=1)}, None),
}
IN_RNN = few_of(  # name, reverse, with lengths
    zip(CELLS, itertools.cycle([False, True]), itertools.cycle([False, False, True, True])),
    CELLS,
    [False, True],
    [False, True],
)
TORCH_CELLS = [name for name in CELLS if name != "affine"]
CARRIES = {"LSTMCell": 2}  # how many arrays the carry has, if not one


def network(name):
    """The core's network for a layer of the table."""
    kind, arguments = LAYERS[name]
    return getattr(jr, kind)(FEATURES, HIDDEN, **arguments)


def core_cell(name):
    _, arguments, cell = CELLS[name]
    return cell or arguments["cell"]


def inputs(*shape, dtype=np.float32, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype(dtype)


def layer_inputs(net, *, seed=0):
    """x, and initial states that are not zero."""
    x = inputs(*((BATCH, STEPS) if net.batch_first else (STEPS, BATCH)), FEATURES, seed=seed)
    like = jax.eval_shape(net.apply, jax.eval_shape(net.init, jax.random.key(0)), x)[1]
    return x, jax.tree.map(lambda a: inputs(*a.shape, seed=seed + a.shape[-1]), like)


def total(outputs):
    """A number that every output has a part in."""
    return sum(jnp.sum(jnp.sin(a + index)) for index, a in enumerate(jax.tree.leaves(outputs)))


def to_state(carry):
    """The core's state from Flax's carry."""
    return jr.LSTMState(h=carry[1], c=carry[0]) if isinstance(carry, tuple) else carry


def to_carry(state):
    """Flax's carry from the core's state."""
    return (state.c, state.h) if isinstance(state, jr.LSTMState) else state


def cell_params(name, tensors):
    """The core's parameters from a dict under torch's names."""
    cell = core_cell(name)
    like = jax.eval_shape(functools.partial(cell.init, input_size=1, hidden_size=1), jax.random.key(0))
    return type(like)(**{"bias_ih": None, "bias_hh": None, **tensors})


def make_carry(name, *batch, seed=3):
    count = CARRIES.get(CELLS[name][0])
    if count is None:
        return inputs(*batch, HIDDEN, seed=seed)
    return tuple(inputs(*batch, HIDDEN, seed=seed + index) for index in range(count))


def torch_layer(name):
    import torch

    kind, arguments = LAYERS[name]
    torch.manual_seed(0)
    return getattr(torch.nn, kind)(FEATURES, HIDDEN, **arguments)


def torch_results(module, x, h_0):
    """Outputs and all gradients of `total` from torch, as NumPy arrays."""
    import torch

    tensors = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), (x, h_0))
    output, states = module(*tensors)
    leaves = [output, *(states if isinstance(states, tuple) else (states,))]
    sum(torch.sin(a + index).sum() for index, a in enumerate(leaves)).backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
    return [a.detach().numpy() for a in leaves], gradients, tensors[0].grad.numpy()


def torch_cell(name):
    import torch

    kind, _, _ = CELLS[name]
    arguments = {"nonlinearity": "relu"} if name == "rnn_relu" else {"bias": not name.endswith("no_bias")}
    torch.manual_seed(0)
    return {"SimpleCell": torch.nn.RNNCell, "GRUCell": torch.nn.GRUCell, "LSTMCell": torch.nn.LSTMCell}[kind](
        FEATURES, HIDDEN, **arguments
    )


def from_torch(tensors):
    return {name: jnp.asarray(tensor.detach().numpy()) for name, tensor in tensors.items()}


def assert_close(ours, theirs, bound=1e-6):
    """Leaf by leaf, to a bound that fits float32 and numbers of order one."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=bound), ours, theirs)


def assert_same(ours, theirs):
    """Leaf by leaf, to the last bit, dtype included."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


# Flax's own cells, live: (class, arguments after the sizes)
OWN = {
    "rnn": ("SimpleCell", {}),
    "rnn_residual": ("SimpleCell", {"activation_fn": jax.nn.softplus, "residual": True}),
    "gru": ("GRUCell", {}),
    "gru_functions": ("GRUCell", {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jnp.sin}),
    "lstm": ("LSTMCell", {}),
    "lstm_functions": ("LSTMCell", {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jax.nn.soft_sign}),
    "optimized_lstm": ("OptimizedLSTMCell", {"gate_fn": jax.nn.soft_sign}),
}
OWN_OF_LINEN = OWN | {
    "mgu": ("MGUCell", {}),
    "mgu_without_reset": ("MGUCell", {"reset_gate": False}),
    "mgu_functions": ("MGUCell", {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jnp.sin}),
}
GATES = {"SimpleCell": [""], "GRUCell": ["r", "z", "n"], "MGUCell": ["f", "n"]}  # an LSTM's: i, f, g, o


def from_flax(kind, tensors):
    """torch's parameters from those of linen's own cell, whose kernels lie the other way round, gate by gate."""

    def gather(side, leaf):
        dense = [tensors[side + gate] for gate in GATES.get(kind, ["i", "f", "g", "o"])]
        return jnp.concatenate([gate[leaf].T if leaf in gate else jnp.zeros(HIDDEN) for gate in dense])

    return {
        "weight_ih": gather("i", "kernel"),
        "weight_hh": gather("h", "kernel"),
        "bias_ih": gather("i", "bias"),
        "bias_hh": gather("h", "bias"),
    }


def flax_promotes():
    """Flax's own cells, and ours after them, under the promotion that they are made for."""
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack


# of x, of the parameters, and of the output
PROMOTED = [
    ("int32", "float32", "float32"),
    ("bool", "float32", "float32"),
    ("bfloat16", "float32", "float32"),
    ("float16", "bfloat16", "float32"),
    ("float32", "bfloat16", "float32"),
    ("complex64", "float32", "complex64"),
]
