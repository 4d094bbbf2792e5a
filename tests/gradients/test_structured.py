"""KF-RTRL, OK, RFLO, e-prop and DNI against their papers' recursions, and where theory says that they are exact."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients._keys import as_numbers, next_key

from ..cell_table import random_like
from ..marks import few_of, slow_but
from . import papers
from .problems import READ_OUT, STEPS, STILL, assert_close, differ, make_problem
from .test_custom import reverse_only
from .test_unbiased import z_scores

pytestmark = pytest.mark.usefixtures("x64")

ALPHA = 0.3
leaky = jr.affine_cell(lambda params, z, r, h: h + ALPHA * (jnp.tanh(z + r) - h), blocks=1)
NETWORKS = {"rnn": (jr.rnn, papers.Tanh()), "leaky": (leaky, papers.Tanh(ALPHA)), "lstm": (jr.lstm, papers.LSTM())}


def network(name, steps=3):
    """A small network twice: for the library, and for the loops of the papers."""
    cell, by_hand = NETWORKS[name]
    params = cell.init(jax.random.key(0), 2, 3, dtype=jnp.float64)
    state = random_like(cell.initial_state(params))
    flat, _ = ravel_pytree(state)
    read, xs, ys = random_like([jnp.zeros(shape, jnp.float64) for shape in ((2, flat.size), (steps, 2), (steps, 2))], 3)
    problem = gradients.Problem(cell, READ_OUT, select=lambda params: params["cell"])
    args = {"cell": params, "out": read}, state, xs, ys
    weight = np.hstack(
        [np.atleast_2d(a.T).T for a in (params.weight_hh, params.bias_hh, params.weight_ih, params.bias_ih)]
    )
    return problem, args, (by_hand, weight, *map(np.asarray, (read, flat, xs, ys)))


def matrix(grads):
    """The gradient in the papers' order of columns."""
    cell = grads["cell"]
    parts = cell.weight_hh, cell.bias_hh[:, None], cell.weight_ih, cell.bias_ih[:, None]
    return np.hstack([np.asarray(part) for part in parts])


def drawn(key, steps, count):
    """The signs that the learner draws: (steps, count)."""
    signs, numbers = [], as_numbers(key)
    for _ in range(steps):
        numbers, now = next_key(numbers)
        signs.append(jax.random.rademacher(jax.random.split(now)[0], (count,), jnp.float64))
    return jnp.stack(signs)


def keys_of_all_signs(steps, count):
    """A key for each way in which the signs can come out."""
    keys = jax.random.split(jax.random.key(5), 40 * 2 ** (steps * count))
    signs = np.asarray(jax.jit(jax.vmap(lambda key: drawn(key, steps, count)))(keys))
    _, first = np.unique(signs.reshape(len(keys), -1), axis=0, return_index=True)
    assert len(first) == 2 ** (steps * count)
    return keys[first], signs[first]


ENUMERATED = {
    "kf_rtrl": (gradients.kf_rtrl, {}, 4, 1),
    "kf_rtrl twice": (gradients.kf_rtrl, {"samples": 2}, 3, 2),
    "ok": (gradients.ok, {}, 4, 1),
    "ok of rank 2": (gradients.ok, {"rank": 2}, 4, 2),
}


def over_all_signs(name, problem, params, state, xs, ys):
    """The estimate for each way in which the signs can come out."""
    algorithm, options, steps, count = ENUMERATED[name]
    keys, signs = keys_of_all_signs(steps, count)
    args = params, state, xs[:steps], jax.tree.map(lambda a: a[:steps], ys)
    run = jax.jit(jax.vmap(lambda key: algorithm(problem, *args, **options, key=key).grads))
    return args, signs, run(keys)


ALL_FORMS = ["rnn", "gru", "lstm", "minimal", "no_bias"]  # merged, partly apart, apart, without biases


@pytest.mark.parametrize(("name", "cell"), few_of([("kf_rtrl", "lstm"), ("ok", "gru")], ENUMERATED, ALL_FORMS))
def test_the_mean_over_all_signs_is_the_gradient(name, cell):
    problem, args = make_problem(cell)
    args, _, each = over_all_signs(name, problem, *args)
    exact = gradients.bptt(problem, *args).grads
    assert_close(jax.tree.map(lambda a: a.mean(0), each), exact, 1e-10)
    assert differ(jax.tree.map(lambda a: a[0], each), exact) > 1e-3


