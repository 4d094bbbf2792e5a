"""`sparsity_pattern`, and patterns that are given to SnAp."""

import functools
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from jax import lax

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients._algorithms.influence.influence import Kept, layout_of

from ..cell_table import random_like
from ..marks import slow_but
from ..test_retrace import tracing
from .problems import NAMES, assert_close, make_problem

pytestmark = pytest.mark.usefixtures("x64")

UNITS, INPUTS = 6, 2
DRAW = np.random.default_rng(0)
ROWS, COLUMNS = np.nonzero(DRAW.random((3 * UNITS, UNITS)) < 0.25)
MASK = (DRAW.random((3 * UNITS, UNITS)) < 0.4) * np.repeat([1.0, 1, 0, 1, 1, 1], 3)[:, None]


def gru_of(recurrent, weights, h, x):
    from_x, from_h = weights["input"] @ x, recurrent
    r, z = jax.nn.sigmoid(from_x[: 2 * UNITS] + from_h[: 2 * UNITS]).reshape(2, UNITS)
    n = jnp.tanh(from_x[2 * UNITS :] + r * from_h[2 * UNITS :])
    return n + z * (h - n)


def indexed_gru(weights, h, x):
    """Its recurrent weights are the values of a sparse matrix."""
    return gru_of(jax.ops.segment_sum(weights["values"] * h[COLUMNS], ROWS, 3 * UNITS), weights, h, x)


def scattered_gru(weights, h, x):
    return gru_of(jnp.zeros((3 * UNITS, UNITS)).at[ROWS, COLUMNS].set(weights["values"]) @ h, weights, h, x)


def masked_gru(weights, h, x):
    """All rows of one unit are masked."""
    return gru_of((weights["hidden"] * MASK) @ h, weights, h, x)


def convolving(weights, h, x):
    """A ring of units that see their neighbours; tail and head of a running sum."""
    seen = jnp.convolve(h, weights["kernel"], mode="same") + jnp.convolve(h, jnp.array([0.0, 0.5]), mode="same")
    return jnp.tanh(seen + weights["input"][:UNITS] @ x) + 0.1 * jnp.append(jnp.cumsum(h[:2]), h[2:])


def looping(weights, h, x):
    """Two inner steps of a diagonal cell, and one branch or the other."""
    h = lax.scan(lambda h, a: (jnp.tanh(a * h + weights["input"][:UNITS] @ x), None), h, weights["inner"])[0]
    return lax.cond(x[0] > 0, lambda h: h, lambda h: h.at[0].multiply(0.5, unique_indices=True), h)


STEPS = {
    "indexed_gru": (indexed_gru, {"values": (len(ROWS),), "input": (3 * UNITS, INPUTS)}),
    "scattered_gru": (scattered_gru, {"values": (len(ROWS),), "input": (3 * UNITS, INPUTS)}),
    "masked_gru": (masked_gru, {"hidden": (3 * UNITS, UNITS), "input": (3 * UNITS, INPUTS)}),
    "convolving": (convolving, {"kernel": (3,), "input": (3 * UNITS, INPUTS)}),
    "looping": (looping, {"inner": (2, UNITS), "input": (3 * UNITS, INPUTS)}),
}


def loss(params, h, y):
    return jnp.sum(jnp.sin(h + y))


def problem_of(name):
    step, shapes = STEPS[name]
    params = random_like({leaf: jnp.zeros(shape) for leaf, shape in shapes.items()})
    return gradients.Problem(step, loss), (params, *random_like([jnp.zeros(UNITS)], seed=1))


def jacobians(problem, params, state, points=20):
    """Where ∂s′/∂s and ∂s′/∂θ, leaf after leaf, are other than zero at random points."""

    @jax.jit
    @functools.partial(jax.jacrev, argnums=(0, 1))
    def both(params, state, x):
        return problem.step(params, state, x)

    found = [
        both(*random_like((params, state), seed), random_like(jnp.zeros(INPUTS), 99 + seed)) for seed in range(points)
    ]
    by_params = [np.concatenate([a.reshape(UNITS, -1) for a in jax.tree.leaves(p)], axis=1) != 0 for p, _ in found]
    return np.any([s != 0 for _, s in found], axis=0), np.any(by_params, axis=0)


