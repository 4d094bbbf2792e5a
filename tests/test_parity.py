"""Networks, cells and layers against torch: values, all gradients, names and initialisation."""

import importlib.util
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .cases import FULL, TABLE, Case, triples
from .make_golden import GOLDEN
from .oracles import directional_derivative, numpy_network, torch_network

torch_warns = pytest.mark.filterwarnings("ignore:dropout option", "ignore:LSTM with projections is not supported")
BOUND = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


def ours(case: Case, inputs: dict[str, Any], dtype: str) -> dict[str, np.ndarray]:
    """Outputs and gradients as `torch_network` gives them."""
    arrays = jax.tree.map(lambda a: jnp.asarray(a, dtype), {k: v for k, v in inputs.items() if k != "lengths"})
    key = jax.random.key(0) if case.dropout == "all" else None

    @jax.jit
    def run(params, x, states):
        def total(params, x, states):
            h_0 = None if states is None else (states["h_0"], states["c_0"]) if "c_0" in states else states["h_0"]
            output, finals = case.net.apply(params, x, h_0, lengths=inputs["lengths"], key=key)
            finals = finals if isinstance(finals, tuple) else (finals,)
            outputs = dict(zip(inputs["weights"], (output, *finals), strict=True))
            return sum(jnp.sum(outputs[name] * weight) for name, weight in arrays["weights"].items()), outputs

        gradients, outputs = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(params, x, states)
        return outputs, gradients

    outputs, (d_params, d_x, d_states) = run(arrays["params"], arrays["x"], arrays["states"])
    gradients = d_params | {"x": d_x} | (d_states or {})
    results = outputs | {f"d_{name}": a for name, a in gradients.items()}
    assert all(a.dtype == dtype for a in results.values())
    return {name: np.asarray(a) for name, a in results.items()}


def assert_equal(result: dict[str, np.ndarray], reference: dict[str, np.ndarray], dtype: str) -> None:
    """max|ours - theirs| / max|theirs| of each tensor is within the bound."""
    assert result.keys() == reference.keys()
    for name, theirs in reference.items():
        assert result[name].shape == theirs.shape, name
        error = np.abs(result[name] - theirs).max()
        assert error <= BOUND[dtype] * np.abs(theirs).max(), f"{name}: {error / np.abs(theirs).max()}"


DTYPES = ("float32", "float64")
EACH_IN_TURN = [  # one dtype for each case; the full product has both
    pytest.param(case, dtype, id=f"{case}-{dtype}") for case, dtype in zip(TABLE, itertools.cycle(DTYPES))
]


def test_the_table_covers_all_triples():
    assert len(TABLE) == 55
    assert set().union(*map(triples, TABLE)) == set().union(*map(triples, FULL))


@pytest.mark.parametrize(("case", "dtype"), EACH_IN_TURN)
@torch_warns
def test_networks(case, dtype, golden):
    """Against stored results, and against torch itself where it is installed."""
    inputs = case.inputs()
    with jax.enable_x64(dtype == "float64"):
        result = ours(case, inputs, dtype)
    assert_equal(result, {name: golden[f"{case}/{name}"] for name in result}, dtype)
    if importlib.util.find_spec("torch"):
        assert_equal(result, torch_network(case, inputs, dtype), dtype)
    if dtype == "float64":
        assert_numpy_agrees(case, inputs, result)


def assert_numpy_agrees(case: Case, inputs: dict[str, Any], result: dict[str, np.ndarray]) -> None:
    """The NumPy loop's outputs, and its derivative in a random direction of all inputs at once."""
    for name, array in numpy_network(case, inputs).items():
        np.testing.assert_allclose(result[name], array, rtol=0, atol=1e-12)
    random = np.random.RandomState(0)
    direction = {n.removeprefix("d_"): random.normal(size=a.shape) for n, a in result.items() if n.startswith("d_")}
    expected = directional_derivative(case, inputs, direction)
    terms = [np.sum(result["d_" + name] * v) for name, v in direction.items()]
    np.testing.assert_allclose(sum(terms), expected, rtol=0, atol=1e-12 * sum(np.abs(terms)))


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", FULL, ids=str)
@torch_warns
def test_networks_full(case, dtype):
    pytest.importorskip("torch")
    with jax.enable_x64(dtype == "float64"):
        result = ours(case, case.inputs(), dtype)
        jax.clear_caches()
    assert_equal(result, torch_network(case, case.inputs(), dtype), dtype)