@pytest.mark.parametrize("cell", slow_but(("lstm",), NETWORKS))
def test_kf_rtrl_is_the_papers_recursion(cell):
    problem, args, loop = network(cell, 5)
    for seed in range(3):
        signs = np.asarray(drawn(jax.random.key(seed), 5, 1))
        expected = papers.kf_rtrl(*loop, np.hstack([np.ones_like(signs), signs]))
        ours = gradients.kf_rtrl(problem, *args, key=jax.random.key(seed)).grads
        np.testing.assert_allclose(matrix(ours), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("rank", "cell"), few_of([(1, "rnn")], [1, 2], ["rnn", "lstm"]))
def test_ok_has_the_mean_and_the_spread_of_the_papers_recursion(cell, rank):
    """Singular vectors are known up to a sign, so single draws are not: over all signs, every second moment is."""
    name = {1: "ok", 2: "ok of rank 2"}[rank]
    steps, count = ENUMERATED[name][2:]
    problem, args, loop = network(cell, steps)
    _, _, each = over_all_signs(name, problem, *args)
    ours = np.array([matrix(jax.tree.map(lambda a, i=i: a[i], each)) for i in range(len(each["out"]))])
    rows = itertools.product([1, -1], repeat=steps * count)
    signs = (np.hstack([np.ones((steps, 1)), np.reshape(row, (steps, -1))]) for row in rows)
    theirs = np.array([papers.ok(*loop, row) for row in signs])
    for moment in (lambda a: a.mean(0), lambda a: np.einsum("nij,nkl->ijkl", a, a) / len(a)):
        largest = np.abs(moment(theirs)).max()
        np.testing.assert_allclose(moment(ours), moment(theirs), rtol=0, atol=1e-10 * largest)
    assert ((theirs - papers.exact(*loop)) ** 2).sum() > 1e-6


@pytest.mark.slow
def test_ok_has_less_variance_than_kf_rtrl_over_all_signs():
    """And rank 2 less than rank 1; with as many steps as terms there is none."""
    problem, (params, state, xs, ys) = make_problem("lstm")

    def variance(name):
        args, _, each = over_all_signs(name, problem, params, state, xs, ys)
        exact = gradients.bptt(problem, *args).grads
        pairs = zip(*map(jax.tree.leaves, (each, exact)), strict=True)
        return sum(float(((a - e[None]) ** 2).sum()) / len(a) for a, e in pairs)

    assert variance("ok of rank 2") < 0.5 * variance("ok") < 0.5 * variance("kf_rtrl")


