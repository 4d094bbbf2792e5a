"""Compiled kernels: against a NumPy loop and its complex-step derivative, at any size, and as a part of a process."""

import concurrent.futures
import functools
import itertools
import os
import pathlib
import platform
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn as jr
from jaxrnn._scan import plan
from jaxrnn._scan.native import library
from jaxrnn._scan.native.sequence import run_native

from .cell_table import random_like
from .marks import few_of
from .oracles import numpy_step

ROOT = pathlib.Path(__file__).parents[1]
needs_kernels = pytest.mark.skipif(not jr.native.info().is_ready, reason=str(jr.native.info().reason))

# name: (cell, kernel, what numpy_step calls it, further arguments of init)
KERNELS = {
    "rnn": (jr.rnn, "tanh", "rnn_tanh", {}),
    "rnn_relu": (jr.rnn_relu, "relu", "rnn_relu", {}),
    "gru": (jr.gru, "gru", "gru", {}),
    "lstm": (jr.lstm, "lstm", "lstm", {}),
    "lstm_proj": (jr.lstm, "lstm", "lstm", {"proj_size": 3}),
    "no_bias": (jr.gru, "gru", "gru", {"bias": False}),
}


def no_reference(params, state, xs, active):
    raise AssertionError("a value or a first derivative was not computed by a kernel")


def run(kernel, reverse, params, state, xs, active, is_short=False):
    """Final state and all states, in the kernel itself, whatever the plan would choose."""
    options = {"reverse": reverse, "return_states": True, "is_short": is_short}
    return run_native(kernel, no_reference, params, state, xs, active, **options)


def numpy_run(kind, params, state, xs, active, reverse):
    """The same as a loop of steps, of all sequences at once, in whatever dtype the arguments have."""
    active = np.ones(xs.shape[:2], bool) if active is None else active
    weights = {name: a[:, None] if a.ndim == 1 else a for name, a in params._asdict().items() if a is not None}
    h, *c = (a.T for a in jax.tree.leaves(state))
    states = [None] * len(xs)
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        new = numpy_step(kind, weights, xs[t].T, h, c[0] if c else None)
        h, *c = (np.where(active[t], a, before) for a, before in zip(new, (h, *c), strict=False))
        states[t] = [np.where(active[t], a, 0).T for a in (h, *c)]
    return [h.T, *(a.T for a in c)], [np.stack(leaf) for leaf in zip(*states, strict=True)]


def case(name, sizes, seed=0):
    """Parameters, state and xs in float32, drawn by NumPy."""
    cell, *_, options = KERNELS[name]
    steps, batch, inputs, hidden = sizes
    like = jax.eval_shape(lambda: cell.init(jax.random.key(0), inputs, hidden, **options))
    state = jax.eval_shape(lambda: cell.initial_state(jax.tree.map(lambda a: jnp.zeros(a.shape), like), (batch,)))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda a: rng.uniform(-1, 1, a.shape) * hidden**-0.5, like)
    args = params, jax.tree.map(lambda a: rng.normal(size=a.shape), state), rng.normal(size=(steps, batch, inputs))
    return jax.tree.map(np.float32, args)


# name: which steps of (T, B) count, any of which may
MASKS = {
    "all": lambda steps, batch: None,
    "lengths": lambda steps, batch: np.arange(steps)[:, None] < np.random.default_rng(1).integers(0, steps + 1, batch),
    "gaps": lambda steps, batch: np.random.default_rng(1).random((steps, batch)) < 0.5,
}


def wide(tree):
    return jax.tree.map(np.float64, tree)


def relative(ours, exact):
    """The largest error, of each tensor's largest value."""
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True))
    return max(np.abs(np.float64(a) - b).max() / max(np.abs(b).max(), 1e-30) for a, b in pairs)