@pytest.mark.parametrize("name", STEPS)
def test_the_pattern_of_a_sparse_step_is_its_jacobians(name):
    problem, (params, state) = problem_of(name)
    pattern = gradients.sparsity_pattern(problem, params, state, jnp.zeros(INPUTS))
    of_state, of_params = jacobians(problem, params, state)
    np.testing.assert_array_equal(pattern.state.toarray(), of_state)
    np.testing.assert_array_equal(pattern.params.toarray(), of_params)
    assert pattern.params.nnz < 0.6 * of_params.size


@pytest.mark.parametrize("name", slow_but(("indexed_gru", "looping"), STEPS))
def test_snap_of_full_reach_is_exact(name):
    problem, (params, state) = problem_of(name)
    xs, ys = random_like([jnp.zeros((9, INPUTS)), jnp.zeros((9, UNITS))])
    exact = gradients.bptt(problem, params, state, xs, ys)
    assert_close(gradients.rtrl(problem, params, state, xs, ys), exact, 1e-12)
    assert_close(gradients.snap(problem, params, state, xs, ys, order=99), exact, 1e-12)


def test_leaves_are_named():
    problem, (params, state, xs, _) = make_problem("bare")
    pattern = gradients.sparsity_pattern(problem, params, state, xs[0])
    assert pattern.state_leaves == {"deep.0": slice(0, 3), "fast": slice(3, 5)}
    assert pattern.params_leaves == {"decay": slice(0, 1), "w": slice(1, 17)}
    assert not pattern.params[pattern.state_leaves["fast"], pattern.params_leaves["decay"]].nnz
    assert pattern.params[pattern.state_leaves["deep.0"], pattern.params_leaves["decay"]].toarray().all()


@pytest.mark.parametrize("name", slow_but(("gru", "bare"), NAMES))
def test_the_pattern_that_is_found_can_be_given(name):
    problem, (params, state, xs, ys) = make_problem(name)
    pattern = gradients.sparsity_pattern(problem, params, state, xs[0])
    given = gradients.snap(problem, params, state, xs, ys, pattern=pattern)
    assert_close(given, gradients.snap(problem, params, state, xs, ys), 1e-14)


def test_a_given_pattern_is_the_mask_of_snap1():
    """More and less than what is found; what it lacks is left out, and nothing else is changed."""
    problem, (params, state) = problem_of("indexed_gru")
    xs, ys = random_like([jnp.zeros((9, INPUTS)), jnp.zeros((9, UNITS))])
    found = gradients.sparsity_pattern(problem, params, state, xs[0])
    mask = np.random.default_rng(1).random(found.params.shape) < 0.5
    given = gradients.SparsityPattern(found.state, mask)
    assert layout_of(problem, Kept(1, given), params, state, xs[0]).size == mask.sum()

    influence, total, flat = np.zeros(mask.shape), 0.0, state
    jacobians_at = jax.jit(jax.jacrev(problem.step, argnums=(0, 1)))
    for x, y in zip(xs, ys, strict=True):
        by_params, by_state = jacobians_at(params, flat, x)
        now = np.concatenate([a.reshape(UNITS, -1) for a in jax.tree.leaves(by_params)], axis=1)
        influence = np.where(mask, by_state @ influence + now, 0)
        flat = problem.step(params, flat, x)
        total += jax.grad(loss, argnums=1)(params, flat, y) @ influence
    ours = gradients.snap(problem, params, state, xs, ys, pattern=given).grads
    np.testing.assert_allclose(np.concatenate([a.ravel() for a in jax.tree.leaves(ours)]), total, rtol=1e-10)


def test_orders_are_those_of_the_given_pattern():
    problem, (params, state, xs, ys) = make_problem("gru")
    found = gradients.sparsity_pattern(problem, params, state, xs[0])
    alone = gradients.SparsityPattern(np.eye(4, dtype=bool), found.params)  # as if no unit saw another
    options = {"order": 5, "pattern": alone}
    assert_close(gradients.snap(problem, params, state, xs, ys, **options), gradients.snap(
        problem, params, state, xs, ys), 1e-14)  # fmt: skip
    options = {"order": 2, "pattern": found}
    assert_close(gradients.snap(problem, params, state, xs, ys, **options), gradients.rtrl(
        problem, params, state, xs, ys), 1e-12)  # fmt: skip


