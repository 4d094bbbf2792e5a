"""An initial state that is learnt has its part in the gradient of every algorithm."""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients, training

from ..marks import few_of, slow_but
from .problems import EXACT, STEPS, assert_close, assert_unbiased, make_problem

pytestmark = pytest.mark.usefixtures("x64")


def is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def learnt(name):
    """A problem whose s_0 is tanh of a part of the parameters, its arguments without a state, and that state."""
    problem, (params, state, xs, ys) = make_problem(name)
    leaves, structure = jax.tree.flatten(state)

    def initial_state(params):
        given = iter(params["start"])
        return structure.unflatten([jnp.tanh(next(given)) if is_float(leaf) else leaf for leaf in leaves])

    params = params | {"start": [leaf for leaf in leaves if is_float(leaf)]}
    return problem._replace(initial_state=initial_state), (params, None, xs, ys)


def loop(problem, params, state, xs, ys):
    """The same by a Python loop that JAX differentiates."""
    assert state is None
    step = getattr(problem.step, "step", problem.step)

    def total(params):
        state, value = problem.initial_state(params), 0.0
        for t in range(STEPS):
            state = step(problem.select(params), state, xs[t])
            value += problem.loss(params, state, jax.tree.map(lambda a, t=t: a[t], ys))
        return value, state

    (value, final), grads = jax.value_and_grad(total, has_aux=True)(params)
    return value, grads, final


STEPPED = ["bare", "lstm", "nested", "rnn"]


@pytest.mark.parametrize(("algorithm", "name"), few_of(zip(EXACT, itertools.cycle(STEPPED)), EXACT, STEPPED))
def test_it_is_that_of_a_loop(algorithm, name):
    problem, args = learnt(name)
    assert_close(EXACT[algorithm](problem, *args), loop(problem, *args), 1e-12)


RANDOM = {
    "uoro": gradients.uoro,
    "artbp": functools.partial(gradients.artbp, cut=0.3),
    "kf_rtrl": gradients.kf_rtrl,
    "ok": functools.partial(gradients.ok, rank=2),
}


@pytest.mark.parametrize("name", slow_but(("uoro", "artbp", "kf_rtrl"), RANDOM))
def test_the_mean_of_random_ones_is(name):
    problem, args = learnt("gru")
    algorithm = RANDOM[name]
    draw = lambda key: algorithm(problem, *args, key=key).grads["start"][0]  # noqa: E731
    exact = loop(problem, *args)[1]["start"][0]
    assert float(jnp.abs(exact).max()) > 1e-3
    assert_unbiased(draw, exact)


def test_truncated_it_is_of_the_losses_that_reach_back_to_it():
    """k1=1: the loss at t reaches s_0 if t <= k2."""
    problem, (params, state, xs, ys) = learnt("gru")
    ours = gradients.tbptt(problem, params, state, xs, ys, k1=1, k2=3).grads["start"]
    early = {"y": ys["y"], "weight": jnp.where(jnp.arange(STEPS) < 3, ys["weight"], 0)}
    assert_close(ours, loop(problem, params, state, xs, early)[1]["start"], 1e-12)


@pytest.mark.parametrize("algorithm", [gradients.rflo, gradients.eprop])
def test_local_ones_are_exact_where_units_do_not_see_each_other(algorithm):
    problem, (params, *args) = learnt("lstm")
    params["cell"] = params["cell"]._replace(weight_hh=jnp.zeros_like(params["cell"].weight_hh))
    ours, exact = algorithm(problem, params, *args), gradients.bptt(problem, params, *args)
    assert_close(ours.grads["start"], exact.grads["start"], 1e-12)


