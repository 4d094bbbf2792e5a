"""BPTT in every amount of memory, and RTRL: the gradient of a loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients._algorithms import revolve

from ..cell_table import random_like
from ..marks import slow_but
from ..test_retrace import tracing
from .problems import NAMES, STEPS, assert_close, differ, make_problem, reference

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("name", slow_but(("lstm",), NAMES))
def test_bptt_in_every_amount_of_memory(name):
    problem, args = make_problem(name)
    expected = reference(problem, *args)
    for options in ({}, {"memory": "sqrt"}, {"memory": "revolve"}, *({"snapshots": s} for s in (1, 2, 3, STEPS, 99))):
        assert_close(gradients.bptt(problem, *args, **options), expected, 1e-12)


@pytest.mark.parametrize("name", slow_but(("lstm", "nested", "bare"), NAMES))
def test_rtrl_is_bptt(name):
    problem, args = make_problem(name)
    assert_close(gradients.rtrl(problem, *args), reference(problem, *args), 1e-12)


@pytest.mark.slow
def test_one_step():
    problem, (params, state, xs, ys) = make_problem("gru")
    args = params, state, xs[:1], jax.tree.map(lambda a: a[:1], ys)
    for algorithm in (
        gradients.bptt,
        functools.partial(gradients.bptt, memory="sqrt"),
        functools.partial(gradients.bptt, memory="revolve"),
        functools.partial(gradients.tbptt, k1=1, k2=1),
        functools.partial(gradients.artbp, key=jax.random.key(0)),
        functools.partial(gradients.kf_rtrl, key=jax.random.key(0)),
        functools.partial(gradients.ok, key=jax.random.key(0)),
        gradients.rflo,
        gradients.eprop,
        gradients.dni,
        gradients.rtrl,
        gradients.snap,
    ):
        assert_close(algorithm(problem, *args), reference(problem, *args), 1e-12)


BATCHED = {
    "bptt": gradients.bptt,
    "revolve": functools.partial(gradients.bptt, snapshots=2),
    "rtrl": gradients.rtrl,
    "snap": functools.partial(gradients.snap, order=1),
    "tbptt": functools.partial(gradients.tbptt, k1=2, k2=3),
    "kf_rtrl": functools.partial(gradients.kf_rtrl, key=jax.random.key(0)),
    "ok": functools.partial(gradients.ok, key=jax.random.key(0)),
    "eprop": gradients.eprop,
    "dni": functools.partial(gradients.dni, k=2),
}


@pytest.mark.parametrize("name", slow_but(("revolve", "rtrl", "kf_rtrl", "dni"), BATCHED))
def test_a_batch_by_vmap_is_a_loop_and_ragged_ones_are_sequences_alone(name):
    algorithm = BATCHED[name]
    problem, (params, state, xs, ys) = make_problem("lstm")
    states = jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), state)
    many_xs = jnp.stack([xs, -xs, xs[::-1]])
    many_ys = jax.tree.map(lambda a: jnp.stack([a, a + 1, 2 * a]), ys)
    lengths = [7, 3, 5]
    many_ys["weight"] = many_ys["weight"] * jnp.asarray(np.arange(STEPS) < np.array(lengths)[:, None], float)
    run = functools.partial(algorithm, problem, params)
    many = jax.vmap(run)(states, many_xs, many_ys)
    for index, length in enumerate(lengths):
        one = jax.tree.map(lambda a, i=index: a[i], (states, many_xs, many_ys))
        ours = jax.tree.map(lambda a, i=index: a[i], many)
        assert_close(ours, run(*one), 1e-12)
        if name in ("bptt", "rtrl"):
            alone = run(one[0], *jax.tree.map(lambda a, n=length: a[:n], one[1:]))
            assert_close(ours[:2], alone[:2], 1e-12)


@pytest.mark.slow
def test_gradients_of_gradients():
    """Forward over reverse in every amount of memory; reverse over reverse where there is no revolve."""
    problem, (params, *args) = make_problem("gru")

    def squares(run, params):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(run(problem, params, *args)[1]))

    expected = jax.grad(functools.partial(squares, reference))(params)
    direction = jax.tree.map(jnp.cos, params)
    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(direction), strict=True))
    for options in ({}, {"memory": "sqrt"}, {"snapshots": 2}):
        run = functools.partial(squares, functools.partial(gradients.bptt, **options))
        assert_close(jax.jvp(run, (params,), (direction,))[1], slope, 1e-10)
        if "snapshots" not in options:
            assert_close(jax.grad(run)(params), expected, 1e-10)


@functools.cache
def _fewest(steps, snapshots):
    """Forward steps of the best plan, by trying all first snapshots."""
    if steps == 1:
        return 0
    if snapshots == 1:
        return steps * (steps - 1) // 2
    return min(m + _fewest(steps - m, snapshots - 1) + _fewest(m, snapshots) for m in range(1, steps))


@pytest.mark.parametrize("snapshots", [1, 2, 3, 5, 8, 40])
def test_revolve_runs_the_fewest_steps_again(snapshots):
    """As many as an exhaustive search finds, and as the formula says."""
    for steps in range(1, 41):
        kept = min(snapshots, steps)
        plan = revolve.schedule(steps, kept)
        count = int((plan.end - plan.begin).sum())
        assert count == _fewest(steps, kept) == revolve.forward_steps(steps, kept)


@pytest.mark.parametrize(("steps", "snapshots"), [(1, 1), (9, 1), (50, 3), (100, 7), (33, 33)])
def test_revolve_schedules_are_possible(steps, snapshots):
    """Played through: what is loaded is there, and every step is back-propagated from its own state."""
    plan = revolve.schedule(steps, snapshots)
    slots = {0: 0}
    for row, time in enumerate(reversed(range(steps))):
        at = slots[plan.load[row]]
        assert at == plan.position[row]
        for index in range(plan.begin[row], plan.end[row]):
            if plan.stores[index] >= 0:
                slots[plan.stores[index]] = at
            at += 1
        assert at == time
        assert max(slots) < snapshots


def _temporaries(memory, steps, **options):
    problem = gradients.Problem(jr.lstm, _last_square)
    params = jr.lstm.init(jax.random.key(0), 8, 64, dtype=jnp.float64)
    state = jr.lstm.initial_state(params)
    xs, ys = jnp.zeros((steps, 8), jnp.float64), jnp.zeros(steps, jnp.float64)
    run = jax.jit(functools.partial(gradients.bptt, problem, memory=memory, **options))
    return run.lower(params, state, xs, ys).compile().memory_analysis().temp_size_in_bytes


def _last_square(params, state, y):
    return y * jnp.sum(state.h**2)


def test_memory_is_that_of_the_snapshots():
    """Each costs the state's 2 x 64 numbers; the steps themselves four integers each, and none of the state."""
    few, many = (_temporaries("revolve", 1024, snapshots=s) for s in (10, 110))
    assert 100 * 1024 <= many - few <= 1.1 * 100 * 1024
    short, long = (_temporaries("revolve", steps, snapshots=10) for steps in (1024, 4096))
    assert long - short <= 3072 * 64
    assert few < _temporaries("sqrt", 1024) < _temporaries("full", 1024) / 5


