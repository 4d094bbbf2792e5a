"""In bfloat16 and float16: gradients that add up over time as in float32, steps that take as long, mixed precision."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn._core.cell import sums_in_float32

from .cell_table import DISTINCT, make, random_like, stepped
from .marks import in_turn, slow_but

LONG = 2000
DTYPES = ["bfloat16", "float16"]


def shares(total, params, steps):
    """What each step adds to the gradient of `total`, a function of (T, ...) parameters per leaf, in their dtype."""
    return jax.jit(jax.grad(total))(jax.tree.map(lambda a: jnp.broadcast_to(a, (steps, *a.shape)), params))


def assert_added_up(grads, each, dtype):
    """The sums over time of each step's share, within a unit in the last place of the sums of their magnitudes."""
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}
    assert units_off(grads, each, dtype) <= 1


def units_off(grads, each, dtype):
    """The largest error in such units."""
    errors = []
    for leaf, parts in zip(jax.tree.leaves(grads), jax.tree.leaves(each), strict=True):
        leaf, parts = (np.asarray(a).astype(np.float64) for a in (leaf, parts))
        errors.append(np.abs(leaf - parts.sum(0)).max() / np.abs(parts).sum(0).max())
    return max(errors) / float(jnp.finfo(dtype).eps)


def drawn(name, dtype, *batch):
    """A cell of the table over many steps, its state, and weights of its outputs that are off to one side."""
    cell, params = make(name, dtype)
    state = random_like(cell.initial_state(params, batch))
    xs = random_like(jnp.zeros((LONG, *batch, 3), dtype), seed=6)
    ys = jax.eval_shape(cell.output, state)
    return cell, params, state, xs, random_like(jnp.zeros((LONG, *ys.shape)), seed=7) + 1


@functools.cache
def of_cell(name, dtype, *, reverse):
    """Such a cell, and each step's share of the gradient of the weighted outputs."""
    cell, params, state, xs, weights = given = drawn(name, dtype)

    def total(each):
        def step(state, inputs):
            state = cell.step(inputs[0], state, inputs[1])
            return state, cell.output(state)

        return weighted(jax.lax.scan(step, state, (each, xs), reverse=reverse)[1], weights)

    return *given, shares(total, params, LONG)


def weighted(ys, weights):
    return jnp.sum(ys.astype(weights.dtype) * weights)


WAYS = {
    "forward": {},
    "reverse": {"reverse": True},
    "sqrt": {"checkpoint": "sqrt"},
    "segments": {"checkpoint": 300},
    "lengths": {"lengths": LONG},
    "states": {"return_states": True},
}


@pytest.mark.parametrize(
    ("name", "way", "dtype"), in_turn([("nested", "forward"), ("nested", "sqrt")], DISTINCT, WAYS, DTYPES)
)
def test_gradients_of_unroll_are_the_sums_of_what_the_steps_add(name, way, dtype):
    options = WAYS[way]
    cell, params, state, xs, weights, each = of_cell(name, dtype, reverse="reverse" in options)

    def total(params):
        ys = jr.unroll(cell, params, xs, state, **options)[1]
        return weighted(jax.vmap(cell.output)(ys) if way == "states" else ys, weights)

    assert_added_up(jax.grad(total)(params), each, dtype)


@pytest.mark.parametrize("mark", [lambda run: run, sums_in_float32], ids=["unmarked", "marked"])
def test_a_run_of_ones_own_is_given_few_steps_at_a_time_unless_it_says_that_it_adds_up_in_float32(mark):
    cell, params, state, xs, weights, each = of_cell("nested", "bfloat16", reverse=False)
    lengths = set()

    @mark
    def run(params, state, xs, active, *, reverse, return_states):
        lengths.add(len(xs))
        return stepped(cell, params, xs, state, reverse=reverse, return_states=return_states)

    grads = jax.grad(lambda params: weighted(jr.unroll(cell._replace(run=run), params, xs, state)[1], weights))(params)
    assert lengths == {LONG if mark is sums_in_float32 else 40}  # the divisor next to the square root
    assert mark is sums_in_float32 or units_off(grads, each, "bfloat16") < 0.5


