"""Norms of gradients at every state, against closed forms, perturbations that JAX differentiates, and Jacobians."""

import functools
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients import _flow

from ..marks import few_of, slow_but
from .problems import NAMES, make_problem

LINEAR = gradients.Problem(lambda w, h, x: w * h + x, lambda w, h, y: y * h)


LEAVES = {  # of the state, by name of problem
    **{name: ["state"] for name in ("rnn", "gru", "no_bias")},
    **{name: [".h", ".c"] for name in ("lstm", "lstm_proj")},
    "stack": ["[0].h", "[0].c", "[1]"],
    "nested": ["['fast']", "['slow'][0]"],
    "bare": ["['deep'][0]", "['fast']"],
}


def scalar_flow(w, steps, y=None, dtype=float):
    """h′ = w h + x, with the loss y h; at the end alone if y is not given."""
    y = jnp.zeros(steps, dtype).at[-1].set(1) if y is None else y
    return gradients.flow(LINEAR, jnp.asarray(w, dtype), jnp.zeros((), dtype), jnp.ones(steps, dtype), y)


def is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def at(tree, t):
    return jax.tree.map(lambda a: a[t], tree)


def losses(problem, params, state, xs, ys, perturbations):
    """The loss of each time, when perturbations[t] is added to the floating-point leaves of the state at t."""
    step, values = getattr(problem.step, "step", problem.step), []
    for t, perturbation in enumerate(perturbations):
        leaves, structure = jax.tree.flatten(step(problem.select(params), state, at(xs, t)))
        more = iter(perturbation)
        state = structure.unflatten([leaf + next(more) if is_float(leaf) else leaf for leaf in leaves])
        values.append(problem.loss(params, state, at(ys, t)))
    return jnp.stack(values)


def per_state(problem, params, state, xs, ys):
    """dL_t/ds_k as NumPy arrays (T, T, *leaf), one per floating-point leaf of the state: the explicit perturbation."""
    steps = len(jax.tree.leaves(ys)[0])
    zeros = [[jnp.zeros_like(leaf) for leaf in jax.tree.leaves(state) if is_float(leaf)] for _ in range(steps)]
    found = jax.jit(jax.jacrev(functools.partial(losses, problem, params, state, xs, ys)))(zeros)
    return [np.stack([found[k][i] for k in range(steps)], 1) for i in range(len(zeros[0]))]


def lengths(array, axes):
    """Norms over all but the first axes."""
    return np.linalg.norm(array.reshape(*array.shape[:axes], -1), axis=-1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("w", "verdict"), [(1.01, "exploding"), (0.99, "vanishing")])
def test_a_scalar_linear_network(w, verdict):
    flow = scalar_flow(w, 365)
    np.testing.assert_allclose(flow.total, w ** np.arange(364, -1, -1), rtol=1e-12)
    np.testing.assert_allclose(flow.map[-1], flow.total, rtol=1e-12)
    assert not flow.map[:-1].any()
    assert abs(flow.rate - math.log(w)) <= 1e-12
    assert flow.verdict == verdict
    assert abs(flow.omega - 364 * (w - 1) ** 2) <= 1e-12
    assert abs(flow.bound - w) <= 1e-12
    assert str(flow).startswith(f"{verdict}: |dL_t/ds_k| changes by {math.log(w):+.4g} nats for each step back")
    assert "364 of 365 losses have no gradient" in str(flow)
    assert "entries" not in str(flow)


@pytest.mark.usefixtures("x64")
def test_a_rate_is_one_of_lags_whatever_the_losses_weigh():
    """Losses that grow by e^0.3 a step would make a pooled slope positive."""
    flow = scalar_flow(0.95, 60, jnp.exp(0.3 * jnp.arange(60.0)))
    assert abs(flow.rate - math.log(0.95)) <= 1e-12
    assert flow.verdict == "vanishing"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [45, pytest.param(46, marks=pytest.mark.slow)])
def test_the_verdict_turns_at_a_factor_of_ten(steps):
    assert 0.95**45 < 0.1 < 0.95**44
    assert scalar_flow(0.95, steps).verdict == "vanishing"
    assert scalar_flow(0.95, 44).verdict == "neither"
    assert scalar_flow(1 / 0.95, 44).verdict == "neither"
    assert scalar_flow(1 / 0.95, steps).verdict == "exploding"


