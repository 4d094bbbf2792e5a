"""What `compare` says of gradients whose error, bias and variance are known, and of draws that NumPy takes together."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import gradients
from jaxrnn.gradients import _compare

from .problems import make_problem

KEY = jax.random.key(7)
MEASURES = ("bias", "bias_standard_error", "variance", "signal_to_noise")


def multiple(problem, params, state, xs, ys, *, by):
    """The exact gradient times a number."""
    value, grads, final = gradients.bptt(problem, params, state, xs, ys)
    return value, jax.tree.map(lambda g: g * jnp.asarray(by, g.dtype), grads), final


def noisy(problem, params, state, xs, ys, *, key, by=1.0, scatter=0.0):
    """The same, with independent normal noise on every entry."""
    value, grads, final = multiple(problem, params, state, xs, ys, by=by)
    leaves, structure = jax.tree.flatten(grads)
    keys = jax.random.split(key, len(leaves))
    scattered = [
        g + jnp.asarray(scatter, g.dtype) * jax.random.normal(k, g.shape, g.dtype)
        for k, g in zip(keys, leaves, strict=True)
    ]
    return value, structure.unflatten(scattered), final


def of(by, **more):
    return functools.partial(multiple if not more else noisy, by=by, **more)


def vectors(tree):
    """All tensors as one vector, then each, as NumPy has them."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return [np.concatenate(leaves), *leaves]


def rows(measured):
    return [measured.total, *measured.tensors.values()]


def check(value, expected, tolerance=1e-10):
    assert abs(value - expected) <= tolerance * max(1, abs(expected))


@pytest.mark.usefixtures("x64")
def test_known_multiples():
    problem, args = make_problem("rnn")
    algorithms = {"exact": gradients.bptt, "double": of(2.0), "opposite": of(-0.5), "nothing": of(0.0)}
    report = gradients.compare(problem, *args, algorithms)
    expected = {"exact": (1, 1, 0), "double": (1, 2, 1), "opposite": (-1, 0.5, 1.5), "nothing": (0, 0, 1)}
    for name, numbers in expected.items():
        assert not report.algorithms[name].stochastic
        assert "bias" not in str(report).splitlines()[2]
        for agreement in rows(report.algorithms[name]):
            found = (agreement.cosine, agreement.norm_ratio, agreement.relative_error)
            np.testing.assert_allclose(found, numbers, atol=1e-12)
            assert all(getattr(agreement, field) is None for field in MEASURES)


@pytest.mark.usefixtures("x64")
def test_a_biased_algorithm_tensor_by_tensor():
    problem, args = make_problem("gru")
    report = gradients.compare(problem, *args, {"snap1": functools.partial(gradients.snap, order=1)})
    exact = vectors(gradients.bptt(problem, *args)[1])
    estimate = vectors(gradients.snap(problem, *args, order=1)[1])
    paths = ["['cell'].weight_ih", "['cell'].weight_hh", "['cell'].bias_ih", "['cell'].bias_hh", "['out']"]
    assert list(report.norms) == list(report.algorithms["snap1"].tensors) == paths
    np.testing.assert_allclose([report.norm, *report.norms.values()], [np.linalg.norm(g) for g in exact], rtol=1e-12)
    for agreement, g, e in zip(rows(report.algorithms["snap1"]), exact, estimate, strict=True):
        check(agreement.cosine, g @ e / np.linalg.norm(g) / np.linalg.norm(e))
        check(agreement.norm_ratio, np.linalg.norm(e) / np.linalg.norm(g))
        check(agreement.relative_error, np.linalg.norm(e - g) / np.linalg.norm(g))
    assert report.algorithms["snap1"].total.relative_error > 0.01


