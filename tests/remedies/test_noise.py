"""Zoneout and dropout: against a loop with the same masks, in expectation, and under the transformations of JAX."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import gradients, remedies

from ..cell_table import FEATURES, make, minimal, nested, random_like
from ..gradients.problems import make_problem
from ..marks import slow_but

KEY = jax.random.key(7)
STEPS, BATCH = 6, 3
WRAPPERS = {
    "zoneout": lambda cell: remedies.zoneout(cell, 0.4),
    "recurrent": lambda cell: remedies.recurrent_dropout(cell, 0.4),
    "variational": lambda cell: remedies.variational_dropout(cell, 0.4),
}
INNER = ["gru", "lstm", "lstm_proj", "nested", "layer_norm_lstm", "orthogonal"]
CASES = [f"{wrapper}-{name}" for wrapper in WRAPPERS for name in INNER]
QUICK = ("zoneout-lstm", "variational-layer_norm_lstm")
every_case = pytest.mark.parametrize("case", slow_but(QUICK, CASES))


def wrapped(case, dtype=jnp.float32):
    wrapper, name = case.split("-")
    cell, params = make(name, dtype)
    return WRAPPERS[wrapper](cell), params


def sequence(*shape):
    return random_like(jnp.zeros((*shape, FEATURES)), seed=5)


def loop(cell, params, xs, state, reverse=False):
    ys = []
    for x in xs[::-1] if reverse else xs:
        state = cell.step(params, state, x)
        ys.append(cell.output(state))
    return state, jnp.stack(ys[::-1] if reverse else ys)


def close(ours, theirs):
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)


@every_case
@pytest.mark.parametrize("reverse", slow_but((True,), (False, True)))
def test_a_sequence_has_the_masks_of_its_steps(case, reverse):
    """Those that a whole sequence draws before its scan, for ragged ones and in both directions."""
    cell, params = wrapped(case)
    keyed, xs = remedies.Keyed(params, KEY), sequence(STEPS, BATCH)
    state = cell.initial_state(keyed, (BATCH,))
    expected = loop(cell, keyed, xs, state, reverse)
    close(jr.unroll(cell, keyed, xs, reverse=reverse), expected)
    lengths = jnp.array([4, 0, 6])
    final, ys = jr.unroll(cell, keyed, xs, lengths=lengths, reverse=reverse)
    for n, length in enumerate([4, 0, 6]):
        alone = jax.tree.map(lambda a, n=n: a[n], state)
        if length:
            alone, outputs = loop(cell, params, xs[:length, n], alone, reverse)
            close(ys[:length, n], outputs)
        close(jax.tree.map(lambda a, n=n: a[n], final), alone)
        assert not ys[length:, n].any()


@every_case
def test_without_a_key_it_is_the_expectation(case):
    cell, params = wrapped(case)
    inner, _ = make(case.split("-")[1])
    xs = sequence(STEPS, BATCH)
    state, ys = jr.unroll(cell, params, xs)
    if case.startswith("zoneout"):
        old, outputs = inner.initial_state(params, (BATCH,)), []
        for x in xs:
            old = jax.tree.map(lambda a, b: 0.4 * a + 0.6 * b, old, inner.step(params, old, x))
            outputs.append(inner.output(old))
        close((state.state, ys), (old, jnp.stack(outputs)))
    else:
        close((state.state, ys), jr.unroll(inner, params, xs))
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(inner.initial_state(params)))


@pytest.mark.parametrize("case", slow_but(("recurrent-gru",), CASES))
def test_transformations(case):
    cell, params = wrapped(case)
    xs = sequence(STEPS, BATCH)
    keyed = remedies.Keyed(params, KEY)
    plain = jr.unroll(cell, keyed, xs)
    close(jax.jit(lambda p, key, xs: jr.unroll(cell, remedies.Keyed(p, key), xs))(params, KEY, xs), plain)
    close(jr.unroll(cell, keyed, xs, checkpoint=4), plain)
    middle, _ = jr.unroll(cell, keyed, xs[:2])
    close(jr.unroll(cell, keyed, xs[2:], middle)[0], plain[0])  # the clock goes on
    keys = jax.random.split(KEY, 3)
    many = jax.vmap(lambda key: jr.unroll(cell, remedies.Keyed(params, key), xs)[1])(keys)
    close(many[1], jr.unroll(cell, remedies.Keyed(params, keys[1]), xs)[1])
    assert len({np.asarray(ys).tobytes() for ys in many}) == 3
    gradient = jax.grad(lambda p: jnp.sum(jr.unroll(cell, remedies.Keyed(p, KEY), xs)[1] ** 2))(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_zoneout_keeps_each_unit_as_often_as_it_says():
    """Of a counter, which steps by 1: what is there after T steps is how often it stepped."""
    count = jr.Cell(
        init=lambda key, input_size, hidden_size: jnp.zeros(hidden_size),
        initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, *params.shape)),
        step=lambda params, h, x: h + 1,
        output=lambda h: h,
    )
    cell = remedies.zoneout(count, 0.3)
    state, ys = jr.unroll(cell, remedies.Keyed(jnp.zeros(50), KEY), jnp.zeros((100, 20, 1)))
    counts = np.asarray(state.state)
    assert abs(counts.mean() - 70) < 4 * (100 * 0.3 * 0.7 / counts.size) ** 0.5
    assert abs(counts.var() - 21) < 4 * 21 * (2 / counts.size) ** 0.5
    steps = np.diff(np.asarray(ys), axis=0).reshape(99, -1)
    correlations = [(steps[:-1] - 0.7) * (steps[1:] - 0.7), (steps[:, :-1] - 0.7) * (steps[:, 1:] - 0.7)]
    for product in correlations:  # over time, and from unit to unit and sequence to sequence
        assert abs(product.mean()) < 4 * 0.21 / product.size**0.5
    close(jr.unroll(cell, jnp.zeros(50), jnp.zeros((100, 1)))[0].state, jnp.full(50, 70.0))


def test_dropout_keeps_the_mean_of_what_goes_on():
    """Of a linear cell h′ = h̃: E h_T = h_0, with one mask h_0 / 0.75^T where all of it is kept."""
    still = jr.Cell(
        init=lambda key, input_size, hidden_size: jnp.zeros(hidden_size),
        initial_state=lambda params, batch_shape=(): jnp.ones((*batch_shape, *params.shape)),
        step=lambda params, h, x: h,
        output=lambda h: h,
    )
    keyed = remedies.Keyed(jnp.zeros(50), KEY)
    for wrap, values in ((remedies.recurrent_dropout, 2), (remedies.variational_dropout, 3)):
        cell = wrap(still, 0.25)
        _, ys = jr.unroll(cell, keyed, jnp.zeros((3, 400, 1)))
        kept = np.asarray(ys > 0)
        assert abs(kept[0].mean() - 0.75) < 4 * (0.1875 / 20000) ** 0.5
        assert abs(kept[2].mean() - 0.75 ** (3 if values == 2 else 1)) < 4 * (0.25 / 20000) ** 0.5
        np.testing.assert_allclose(np.unique(ys[2]), [0, 0.75**-3], rtol=1e-6)


def test_variational_masks_are_of_the_recurrence_alone():
    """A GRU's carry u ⊙ h and an LSTM's c see no mask: by hand with the mask that the state shows."""
    for name in ("gru", "lstm"):
        inner, params = make(name)
        cell, x = remedies.variational_dropout(inner, 0.5), sequence(BATCH)
        state = cell.initial_state(remedies.Keyed(params, KEY), (BATCH,))
        state = state._replace(state=random_like(state.state))
        h = inner.output(state.state)
        assert 0 < state.mask.sum() < state.mask.size
        recurrent = jnp.where(state.mask, 2 * h, 0) @ params.weight_hh.T + params.bias_hh[None]
        parts = inner.affine
        expected = parts.gates(params, *parts.merge(parts.project(params, x), recurrent), state.state)
        close(cell.step(params, state, x), remedies.Masked(expected, state.mask))


def test_parts_of_a_state_have_rates_of_their_own():
    inner, params = make("lstm")
    cell = remedies.zoneout(inner, jr.LSTMState(h=0.0, c=1.0))
    xs = sequence(STEPS, BATCH)
    for given in (params, remedies.Keyed(params, KEY)):
        state, _ = jr.unroll(cell, given, xs)
        assert not state.state.c.any()
        assert state.state.h.all()


@pytest.mark.slow
def test_in_a_stack_and_of_one_another():
    cell = jr.stack(remedies.zoneout(jr.lstm, 0.3), remedies.variational_dropout(jr.gru, 0.3))
    params = cell.init(jax.random.key(0), FEATURES, (4, 3))
    keyed = tuple(map(remedies.Keyed, params, jax.random.split(KEY)))
    xs = sequence(STEPS, BATCH)
    state, ys = jr.unroll(cell, keyed, xs)
    close((state, ys), loop(cell, keyed, xs, cell.initial_state(keyed, (BATCH,))))
    both = remedies.zoneout(remedies.variational_dropout(jr.gru, 0.5), 0.3)
    params = both.init(jax.random.key(0), FEATURES, 4)
    keyed = remedies.Keyed(params, KEY)
    state, ys = jr.unroll(both, keyed, xs)
    assert state.state.mask.shape == (BATCH, 4)
    close((state, ys), loop(both, keyed, xs, both.initial_state(keyed, (BATCH,))))


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_gradient_algorithms_see_the_masks_of_the_state(wrapper):
    problem, (params, _, xs, ys) = make_problem("gru")
    cell = WRAPPERS[wrapper](jr.gru)
    state = cell.initial_state(remedies.Keyed(params["cell"], KEY))
    noisy = problem._replace(step=cell.step)
    exact = gradients.bptt(noisy, params, state, xs, ys)
    chex.assert_trees_all_close(gradients.rtrl(noisy, params, state, xs, ys).grads, exact.grads, atol=1e-10)

    def total(params):
        value, now = 0.0, state
        for x, y in zip(xs, ys["y"], strict=True):
            now = cell.step(params["cell"], now, x)
            value += jnp.sum((params["out"] @ cell.output(now) - y) ** 2)
        return value

    weights = {"y": ys["y"], "weight": jnp.ones(len(xs))}
    chex.assert_trees_all_close(
        gradients.bptt(noisy, params, state, xs, weights).grads, jax.grad(total)(params), atol=1e-10
    )
    with pytest.raises(ValueError, match="rflo needs the affine parts of a step"):
        gradients.rflo(noisy, params, state, xs, ys)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("dtype", slow_but(("bfloat16",), ("bfloat16", "float16")))
def test_few_bits_and_one_step(wrapper, dtype):
    cell, params = wrapped(f"{wrapper}-lstm", dtype)
    for given in (params, remedies.Keyed(params, KEY)):
        state, ys = jr.unroll(cell, given, jnp.ones((1, 2, FEATURES), dtype), return_states=True)
        for leaf in jax.tree.leaves((state.state, ys.state)):
            assert leaf.dtype == dtype


def test_equal_arguments_make_equal_cells():
    for wrap in WRAPPERS.values():
        assert wrap(jr.lstm) == wrap(jr.lstm)
        assert wrap(jr.lstm) != wrap(jr.gru)
        assert hash(wrap(jr.lstm)) == hash(wrap(jr.lstm))
    assert remedies.zoneout(jr.lstm, 0.1) != remedies.zoneout(jr.lstm, 0.2)
    assert repr(remedies.zoneout(jr.lstm, 0.1)) == "jaxrnn.remedies.zoneout(jaxrnn.lstm, 0.1)"


def unroll_with(cell, params, state=None):
    return jr.unroll(cell, params, jnp.ones((2, FEATURES)), state)


GRU = make("gru")[1]
ERRORS = {
    "rate above 1": (lambda: remedies.zoneout(jr.gru, 1.1), ValueError, r"rate must be a number in \[0, 1\], got 1.1"),
    "rate of a part": (
        lambda: remedies.zoneout(jr.lstm, jr.LSTMState(0.1, "x")),
        TypeError,
        r"rate.c must be a number in \[0, 1\], got 'x' of type str",
    ),
    "rate in a dict": (
        lambda: remedies.zoneout(nested, {"fast": 0.1}),
        TypeError,
        "rate must be a number or a NamedTuple or tuple of numbers, got {'fast': 0.1}",
    ),
    "no rate": (lambda: remedies.zoneout(jr.gru, None), TypeError, "rate must be a number or .*, got None"),
    "rates of another state": (
        lambda: unroll_with(remedies.zoneout(jr.gru, jr.LSTMState(0.1, 0.2)), GRU),
        ValueError,
        r"rate is LSTMState.*, expected a number or one for each part of float32\[4\]",
    ),
    "dropout of all": (lambda: remedies.recurrent_dropout(jr.gru, 1), ValueError, r"rate must be a number in \[0, 1\)"),
    "no number": (lambda: remedies.variational_dropout(jr.gru, "x"), TypeError, r"rate must be a number in \[0, 1\)"),
    "no cell": (lambda: remedies.zoneout(jr.gru.step, 0.1), TypeError, "cell must be a jaxrnn.Cell, got method"),
    "no key": (
        lambda: unroll_with(remedies.zoneout(jr.gru, 0.1), remedies.Keyed(GRU, None)),
        TypeError,
        "key must be a random key, .*, got None",
    ),
    "a key for a cell without noise": (
        lambda: unroll_with(jr.gru, remedies.Keyed(GRU, KEY)),
        TypeError,
        "params must have the fields weight_ih, .*, got Keyed",
    ),
    "a state without noise for a key": (
        lambda: unroll_with(
            remedies.zoneout(jr.gru, 0.1), remedies.Keyed(GRU, KEY), remedies.zoneout(jr.gru, 0.1).initial_state(GRU)
        ),
        ValueError,
        "state is Noisy.*, expected Noisy",
    ),
    "the state of the cell inside": (
        lambda: unroll_with(remedies.variational_dropout(jr.gru, 0.1), GRU, jnp.zeros(4)),
        ValueError,
        r"state is float32\[4\], expected Masked",
    ),
    "an output that is no leaf": (
        lambda: unroll_with(
            remedies.variational_dropout(minimal._replace(affine=None, run=None, output=jnp.sin), 0.1),
            remedies.Keyed(make("minimal")[1], KEY),
        ),
        ValueError,
        "dropout needs a cell with an affine record, or one whose output is a leaf of its state",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, error, words = ERRORS[name]
    with pytest.raises(error, match=words):
        call()


def test_dropped_steps_check_what_they_are_given():
    cell = remedies.variational_dropout(jr.gru, 0.1)
    state = cell.initial_state(remedies.Keyed(GRU, KEY), (2,))
    with pytest.raises(ValueError, match=r"x has shape \(2, 4\), expected \(\*batch, 3\)"):
        cell.step(GRU, state, jnp.ones((2, 4)))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_masks_are_drawn_outside_of_the_scan(wrapper):
    """No random bits in its body."""
    cell, params = wrapped(f"{wrapper}-gru")
    keyed, xs = remedies.Keyed(params, KEY), sequence(STEPS, BATCH)
    closed = jax.make_jaxpr(functools.partial(jr.unroll, cell))(keyed, xs)
    assert "random_bits" in str(closed)
    (body,) = scans(closed.jaxpr)
    assert "random_bits" not in body
    assert "dot_general" in body


def scans(jaxpr):
    """The bodies of all scans over the steps, as text."""
    found = []
    for equation in jaxpr.eqns:
        parts = [part for part in jax.tree.leaves(list(equation.params.values())) if hasattr(part, "eqns")]
        parts = parts or [p.jaxpr for p in jax.tree.leaves(list(equation.params.values())) if hasattr(p, "jaxpr")]
        if equation.primitive.name == "scan" and equation.params["length"] == STEPS:
            found += map(str, parts)
        else:
            found += [body for part in parts for body in scans(part)]
    return found
