"""What crosses over to torch and back: state dicts, single cells, Linear and Embedding, live."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import gradients

from .cases import HIDDEN, TABLE, Case
from .oracles import torch_module
from .test_parity import assert_equal, torch_warns

torch = pytest.importorskip("torch")

KINDS = sorted({case.kind for case in TABLE})
CELLS = {
    "rnn": (jr.rnn, functools.partial(torch.nn.RNNCell, nonlinearity="tanh")),
    "rnn_relu": (jr.rnn_relu, functools.partial(torch.nn.RNNCell, nonlinearity="relu")),
    "lstm": (jr.lstm, torch.nn.LSTMCell),
    "gru": (jr.gru, torch.nn.GRUCell),
}


def from_torch(tensors):
    return {name: jnp.asarray(tensor.detach().numpy()) for name, tensor in tensors.items()}


def to_torch(arrays):
    return {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@torch_warns
def test_state_dicts_cross_over_and_back(kind, bias):
    case = Case(kind, 2, bias, False, "off", True, True, "zero", "none")
    module, params = torch_module(case, torch.float32), case.net.init(jax.random.key(0))
    assert list(params) == list(module.state_dict())
    x = np.random.RandomState(0).normal(size=(4, 2, 3)).astype(np.float32)
    loaded = from_torch(module.state_dict())
    np.testing.assert_allclose(case.net.apply(loaded, x)[0], module(torch.tensor(x))[0].detach(), atol=1e-6)
    module.load_state_dict(to_torch(params))
    np.testing.assert_allclose(case.net.apply(params, x)[0], module(torch.tensor(x))[0].detach(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_initialisation_has_torch_s_shapes_and_bounds(kind):
    case = Case(kind, 2, True, False, "off", True, True, "zero", "none")
    ours, theirs = case.net.init(jax.random.key(0)), torch_module(case, torch.float32).state_dict()
    assert {name: a.shape for name, a in ours.items()} == {name: tuple(a.shape) for name, a in theirs.items()}
    bound = HIDDEN**-0.5
    for values in (np.concatenate([np.ravel(a) for a in tensors.values()]) for tensors in (ours, theirs)):
        assert 0.98 * bound < np.abs(values).max() <= bound


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.usefixtures("x64")
def test_cells(name, bias, batch):
    cell, make = CELLS[name]
    module = make(4, HIDDEN, bias=bias, dtype=torch.float64)
    random = np.random.RandomState(0)
    x, h, c = (
        random.normal(size=(*batch, 4)),
        random.normal(size=(*batch, HIDDEN)),
        random.normal(size=(*batch, HIDDEN)),
    )

    tensors = {"x": torch.tensor(x, requires_grad=True), "h": torch.tensor(h, requires_grad=True)}
    tensors |= {"c": torch.tensor(c, requires_grad=True)} if name == "lstm" else {}
    following = module(tensors["x"], (tensors["h"], tensors["c"]) if name == "lstm" else tensors["h"])
    following = following if name == "lstm" else (following,)
    tensors |= dict(module.named_parameters())
    gradients = torch.autograd.grad(sum((s**2).sum() for s in following), list(tensors.values()))
    theirs = {f"s{i}": s for i, s in enumerate(following)} | dict(zip(tensors, gradients, strict=True))

    def total(params, state, x):
        following = jax.tree.leaves(cell.step(params, state, x))
        return sum(jnp.sum(s**2) for s in following), following

    fields = from_torch(dict(module.named_parameters()))
    params = type(cell.init(jax.random.key(0), 4, HIDDEN))(**{"bias_ih": None, "bias_hh": None, **fields})
    state = jr.LSTMState(jnp.asarray(h), jnp.asarray(c)) if name == "lstm" else jnp.asarray(h)
    (d_params, d_state, d_x), following = jax.grad(total, (0, 1, 2), has_aux=True)(params, state, jnp.asarray(x))
    ours = {f"s{i}": s for i, s in enumerate(following)} | d_params._asdict() | {"x": d_x}
    ours |= dict(zip("hc", jax.tree.leaves(d_state), strict=False))
    ours = {key: np.asarray(a) for key, a in ours.items() if a is not None}
    assert_equal(ours, {key: a.detach().numpy() for key, a in theirs.items()}, "float64")


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    module, linear = torch.nn.Linear(5, 3, bias=bias), jr.Linear(5, 3, bias=bias)
    x = np.random.RandomState(0).normal(size=(2, 4, 5)).astype(np.float32)
    result = linear.apply(from_torch(module.state_dict()), x)
    np.testing.assert_allclose(result, module(torch.tensor(x)).detach(), atol=1e-6)
    assert list(linear.init(jax.random.key(0))) == list(module.state_dict())


def test_embedding():
    module, embedding = torch.nn.Embedding(7, 3), jr.Embedding(7, 3)
    ids = np.array([[0, 6], [3, 3]])
    params = from_torch(module.state_dict())
    np.testing.assert_array_equal(embedding.apply(params, ids), module(torch.tensor(ids)).detach())
    gradient = jax.grad(lambda params: jnp.sum(embedding.apply(params, ids) ** 2))(params)
    (module(torch.tensor(ids)) ** 2).sum().backward()
    np.testing.assert_allclose(gradient["weight"], module.weight.grad, rtol=1e-6)


NET, LINEAR, EMBEDDING = jr.GRU(3, 4), jr.Linear(3, 2), jr.Embedding(7, 3)
PARAMS, TENSOR = jr.gru.init(jax.random.key(0), 3, 4), torch.ones(6, 2, 3)
PROBLEM = gradients.Problem(jr.gru, lambda params, h, y: jnp.sum(h))
XS, H = np.ones((6, 2, 3), np.float32), np.zeros((2, 4), np.float32)


def shape_of(tree):
    return jax.tree.map(lambda a: torch.ones(a.shape), tree)


# What a user of torch gives, and how the error begins
TENSORS = {
    "key": (lambda: NET.init(torch.Generator()), "key must be a random key, as from jax.random.key"),
    "key of numbers": (lambda: NET.init(torch.tensor([0, 1])), "key must be a random key, as from jax.random.key"),
    "unroll xs": (lambda: jr.unroll(jr.gru, PARAMS, TENSOR), "xs must be an array, got Tensor"),
    "unroll params": (
        lambda: jr.unroll(jr.gru, shape_of(PARAMS), XS),
        r"params\.weight_ih must be an array, got torch\.float32\[12,3\]",
    ),
    "unroll state": (lambda: jr.unroll(jr.gru, PARAMS, XS, torch.zeros(2, 4)), "state must be an array, got torch"),
    "unroll cell": (lambda: jr.unroll(torch.nn.GRUCell(3, 4), PARAMS, XS), "cell must be a jaxrnn.Cell, got GRUCell"),
    "step x": (lambda: jr.gru.step(PARAMS, H, TENSOR[0]), "x must be an array, got Tensor"),
    "step state": (lambda: jr.gru.step(PARAMS, torch.zeros(2, 4), XS[0]), "state must be an array, got Tensor"),
    "network x": (lambda: NET.apply(NET.init(jax.random.key(0)), TENSOR), "x must be an array, got Tensor"),
    "network params": (
        lambda: NET.apply(torch.nn.GRU(3, 4).state_dict(), XS),
        r"params\['weight_ih_l0'\] must be an array, got torch\.float32\[12,3\]",
    ),
    "network h_0": (
        lambda: NET.apply(NET.init(jax.random.key(0)), XS, torch.zeros(1, 2, 4)),
        "h_0 must be an array, got torch",
    ),
    "network dtype": (lambda: NET.init(jax.random.key(0), torch.float32), "dtype must be a floating-point dtype, got"),
    "linear": (lambda: LINEAR.apply(dict(torch.nn.Linear(3, 2).named_parameters()), XS), "weight must be an array"),
    "linear x": (lambda: LINEAR.apply(LINEAR.init(jax.random.key(0)), TENSOR), "x must be an array, got Tensor"),
    "embedding ids": (
        lambda: EMBEDDING.apply(EMBEDDING.init(jax.random.key(0)), torch.tensor([1])),
        "ids must be an array, got Tensor",
    ),
    "gradient xs": (lambda: gradients.bptt(PROBLEM, PARAMS, H[0], TENSOR, None), "xs must be an array, got torch"),
    "gradient params": (lambda: gradients.rtrl(PROBLEM, shape_of(PARAMS), H[0], XS[:, 0], None), r"params\.weight_ih"),
    "gradient of a module": (
        lambda: gradients.bptt(gradients.Problem(torch.nn.MSELoss, None), PARAMS, H[0], XS[:, 0], None),
        "problem.loss must be a function",
    ),
}


@pytest.mark.parametrize(("call", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_are_refused_by_name(call, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call()


def test_lengths_may_be_tensors():
    expected = jr.unroll(jr.gru, PARAMS, XS, lengths=np.array([6, 2]))
    jax.tree.map(np.testing.assert_array_equal, jr.unroll(jr.gru, PARAMS, XS, lengths=torch.tensor([6, 2])), expected)