@pytest.mark.usefixtures("x64")
def test_an_orthogonal_linear_network_keeps_every_norm():
    w = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0])
    problem = gradients.Problem(lambda w, h, x: w @ h + x, lambda w, h, y: y @ h)
    y = jnp.zeros((200, 40)).at[-1, 3].set(1)
    flow = gradients.flow(problem, w, jnp.zeros(40), jnp.ones((200, 40)), y)
    np.testing.assert_allclose(flow.total, 1, rtol=1e-12)
    np.testing.assert_allclose(flow.map[-1], 1, rtol=1e-12)
    assert abs(flow.rate) <= 1e-14
    assert flow.verdict == "neither"
    assert flow.omega <= 1e-24
    assert abs(flow.bound - 1) <= 1e-12
    assert "which is 1 to rounding: nothing can explode" in str(flow)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", slow_but(("bare",), NAMES))
def test_equal_to_perturbing_every_state(name):
    """Per leaf, in total, and for each loss by itself; integers and keys in the state are carried along."""
    problem, args = make_problem(name)
    leaves = per_state(problem, *args)
    flow = gradients.flow(problem, *args)
    assert list(flow.norms) == LEAVES[name]
    for norms, leaf in zip(flow.norms.values(), leaves, strict=True):
        np.testing.assert_allclose(norms, lengths(leaf.sum(0), 1), rtol=1e-12)
    squares = sum(lengths(leaf, 2) ** 2 for leaf in leaves)
    np.testing.assert_allclose(flow.map, np.sqrt(squares), rtol=1e-12)
    np.testing.assert_allclose(flow.total, np.sqrt(sum(v**2 for v in flow.norms.values())), rtol=1e-12)
    np.testing.assert_array_equal(flow.times, np.arange(1, 8))


def _args(name):
    problem, args = make_problem(name, jnp.float32)
    return problem, *args


def jacobians(problem, params, state, xs):
    """∂s_t/∂s_{t-1} (T, n, n) of a state without integers, by JAX's forward mode."""
    flat, unflat = ravel_pytree(state)
    found = []
    for x in xs:
        step = lambda flat, x: ravel_pytree(problem.step.step(problem.select(params), unflat(flat), x))[0]  # noqa: E731
        found.append(jax.jacfwd(step)(flat, x))
        flat = step(flat, x)
    return np.stack(found)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", slow_but(("rnn", "lstm_proj"), ["rnn", "lstm_proj", "stack"]))
def test_omega_and_the_bound(name):
    """Ω by a loop over Jacobians, as equation 9 has it."""
    problem, (params, state, xs, ys) = make_problem(name)
    lambdas = np.concatenate([a.sum(0).reshape(len(xs), -1) for a in per_state(problem, params, state, xs, ys)], -1)
    along = jacobians(problem, params, state, xs)
    omega = 0.0
    for k in range(len(xs) - 1):
        omega += (np.linalg.norm(lambdas[k + 1] @ along[k + 1]) / np.linalg.norm(lambdas[k + 1]) - 1) ** 2
    flow = gradients.flow(problem, params, state, xs, ys)
    assert abs(flow.omega - omega) <= 1e-12 * omega
    weight = params["cell"].weight_hh if name == "rnn" else None
    bound = np.linalg.norm(weight, 2) if name == "rnn" else np.linalg.norm(along, 2, axis=(1, 2)).max()
    assert flow.bound_of == ("weight_hh" if name == "rnn" else "jacobian")
    assert abs(flow.bound - bound) <= 1e-12 * bound


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", slow_but(("rnn", "gru"), ["rnn", "rnn_relu", "gru"]))
def test_the_bound_in_words(name):
    cell = getattr(jr, name)
    problem = gradients.Problem(cell, lambda params, h, y: jnp.sum(h))
    params = cell.init(jax.random.key(0), 3, 8, dtype=float)
    for scale, says in ((0.01, "below 1, which suffices"), (100.0, "above 1, which is necessary")):
        scaled = params._replace(weight_hh=scale * params.weight_hh)
        if cell is jr.gru and scale < 1:  # forgets quickly too
            scaled = scaled._replace(bias_ih=scaled.bias_ih.at[8:16].set(-5))
        flow = gradients.flow(problem, scaled, jnp.zeros(8), jnp.ones((5, 3)), None)
        assert says in str(flow)
        if cell is not jr.gru:
            assert abs(flow.bound - np.linalg.norm(scaled.weight_hh, 2)) <= 1e-12 * flow.bound


@pytest.mark.usefixtures("x64")
def test_the_bound_of_a_large_state():
    """Beyond 32 numbers, from directions: of random Jacobians, the largest of which is the third."""
    scales = jnp.array([1.0, 0.5, 1.5, 0.2])
    matrix = jnp.asarray(np.random.default_rng(1).normal(size=(150, 150)))
    problem = gradients.Problem(lambda w, h, x: x * (w @ h), lambda w, h, y: jnp.sum(h))
    flow = gradients.flow(problem, matrix, jnp.ones(150), scales, None)
    exact = 1.5 * np.linalg.norm(matrix, 2)
    assert abs(flow.bound - exact) <= 1e-10 * exact