def test_dni_of_short_segments_has_it_from_the_first():
    """Without a guess, T segments of a step: what the first loss says."""
    problem, (params, state, xs, ys) = learnt("gru")
    zero = lambda params, state: jnp.zeros_like(state)  # noqa: E731
    ours = gradients.dni(problem, params, state, xs, ys, k=1, synthesizer=(zero, None)).grads["start"]
    first = {"y": ys["y"], "weight": jnp.where(jnp.arange(STEPS) < 1, ys["weight"], 0)}
    assert_close(ours, loop(problem, params, state, xs, first)[1]["start"], 1e-12)


def test_snap1_keeps_what_a_number_of_it_does_to_itself():
    """A diagonal linear network: all of it."""
    problem = gradients.Problem(
        lambda w, s, x: w * s + x,
        lambda params, s, y: jnp.sum(s * y),
        operator.itemgetter("w"),
        operator.itemgetter("s"),
    )
    params = {"w": jnp.array([0.5, 0.9]), "s": jnp.array([1.0, -2.0])}
    args = params, None, jnp.ones((4, 2)), jnp.ones((4, 2))
    assert_close(gradients.snap(problem, *args), gradients.bptt(problem, *args), 1e-12)


@pytest.mark.parametrize("learner", slow_but(("tbptt",), ["rtrl", "snap", "tbptt", "rflo"]))
def test_batched_learners(learner):
    problem, (params, _, xs, ys) = learnt("gru")
    options = {"k1": 2, "k2": 4} if learner == "tbptt" else {}
    one = getattr(gradients.online, learner)(problem, **options)
    many = gradients.online.batched(one)
    xs, ys = (jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a], axis=1), tree) for tree in (xs, ys))
    alone = [
        gradients.sequence_gradient(one, params, None, *jax.tree.map(lambda a, i=i: a[:, i], (xs, ys)))
        for i in range(3)
    ]
    value, grads, state = gradients.sequence_gradient(many, params, None, xs, ys)
    assert_close(value, sum(one.value for one in alone), 1e-12)
    assert_close(grads, jax.tree.map(lambda *a: sum(a), *(one.grads for one in alone)), 1e-12)
    assert_close(state, jax.tree.map(lambda *a: jnp.stack(a), *(one.state for one in alone)), 1e-12)


def initial(params):
    return jnp.tanh(params["start"])


def test_fit_learns_it():
    """A state that stays as it is, of which a stream is begun once and a sequence at every step."""
    problem = gradients.Problem(
        lambda w, h, x: h + 0 * w * x, lambda params, h, y: jnp.sum((h - y) ** 2), operator.itemgetter("w"), initial
    )
    params, target = {"w": jnp.zeros(()), "start": jnp.zeros(2)}, jnp.array([0.5, -0.25])

    def batches(start, stop):
        return jnp.zeros((stop - start, 3, 4)), jnp.broadcast_to(target, (stop - start, 3, 4, 2))

    over_sequences = training.over_sequences(problem, gradients.rtrl)
    result = training.fit(over_sequences, params, optax.sgd(0.1), batches, steps=100)
    np.testing.assert_allclose(np.tanh(result.state.params["start"]), target, atol=1e-6)
    over_streams = training.over_streams(gradients.online.rtrl(problem))
    carry = over_streams.init(params, None, jnp.zeros(3))
    result = training.fit(over_streams, params, optax.sgd(0.1), batches, steps=1, carry=carry)
    np.testing.assert_allclose(result.state.params["start"], 0.1 * 2 * 4 * target, rtol=1e-6)  # 4 steps, tanh'(0) = 1


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["full", "sqrt", "revolve"])
def test_second_order_products_are_those_of_dense_matrices(memory):
    """GGN: the loss is quadratic in what it reads, whose matrix is then JᵀJ, weighted."""
    problem, (params, state, xs, ys) = learnt("gru")
    flat, tree = ravel_pytree(params)
    vector = tree(jnp.cos(jnp.arange(flat.size, dtype=flat.dtype)))
    along = ravel_pytree(vector)[0]
    hessian = jax.jit(jax.hessian(lambda flat: loop_value(problem, tree(flat), xs, ys)))(flat)
    ours = gradients.hvp(problem, params, state, xs, ys, vector, memory=memory)
    np.testing.assert_allclose(
        ravel_pytree(ours)[0], hessian @ along, rtol=0, atol=1e-10 * float(jnp.abs(hessian).max())
    )

    in_parts = problem._replace(loss=gradients.OutputLoss(lambda params, h: params["out"] @ h, squares))
    jacobian = jax.jit(jax.jacfwd(lambda flat: outputs(problem, tree(flat), xs)))(flat)
    dense = 2 * jnp.einsum("t,tia,tib->ab", ys["weight"], jacobian, jacobian)
    ours = gradients.ggn_vector_product(in_parts, params, state, xs, ys, vector, memory=memory)
    np.testing.assert_allclose(ravel_pytree(ours)[0], dense @ along, rtol=0, atol=1e-10 * float(jnp.abs(dense).max()))