@pytest.mark.parametrize("dtype", slow_but(("bfloat16",), DTYPES))
def test_gradients_of_a_closed_loop(dtype):
    cell, params = make("nested", dtype)
    state, weights = cell.initial_state(params), random_like(jnp.zeros((LONG, 4)), seed=7) + 1

    def feed(params, state, key):
        return cell.output(state)[:3], cell.output(state)

    def total(each):
        def step(carry, params):
            state = cell.step(params, *carry)
            x, y = feed(params, state, None)
            return (state, x), y

        return weighted(jax.lax.scan(step, (state, jnp.ones(3, dtype)), each)[1], weights)

    def ours(params):
        return weighted(jr.generate(cell, feed, params, state, jnp.ones(3, dtype), LONG)[1], weights)

    assert_added_up(jax.grad(ours)(params), shares(total, params, LONG), dtype)


def test_gradients_of_an_embedding_that_is_looked_up_often():
    embedding, ids = jr.Embedding(3, 2), jnp.array([1] * 1000 + [2] * 4)

    def total(params):
        return jnp.sum(embedding.apply(params, ids).astype(jnp.float32))

    grads = jax.grad(total)({"weight": jnp.zeros((3, 2), jnp.bfloat16)})
    np.testing.assert_array_equal(np.asarray(grads["weight"], np.float32)[:, 0], [0, 1000, 4])


@pytest.mark.parametrize(
    ("name", "way", "dtype"),
    in_turn(
        [("nested", "forward")],
        ["nested", "stack", "rnn", "lstm", "lstm_proj"],
        ["forward", "sqrt", "states"],
        DTYPES,
    ),
)
def test_a_step_takes_the_same_time_however_many_there_are(name, way, dtype):
    """XLA:CPU converts all of an array of bfloat16 to write one entry: no loop over steps may convert so much."""
    cell, params, state, xs, _ = drawn(name, dtype)
    gradient = jax.jit(jax.grad(lambda params: total_of(jr.unroll(cell, params, xs, state, **WAYS[way])[1])))
    steps = innermost_loops(gradient.lower(params).compile().as_text())
    assert steps
    for body in steps:
        sizes = [math.prod(map(int, dims.split(","))) for dims in re.findall(r"\w+\[([\d,]+)\]\S* convert\(", body)]
        assert max(sizes, default=0) <= max(leaf.size for leaf in jax.tree.leaves(params))


def total_of(tree):
    return sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(tree))


def innermost_loops(program):
    """The bodies of the loops in which there is none, each with all that it calls."""
    computations = dict(re.findall(r"^(?:ENTRY )?%(\S+) .*?\{$(.*?)^\}", program, re.MULTILINE | re.DOTALL))

    def whole(name):
        called = re.findall(r"(?:calls|to_apply|body)=%([^\s,})]+)", computations[name])
        return computations[name] + "".join(map(whole, called))

    bodies = map(whole, set(re.findall(r" while\(.*?body=%([^\s,})]+)", program)))
    return [body for body in bodies if " while(" not in body]


NETS = {
    "rnn": jr.RNN(3, 4, bidirectional=True),
    "lstm": jr.LSTM(3, 4, num_layers=2, proj_size=2),
    "gru": jr.GRU(3, 4),
}


@pytest.mark.parametrize("name", slow_but(("gru",), NETS))
def test_networks_compute_in_the_dtype_that_they_are_given(name):
    net = NETS[name]
    params, x = net.init(jax.random.key(0)), random_like(jnp.zeros((50, 2, 3)))
    low, low_x = jr.cast((params, x), "bfloat16")

    def total(params, x, **options):
        return jnp.sum(net.apply(params, x, **options)[0].astype(jnp.float32) ** 2)

    value, grads = jax.value_and_grad(total)(params, x, dtype="bfloat16")
    expected, low_grads = jax.value_and_grad(total)(low, low_x)
    assert value == expected
    chex.assert_trees_all_equal(grads, jr.cast(low_grads, "float32"))
    output, h_n = net.apply(params, x, net.apply(params, x)[1], dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves((output, h_n))} == {jnp.dtype("bfloat16")}
    with pytest.raises(TypeError, match="dtype must be"):
        net.apply(params, x, dtype="int32")


def test_cast_changes_floating_point_arrays_alone():
    tree = {"w": np.ones(2, np.float32), "n": jnp.arange(3), "key": jax.random.key(0), "none": None, "name": "gru"}
    low = jr.cast(tree, jnp.float16)
    assert low["w"].dtype == jnp.float16
    assert all(low[name] is tree[name] for name in ("n", "key", "none", "name"))
    with pytest.raises(TypeError, match="dtype must be"):
        jr.cast(tree, "int8")