@pytest.mark.usefixtures("x64")
def test_a_stochastic_algorithm_is_all_its_draws_together():
    problem, args = make_problem("rnn")
    report = gradients.compare(problem, *args, {"uoro": gradients.uoro}, key=KEY, repeats=12)
    exact = vectors(gradients.bptt(problem, *args)[1])
    draws = [vectors(gradients.uoro(problem, *args, key=key)[1]) for key in jax.random.split(KEY, 12)]
    assert report.algorithms["uoro"].stochastic
    for i, (agreement, g) in enumerate(zip(rows(report.algorithms["uoro"]), exact, strict=True)):
        all_draws, norm = np.stack([draw[i] for draw in draws]), np.linalg.norm(g)
        lengths = np.linalg.norm(all_draws, axis=1)
        variance = all_draws.var(axis=0, ddof=1).sum() / norm**2
        check(agreement.cosine, np.mean(all_draws @ g / lengths / norm))
        check(agreement.norm_ratio, np.mean(lengths) / norm)
        check(agreement.relative_error, np.mean(np.linalg.norm(all_draws - g, axis=1)) / norm)
        check(agreement.bias, np.linalg.norm(all_draws.mean(axis=0) - g) / norm)
        check(agreement.variance, variance)
        check(agreement.bias_standard_error, np.sqrt(variance / 12))
        if i < len(exact) - 1:
            check(agreement.signal_to_noise, 1 / variance)
    assert agreement.variance <= 1e-24  # the read-out, which uoro has exactly


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_bias_shows_and_chance_is_not_taken_for_it():
    """Of noise of known variance: 4,000 draws, so standard errors are known to 1/√4000 and better."""
    problem, args = make_problem("rnn")
    exact = vectors(gradients.bptt(problem, *args)[1])
    algorithms = {"fair": of(1.0, scatter=0.1), "short": of(0.8, scatter=0.1)}
    report = gradients.compare(problem, *args, algorithms, key=KEY, repeats=4000)
    for fair, short, g in zip(*map(rows, report.algorithms.values()), exact, strict=True):
        variance = 0.01 * g.size / (g @ g)
        check(fair.variance, variance, 0.1)
        check(fair.signal_to_noise * variance, 1, 0.1)
        check(fair.bias_standard_error, (variance / 4000) ** 0.5, 0.05)
        assert fair.bias <= 3 * fair.bias_standard_error
        assert short.bias >= 10 * short.bias_standard_error
        check(short.bias, 0.2, 0.01)


def _unused_loss(params, h, y):
    return 1e-25 * jnp.sum(h)


def _step_of_one(params, h, x):
    return jnp.tanh(params["used"] @ h + x)


SMALL = gradients.Problem(_step_of_one, _unused_loss)
SMALL_ARGS = (
    {"empty": jnp.zeros((0, 2)), "unused": jnp.ones(3), "used": 0.3 * jnp.eye(4)},
    jnp.ones(4, jnp.float32),
    jnp.ones((6, 4)),
    None,
)


@pytest.mark.slow
def test_keys_are_independent_of_the_other_algorithms_and_may_be_bound():
    noise, bound = of(1.0, scatter=1e-26), of(1.0, scatter=1e-26, key=KEY)
    run = functools.partial(gradients.compare, SMALL, *SMALL_ARGS, key=KEY, repeats=3)
    alone, beside = run({"noise": noise}), run({"bound": bound, "noise": noise})
    assert alone.algorithms["noise"].total == beside.algorithms["noise"].total
    assert not beside.algorithms["bound"].stochastic
    assert beside.algorithms["bound"].total.relative_error > 0
    other = run({"noise": noise}, key=jax.random.key(8))
    assert other.algorithms["noise"].total != alone.algorithms["noise"].total


def test_one_draw_has_no_variance():
    algorithms = {"noise": of(1.0, scatter=1e-26)}
    total = gradients.compare(SMALL, *SMALL_ARGS, algorithms, key=KEY, repeats=1).algorithms["noise"].total
    assert abs(total.bias - total.relative_error) <= 1e-5 * total.bias
    assert (total.bias_standard_error, total.variance, total.signal_to_noise) == (None, None, None)