def relative_to_all(ours, exact):
    """The largest error, of the largest value of all tensors: a final state may be small where its sums cancel."""
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True))
    return max(np.abs(np.float64(a) - b).max() for a, b in pairs) / max(np.abs(b).max() for _, b in pairs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def value_and_grad(kernel, reverse, args, active, weights):
    """All outputs, and the gradient of their weighted sum by all arguments."""

    def total(args):
        outputs = jax.tree.leaves(run(kernel, reverse, *args, active))
        return sum(map(jnp.vdot, outputs, weights)), outputs

    gradient, outputs = jax.grad(total, has_aux=True)(args)
    return outputs, gradient


def check_kernel(name, sizes, mask, reverse):
    """In both types: values, and the derivative in a random direction of all arguments at once."""
    _, kernel, kind, _ = KERNELS[name]
    args, active = case(name, sizes), MASKS[mask](*sizes[:2])
    exact = jax.tree.leaves(numpy_run(kind, *wide(args), active, reverse))
    weights, direction = wide((random_like(jax.tree.map(np.float32, exact), 1), random_like(args, 2)))
    with jax.enable_x64(True):
        values, gradient = wide(value_and_grad(kernel, reverse, wide(args), active, weights))
        assert relative(values, exact) <= 1e-12
    moved = jax.tree.map(lambda a, d: a + 1e-30j * d, wide(args), direction)
    rates = [a.imag / 1e-30 for a in jax.tree.leaves(numpy_run(kind, *moved, active, reverse))]
    terms = list(map(np.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))
    np.testing.assert_allclose(sum(terms), sum(map(np.vdot, rates, weights)), rtol=0, atol=1e-12 * sum(map(abs, terms)))
    values, single = value_and_grad(kernel, reverse, args, active, jax.tree.map(np.float32, weights))
    assert relative_to_all(values, exact) <= 1e-6
    assert relative(single, gradient) <= 1e-5


def check_short(name, sizes, mask, reverse):
    """Its value, from weights as they lie, in both types."""
    _, kernel, kind, _ = KERNELS[name]
    args, active = case(name, sizes), MASKS[mask](*sizes[:2])
    exact = jax.tree.leaves(numpy_run(kind, *wide(args), active, reverse))
    short = jax.jit(functools.partial(run, kernel, reverse, is_short=True))
    assert relative_to_all(short(*args, active), exact) <= 1e-6
    with jax.enable_x64(True):
        assert relative(short(*wide(args), active), exact) <= 1e-12


SIZES = st.tuples(*[st.integers(1, 70)] * 4)
SHORT = st.tuples(st.integers(1, 4), st.just(1), st.integers(1, 70), st.integers(4, 140))


@needs_kernels
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_and_its_derivative(name, reverse):
    check_kernel(name, (5, 7, 3, 19), "lengths" if reverse else "all", reverse)


@needs_kernels
@pytest.mark.parametrize(
    ("name", "reverse"), few_of(zip(KERNELS, itertools.cycle([False, True])), KERNELS, [False, True])
)
def test_the_steps_that_count_may_have_gaps(name, reverse):
    """As `Run` has it: the gradient by `cell.run` is that of scans."""
    cell, args = KERNELS[name][0], wide(case(name, (9, 5, 3, 6)))
    active = MASKS["gaps"](9, 5)

    def total(args):
        outputs = cell.run(*args, active, reverse=reverse, return_states=True)
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(outputs))

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(total))
        assert "custom_call @jaxrnn_backward(" in gradient.lower(args).as_text()
        ours = gradient(args)
        with jr.native.disabled():
            assert relative(ours, gradient(args)) <= 1e-12


