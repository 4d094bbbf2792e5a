"""Complex states and parameters: each number is two reals, gradients are as `jax.grad` has them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import gradients

from ..marks import few_of
from .problems import EXACT, STEPS, assert_close, assert_unbiased, reference

pytestmark = pytest.mark.usefixtures("x64")

N, FEATURES = 4, 3


def lru(params, s, x):
    """A linear recurrent unit, arXiv:2303.06349: s' = λ s + γ B x, |λ| = exp(-exp(ν)) < 1."""
    magnitude = jnp.exp(-jnp.exp(params["nu"]))
    angle = jnp.exp(params["theta"])
    eigenvalue = jax.lax.complex(magnitude * jnp.cos(angle), magnitude * jnp.sin(angle))
    return eigenvalue * s + jnp.sqrt(1 - magnitude**2).astype(s.dtype) * (params["B"] @ x.astype(s.dtype))


def mixed(params, s, x):
    """Real and complex leaves that see each other, and a clock."""
    z = params["w"] @ s["z"] + jnp.conj(s["z"]) * s["h"][0].astype(complex)
    h = jnp.tanh(jnp.abs(z)[:2] + params["u"] * s["h"] + x[:2])
    return {"z": z / (2 + jnp.abs(z)).astype(complex), "h": h, "clock": s["clock"] + 1}


def loss(params, s, y):
    leaves = [a for a in jax.tree.leaves(s) if jnp.issubdtype(a.dtype, jnp.inexact)]
    out = jnp.concatenate([part for a in leaves for part in (jnp.real(a), jnp.imag(a))])
    return jnp.sum((params["C"] @ out - y) ** 2)


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def complex_numbers(seed, *shape):
    return jax.lax.complex(numbers(seed, *shape), numbers(seed + 100, *shape))


def make(name):
    if name == "lru":
        params = {
            "nu": numbers(0, N),
            "theta": numbers(1, N),
            "B": complex_numbers(2, N, FEATURES),
        }
        state, step, size = complex_numbers(5, N), lru, 2 * N
    else:
        params = {"w": 0.3 * complex_numbers(0, N, N), "u": numbers(2, 2)}
        state = {"z": 0.1 * complex_numbers(5, N), "h": numbers(7, 2), "clock": jnp.zeros((), int)}
        step, size = mixed, 2 * N + 4
    params["C"] = numbers(8, 2, size)
    return gradients.Problem(step, loss), (params, state, numbers(9, STEPS, FEATURES), numbers(10, STEPS, 2))


STEPPED, FEW = ["mixed", "lru"], ["bptt", "sqrt", "rtrl", "dni", "revolve"]


@pytest.mark.parametrize(("algorithm", "name"), few_of(zip(FEW, itertools.cycle(STEPPED)), EXACT, STEPPED))
def test_exact_algorithms(algorithm, name):
    problem, args = make(name)
    assert_close(EXACT[algorithm](problem, *args), reference(problem, *args), 1e-12)


def test_snap1_of_a_linear_recurrent_unit_is_exact():
    """arXiv:2305.15947: units do not see each other, so that the influence is diagonal."""
    problem, args = make("lru")
    assert_close(gradients.snap(problem, *args, order=1), reference(problem, *args), 1e-12)
    influence = gradients.online.snap(problem).init(*args[:2], args[2][0]).influence
    assert influence.size == 2 * (2 * N + 2 * N * FEATURES)  # two reals of the state for every real of a parameter


def test_the_pattern_names_both_parts_of_a_complex_leaf():
    problem, (params, state, xs, _) = make("mixed")
    pattern = gradients.sparsity_pattern(problem, params, state, xs[0])
    assert pattern.state_leaves == {"h": slice(0, 2), "z": slice(2, 2 + 2 * N)}
    sizes = {name: where.stop - where.start for name, where in pattern.params_leaves.items()}
    assert sizes == {"C": params["C"].size, "u": 2, "w": 2 * N * N}
    assert pattern.params.shape[1] == sum(sizes.values())
    of_u = pattern.params[:, pattern.params_leaves["u"]].toarray()
    np.testing.assert_array_equal(of_u[:2], np.eye(2, dtype=bool))  # each sees its own number of h
    assert not of_u[2:].any()


def test_the_mean_of_uoro():
    problem, args = make("lru")
    draw = lambda key: gradients.uoro(problem, *args, key=key).grads["B"]  # noqa: E731
    assert_unbiased(draw, reference(problem, *args)[1]["B"])


@pytest.mark.slow
def test_reports():
    problem, args = make("mixed")
    report = gradients.compare(problem, *args, {"rtrl": gradients.rtrl})
    assert report.algorithms["rtrl"].total.relative_error < 1e-12
    np.testing.assert_allclose(report.norms["['w']"], np.linalg.norm(reference(problem, *args)[1]["w"]), rtol=1e-12)
    flow, at_states = gradients.flow(problem, *args), gradients.state_gradients(problem, *args)
    assert list(flow.norms) == ["['h']", "['z']"]
    for name, norms in flow.norms.items():
        np.testing.assert_allclose(norms, np.linalg.norm(at_states[name[2:-2]], axis=1), rtol=1e-12)
    assert at_states["clock"] is None
    by_jax = jax.grad(lambda z: problem.loss(args[0], args[1] | {"z": z}, args[3][-1]))(args[1]["z"])
    assert by_jax.dtype == at_states["z"].dtype


def test_the_gradient_at_the_last_state_is_the_losss():
    problem, (params, state, xs, ys) = make("lru")
    last = reference(problem, params, state, xs, ys)[2]
    expected = jax.grad(lambda s: problem.loss(params, s, ys[-1]))(last)
    np.testing.assert_allclose(gradients.state_gradients(problem, params, state, xs, ys)[-1], expected, rtol=1e-12)


@pytest.mark.slow
def test_check_gradient():
    problem, (params, state, xs, _) = make("lru")
    params = {name: params[name] for name in ("nu", "theta", "B")}
    gradients.check_gradient(problem.step, params, state, xs)

    def wrong(params, s, x):
        return lru(params, jax.lax.stop_gradient(s), x)

    with pytest.raises(AssertionError, match=r"dL/dstate\.(real|imag)\[\d\] is 0 by vjp"):
        gradients.check_gradient(wrong, params, state, xs)