def test_tensors_without_gradient_and_tiny_gradients():
    """Undefined is None and "-", not NaN; squares of 1e-25 are 0 in float32, their norms are not."""
    report = gradients.compare(
        SMALL, *SMALL_ARGS, {"double": of(2.0), "noise": of(2.0, scatter=1e-25)}, key=KEY, repeats=50
    )
    for measured in report.algorithms.values():
        for path in ("['empty']", "['unused']"):
            assert set(vars(measured.tensors[path]).values()) == {None}
            assert report.norms[path] == 0
    assert abs(report.algorithms["double"].tensors["['used']"].relative_error - 1) <= 1e-6
    exact = vectors(gradients.bptt(SMALL, *SMALL_ARGS)[1])[-1]
    assert 0 < report.norms["['used']"] < 1e-23
    np.testing.assert_allclose(report.norms["['used']"], np.linalg.norm(exact), rtol=1e-6)
    noise = report.algorithms["noise"].tensors["['used']"]
    assert abs(noise.variance / (16 * 1e-50 / (exact @ exact)) - 1) <= 0.2
    assert "nan" not in str(report)


@pytest.mark.slow
def test_it_prints_draws_and_becomes_a_dict():
    problem, args = make_problem("rnn", jnp.float32)
    algorithms = {"short": of(0.8), "noise": of(1.0, scatter=0.1)}
    report = gradients.compare(problem, *args, algorithms, key=KEY, repeats=5)
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["repeats"] == 5
    assert read["steps"] == 7
    assert read["algorithms"]["noise"]["total"]["bias"] == report.algorithms["noise"].total.bias
    assert read["algorithms"]["short"]["tensors"]["['out']"]["variance"] is None
    text = str(report)
    assert repr(report) == text
    lines = text.splitlines()
    assert lines[0].startswith("gradients against exact BPTT, T=7, |g|=")
    assert [line.split()[0] for line in lines[2:6]] == ["total", "exact", "short", "noise"]
    assert lines[4].split()[:4] == ["short", "1.0000", "0.8", "0.2"]
    assert sum("weight_hh" in line for line in lines) == 1
    figure = report.plot()
    assert [axis.get_title() for axis in figure.axes[:2]] == [
        "cosine with the exact gradient",
        "norm over the exact one's",
    ]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["total", *report.norms]
    figure.draw_without_rendering()


