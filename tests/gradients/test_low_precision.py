"""In bfloat16 and float16: what the steps put in is what comes out, added up without loss."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients._algorithms.artbp import with_cuts

from ..cell_table import random_like
from ..marks import few_of, in_turn
from ..test_low_precision import DTYPES, LONG, assert_added_up, shares
from .problems import FEATURES, OUTPUTS, differ, make_problem
from .test_unbiased import z_scores

pytestmark = pytest.mark.usefixtures("x64")

# Over so many steps all of these go back from the last to the first, as back-propagation does.
BACKWARD = {
    "full": gradients.bptt,
    "sqrt": functools.partial(gradients.bptt, memory="sqrt"),
    "revolve": functools.partial(gradients.bptt, memory="revolve"),
    "snapshots": functools.partial(gradients.bptt, snapshots=40),
    "artbp": functools.partial(gradients.artbp, key=jax.random.key(0), cut=0),
    "tbptt": functools.partial(gradients.tbptt, k1=LONG, k2=LONG),
    "tbptt, many times": functools.partial(gradients.tbptt, k1=500, k2=LONG),
}
PROBLEMS = ["bare", "nested", "rnn", "lstm", "lstm_proj", "minimal", "stack", "stack_of_stacks"]


def drifting(name, dtype, steps=LONG):
    """A problem of the table over many steps, whose targets are off to one side: sums that grow."""
    problem, (params, state, _, _) = make_problem(name, dtype)
    xs = random_like(jnp.zeros((steps, FEATURES), dtype), seed=6)
    ys = {"y": random_like(jnp.zeros((steps, OUTPUTS), dtype), seed=7) + 1, "weight": jnp.full(steps, 2**-8, dtype)}
    return problem, (params, state, xs, ys)


@functools.cache
def of_problem(name, dtype):
    """Such a problem, and each step's share of its gradient."""
    problem, (params, state, xs, ys) = drifting(name, dtype)
    step = getattr(problem.step, "step", problem.step)

    def total(each):
        def advance(state, inputs):
            params, x, y = inputs
            state = step(problem.select(params), state, x)
            return state, problem.loss(params, state, y)

        return jnp.sum(jax.lax.scan(advance, state, (each, xs, ys))[1])

    return problem, (params, state, xs, ys), shares(total, params, LONG)


QUICK = ("full", "sqrt", "revolve", "tbptt")


@pytest.mark.parametrize(
    ("name", "algorithm", "dtype"), in_turn([("nested", name) for name in QUICK], PROBLEMS, BACKWARD, DTYPES)
)
def test_gradients_are_the_sums_of_what_the_steps_add(name, algorithm, dtype):
    problem, args, each = of_problem(name, dtype)
    assert_added_up(BACKWARD[algorithm](problem, *args)[1], each, dtype)


# What goes forward, draws or leaves out is compared with itself in float64: within so many units in the last place.
OTHERS = {
    "artbp": (functools.partial(gradients.artbp, key=jax.random.key(0), cut=0.1), 2),
    "tbptt": (functools.partial(gradients.tbptt, k1=10, k2=50), 2),
    "rtrl": (gradients.rtrl, 2),
    "snap": (gradients.snap, 2),
    "uoro": (functools.partial(gradients.uoro, key=jax.random.key(0), samples=80), 5),
}


@pytest.mark.parametrize(  # the noise of the first problem is of its dtype
    ("name", "algorithm", "dtype"),
    in_turn([("nested", name) for name in ("snap", "uoro")], PROBLEMS[1:], OTHERS, DTYPES),
)
def test_estimates_are_those_of_float64(name, algorithm, dtype):
    problem, args = drifting(name, dtype)
    run, units = OTHERS[algorithm]
    ours, theirs = run(problem, *args)[1], run(problem, *jr.cast(args, "float64"))[1]
    assert differ(jr.cast(ours, "float64"), theirs) < units * float(jnp.finfo(dtype).eps)


def counter():
    """s′ = s + w, and the loss is the last state: the gradient is T, and all numbers but the weights are integers."""
    return gradients.Problem(lambda w, s, x: s + w, loss=lambda w, s, y: s * y)


CUTS = [(3, 120, 150), (), (40,)]


def counted(steps, dtype):
    return jnp.ones((), dtype), jnp.zeros((), dtype), jnp.zeros(steps, dtype), jnp.zeros(steps, dtype).at[-1].set(1)


@pytest.mark.parametrize(("cuts", "dtype"), few_of(zip(CUTS, itertools.cycle(DTYPES)), CUTS, DTYPES))
def test_weights_of_artbp_multiply_up_without_rounding(cuts, dtype):
    steps, cut = 200, 0.01
    kept = np.ones(steps - 1, bool)
    kept[list(cuts)] = False
    weights = np.where(kept, 1 / (1 - cut), 0)
    expected = sum(np.prod(weights[t:]) for t in range(steps))
    args = counted(steps, dtype)
    _, grad, _ = with_cuts(counter(), *args, jnp.asarray(kept), jnp.full(steps - 1, 1 / (1 - cut)))
    np.testing.assert_allclose(float(grad), expected, rtol=jnp.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_artbp_is_unbiased(dtype):
    problem, args = counter(), counted(100, dtype)
    run = lambda key: gradients.artbp(problem, *args, key=key, cut=0.01)[1].astype(jnp.float64)  # noqa: E731
    scores, error = z_scores(run, jnp.full((), 100.0), 2_000)
    assert error < 0.02
    assert scores.max() < 4