@pytest.mark.parametrize("cell", slow_but(("rnn",), ALL_FORMS))
def test_exact_while_no_two_terms_must_become_one(cell):
    problem, (params, state, xs, ys) = make_problem(cell)
    for steps, algorithm in (
        (1, gradients.kf_rtrl),
        (1, gradients.ok),
        (3, functools.partial(gradients.ok, rank=3)),
        (3, functools.partial(gradients.ok, rank=5)),
    ):
        args = params, state, xs[:steps], jax.tree.map(lambda a, n=steps: a[:n], ys)
        exact = gradients.bptt(problem, *args)
        assert_close(algorithm(problem, *args, key=jax.random.key(0)), exact, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kf_rtrl", "ok"])
def test_parameters_without_kronecker_form_are_unbiased_too(name):
    """An LSTM's projection, and a projection of x by parameters of one's own: 20,000 draws."""
    algorithm = getattr(gradients, name)
    for problem, args in (make_problem("lstm_proj"), own_projection()):
        exact = gradients.bptt(problem, *args).grads
        scores, error = z_scores(lambda key, p=problem, a=args: algorithm(p, *a, key=key).grads, exact, 20_000)
        assert error <= 0.03
        assert scores.max() <= 4


def own_projection():
    cell = jr.rnn._replace(affine=jr.rnn.affine._replace(project=lambda params, x: jnp.sin(params.weight_ih @ x)))

    def step(params, h, x):
        return jnp.tanh(cell.affine.project(params, x) + params.weight_hh @ h + params.bias_hh)

    problem, args = make_problem("rnn")
    return problem._replace(step=cell._replace(step=step, run=None)), args


@pytest.mark.parametrize(("name", "cell"), few_of([("rflo", "leaky"), ("eprop", "lstm")], ["rflo", "eprop"], NETWORKS))
def test_traces_are_the_papers(name, cell):
    """By the loss's derivative, by given weights, and by random ones, which are the seed's."""
    problem, args, loop = network(cell, 6)
    run = functools.partial(getattr(gradients, name), problem, *args)
    np.testing.assert_allclose(matrix(run().grads), papers.traces(*loop), rtol=1e-10)
    feedback = random_like(jnp.zeros((3, 2), jnp.float64), seed=9)
    given = run(feedback=feedback).grads
    np.testing.assert_allclose(matrix(given), papers.traces(*loop, np.asarray(feedback)), rtol=1e-10)
    random = np.asarray(jax.random.normal(jax.random.key(7), (3, 2)) / 2**0.5)
    np.testing.assert_allclose(matrix(run(feedback="random", seed=7).grads), papers.traces(*loop, random), rtol=1e-10)
    assert_close(given["out"], gradients.bptt(problem, *args).grads["out"], 1e-12)


@pytest.mark.parametrize("name", ["rflo", "eprop"])
@pytest.mark.parametrize("cell", slow_but(("gru", "lstm_proj"), [*ALL_FORMS, "lstm_proj"]))
def test_traces_are_exact_without_recurrent_weights_and_biased_with_them(name, cell):
    problem, (params, *args) = make_problem(cell)
    algorithm = getattr(gradients, name)
    assert differ(algorithm(problem, params, *args).grads, gradients.bptt(problem, params, *args).grads) > 1e-3
    params["cell"] = params["cell"]._replace(weight_hh=jnp.zeros_like(params["cell"].weight_hh))
    assert_close(algorithm(problem, params, *args), gradients.bptt(problem, params, *args), 1e-12)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "minimal"])
def test_eprop_is_snap1_of_units_that_do_not_see_themselves(cell):
    problem, (params, *args) = make_problem(cell)
    blocks = len(params["cell"].weight_hh) // 4
    others = 1 - jnp.concatenate([jnp.eye(4)] * blocks)
    params["cell"] = params["cell"]._replace(weight_hh=others * params["cell"].weight_hh)
    assert_close(gradients.eprop(problem, params, *args), gradients.snap(problem, params, *args, order=1), 1e-12)
    assert_close(gradients.eprop(problem, params, *args), gradients.rflo(problem, params, *args), 0)


@pytest.mark.parametrize(("cell", "k"), few_of([("rnn", 3), ("lstm", 99)], ["rnn", "lstm"], [1, 2, 3, 7, 99]))
def test_dni_is_the_papers_recursion(cell, k):
    """With a guess to begin with, on segments that divide the sequence and that do not."""
    problem, args, loop = network(cell, STEPS)
    n = loop[3].size
    first, bias = random_like([jnp.zeros((n, n), jnp.float64), jnp.zeros(n, jnp.float64)], seed=4)

    def linear(synthesizer, vector):
        return synthesizer["w"] @ vector + synthesizer["b"]

    synthesizer = linear, {"w": first, "b": bias}
    expected, last, last_bias = papers.dni(*loop, k, np.asarray(first), np.asarray(bias), 0.1)
    ours = gradients.dni(problem, *args, k=k, synthesizer=synthesizer)
    np.testing.assert_allclose(matrix(ours.grads), expected, rtol=1e-10, atol=1e-12)
    assert_close(
        (ours.value, ours.grads["out"]),
        (gradients.bptt(problem, *args)[0], gradients.bptt(problem, *args)[1]["out"]),
        1e-12,
    )
    learner = gradients.online.dni(problem, k=min(k, STEPS), synthesizer=synthesizer)
    carry = learner.init(args[0], args[1], args[2][0])
    carry, _ = jax.lax.scan(lambda c, xy: (learner.update(args[0], c, *xy)[0], None), carry, args[2:])
    np.testing.assert_allclose(carry.synthesizer["w"], last, rtol=1e-10)
    np.testing.assert_allclose(carry.synthesizer["b"], last_bias, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "bare", "stack"])