def test_time_and_memory():
    """Those of the compiled call: one that does more takes longer, one that holds more takes more."""
    problem, args = make_problem("rnn", jnp.float32)

    def busy(problem, params, state, xs, ys):
        value, grads, final = gradients.bptt(problem, params, state, xs, ys)
        square = jnp.sin(jnp.arange(1000, dtype=jnp.float32)[:, None] * value + jnp.ones((1, 1000), jnp.float32))
        return value + 1e-12 * jnp.sum(jnp.sin(square @ square)), grads, final

    report = gradients.compare(problem, *args, {"bptt": gradients.bptt, "busy": busy})
    bptt, busy_cost = (measured.cost for measured in report.algorithms.values())
    assert bptt.memory == report.exact.memory
    assert busy_cost.memory >= 2 * 1000**2 * 4  # the matrix and its square
    assert busy_cost.seconds > 3 * report.exact.seconds > 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_draws():
    problem, args = make_problem("rnn", jnp.float32)
    call = functools.partial(_compare._call, "noise", of(1.0, scatter=0.1), problem)
    exact = jnp.ones(16 + 12 + 8 + 8)

    def temporaries(repeats):
        draws = jax.jit(functools.partial(_compare._draws, call, (slice(0, 44),)))
        compiled = draws.lower(args, exact, jax.random.split(KEY, repeats)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(10_000) <= temporaries(10) + 1000


def without_value(problem, params, state, xs, ys):
    return params


def vector_value(problem, params, state, xs, ys):
    return jnp.ones(2), params, state


def other_gradient(problem, params, state, xs, ys):
    return jnp.ones(()), params["cell"], state


def other_state(problem, params, state, xs, ys):
    return jnp.ones(()), params, state[:1]


def raises(problem, params, state, xs, ys):
    raise RuntimeError("of its own")


@pytest.mark.parametrize(
    ("algorithms", "options", "error", "message"),
    [
        ({"a": gradients.uoro}, {}, ValueError, r"compare needs a key for the stochastic algorithms \(a\)"),
        ({"a": gradients.bptt}, {"repeats": 0}, ValueError, "repeats must be at least 1, got 0"),
        ({"a": gradients.bptt}, {"repeats": 1.5}, TypeError, "repeats must be an int"),
        ({}, {}, ValueError, "algorithms is empty"),
        ([gradients.bptt], {}, TypeError, "algorithms must be a dict, name -> function, got list"),
        ({1: gradients.bptt}, {}, TypeError, "algorithms must have names as keys, got 1 of type int"),
        ({"a": 3}, {}, TypeError, r"algorithms\['a'\] must be a function \(problem, .*, got int"),
        ({"a": gradients.tbptt}, {}, TypeError, r"algorithms\['a'\] must be .*: missing a required argument: 'k1'"),
        ({"a": lambda params, xs: 0}, {}, TypeError, r"algorithms\['a'\] must be .*: too many positional arguments"),
        (
            {"a": functools.partial(gradients.bptt, 1)},
            {},
            TypeError,
            r"algorithms\['a'\] must be .*too many positional",
        ),
        ({"a": without_value}, {}, TypeError, r"algorithms\['a'\] returned .*, expected \(value, grads, state\)"),
        ({"a": vector_value}, {}, TypeError, r"algorithms\['a'\] returned the value float32\[2\], expected one real"),
        ({"a": other_gradient}, {}, ValueError, r"the gradient that algorithms\['a'\] returned is .* \(as params\)"),
        ({"a": other_state}, {}, ValueError, r"the state that algorithms\['a'\] returned has shape \(1,\), expected"),
        ({"a": raises}, {}, RuntimeError, r"of its own\nThis is from algorithms\['a'\], as compare called it"),
    ],
)
def test_errors(algorithms, options, error, message):
    problem, args = make_problem("rnn", jnp.float32)
    with pytest.raises(error, match=message):
        gradients.compare(problem, *args, algorithms, **options)


def test_errors_of_the_problem():
    problem, (params, state, xs, ys) = make_problem("rnn", jnp.float32)
    algorithms = {"bptt": gradients.bptt}
    with pytest.raises(TypeError, match=r"problem must be a jaxrnn\.gradients\.Problem"):
        gradients.compare(problem.step, params, state, xs, ys, algorithms)
    with pytest.raises(ValueError, match=r"ys\['weight'\] has 7 time steps, xs has 6"):
        gradients.compare(problem, params, state, xs[:6], ys, algorithms)
    with pytest.raises(TypeError, match=r"compare measures time .* cannot run inside jax\.jit"):
        jax.jit(lambda params: gradients.compare(problem, params, state, xs, ys, algorithms).norm)(params)


def test_a_value_that_is_not_the_loss_and_a_gradient_of_zero():
    problem, (params, *args) = make_problem("rnn", jnp.float32)

    def halved(problem, *args):
        value, grads, state = gradients.bptt(problem, *args)
        return value / 2, grads, state

    with pytest.raises(
        ValueError, match=r"algorithms\['halved'\] returned the value .*, expected the loss .*, as bptt"
    ):
        gradients.compare(problem, params, *args, {"halved": halved})
    nothing = problem._replace(loss=lambda params, h, y: 0 * jnp.sum(params["out"]))
    report = str(gradients.compare(nothing, params, *args, {"rtrl": gradients.rtrl}))
    assert "The exact gradient is 0: there is nothing to compare with." in report
    assert gradients.flow(nothing, params, *args).sentence().startswith("neither: the gradient is 0 at every state")
