"""SnAp: what it keeps, and what that makes of the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients._algorithms.influence.influence import Kept, layout_of
from jaxrnn.gradients._algorithms.influence.sparsity import jacobian_pattern

from ..cell_table import make, random_like
from ..marks import slow_but
from .problems import NAMES, assert_close, differ, make_problem

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("name", slow_but(("lstm_proj", "stack", "bare"), NAMES))
def test_snap_of_full_reach_is_rtrl(name):
    problem, args = make_problem(name)
    assert_close(gradients.snap(problem, *args, order=9), gradients.rtrl(problem, *args), 1e-12)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "stack"])
def test_snap1_differs_for_dense_cells(name):
    problem, args = make_problem(name)
    exact = gradients.rtrl(problem, *args)[1]
    assert differ(gradients.snap(problem, *args, order=1)[1], exact) > 1e-3


def diagonal_step(params, state, x):
    """Units that do not see each other."""
    return jnp.tanh(params["a"] * state + params["w"] @ x)


def sum_loss(params, state, y):
    return jnp.sum(jnp.sin(state + y))


def test_snap1_is_exact_for_a_diagonal_cell():
    params = random_like({"a": jnp.zeros(5, jnp.float64), "w": jnp.zeros((5, 3), jnp.float64)})
    xs, ys = random_like([jnp.zeros((9, 3), jnp.float64), jnp.zeros((9, 5), jnp.float64)])
    problem, state = gradients.Problem(diagonal_step, sum_loss), jnp.zeros(5, jnp.float64)
    exact = gradients.bptt(problem, params, state, xs, ys)
    assert_close(gradients.snap(problem, params, state, xs, ys), exact, 1e-12)


def dense_snap(problem, params, state, xs, ys, order):
    """SnAp with dense matrices and a mask taken from numbers, step by step."""
    theta, theta_tree = ravel_pytree(problem.select(params))
    flat, state_tree = ravel_pytree(state)

    def step(theta, flat, x):
        return ravel_pytree(problem.step.step(theta_tree(theta), state_tree(flat), x))[0]

    jacobians = jax.jit(jax.jacrev(step, argnums=(0, 1)))
    samples = [jacobians(theta, *random_like([flat, xs[0]], seed)) for seed in range(3)]
    immediate, transition = (sum(abs(sample[i]) for sample in samples) > 0 for i in (0, 1))
    mask = immediate
    for _ in range(order - 1):
        mask = immediate | (transition.astype(float) @ mask.astype(float) > 0)
    influence, total = jnp.zeros_like(mask, flat.dtype), jnp.zeros_like(theta)
    for t in range(len(xs)):
        now, onward = jacobians(theta, flat, xs[t])
        flat = step(theta, flat, xs[t])
        influence = jnp.where(mask, onward @ influence + now, 0)
        y = jax.tree.map(lambda a, t=t: a[t], ys)
        total += ravel_pytree(jax.grad(problem.loss, argnums=1)(params, state_tree(flat), y))[0] @ influence
    return theta_tree(total), mask


@pytest.mark.parametrize("name", slow_but(("gru",), ["rnn", "gru", "lstm", "lstm_proj", "stack", "nested"]))
@pytest.mark.parametrize("order", [1, 2])
def test_snap_is_rtrl_with_a_mask(name, order):
    problem, args = make_problem(name)
    expected, mask = dense_snap(problem, *args, order)
    assert_close(gradients.snap(problem, *args, order=order)[1]["cell"], expected, 1e-12)
    layout = layout_of(problem, Kept(order, None), *args[:2], args[2][0])
    assert layout.size == mask.sum()


@pytest.mark.parametrize("name", slow_but(("lstm_proj", "stack", "nested"), [name for name in NAMES if name != "bare"]))
def test_the_pattern_is_the_jacobians(name):
    """No more and no less than what is other than zero at random points."""
    cell, params = make(name, jnp.float64)
    arguments = params, cell.initial_state(params), jnp.zeros(3, jnp.float64)
    flat, unflatten = ravel_pytree(arguments)
    jacobian = jax.jit(jax.jacrev(lambda flat: ravel_pytree(cell.step(*unflatten(flat)))[0]))
    seen = sum(abs(jacobian(random_like(flat, seed))) for seed in range(3)) > 0
    np.testing.assert_array_equal(jacobian_pattern(cell.step, arguments).pattern.toarray(), seen)


MASK = np.random.default_rng(0).random((6, 6)) < 0.3


def sparse_step(params, state, x):
    """A recurrent weight that a mask keeps sparse, as in the SnAp paper."""
    return jnp.tanh((params["v"] * MASK.astype(state.dtype)) @ state + params["w"] @ x)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_mask_makes_the_pattern_sparse(order):
    params = random_like({"v": jnp.zeros((6, 6), jnp.float64), "w": jnp.zeros((6, 2), jnp.float64)})
    xs, ys = random_like([jnp.zeros((9, 2), jnp.float64), jnp.zeros((9, 6), jnp.float64)])
    problem, state = gradients.Problem(sparse_step, sum_loss), jnp.zeros(6, jnp.float64)
    reached = sum(np.linalg.matrix_power(MASK.astype(int), k) for k in range(order)) > 0  # [i, j]: j to i in < n steps
    columns = np.concatenate([reached[:, np.nonzero(MASK)[0]], np.repeat(reached, 2, axis=1)], axis=1)
    layout = layout_of(problem, Kept(order, None), params, state, xs[0])
    assert layout.size == columns.sum()
    exact = gradients.bptt(problem, params, state, xs, ys)
    assert_close(gradients.snap(problem, params, state, xs, ys, order=99), exact, 1e-12)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda a: a[::-1], np.eye(4)[::-1]),
        (lambda a: jnp.concatenate([a[2:], a[:1]]), np.eye(4)[[2, 3, 0]]),
        (lambda a: jnp.pad(a, 1), np.pad(np.eye(4), ((1, 1), (0, 0)))),
        (lambda a: a.reshape(2, 2).T.reshape(4), np.eye(4)[[0, 2, 1, 3]]),
        (lambda a: jnp.roll(a, 1), np.roll(np.eye(4), 1, axis=0)),
        (lambda a: a[jnp.array([3, 3, 0])], np.eye(4)[[3, 3, 0]]),
        (lambda a: jax.nn.softmax(a), np.ones((4, 4))),
        (lambda a: jax.nn.relu(a) + jax.nn.silu(a), np.eye(4)),
        (lambda a: a.reshape(2, 2).sum(0), [[1, 0, 1, 0], [0, 1, 0, 1]]),
        (lambda a: a * jnp.array([1.0, 0, 2, 0]), np.diag([1, 0, 1, 0])),
        (lambda a: jnp.where(jnp.arange(4) < 2, a, a[::-1]), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]),
        (lambda a: jax.lax.stop_gradient(a) * jnp.flip(a), np.eye(4)[::-1]),
        (lambda a: jnp.diag(jnp.array([1.0, 0, 1, 1])) @ a, np.diag([1, 0, 1, 1])),
        (lambda a: jax.jit(lambda b: 2 * b)(a), np.eye(4)),
        (lambda a: jax.checkpoint(jnp.sin)(a), np.eye(4)),
        (lambda a: a.at[1].set(a[3]), np.eye(4)[[0, 3, 2, 3]]),
        (lambda a: a.at[1].set(5), np.diag([1, 0, 1, 1])),
        (lambda a: jax.lax.dynamic_update_slice(a, a[:2], (2,)), np.eye(4)[[0, 1, 0, 1]]),
        (lambda a: jnp.sort(a), np.ones((4, 4))),
        (lambda a: jax.lax.fori_loop(0, 3, lambda _, b: b * a, a), np.eye(4)),
        (lambda a: jnp.split(a, 2)[1], np.eye(4)[2:]),
        (lambda a: jnp.einsum("ij,j->i", np.tri(4), a), np.tri(4)),
    ],
)
def test_patterns_of_operations(function, expected):
    pattern = jacobian_pattern(function, (jnp.zeros(4, jnp.float64),)).pattern.toarray()
    np.testing.assert_array_equal(pattern, np.asarray(expected, bool))


def test_the_influence_of_one_units_parameters_is_not_formed_densely():
    """Rows of ∂s/∂θ for all units come out of one product for each leaf of the state."""
    cell = jr.lstm
    params = cell.init(jax.random.key(0), 8, 16, dtype=jnp.float64)
    problem = gradients.Problem(cell, lambda params, state, y: jnp.sum(state.h))
    layout = layout_of(problem, None, params, cell.initial_state(params), jnp.zeros(8, jnp.float64))
    assert layout.seeds.shape == (2, 32)
    assert layout.size == 32 * sum(leaf.size for leaf in jax.tree.leaves(params))