def squares(output, target):
    return target["weight"] * jnp.sum((output - target["y"]) ** 2)


def outputs(problem, params, xs):
    """(T, outputs), by a Python loop."""
    state, found = problem.initial_state(params), []
    for x in xs:
        state = problem.step.step(problem.select(params), state, x)
        found.append(params["out"] @ state)
    return jnp.stack(found)


def loop_value(problem, params, xs, ys):
    found = outputs(problem, params, xs)
    return sum(squares(found[t], jax.tree.map(lambda a, t=t: a[t], ys)) for t in range(STEPS))


def test_the_pattern_of_a_step_needs_no_state_where_the_problem_has_one():
    problem, (params, state, xs, _) = learnt("gru")
    found = gradients.sparsity_pattern(problem, params, state, xs[0])
    given = problem._replace(initial_state=None), params, problem.initial_state(params), xs[0]
    assert found == gradients.sparsity_pattern(*given)


@pytest.mark.slow
def test_compare_flow_and_state_gradients_take_it():
    problem, args = learnt("gru")
    report = gradients.compare(problem, *args, {"rtrl": gradients.rtrl})
    assert report.algorithms["rtrl"].total.relative_error < 1e-12
    fixed = problem._replace(initial_state=None)
    state = problem.initial_state(args[0])
    expected = gradients.state_gradients(fixed, args[0], state, *args[2:])
    assert_close(gradients.state_gradients(problem, *args), expected, 1e-12)
    flow = gradients.flow(problem, *args)
    np.testing.assert_allclose(flow.total, np.linalg.norm(expected, axis=1), rtol=1e-10)


def test_either_the_problem_says_it_or_the_call():
    problem, (params, _, xs, ys) = learnt("gru")
    state = problem.initial_state(params)
    for algorithm in EXACT.values():
        with pytest.raises(
            ValueError, match=r"state must be None, as problem.initial_state gives it, got float64\[4\]"
        ):
            algorithm(problem, params, state, xs, ys)
        with pytest.raises(TypeError, match=r"state must be s_0, or problem.initial_state a function"):
            algorithm(problem._replace(initial_state=None), params, None, xs, ys)
    with pytest.raises(TypeError, match=r"problem\.initial_state must be a function"):
        gradients.bptt(problem._replace(initial_state=state), params, None, xs, ys)
    with pytest.raises(ValueError, match=r"state has shape \(5,\), expected \(4,\)"):
        gradients.bptt(problem._replace(initial_state=lambda params: jnp.zeros(5)), params, None, xs, ys)


def test_a_cells_own_initial_state_is_one():
    problem = gradients.Problem(jr.gru, lambda params, h, y: jnp.sum(h * y), initial_state=jr.gru.initial_state)
    params = jr.gru.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    xs, ys = jnp.ones((5, 3)), jnp.ones((5, 4))
    given = gradients.bptt(problem._replace(initial_state=None), params, jnp.zeros(4), xs, ys)
    assert_close(gradients.bptt(problem, params, None, xs, ys), given, 1e-12)