def test_equal_patterns_are_one_learner():
    problem, (params, state, xs, ys) = make_problem("gru")
    first = gradients.sparsity_pattern(problem, params, state, xs[0])
    second = gradients.SparsityPattern(first.state.toarray(), sp.coo_array(first.params))
    other = gradients.SparsityPattern(first.state, ~first.params.toarray())
    assert first == second
    assert hash(first) == hash(second)
    assert first != other
    assert gradients.online.snap(problem, pattern=first) is gradients.online.snap(problem, pattern=second)
    gradients.snap(problem, params, state, xs, ys, pattern=first)
    with tracing() as found:
        gradients.snap(problem, params, state, xs, ys, pattern=second)
    assert not found
    with pytest.raises(ValueError, match="read-only"):
        first.params.data[0] = False


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gradients.SparsityPattern(np.eye(3), np.eye(3) > 0), TypeError, "state has dtype float64, expected"),
        (lambda: gradients.SparsityPattern(np.eye(3) > 0, np.ones(3, bool)), ValueError, r"params has shape \(3,\)"),
        (lambda: gradients.SparsityPattern(np.eye(3) > 0, np.ones((4, 5), bool)), ValueError, r"expected \(4, 4\)"),
        (lambda: np.eye(4) > 0, TypeError, "pattern must be a jaxrnn.gradients.SparsityPattern, got ndarray"),
        (
            lambda: gradients.SparsityPattern(np.eye(4) > 0, np.ones((4, 5), bool)),
            ValueError,
            r"pattern.params has shape \(4, 5\), expected \(4, 108\)",
        ),
    ],
)
def test_patterns_that_do_not_fit(make, error, message):
    problem, (params, state, xs, ys) = make_problem("gru")
    with pytest.raises(error, match=message):
        gradients.snap(problem, params, state, xs, ys, pattern=make())


def filtered(h):
    return jnp.fft.irfft(jnp.fft.rfft(h), UNITS)  # the identity, but fft has no rule


def spectral_step():
    """A new function each time, because a step is warned of once."""

    def filtering(weights, h, x):
        return jnp.tanh(filtered(weights["a"] * h) + weights["input"] @ x)

    return filtering


def spectral_problem():
    params = random_like({"a": jnp.zeros(UNITS), "input": jnp.zeros((UNITS, INPUTS))})
    return gradients.Problem(spectral_step(), loss), params, jnp.ones(UNITS)