def test_the_program_does_not_grow_with_the_sequence():
    """It is as long for 70 steps as for 4,200, but for the numbers of the plan."""
    problem, (params, state, xs, ys) = make_problem("rnn")
    lengths = []
    for repeats in (10, 600):
        many = jax.tree.map(lambda a, r=repeats: jnp.concatenate([a] * r), (xs, ys))
        jaxpr = jax.make_jaxpr(functools.partial(gradients.bptt, problem, snapshots=5))(params, state, *many)
        lengths.append(len(str(jaxpr)))
    assert lengths[1] < 1.1 * lengths[0]


def test_inputs_without_floats_and_losses_without_targets():
    """Tokens as xs, nothing as ys, and params that are one number."""
    table = jnp.linspace(-1, 1, 10, dtype=jnp.float64)

    def step(w, h, token):
        return jnp.tanh(w * h + table[token])

    problem = gradients.Problem(step, lambda w, h, y: h**2)
    args = jnp.float64(0.7), jnp.float64(0.1), jnp.array([3, 1, 4, 1, 5])
    exact = gradients.bptt(problem, *args, None)
    np.testing.assert_allclose(jax.grad(lambda w: gradients.bptt(problem, w, *args[1:], None)[0])(args[0]), exact[1])
    for algorithm in (gradients.rtrl, gradients.snap, functools.partial(gradients.bptt, memory="revolve")):
        assert_close(algorithm(problem, *args, None), exact, 1e-12)