def test_dni_that_guesses_nothing_is_truncated(cell):
    problem, args = make_problem(cell)
    nothing = (lambda synthesizer, vector: synthesizer * vector), jnp.zeros((), jnp.float64)
    params, state, xs, ys = args
    args = params, state, *jax.tree.map(lambda a: a[:6], (xs, ys))
    for k in (1, 3):
        expected = gradients.tbptt(problem, *args, k1=k, k2=k)
        assert_close(gradients.dni(problem, *args, k=k, synthesizer=nothing, optimizer=STILL), expected, 1e-12)
    assert_close(gradients.dni(problem, *args, k=6), gradients.bptt(problem, *args), 1e-12)


def test_dni_learns_what_is_to_come():
    """h′ = W h + x, x white, loss ½|h|²: E[dL_{>t}/dh_t] = P h_t with P = Wᵀ (1 + P) W, of Lyapunov's equation.

    One synthesizer for a batch of streams, at their mean.
    """
    weight = 0.6 * np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] + 0.1
    problem = gradients.Problem(lambda w, h, x: w @ h + x, lambda w, h, y: 0.5 * jnp.sum(h**2))
    learner = gradients.online.batched(gradients.online.dni(problem, k=2, optimizer=Decaying()))
    xs, weight = random_like(jnp.zeros((10_000, 50, 3), jnp.float64)), jnp.asarray(weight)
    carry = learner.init(weight, jnp.zeros((50, 3), jnp.float64), xs[0])
    carry, _ = jax.lax.scan(lambda c, x: (learner.update(weight, c, x, None)[0], None), carry, xs)
    assert carry.synthesizer["weight"].shape == (3, 3)
    found = np.zeros((3, 3))
    for _ in range(500):
        found = np.asarray(weight).T @ (np.eye(3) + found) @ np.asarray(weight)
    np.testing.assert_allclose(carry.synthesizer["weight"], found, atol=0.05 * np.abs(found).max())


class Decaying:
    """Descent whose rate falls with time."""

    def init(self, params):
        return jnp.zeros(())

    def update(self, updates, state, params):
        return jax.tree.map(lambda a: -a / (1 + state / 200), updates), state + 1


@pytest.mark.slow
def test_a_warm_synthesizer_is_nearer_to_the_gradient_and_shows_in_compare():
    problem = gradients.Problem(jr.rnn, lambda params, h, y: 0.5 * jnp.sum(h**2))
    params = jr.rnn.init(jax.random.key(0), 4, 4, dtype=jnp.float64)
    params = params._replace(weight_hh=0.7 * jnp.eye(4))
    xs = random_like(jnp.zeros((300, 4), jnp.float64))
    algorithms = {"cold": gradients.dni, "warm": functools.partial(gradients.dni, warm=30)}
    report = gradients.compare(problem, params, jnp.zeros(4, jnp.float64), xs, None, algorithms)
    cold, warm = (report.algorithms[name].total.relative_error for name in algorithms)
    assert warm < 0.6 * cold


NEEDS_PARTS = {
    "kf_rtrl": {"key": jax.random.key(0)},
    "ok": {"key": jax.random.key(0)},
    "rflo": {},
    "eprop": {},
}


@pytest.mark.parametrize("name", NEEDS_PARTS)
def test_steps_without_affine_parts(name):
    for cell, message in (("bare", "must be a jaxrnn.Cell with `affine`"), ("stack", "`affine` is None")):
        problem, args = make_problem(cell)
        with pytest.raises(ValueError, match=rf"{name} needs the affine parts of a step.*{message}"):
            getattr(gradients, name)(problem, *args, **NEEDS_PARTS[name])
        with pytest.raises(ValueError, match=rf"{name} needs the affine parts"):
            getattr(gradients.online, name)(problem)