def test_an_operation_without_a_rule_is_named_once():
    problem, params, state = spectral_problem()
    x = jnp.zeros(INPUTS)
    with pytest.warns(UserWarning, match="filtering is dense behind fft, for which there is no rule"):
        gradients.online.snap(problem).init(params, state, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients.online.snap(problem, order=2).init(params, state, x)
        gradients.sparsity_pattern(problem, params, state, x)


def test_sparsity_pattern_warns_as_well():
    problem, params, state = spectral_problem()
    with pytest.warns(UserWarning, match="behind fft"):
        pattern = gradients.sparsity_pattern(problem, params, state, jnp.zeros(INPUTS))
    assert pattern.state.toarray().all()


def test_no_warning_where_nothing_is_lost():
    """Of what depends on inputs alone or is not used; nor of RTRL, which keeps all, or of a pattern that is given."""

    def step(weights, h, x):
        jnp.fft.rfft(h)
        return jnp.tanh(weights["a"] * h) + jnp.fft.irfft(jnp.fft.rfft(jnp.ones(UNITS) * x[0]), UNITS)

    problem, params, state = spectral_problem()
    x = jnp.zeros(INPUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients.online.snap(gradients.Problem(step, loss)).init(params, state, x)
        gradients.online.rtrl(problem).init(params, state, x)
        known = gradients.SparsityPattern(np.eye(UNITS, dtype=bool), np.hstack([np.eye(UNITS), np.eye(UNITS).repeat(
            INPUTS, axis=1)]) > 0)  # fmt: skip
        gradients.online.snap(problem, pattern=known).init(params, state, x)


def test_a_pattern_that_is_known_makes_snap_cheap_and_exact():
    """What the rules do not see: the step is diagonal."""
    problem, params, state = spectral_problem()
    xs, ys = random_like([jnp.zeros((9, INPUTS)), jnp.zeros((9, UNITS))])
    eye = np.eye(UNITS, dtype=bool)
    pattern = gradients.SparsityPattern(eye, np.hstack([eye, eye.repeat(INPUTS, axis=1)]))
    layout = layout_of(problem, Kept(1, pattern), params, state, xs[0])
    assert layout.size == UNITS * (1 + INPUTS)
    assert len(layout.seeds) == 1
    exact = gradients.bptt(problem, params, state, xs, ys)
    assert_close(gradients.snap(problem, params, state, xs, ys, pattern=pattern), exact, 1e-12)


@jax.custom_vjp
def spike(v):
    return (v > 0).astype(v.dtype)


spike.defvjp(lambda v: (spike(v), v), lambda v, g: (g / (1 + jnp.abs(v)) ** 2,))


def spiking_step(weights, state, x):
    """A leaky unit that begins anew after a spike; its derivative is not its function's."""
    v = 0.9 * state["v"] * (1 - state["z"]) + weights["input"] @ x + weights["hidden"] @ state["z"]
    return {"v": v, "z": spike(v - 1)}


def test_a_custom_vjp_is_looked_into():
    n = 4
    weights = random_like({"input": jnp.zeros((n, INPUTS)), "hidden": jnp.zeros((n, n))})
    state = {"v": jnp.zeros(n), "z": jnp.zeros(n)}
    problem = gradients.Problem(spiking_step, lambda w, state, y: jnp.sum(state["z"]))
    pattern = gradients.sparsity_pattern(problem, weights, state, jnp.zeros(INPUTS))
    eye, ones = np.eye(n, dtype=bool), np.ones((n, n), bool)
    np.testing.assert_array_equal(pattern.state.toarray(), np.tile(np.hstack([eye, ones]), (2, 1)))
    own = np.hstack([eye.repeat(n, axis=1), eye.repeat(INPUTS, axis=1)])
    np.testing.assert_array_equal(pattern.params.toarray(), np.tile(own, (2, 1)))


def test_the_set_up_of_a_large_cell_is_quick():
    """In seconds of this process alone: 0.3, and 1.5 when columns were grouped one by one."""
    problem = gradients.Problem(jr.lstm, lambda params, state, y: jnp.sum(state.h))
    params = jr.lstm.init(jax.random.key(0), 256, 256, dtype=jnp.float32)
    state = jr.lstm.initial_state(params)
    start = time.process_time()
    gradients.online.snap(problem).init(params, state, jnp.zeros(256, jnp.float32))
    assert time.process_time() - start < 0.9


def test_snap2_of_a_sparse_cell_keeps_little():
    problem, (params, state) = problem_of("indexed_gru")
    x = jnp.zeros(INPUTS)
    reached = gradients.sparsity_pattern(problem, params, state, x)
    expected = reached.params.toarray() | (reached.state.toarray().astype(int) @ reached.params.toarray() > 0)
    assert layout_of(problem, Kept(2, None), params, state, x).size == expected.sum() < 0.7 * expected.size


def test_blocks_of_many_sizes_are_padded():
    """A chain of units, each of which has another number of weights; their influence is what it was, and zeros."""
    units = 40
    rows, columns = np.tril_indices(units)
    weights = random_like({"values": jnp.zeros(len(rows)), "input": jnp.zeros((units, INPUTS))})

    def step(weights, h, x):
        seen = jax.ops.segment_sum(weights["values"] * h[columns], rows, units)
        return jnp.tanh(0.3 * seen + weights["input"] @ x)

    problem, state = gradients.Problem(step, loss), jnp.zeros(units)
    xs, ys = random_like([jnp.zeros((9, INPUTS)), jnp.zeros((9, units))])
    layout = layout_of(problem, Kept(2, None), weights, state, xs[0])
    kept = sum((units - row) * (row + 1 + INPUTS) for row in range(units))
    assert kept < layout.size < 1.3 * kept
    assert len(layout.blocks) <= 0.7 * units
    exact = gradients.bptt(problem, weights, state, xs, ys)
    assert_close(gradients.snap(problem, weights, state, xs, ys, order=2), exact, 1e-12)
