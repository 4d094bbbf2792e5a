"""Patterns of Jacobians, against Jacobians at random points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxrnn.gradients._algorithms.influence.sparsity import jacobian_pattern

from ..cell_table import random_like

pytestmark = pytest.mark.usefixtures("x64")

N = 6
INDICES = np.array([0, 3, 3, 1, 0, 5])
KERNEL = np.array([0.5, 0.0, -1.0])
IMAGES = np.random.default_rng(0).normal(size=(2, 2, 3, 2))
ROWS = np.array([1.0, 0, 1, 1, 0, 1])


def of(function):
    """What is found; a function of x too gets one that is not known while the pattern is looked for."""
    return jacobian_pattern(lambda a, x: function(a, x), (jnp.zeros(N),), (jnp.zeros((), jnp.int32),))


def seen(function, points=30):
    """Where the Jacobian is other than zero at random points, for every x."""
    jacobian = jax.jit(jax.jacfwd(lambda a, x: function(a, x).reshape(-1)))
    found = [jacobian(random_like(jnp.zeros(N), seed), x) for seed in range(points) for x in range(N)]
    return np.any([np.asarray(each) != 0 for each in found], axis=0)


def scan_of_pairs(a, x):
    del x
    return lax.scan(lambda carry, pair: (carry * 0.5 + pair[0], carry * pair[1]), 0.0, (a[:3], a[3:]))[1]


def scan_backwards(a, x):
    del x
    last, ys = lax.scan(lambda carry, each: (carry + each, 2 * carry), a[0] * 0, a, reverse=True)
    return jnp.append(ys, last)


def scan_of_known(a, x):
    """Which elements a step sees is known."""
    del x
    return lax.scan(lambda carry, i: (carry, carry[i]), a, INDICES)[1]


def long_scan(a, x):
    """Neighbours to the right, in the end all of them."""
    del x
    return lax.scan(lambda carry, _: (carry + jnp.append(carry[1:], 0.0), None), a, None, length=300)[0]


def long_scan_of_ys(a, x):
    del x
    return lax.scan(lambda carry, i: (carry, jnp.sin(carry[:2])), a, jnp.arange(150.0))[1]


def while_shifting(a, x):
    """An even number of places."""
    return lax.while_loop(lambda s: s[0] < x, lambda s: (s[0] + 1, jnp.roll(s[1], 2)), (0, a))[1]


def convolved(lhs_shape, kernel_shape, a_is_kernel=False, **options):
    """A convolution in two dimensions of an array, some elements of which are a."""

    def function(a, x):
        del x
        lhs, kernel = (np.random.default_rng(s).normal(size=shape) for s, shape in enumerate((lhs_shape, kernel_shape)))
        if a_is_kernel:
            kernel = jnp.asarray(kernel).ravel().at[:N].set(a).reshape(kernel_shape)
        else:
            lhs = jnp.asarray(lhs).ravel().at[2 : 2 + N].set(a).reshape(lhs_shape)
        return lax.conv_general_dilated(lhs, kernel, **options)

    return function


STRIDED = {"window_strides": (1, 2), "padding": ((1, 0), (0, 2))}
DILATED = {"window_strides": (1, 1), "padding": ((1, 1), (2, 1)), "lhs_dilation": (2, 1), "rhs_dilation": (1, 2)}
LAST = {"window_strides": (2, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}

TIGHT = {
    "segment_sum": lambda a, x: jax.ops.segment_sum(a, INDICES, 8),
    "segment_sum of products": lambda a, x: jax.ops.segment_sum(a * a[::-1], INDICES, 8),
    "set": lambda a, x: a.at[jnp.array([1, 4])].set(jnp.sin(a[:2])),
    "set twice": lambda a, x: a.at[2:4].set(a[:2]).at[3].set(7.0),
    "set out of bounds": lambda a, x: a.at[jnp.array([2, 99])].set(a[:2], mode="drop"),
    "set clipped": lambda a, x: a.at[jnp.array([2, 99])].add(a[:2], mode="clip"),
    "add": lambda a, x: a.at[INDICES].add(a[::-1]),
    "add a block": lambda a, x: a.reshape(2, 3).at[:, 1].add(a[:2]),
    "add zeros": lambda a, x: jnp.zeros(N).at[0].add(0.0) * a,
    "multiply": lambda a, x: a.at[jnp.array([0, 2])].multiply(a[4:], unique_indices=True),
    "multiply by zeros": lambda a, x: jnp.ones(N).at[INDICES].multiply(ROWS) * a,
    "add somewhere": lambda a, x: a.reshape(3, 2).at[x % 3].add(a[:2]),
    "set somewhere": lambda a, x: a.reshape(3, 2).at[x % 3].set(a[4:]),
    "set a slice somewhere": lambda a, x: lax.dynamic_update_slice(
        a.reshape(3, 2), a[:2].reshape(1, 2), (x % 3, 0 * x)
    ),
    "take from somewhere": lambda a, x: a.reshape(3, 2)[x % 3],
    "take with a gather": lambda a, x: jnp.take(a.reshape(2, 3), jnp.array([x, x + 1]) % 3, axis=1, mode="clip"),
    "slice from somewhere": lambda a, x: lax.dynamic_slice(a.reshape(3, 2), (x % 3, 0 * x), (1, 2)),
    "convolve": lambda a, x: jnp.convolve(a, KERNEL, mode="same"),
    "correlate with itself": lambda a, x: jnp.correlate(a[:3], a[3:], mode="full"),
    "conv": convolved((2, 2, 3, 3), (2, 2, 2, 2), **STRIDED),
    "conv by kernel": convolved((2, 2, 3, 3), (2, 2, 2, 2), a_is_kernel=True, **STRIDED),
    "conv dilated": convolved((1, 1, 3, 4), (2, 1, 2, 2), **DILATED),
    "conv channels last": convolved((1, 3, 3, 2), (2, 2, 2, 2), **LAST),
    "conv by features": convolved((1, 4, 2, 3), (4, 2, 2, 1), feature_group_count=2, **STRIDED),
    "conv by batches": convolved((4, 2, 2, 3), (2, 2, 2, 1), batch_group_count=2, **STRIDED),
    "mean of windows": lambda a, x: lax.reduce_window(a, 0.0, lax.add, (3,), (2,), "SAME"),
    "cumsum": lambda a, x: jnp.cumsum(a.reshape(2, 3), axis=1),
    "cumsum backwards": lambda a, x: lax.cumsum(a.reshape(2, 3), axis=0, reverse=True),
    "cumsum of zeros": lambda a, x: a * jnp.cumsum(jnp.cos(a) * np.array([0.0, 0, 1, 0, 0, 0])),
    "cumprod": lambda a, x: jnp.cumprod(a),
    "cumprod of zeros": lambda a, x: jnp.cumprod(a * ROWS),
    "cummax": lambda a, x: lax.cummax(a),
    "cumlogsumexp": lambda a, x: lax.cumlogsumexp(a.reshape(3, 2), axis=0),
    "associative scan": lambda a, x: lax.associative_scan(jnp.add, a),
    "scan": scan_of_pairs,
    "scan backwards": scan_backwards,
    "scan of what is known": scan_of_known,
    "scan of none": lambda a, x: lax.scan(lambda c, b: (2 * c, b), a, jnp.zeros((0, 2)))[0],
    "long scan": long_scan,
    "long scan of ys": long_scan_of_ys,
    "while": while_shifting,
    "cond": lambda a, x: lax.cond(x > 2, lambda a: a, lambda a: a[::-1] * ROWS, a),
    "cond that is known": lambda a, x: lax.cond(np.bool_(True), lambda a: a, lambda a: a[::-1], a),
    "switch": lambda a, x: lax.switch(x % 3, [jnp.sin, lambda a: a * a[::-1], lambda a: jnp.roll(a, 1)], a),
    "select": lambda a, x: jnp.where(a > 0, ROWS * a, (1 - ROWS) * a[::-1]),
    "mask": lambda a, x: ROWS * a * a[::-1],
    "zero of a product": lambda a, x: a * (np.diag(ROWS) @ jnp.tanh(a)),
    "zero of a maximum": lambda a, x: a * jax.nn.relu(ROWS * a[::-1]),
    "zero of a sum": lambda a, x: a * jnp.sum(jnp.outer(ROWS, a) * np.tri(N), axis=1),
    "zero of all": lambda a, x: a * jnp.prod(jnp.stack([a, ROWS * a]), axis=0),
    "complex": lambda a, x: jnp.imag((1 + 2j) * lax.complex(a[:3], a[3:])),
    "square": lambda a, x: (ROWS * a) ** 2 + (ROWS * a) ** 3,
    "tile": lambda a, x: jnp.tile(a[:2], 2),
    "stack": lambda a, x: jnp.stack([a, a[::-1]], axis=1),
    "checkpoint": lambda a, x: jax.checkpoint(lambda a: jnp.cumsum(jnp.sin(a)))(a),
    "softmax": lambda a, x: jax.nn.softmax(a.reshape(2, 3)),
}


@pytest.mark.parametrize("name", TIGHT)
def test_patterns_are_the_jacobians(name):
    found = of(TIGHT[name])
    np.testing.assert_array_equal(found.pattern.toarray(), seen(TIGHT[name]))
    assert not found.without_rule


def _masked(rng, a, x):
    return a * (rng.random(N) < 0.6).astype(float)


def _mixed(rng, a, x):
    return (jnp.asarray(rng.normal(size=(N, N)) * (rng.random((N, N)) < 0.3))) @ a


def _added_at(rng, a, x):
    return a.at[rng.integers(N, size=4)].add(a[rng.integers(N, size=4)])


def _set_at(rng, a, x):
    return a.at[rng.permutation(N)[:3]].set(a[rng.integers(N, size=3)])


def _segments(rng, a, x):
    return jax.ops.segment_sum(jnp.sin(a), rng.integers(N, size=N), N)


def _set_somewhere(rng, a, x):
    return a.reshape(3, 2).at[x % 3, rng.integers(2)].set(a[rng.integers(N)]).reshape(N)


def _convolved(rng, a, x):
    return jnp.convolve(a, rng.normal(size=3) * (rng.random(3) < 0.6), mode="same")


def _cumulated(rng, a, x):
    return lax.cumsum(a.reshape(2, 3), axis=int(rng.integers(2)), reverse=bool(rng.integers(2))).reshape(N)


def _scanned(rng, a, x):
    places = rng.integers(N, size=3)
    return lax.scan(lambda carry, i: (carry.at[i].multiply(carry[i - 1]), None), a, places)[0]


def _shifted(rng, a, x):
    by = int(rng.integers(1, 3))
    return lax.while_loop(lambda s: s[0] < x, lambda s: (s[0] + 1, jnp.roll(s[1], by)), (0, a))[1]


def _one_of_two(rng, a, x):
    mask = (rng.random(N) < 0.6).astype(float)
    return lax.cond(x > 2, lambda a: jnp.flip(a) * mask, jnp.tanh, a)


def _times_another(rng, a, x):
    return a * jnp.roll(a, int(rng.integers(N))) + 1


def _chosen(rng, a, x):
    return jnp.where(rng.random(N) < 0.5, a, jnp.flip(a))


PIECES = [
    _masked, _mixed, _added_at, _set_at, _segments, _set_somewhere, _convolved, _cumulated, _scanned, _shifted,
    _one_of_two, _times_another, _chosen,
]  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=5), st.integers(0, 1000))
def test_no_entry_is_missed_in_compositions(pieces, seed):
    def function(a, x):
        rng = np.random.default_rng(seed)
        for piece in pieces:
            a = piece(rng, a, x)
        return a

    found = of(function)
    assert not found.without_rule
    assert (found.pattern.toarray() >= seen(function, points=3)).all()