FEW_DIFFER = {
    "one": [2.0] * 40,
    "two": [3.0] + [1.0] * 39,
    "two small ones": [1e-9] * 20 + [1e-12] * 20,
    "zeros": [0.0] * 40,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", slow_but(("two small ones",), FEW_DIFFER))
def test_the_bound_where_few_singular_values_differ(name):
    """The directions are exhausted after as many as differ; what is left are rounding errors."""
    values = FEW_DIFFER[name]
    left, right = np.linalg.qr(np.random.default_rng(2).normal(size=(2, 40, 40)))[0]
    problem = gradients.Problem(lambda w, h, x: w @ h, lambda w, h, y: jnp.sum(h))
    flow = gradients.flow(problem, jnp.asarray(left @ np.diag(values) @ right), jnp.ones(40), None, jnp.ones(3))
    assert abs(flow.bound - max(values)) <= 1e-12 * max(values)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_long_sequences_are_subsampled_and_say_so():
    """T = 2,503: every third time back from the end, each entry as it would be without."""
    flow = scalar_flow(0.999, 2503, jnp.linspace(1, 2, 2503))
    np.testing.assert_array_equal(flow.times, np.arange(1, 2504, 3))
    lags = flow.times[:, None] - flow.times
    weights = np.linspace(1, 2, 2503)[flow.times - 1, None]
    np.testing.assert_allclose(flow.map, np.where(lags >= 0, weights * 0.999 ** np.maximum(lags, 0), 0), rtol=1e-11)
    assert len(flow.total) == 2503
    assert abs(flow.rate - math.log(0.999)) <= 1e-12
    assert "one in 3 times, 835 of 2,503" in str(flow)
    _, axis, bar = flow.plot().axes
    assert "one in 3 times" in axis.get_title()
    assert bar.get_ylabel() == "|dL_t/ds_k|"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "largest"), few_of([("bare", 3)], ["lstm", "bare"], [1, 2, 3]))
def test_a_subsampled_map_is_part_of_the_whole(monkeypatch, name, largest):
    problem, args = make_problem(name)
    whole = gradients.flow(problem, *args).map
    monkeypatch.setattr(_flow, "MAP", largest)
    part = gradients.flow(problem, *args)
    assert len(part.times) <= largest
    assert part.times[-1] == 7
    np.testing.assert_allclose(part.map, whole[np.ix_(part.times - 1, part.times - 1)], rtol=1e-12)


@pytest.mark.parametrize("w", [0.5, 2.0])
def test_norms_beyond_float32_are_numbers(w):
    flow = scalar_flow(w, 400, dtype=jnp.float32)
    np.testing.assert_array_equal(flow.total, w ** np.arange(399.0, -1, -1))
    np.testing.assert_array_equal(flow.map[-1], flow.total)
    assert abs(flow.rate - math.log(w)) <= 1e-12


def test_what_is_too_small_or_too_large_for_float64_is_counted_and_has_its_part_in_the_rate():
    flow = scalar_flow(0.5, 2000, dtype=jnp.float32)
    assert abs(flow.rate - math.log(0.5)) <= 1e-12
    zeros = np.sum(2000 - flow.times > 1074)  # 2^-1074 is the least number
    assert f"{zeros} of 1,000 entries are 0, too small" in str(flow)
    flow = scalar_flow(2.0, 2000, dtype=jnp.float32)
    assert abs(flow.rate - math.log(2)) <= 1e-12
    assert flow.verdict == "exploding"
    assert f"{np.sum(2000 - flow.times >= 1024)} of 1,000 entries are not finite" in str(flow)
    assert "red: not finite" in flow.plot().axes[1].get_title()


def test_a_state_that_is_not_finite():
    problem = gradients.Problem(lambda w, h, x: w * h**3, lambda w, h, y: h)
    flow = gradients.flow(problem, jnp.float32(1), jnp.float32(10), None, jnp.ones(8, jnp.float32))
    assert "which bounds nothing" in str(flow)
    assert "entries are not finite" in str(flow)
    assert flow.plot().axes


def test_tiny_norms_of_vectors_are_not_lost():
    """1e-25 squared is 0 in float32."""
    problem = gradients.Problem(lambda w, h, x: w * h, lambda w, h, y: y * jnp.sum(h))
    flow = gradients.flow(problem, jnp.float32(1), jnp.zeros(4, jnp.float32), None, jnp.full(3, 1e-25, jnp.float32))
    np.testing.assert_allclose(flow.total, [6e-25, 4e-25, 2e-25], rtol=1e-6)