@needs_kernels
@pytest.mark.slow
@given(st.sampled_from(list(KERNELS)), SIZES, st.sampled_from(list(MASKS)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_size(name, sizes, mask, reverse):
    steps, batch, inputs, hidden = sizes
    check_kernel(name, (steps, batch, inputs, max(hidden, 4)), mask, reverse)


@needs_kernels
@pytest.mark.parametrize("name", KERNELS)
def test_a_few_steps(name):
    check_short(name, (2, 2, 17, 37), "lengths", reverse=False)


@needs_kernels
@pytest.mark.slow
@given(st.sampled_from(list(KERNELS)), SHORT, st.sampled_from(list(MASKS)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_few_steps_of_any_size(name, sizes, mask, reverse):
    check_short(name, sizes, mask, reverse)


# name: a function of (params, state, xs), which a kernel runs; and how many calls of kernels, forward and backward
def final_and_outputs(cell, *args):
    return jr.unroll(cell, args[0], args[2], args[1])


def loss(cell, *args):
    final, ys = final_and_outputs(cell, *args)
    return jnp.sum(ys**2) + sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(final))


def ragged_loss(cell, params, state, xs):
    outputs = jr.unroll(cell, params, xs, state, lengths=[2, 0, 6], reverse=True, return_states=True)
    return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(outputs))


def scaled(tree, factor):
    return jax.tree.map(lambda a: a * factor, tree)


def many(xs):
    return jnp.stack([xs, 2 * xs])


FACTORS = np.array([0.5, 1, 2], np.float32)
TRANSFORMED = {
    "value": (lambda f, p, s, x: f(p, s, x), 1, 0),
    "gradient": (lambda f, *args: jax.grad(f, (0, 1, 2))(*args), 1, 1),
    "gradient of the parameters": (lambda f, *args: jax.grad(f)(*args), 1, 1),
    "vmap over sequences": (lambda f, p, s, x: jax.vmap(lambda x: f(p, s, x))(many(x)), 1, 0),
    "vmap over the batch's axis": (lambda f, p, s, x: jax.vmap(lambda x: f(p, s, x), 3)(jnp.stack([x, -x], 3)), 1, 0),
    "vmap over weights": (lambda f, p, s, x: jax.vmap(lambda a: f(scaled(p, a), s, x))(FACTORS), 1, 0),
    "vmap over one weight": (
        lambda f, p, s, x: jax.vmap(lambda a: f(p._replace(weight_hh=a * p.weight_hh), s, x))(FACTORS),
        1,
        0,
    ),
    "gradient of vmap": (
        lambda f, p, s, x: jax.grad(lambda p: jnp.sum(jax.vmap(lambda x: f(p, s, x))(many(x))))(p),
        1,
        1,
    ),
    "vmap of gradient": (lambda f, p, s, x: jax.vmap(lambda x: jax.grad(f)(p, s, x))(many(x)), 1, 1),
    "gradient of an ensemble": (
        lambda f, p, s, x: jax.grad(lambda a, x: jnp.sum(jax.vmap(lambda a: f(scaled(p, a), s, x))(a)), (0, 1))(
            FACTORS, x
        ),
        1,
        1,
    ),
    "vmap of vmap of gradient": (
        lambda f, p, s, x: jax.vmap(lambda a: jax.vmap(lambda x: jax.grad(f)(scaled(p, a), s, x))(many(x)))(FACTORS),
        1,
        1,
    ),
    "gradient of the input": (lambda f, *args: jax.grad(f, 2)(*args), 1, 1),
    "gradient of one weight": (
        lambda f, p, s, x: jax.grad(lambda w: f(p._replace(weight_hh=w), s, x))(p.weight_hh),
        1,
        1,
    ),
    "checkpoint": (lambda f, p, s, x: jax.grad(jax.checkpoint(f))(p, s, x), 1, 1),
    "jvp": (lambda f, p, s, x: jax.jvp(lambda p: f(p, s, x), (p,), (scaled(p, -1.0),)), 1, 0),
    "forward over reverse": (
        lambda f, p, s, x: jax.jvp(lambda p: jax.grad(f)(p, s, x), (p,), (scaled(p, -1.0),)),
        1,
        1,
    ),
    "reverse over reverse": (
        lambda f, p, s, x: jax.grad(lambda s: jnp.sum(jax.grad(f)(p, s, x).weight_hh ** 2))(s),
        1,
        2,
    ),
    "hessian": (lambda f, p, s, x: jax.hessian(lambda b: f(p._replace(bias_hh=b), s, x))(p.bias_hh), 1, 0),
    "checkpoint with a policy": (
        lambda f, p, s, x: jax.grad(jax.checkpoint(f, policy=jax.checkpoint_policies.dots_saveable))(p, s, x),
        1,
        1,
    ),
    "linear transpose": (
        lambda f, p, s, x: jax.linear_transpose(jax.vjp(lambda p: f(p, s, x), p)[1], jnp.float32(0))((p,)),
        1,
        0,
    ),
}


def transformed(function, cell, f):
    return jax.jit(lambda *args: function(functools.partial(f, cell), *args))


@needs_kernels
@pytest.mark.parametrize(
    ("cell", "name"),
    few_of([("lstm_proj", "gradient"), ("gru", "gradient of an ensemble")], ["gru", "lstm_proj"], TRANSFORMED),
)
def test_transformations(cell, name):
    """They give what they give of scans, and what can be run in kernels is."""
    args = case(cell, (6, 3, 2, 5))
    function, forward, backward = TRANSFORMED[name]
    for f in (loss, ragged_loss):
        run = transformed(function, KERNELS[cell][0], f)
        text, ours = run.lower(*args).as_text(), run(*args)
        assert (text.count("custom_call @jaxrnn_forward("), text.count("custom_call @jaxrnn_backward(")) == (
            forward,
            backward,
        )
        with jr.native.disabled():
            assert "custom_call @jaxrnn_" not in run.lower(*args).as_text()
            assert relative(ours, wide(run(*args))) <= 1e-5


@needs_kernels
@pytest.mark.parametrize(
    ("wanted", "sizes"),
    [
        (0, {"x": 0, "weight_ih": 0, "weight_hh": 8, "bias": 0}),
        (1, {"x": 7, "weight_ih": 0, "weight_hh": 0, "bias": 0}),
    ],
)
def test_no_gradient_is_computed_that_is_not_wanted(wanted, sizes):
    """The last axis of what the kernel of the backward pass gives."""
    params, state, xs = case("gru", (6, 3, 7, 8))

    def total(weight_hh, xs):
        return loss(jr.gru, params._replace(weight_hh=weight_hh), state, xs)

    text = jax.jit(jax.grad(total, wanted)).lower(params.weight_hh, xs).as_text()
    (call,) = [line for line in text.splitlines() if "custom_call @jaxrnn_backward(" in line]
    results = call.rpartition("-> (")[2]
    x, weight_ih, weight_hh, bias = sizes.values()
    weights = f"tensor<1x24x{weight_ih}xf32>, tensor<1x24x{weight_hh}xf32>"
    assert results.startswith(f"tensor<1x6x3x{x}xf32>, {weights}, tensor<1x{bias}xf32>, tensor<1x{bias}xf32>")


@needs_kernels
def test_a_few_steps_are_differentiated_and_mapped_in_scans():
    params, state, xs = case("lstm", (1, 1, 64, 64))

    def count(function, xs):
        return jax.jit(function).lower(params, state, xs).as_text().count("custom_call @jaxrnn_")

    final = functools.partial(loss, jr.lstm)
    assert count(final, xs) == 1
    assert count(jax.grad(final), xs) == 0
    assert count(jax.vmap(final, (None, None, 0)), many(xs)) == 0


EMPTY = {
    "weights": lambda f, p, s, x: jax.vmap(lambda a: f(scaled(p, a), s, x))(FACTORS[:0]),
    "sequences": lambda f, p, s, x: jax.vmap(lambda x: f(p, s, x))(many(x)[:0]),
    "both": lambda f, p, s, x: jax.vmap(lambda a: jax.vmap(lambda x: f(scaled(p, a), s, x))(many(x)))(FACTORS[:0]),
    "sequences, the weights mapped outside": lambda f, p, s, x: jax.vmap(
        lambda a: jax.vmap(lambda x: f(scaled(p, a), s, x))(many(x)[:0])
    )(FACTORS),
}


OF = {"value": final_and_outputs, "gradient": lambda *args: jax.grad(loss, 1)(*args)}
EMPTY_CELLS = ["lstm", "lstm_proj"]


@needs_kernels
@pytest.mark.parametrize(
    ("name", "cell", "of"),
    few_of(
        zip(EMPTY, itertools.cycle(EMPTY_CELLS), itertools.cycle(["gradient", "gradient", "value"])),
        EMPTY,
        EMPTY_CELLS,
        OF,
    ),
)
def test_vmap_over_nothing(name, cell, of):
    args = case(cell, (6, 3, 2, 5))
    run = functools.partial(EMPTY[name], functools.partial(OF[of], jr.lstm))
    with jr.native.disabled():
        expected = jax.tree.map(jnp.shape, jax.eval_shape(run, *args))
    assert jax.tree.map(jnp.shape, jax.jit(run)(*args)) == expected


@needs_kernels
def test_a_gradient_that_overflows_is_infinite():
    """The kernels pad H to whole vectors; no NaN, 0 times infinity, is to leak from there."""
    params, _, xs = case("rnn", (12, 2, 3, 5))
    params = jax.tree.map(lambda a: np.abs(a) + np.float32(1), params)
    operands = params._replace(bias_ih=0 * params.bias_ih, bias_hh=0 * params.bias_hh), np.zeros((2, 5), np.float32)
    overflow = jax.jit(jax.grad(lambda params, h, xs: 1e38 * jnp.sum(final_and_outputs(jr.rnn, params, h, xs)[1]), 1))
    assert np.isposinf(overflow(*operands, 0 * xs)).all()


@needs_kernels
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gate_that_is_shut_is_zero(dtype):
    """As in a scan; and NaN is seen to come in."""
    params, state, xs = jax.tree.map(dtype, case("lstm", (4, 2, 3, 5)))
    shut = params._replace(bias_ih=dtype(-1000) * np.ones_like(params.bias_ih))
    with jax.enable_x64(dtype == np.float64):
        (h, c), ys = jax.jit(functools.partial(final_and_outputs, jr.lstm))(shut, state, xs)
        assert not any(np.any(a) for a in (h, c, ys))
        assert np.isnan(final_and_outputs(jr.lstm, shut, state, dtype(np.nan) * xs)[1]).all()


@needs_kernels
@pytest.mark.parametrize("option", ["debug_nans", "debug_infs", "disable_jit"])
def test_looking_for_nan(option):
    """What is kept of steps that do not count is no leftover of other arrays; what is found raises the usual error."""
    params, state, xs = case("lstm", (6, 3, 2, 5))
    with getattr(jax, option)(True):
        for _ in range(3):
            np.full((1 << 12,), np.nan, np.float32)  # memory that a later array may be given
            jax.grad(functools.partial(ragged_loss, jr.lstm))(params, state, xs)
        wrong = params._replace(weight_ih=params.weight_ih * np.float32(np.inf))
        if option == "debug_nans":
            with pytest.raises(FloatingPointError, match="nan"):
                final_and_outputs(jr.lstm, wrong, state, np.zeros_like(xs))


@needs_kernels
def test_an_export_runs_without_kernels():
    args = case("lstm", (6, 3, 2, 5))
    gradient = jax.jit(jax.grad(functools.partial(loss, jr.lstm)))
    exported = jax.export.export(gradient, platforms=("cpu", "cuda"))(*args)
    assert "custom_call @jaxrnn_" not in exported.mlir_module()
    assert relative(exported.call(*args), wide(gradient(*args))) <= 1e-5


@needs_kernels
def test_what_is_donated_may_be_overwritten():
    params, state, xs = case("gru", (6, 3, 5, 5))
    step = lambda params, xs: final_and_outputs(jr.gru, params, state, xs)[1]  # noqa: E731
    expected = step(params, jnp.asarray(xs))
    assert relative(jax.jit(step, donate_argnums=1)(params, jnp.asarray(xs)), wide(expected)) == 0


@needs_kernels
def test_threads_at_once_and_again_give_the_same_bits():
    args = case("lstm", (30, 9, 7, 33))
    gradient = jax.jit(jax.value_and_grad(functools.partial(loss, jr.lstm)))
    first = jax.tree.leaves(gradient(*args))

    def differs(_):
        pairs = zip(jax.tree.leaves(gradient(*args)), first, strict=True)
        return any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(differs, range(200)))


@needs_kernels
@pytest.mark.parametrize("axis", range(3))
def test_the_kernels_refuse_shapes_that_do_not_fit(axis):
    """Nothing reaches them unchecked from `jr.unroll`; they look all the same."""
    args = case("gru", (3, 2, 3, 5))
    shape = [15, 5]
    shape[axis % 2] += 1
    wrong = args[0]._replace(weight_hh=np.zeros(shape if axis < 2 else (15, 5, 1), np.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="jaxrnn's kernels"):
        jax.block_until_ready(jax.jit(functools.partial(run, "gru", False))(wrong, *args[1:], None))


def child(*arguments, **environment):
    """What a program prints."""
    options = {"cwd": ROOT, "env": os.environ | environment, "timeout": 100, "text": True, "capture_output": True}
    return subprocess.run([sys.executable, *map(str, arguments)], **options)


PROGRAM = """
import multiprocessing, resource, sys
import jax, jax.numpy as jnp, jaxrnn as jr

def final(seed):
    params = jr.gru.init(jax.random.key(seed), 3, 8)
    return float(jr.unroll(jr.gru, params, jnp.ones((50, 2, 3)))[0].sum())

if __name__ == "__main__":
"""
FORK = """
    with multiprocessing.get_context("fork").Pool(2) as pool:  # before JAX runs anything
        forked = pool.map(final, range(4))
    assert forked == list(map(final, range(4)))
"""
LEAK = """
    params, xs = jr.lstm.init(jax.random.key(0), 3, 8), jnp.ones((50, 2, 3))
    gradient = jax.jit(jax.grad(lambda params: jr.unroll(jr.lstm, params, xs)[1].sum()))
    def most(calls):
        for _ in range(calls):
            jax.block_until_ready(gradient(params))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = most(1000)
    assert most(10_000) - before < 2_000, "KiB"
"""


SPAWN = FORK.replace('"fork"', '"spawn"')
THREADS = """
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # before anything has run
        assert len(set(pool.map(final, [0] * 16))) == 1
"""
CALLBACK = """
    xs = jnp.ones((50, 8, 3))
    run = jax.jit(lambda params, xs: jr.unroll(jr.gru, params, xs)[1].sum())
    params = jr.gru.init(jax.random.key(0), 3, 8)
    host = lambda a: jax.device_get(jax.grad(run)(params, a).weight_hh.sum())
    both = jax.jit(lambda a: jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), a) + run(params, a))
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(map(float, pool.map(both, [xs] * 16)))) == 1
"""
PARTS = {"fork": FORK, "spawn": SPAWN, "leak": LEAK, "threads": THREADS, "callback": CALLBACK}


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("cores", ["1", "7"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_processes(part, cores, tmp_path):
    """Whatever the number of XLA's threads."""
    program = tmp_path / "program.py"  # a process that is spawned imports it
    program.write_text(PROGRAM + part)
    result = child(program, PYTHONPATH=str(ROOT), PJRT_NPROC=cores)
    assert result.returncode == 0, result.stderr


COMPILE = """
import pathlib, pickle, sys
import jax, jax.numpy as jnp
from jax.experimental import serialize_executable
import jaxrnn as jr
params, xs = jr.gru.init(jax.random.key(0), 3, 8), jnp.ones((50, 2, 3))
"""
SAVE = """
compiled = jax.jit(lambda params, xs: jr.unroll(jr.gru, params, xs)[0]).lower(params, xs).compile()
pathlib.Path(sys.argv[1]).write_bytes(pickle.dumps(serialize_executable.serialize(compiled)))
"""
LOAD = """
compiled = serialize_executable.deserialize_and_load(*pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()))
assert (compiled(params, xs) == jr.unroll(jr.gru, params, xs)[0]).all()
"""


@needs_kernels
@pytest.mark.slow
def test_a_compiled_program_runs_in_another_process(tmp_path):
    for part in (SAVE, LOAD):
        program = tmp_path / "program.py"
        program.write_text(COMPILE + part)
        result = child(program, tmp_path / "compiled", PYTHONPATH=str(ROOT))
        assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_environment_keeps_kernels_out():
    code = "import jaxrnn as jr; print(*jr.native.info())"
    expected = "False None the environment variable JAXRNN_NATIVE is 0"
    assert child("-c", code, JAXRNN_NATIVE="0").stdout.strip() == expected
    assert "JAXRNN_NATIVE must be 0 or 1, got 'yes'" in child("-c", code, JAXRNN_NATIVE="yes").stderr
    message = "JAXRNN_NATIVE_ISA must be avx2 or avx512, got 'sse'"
    assert message in child("-c", code, JAXRNN_NATIVE_ISA="sse").stderr


@pytest.mark.parametrize(("system", "machine"), [("linux", "aarch64"), ("darwin", "x86_64")])
def test_where_they_were_not_compiled(system, machine, monkeypatch, tmp_path):
    monkeypatch.delenv("JAXRNN_NATIVE", raising=False)
    monkeypatch.setattr(library, "_LIBRARY", tmp_path / "_kernels.so")
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    reason = f"not compiled: that takes Linux on x86-64 and a C++ compiler that works; this is {system} on {machine}"
    assert library.find() == (None, reason)


def test_a_few_steps_are_as_many_to_the_plan_as_to_the_kernels():
    binding = (ROOT / "jaxrnn" / "_scan" / "native" / "source" / "binding.cc").read_text()
    assert re.findall(r"kShort = (\d+);", binding) == [str(plan._SHORT)]


def refuse(*args, **options):
    raise jax.errors.JaxRuntimeError("another version of the interface")


@needs_kernels
@pytest.mark.parametrize(
    ("owner", "name", "value", "reason"),
    [
        (library, "_LIBRARY", pathlib.Path(np.linalg._umath_linalg.__file__), "undefined symbol: jaxrnn_"),
        (library, "_LIBRARY", pathlib.Path(__file__), "invalid ELF header"),
        (jax.ffi, "register_ffi_target", refuse, "another version of the interface"),
    ],
)
def test_a_library_that_does_not_fit(owner, name, value, reason, monkeypatch):
    monkeypatch.delenv("JAXRNN_NATIVE", raising=False)
    monkeypatch.setattr(owner, name, value)
    instruction_set, found = library.find()
    assert instruction_set is None
    assert found.startswith("the compiled kernels cannot be loaded: ")
    assert reason in found