@pytest.mark.parametrize("dtype", slow_but(("bfloat16",), ["bfloat16", "float16"]))
def test_low_precision_adds_up_in_float32(dtype):
    """Sums over 1,000 steps; in bfloat16 a running sum stops growing at 256 times its terms."""
    problem = gradients.Problem(jr.gru, lambda params, h, y: jnp.mean((h - y) ** 2))
    params = jr.gru.init(jax.random.key(0), 3, 4, dtype=dtype)
    args = params, jnp.zeros(4, dtype), random_like(jnp.zeros((1000, 3), dtype)), jnp.full(1000, 0.5, dtype)
    value, exact, _ = gradients.bptt(problem, *jax.tree.map(lambda a: a.astype(jnp.float64), args))
    for algorithm in (
        functools.partial(gradients.bptt, memory="revolve"),
        functools.partial(gradients.tbptt, k1=50, k2=100),
        gradients.rtrl,
    ):
        ours, grads, _ = algorithm(problem, *args)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves((ours, grads))} == {dtype}
        np.testing.assert_allclose(float(ours), float(value), rtol=0.01)
        assert differ(jax.tree.map(lambda a: a.astype(float), grads), exact) < 0.05


def test_a_reservoir():
    """A step without parameters: the read-out's gradient is all there is."""
    weights = jr.rnn.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    problem = gradients.Problem(
        lambda _, h, x: jr.rnn.step(weights, h, x),
        lambda params, h, y: jnp.sum((params @ h - y) ** 2),
        select=lambda params: None,
    )
    args = jnp.eye(2, 4, dtype=jnp.float64), jnp.zeros(4), jnp.ones((5, 3)), jnp.ones((5, 2))
    exact = gradients.bptt(problem, *args)
    for algorithm in (
        gradients.rtrl,
        gradients.snap,
        functools.partial(gradients.uoro, key=jax.random.key(0)),
        functools.partial(gradients.tbptt, k1=2, k2=2),
        functools.partial(gradients.dni, k=2),
        functools.partial(gradients.bptt, snapshots=2),
    ):
        assert_close(algorithm(problem, *args), exact, 1e-12)


def test_a_known_case():
    """h_t = w h_{t-1}: dh_T/dw = T w^(T-1) h_0, at the seeds' 1.01^365."""
    problem = gradients.Problem(lambda w, h, x: w * h, lambda w, h, y: y * h)
    ys = jnp.zeros(365, jnp.float64).at[-1].set(1)
    for algorithm in (gradients.bptt, gradients.rtrl, functools.partial(gradients.bptt, snapshots=6)):
        value, gradient, state = algorithm(problem, jnp.float64(1.01), jnp.float64(1), jnp.zeros(365), ys)
        np.testing.assert_allclose(value, 37.78343433288728, rtol=1e-12)
        np.testing.assert_allclose(gradient, 365 * 1.01**364, rtol=1e-12)
        np.testing.assert_allclose(state, value, rtol=1e-12)


def test_state_gradients_are_those_of_the_rest_of_the_sequence():
    params = jr.lstm.init(jax.random.key(0), 2, 3, dtype=jnp.float64)
    state = jr.lstm.initial_state(params)
    xs, ys = (jax.random.normal(jax.random.key(k), (3, n), jnp.float64) for k, n in ((1, 2), (2, 3)))
    found = gradients.state_gradients(
        gradients.Problem(jr.lstm, lambda params, state, y: y @ state.h), params, state, xs, ys
    )
    states = [state]
    for x in xs:
        states.append(jr.lstm.step(params, states[-1], x))

    def rest(state, t):
        total = ys[t - 1] @ state.h
        for x, y in zip(xs[t:], ys[t:], strict=True):
            state = jr.lstm.step(params, state, x)
            total += y @ state.h
        return total

    exact_at = jax.jit(jax.grad(rest), static_argnums=1)
    for t in range(1, 4):
        exact = exact_at(states[t], t)
        np.testing.assert_allclose(found.h[t - 1], exact.h, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found.c[t - 1], exact.c, rtol=1e-12, atol=1e-15)


def test_no_retrace_on_a_second_call():
    problem, args = make_problem("rnn")
    for algorithm, options in (
        (gradients.bptt, {}), (gradients.rtrl, {}), (gradients.snap, {"order": 1}),
        (gradients.tbptt, {"k1": 1, "k2": 2}), (gradients.uoro, {"key": jax.random.key(0)}),
        (gradients.artbp, {"key": jax.random.key(0)}),
    ):  # fmt: skip
        algorithm(problem, *args, **options)
        with tracing() as found:
            algorithm(problem, *args, **options)
        assert not found