@pytest.mark.parametrize(
    ("call", "options", "error", "message"),
    [
        (gradients.kf_rtrl, {}, ValueError, "kf_rtrl draws random signs: it needs a key"),
        (gradients.kf_rtrl, {"key": jax.random.key(0), "samples": 0}, ValueError, "samples must be at least 1, got 0"),
        (gradients.ok, {}, ValueError, "ok draws random signs: it needs a key"),
        (gradients.ok, {"key": jax.random.key(0), "rank": 1.5}, TypeError, "rank must be an int"),
        (gradients.rflo, {"feedback": "none"}, ValueError, 'feedback must be "symmetric" or "random", got \'none\''),
        (gradients.rflo, {"feedback": [1.0]}, TypeError, "feedback must be an array, got list"),
        (gradients.eprop, {"feedback": np.ones(3)}, ValueError, r"feedback has shape \(3,\), expected \(hidden units"),
        (gradients.eprop, {"feedback": np.ones((3, 3))}, ValueError, r"shape \(3, 3\), expected \(4, 2\)"),
        (gradients.dni, {"k": 0}, ValueError, "k must be at least 1, got 0"),
        (gradients.dni, {"warm": -1}, ValueError, "warm must be at least 0, got -1"),
        (gradients.dni, {"synthesizer": jnp.tanh}, TypeError, r"must be a pair \(apply, params\)"),
        (
            gradients.dni,
            {"synthesizer": (lambda w, s: w, jnp.zeros(2))},
            ValueError,
            r"gives float32\[2\], expected float64\[4\]",
        ),
    ],
)
def test_options(call, options, error, message):
    problem, (params, state, xs, ys) = make_problem("rnn")
    problem, ys = problem._replace(loss=READ_OUT), ys["y"]
    with pytest.raises(error, match=message):
        call(problem, params, state, xs, ys, **options)


@pytest.mark.parametrize("name", ["rflo", "eprop"])
def test_feedback_needs_a_loss_in_two_parts(name):
    problem, args = make_problem("rnn")
    with pytest.raises(ValueError, match=rf"{name} .* problem.loss must be a jaxrnn.gradients.OutputLoss"):
        getattr(gradients, name)(problem, *args, feedback="random")


def test_feedback_may_be_traced():
    problem, args, loop = network("rnn", 4)
    feedback = random_like(jnp.zeros((3, 2), jnp.float64))
    ours = jax.jit(lambda b: gradients.eprop(problem, *args, feedback=b).grads)(feedback)
    np.testing.assert_allclose(matrix(ours), papers.traces(*loop, np.asarray(feedback)), rtol=1e-10)


LOW = {
    "rflo": (gradients.rflo, {}, "bfloat16"),
    "eprop": (gradients.eprop, {}, "float16"),
    "eprop by its own weights": (gradients.eprop, {"feedback": "random"}, "bfloat16"),
    "dni": (gradients.dni, {"k": 20, "warm": 1}, "float16"),
    "kf_rtrl": (gradients.kf_rtrl, {"samples": 64, "key": jax.random.key(1)}, "bfloat16"),
    "ok": (gradients.ok, {"rank": 8, "key": jax.random.key(1)}, "float16"),
}


@pytest.mark.parametrize("name", slow_but(("eprop by its own weights", "dni", "ok"), LOW))
def test_low_precision_adds_up_in_float32(name):
    """Over 1,000 steps, as in float64; the gradient's dtype is that of the parameters."""
    algorithm, options, dtype = LOW[name]
    loss = gradients.OutputLoss(lambda params, h: h[:2], lambda output, y: jnp.mean((output - y) ** 2))
    problem = gradients.Problem(jr.gru, loss)
    params = jr.gru.init(jax.random.key(0), 3, 4, dtype=dtype)
    args = params, jnp.zeros(4, dtype), random_like(jnp.zeros((1000, 3), dtype)), jnp.full((1000, 2), 0.5, dtype)
    value, grads, _ = algorithm(problem, *args, **options)
    wide_value, wide, _ = algorithm(problem, *jax.tree.map(lambda a: a.astype(jnp.float64), args), **options)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((value, grads))} == {dtype}
    np.testing.assert_allclose(float(value), float(wide_value), rtol=0.01)
    assert differ(jax.tree.map(lambda a: a.astype(float), grads), wide) < 0.05


@pytest.mark.parametrize("name", slow_but(("ok",), ["kf_rtrl", "ok"]))
def test_a_cell_whose_gates_have_no_forward_mode(name):
    """∂s′/∂a and ∂s′/∂s by rows."""
    params = reverse_only.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    args = params, *random_like([jnp.zeros(4), jnp.zeros((5, 3)), jnp.zeros((5, 4))])
    args = jax.tree.map(lambda a: a.astype(jnp.float64), args)
    loss = lambda params, h, y: jnp.sum((h - y) ** 2)  # noqa: E731
    run = functools.partial(getattr(gradients, name), key=jax.random.key(0))
    assert_close(run(gradients.Problem(reverse_only, loss), *args), run(gradients.Problem(jr.rnn, loss), *args), 1e-10)