def test_no_rate_can_be_told():
    forgetful = gradients.Problem(lambda w, h, x: w * x, lambda w, h, y: h)
    flow = gradients.flow(forgetful, 0.5, 0.0, jnp.ones(5), None)
    assert flow.rate == -math.inf
    assert str(flow).startswith("vanishing: no loss has a gradient at any time before its own")
    assert flow.bound == 0
    blind = gradients.Problem(lambda w, h, x: w * h + x, lambda w, h, y: w)
    unseen = gradients.flow(blind, 0.5, 0.0, jnp.ones(5), None)
    assert str(unseen).startswith("neither: the gradient is 0 at every state")
    short = scalar_flow(0.5, 1, dtype=jnp.float32)
    assert str(short).startswith("neither: no rate can be told")
    for flow in (unseen, short):
        assert math.isnan(flow.rate)
        assert flow.omega == 0
        assert len(flow.plot().axes) >= 2


def test_half_precision_and_a_stack_of_dtypes():
    """Norms are taken in float32, of leaves of several dtypes too."""
    problem = gradients.Problem(
        lambda w, h, x: {"a": h["a"] * w, "b": h["b"] * w.astype(jnp.bfloat16)},
        lambda w, h, y: jnp.sum(h["a"]) + 2 * jnp.sum(h["b"]).astype(jnp.float32),
    )
    state = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(2, jnp.bfloat16)}
    flow = gradients.flow(problem, jnp.float32(0.5), state, None, jnp.ones(4, jnp.float32))
    sums = np.array([1.875, 1.75, 1.5, 1])
    np.testing.assert_allclose(flow.norms["['a']"], sums * 2**0.5, rtol=1e-6)
    np.testing.assert_allclose(flow.norms["['b']"], 2 * sums * 2**0.5, rtol=1e-6)
    np.testing.assert_allclose(flow.total, sums * 10**0.5, rtol=1e-6)
    assert abs(flow.bound - 0.5) <= 0.5 * 2**-8  # the directions are rounded to bfloat16


def test_it_draws_and_prints_itself():
    flow = gradients.flow(*_args("lstm"))
    figure = flow.plot()
    norms, by_loss, *_ = figure.axes
    assert [line.get_label() for line in norms.lines] == ["total", ".h", ".c"]
    np.testing.assert_allclose(norms.lines[0].get_ydata(), flow.total)
    drawn = by_loss.images[0].get_array()
    np.testing.assert_allclose(drawn.compressed(), flow.map[np.tril_indices(7)])
    assert flow.verdict in figure.get_suptitle()
    assert repr(flow) == str(flow)


def test_a_second_call_does_not_trace_again():
    traced = []

    def step(w, h, x):
        traced.append(1)
        return w * h + x

    problem = gradients.Problem(step, lambda w, h, y: h)
    gradients.flow(problem, 0.5, 0.0, jnp.ones(5), None)
    first = len(traced)
    gradients.flow(problem, 0.7, 0.0, jnp.ones(5), None)
    assert first == len(traced)


def test_errors():
    problem, params, state, xs, ys = _args("rnn")
    with pytest.raises(TypeError, match=r"problem must be a jaxrnn.gradients.Problem, got Cell"):
        gradients.flow(jr.rnn, params, state, xs, ys)
    with pytest.raises(ValueError, match=r"xs has 6 time steps|ys\['weight'\] has 7 time steps, xs has 6"):
        gradients.flow(problem, params, state, xs[:6], ys)
    with pytest.raises(TypeError, match=r"flow reports on values: it cannot run inside jax.jit"):
        jax.jit(lambda params: gradients.flow(problem, params, state, xs, ys).total)(params)


def test_without_matplotlib(monkeypatch):
    """Drawing says what to install; the rest does not need it."""
    monkeypatch.delitem(sys.modules, "jaxrnn._reports.plots", raising=False)
    monkeypatch.delattr("jaxrnn._reports.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    flow = scalar_flow(0.5, 5, dtype=jnp.float32)
    assert "vanishing" in str(flow)
    with pytest.raises(ImportError, match=r"plot needs matplotlib: pip install 'jaxrnn\[plot\]'"):
        flow.plot()


def test_to_dict_is_json():
    problem = gradients.Problem(lambda w, h, x: w * h + x, loss=lambda w, h, y: y * h)
    flow = gradients.flow(problem, 0.9, 0.0, jnp.ones(5), jnp.ones(5))
    read = json.loads(json.dumps(flow.to_dict()))
    assert read["total"] == flow.total.tolist()
    assert read["norms"] == {"state": flow.norms["state"].tolist()}
    assert read["rate"] == flow.rate
