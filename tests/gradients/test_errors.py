"""What is wrong with the arguments is said before anything runs."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxrnn as jr
from jaxrnn import gradients

PARAMS = jr.rnn.init(jax.random.key(0), 3, 4)
STATE, XS, YS = jnp.zeros(4), jnp.ones((5, 3)), jnp.ones((5, 4))


def loss(params, state, y):
    return jnp.sum((state - y) ** 2)


PROBLEM = gradients.Problem(jr.rnn, loss)
ALGORITHMS = {
    "bptt": gradients.bptt,
    "sqrt": functools.partial(gradients.bptt, memory="sqrt"),
    "revolve": functools.partial(gradients.bptt, snapshots=2),
    "tbptt": functools.partial(gradients.tbptt, k1=2, k2=3),
    "artbp": functools.partial(gradients.artbp, key=jax.random.key(0)),
    "rtrl": gradients.rtrl,
    "snap": gradients.snap,
    "uoro": functools.partial(gradients.uoro, key=jax.random.key(0)),
    "dni": functools.partial(gradients.dni, k=2),
    "kf_rtrl": functools.partial(gradients.kf_rtrl, key=jax.random.key(0)),
    "ok": functools.partial(gradients.ok, key=jax.random.key(0)),
    "rflo": gradients.rflo,
    "eprop": gradients.eprop,
}
NEED_PARTS = ("kf_rtrl", "ok", "rflo", "eprop")  # of an affine cell, which other steps do not have


def vector_loss(params, state, y):
    return state - y


def loss_and_more(params, state, y):
    return jnp.sum(state), state


class Unhashable:
    __hash__ = None

    def __call__(self, params, state, x):
        return state


def growing(params, state, x):
    return jnp.concatenate([state, state])


def other_structure(params, state, x):
    return {"h": state}


def other_dtype(params, state, x):
    return state.astype(jnp.bfloat16)


def counting(params, state, x):
    return state + 1


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    ("problem", "args", "error", "message"),
    [
        (
            gradients.Problem(jr.rnn, vector_loss),
            (PARAMS, STATE, XS, YS),
            ValueError,
            r"loss must return one real number, got float32\[4\]",
        ),
        (
            gradients.Problem(jr.rnn, loss_and_more),
            (PARAMS, STATE, XS, YS),
            ValueError,
            r"loss must return one real number, got \('float32\[\]', 'float32\[4\]'\)",
        ),
        (
            gradients.Problem(Unhashable(), loss),
            (PARAMS, STATE, XS, YS),
            TypeError,
            "problem.step must be hashable, got Unhashable",
        ),
        (
            gradients.Problem(growing, loss),
            (PARAMS, STATE, XS, YS),
            ValueError,
            r"the state that step returns has shape \(8,\), expected \(4,\)",
        ),
        (
            gradients.Problem(other_structure, loss),
            (PARAMS, STATE, XS, YS),
            ValueError,
            "the state that step returns is {'h': ",
        ),
        (
            gradients.Problem(other_dtype, loss),
            (PARAMS, STATE, XS, YS),
            ValueError,
            "the state that step returns has dtype bfloat16, expected float32",
        ),
        (PROBLEM, (PARAMS, STATE, XS, YS[:4]), ValueError, "ys has 4 time steps, xs has 5"),
        (
            PROBLEM,
            (PARAMS, STATE, XS[:0], YS[:0]),
            ValueError,
            r"xs has shape \(0, 3\), expected \(T, \.\.\.\), time first, T >= 1",
        ),
        (PROBLEM, (PARAMS, STATE, None, None), ValueError, "xs and ys hold no arrays"),
        (
            PROBLEM,
            (jax.tree.map(lambda a: a.astype(int), PARAMS), STATE, XS, YS),
            TypeError,
            r"params\.weight_ih has dtype int32",
        ),
        (
            gradients.Problem(counting, loss),
            (PARAMS, jnp.zeros(4, int), XS, YS),
            TypeError,
            "state must have a floating-point leaf",
        ),
        (
            gradients.Problem(counting, loss),
            (PARAMS, jnp.zeros(4, complex), XS, YS.astype(complex)),
            ValueError,
            r"loss must return one real number, got complex64\[\]",
        ),
        (loss, (PARAMS, STATE, XS, YS), TypeError, "problem must be a jaxrnn.gradients.Problem, got function"),
        (gradients.Problem(3, loss), (PARAMS, STATE, XS, YS), TypeError, "step must be a jaxrnn.Cell or a function"),
        (
            gradients.Problem(jr.rnn, None),
            (PARAMS, STATE, XS, YS),
            TypeError,
            r"problem.loss must be a function \(params, state, y\) -> number, got NoneType",
        ),
    ],
)
def test_every_algorithm_says_what_is_wrong(name, problem, args, error, message):
    algorithm, step = ALGORITHMS[name], getattr(problem, "step", None)
    if name in NEED_PARTS and step in (growing, other_structure, other_dtype, counting):
        error, message = ValueError, f"{name} needs the affine parts of a step"
    with pytest.raises(error, match=message):
        algorithm(problem, *args)
    with pytest.raises(error, match=message):
        jax.jit(functools.partial(algorithm, problem))(*args)


@pytest.mark.parametrize(
    ("call", "options", "error", "message"),
    [
        (gradients.tbptt, {"k1": 3, "k2": 2}, ValueError, "k1 must be at most k2"),
        (gradients.tbptt, {"k1": 0, "k2": 2}, ValueError, "k1 must be at least 1, got 0"),
        (gradients.tbptt, {"k1": 1.0, "k2": 2}, TypeError, "k1 must be an int"),
        (gradients.uoro, {"key": jax.random.key(0), "samples": 0}, ValueError, "samples must be at least 1, got 0"),
        (gradients.uoro, {"key": None}, ValueError, "needs a key"),
        (gradients.artbp, {"key": None}, ValueError, "needs a key"),
        (gradients.artbp, {"key": jax.random.key(0), "cut": 1.0}, ValueError, r"cut must lie in \[0, 1\), got 1.0"),
        (
            gradients.artbp,
            {"key": jax.random.key(0), "cut": jnp.zeros(5)},
            ValueError,
            r"cut has shape \(5,\), expected \(\) or \(4,\)",
        ),
        (gradients.snap, {"order": 0}, ValueError, "order must be at least 1, got 0"),
        (gradients.snap, {"order": "1"}, TypeError, "order must be an int"),
        (gradients.bptt, {"memory": "half"}, ValueError, 'memory must be "full", "sqrt" or "revolve", got \'half\''),
        (gradients.bptt, {"snapshots": 0}, ValueError, "snapshots must be at least 1, got 0"),
        (gradients.bptt, {"snapshots": 3, "memory": "sqrt"}, ValueError, "snapshots are for"),
        (gradients.bptt, {"snapshots": 3, "memory": "full"}, ValueError, "snapshots are for"),
        (
            gradients.rtrl,
            {"budget": 100},
            ValueError,
            r"rtrl would keep an influence matrix of 144 numbers, 576 bytes, above budget=100; use snap\(order=1\)",
        ),
        (
            gradients.snap,
            {"budget": 100},
            ValueError,
            "snap would keep an influence matrix of 36 numbers, 144 bytes, above budget=100; use a lower order",
        ),
    ],
)
def test_options(call, options, error, message):
    with pytest.raises(error, match=message):
        call(PROBLEM, PARAMS, STATE, XS, YS, **options)


def test_nothing_is_allocated_before_the_budget_is_looked_at():
    """A matrix of 37 GB is refused at once."""
    params = jr.lstm.init(jax.random.key(0), 64, 1024)
    problem = gradients.Problem(jr.lstm, lambda params, state, y: jnp.sum(state.h))
    with pytest.raises(ValueError, match="9,143,582,720 numbers, 36,574,330,880 bytes"):
        gradients.rtrl(problem, params, jr.lstm.initial_state(params), jnp.ones((5, 64)), None)
