"""Programs of StableHLO: any batch and any length, run by JAX alone, the same numbers."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxrnn as jr
from jaxrnn import interop

from ..cell_table import DISTINCT, FEATURES, make, nested, random_like
from ..marks import slow_but

NETS = {
    "rnn": jr.RNN(3, 4, nonlinearity="relu"),
    "gru": jr.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "lstm": jr.LSTM(3, 4, bidirectional=True, proj_size=2),
}
HERE = ("cpu",)


def _net(name, dtype=jnp.float32):
    net = NETS[name]
    return net, random_like(jax.eval_shape(lambda key: net.init(key, dtype), jax.random.key(0)))


def _again(exported):
    """As in another process."""
    return export.deserialize(exported.serialize(vjp_order=1)).call


def _arguments(net, dtype=jnp.float32, steps=7, batch=2):
    sizes = (batch, steps) if net.batch_first else (steps, batch)
    x = random_like(jax.ShapeDtypeStruct((*sizes, net.input_size), dtype))
    return x, random_like(jax.eval_shape(net.apply, net.init(jax.random.key(0), dtype), x)[1], seed=1)


def _assert_close(found, expected, tolerance=1e-6):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", slow_but(["rnn"], NETS))
def test_a_network_runs_any_batch_of_any_length(name):
    net, params = _net(name)
    call = _again(interop.export_apply(net, params, platforms=HERE))
    for steps, batch in ((1, 1), (7, 2), (130, 3)):
        x, h_0 = _arguments(net, steps=steps, batch=batch)
        with jr.native.disabled():  # which an export does not have
            expected = net.apply(params, x, h_0)
        _assert_close(call(params, x, h_0), expected)


@pytest.mark.parametrize("dtype", slow_but(["bfloat16"], ["bfloat16", "float16"]))
def test_few_bits_stay_few(dtype):
    net, params = _net("lstm", dtype)
    x, h_0 = _arguments(net, dtype)
    call = _again(interop.export_apply(net, params, platforms=HERE))
    _assert_close(call(params, x, h_0), net.apply(params, x, h_0), 4 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("name", slow_but(["gru"], ["gru", "lstm"]))
def test_lengths(name):
    net, params = _net(name)
    x, h_0 = _arguments(net, batch=3)
    lengths = jnp.array([7, 0, 3], jnp.int32)
    call = _again(interop.export_apply(net, params, lengths=True, platforms=HERE))
    _assert_close(call(params, x, h_0, lengths), net.apply(params, x, h_0, lengths=lengths))


def test_lengths_beyond_what_their_dtype_holds():
    cell, params = make("gru")
    xs = random_like(jax.ShapeDtypeStruct((300, 2, FEATURES), jnp.float32))
    lengths = jnp.array([255, 3], jnp.uint8)
    run = jax.jit(lambda xs, lengths: jr.unroll(cell, params, xs, lengths=lengths))
    _assert_close(run(xs, lengths), jr.unroll(cell, params, xs, lengths=lengths.astype(jnp.int32)))
    b, t = export.symbolic_shape("b, t")
    exported = export.export(run)(
        jax.ShapeDtypeStruct((t, b, FEATURES), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.uint8)
    )
    _assert_close(exported.call(xs, lengths), run(xs, lengths))


def test_known_lengths_in_a_program_for_any_number_of_steps():
    cell, params = make("gru")
    xs = random_like(jax.ShapeDtypeStruct((6, 2, FEATURES), jnp.float32))
    run = jax.jit(lambda xs: jr.unroll(cell, params, xs, lengths=np.array([2, 5])))
    (t,) = export.symbolic_shape("t")
    exported = export.export(run)(jax.ShapeDtypeStruct((t, 2, FEATURES), jnp.float32))
    _assert_close(exported.call(xs), run(xs))


@pytest.mark.parametrize("name", slow_but(["lstm", "nested", "stack_of_stacks"], DISTINCT))
def test_a_cell_step_by_step(name):
    cell, params = make(name)
    call = _again(interop.export_step(cell, params, jnp.zeros(FEATURES), platforms=HERE))
    xs = random_like(jax.ShapeDtypeStruct((3, 2, FEATURES), jnp.float32))
    start = cell.initial_state(params, (2,))
    state = interop.plain(start)
    for x in xs:
        state, y = call(interop.plain(params), state, x)
    final, ys = jr.unroll(cell, params, xs, start)
    _assert_close((state, y), (interop.plain(final), ys[-1]))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_network_step_by_step(batch_first):
    net = jr.LSTM(3, 4, num_layers=2, batch_first=batch_first)
    params = net.init(jax.random.key(0))
    x, state = _arguments(net)
    call = _again(interop.export_step(net, params, jax.ShapeDtypeStruct((3,), jnp.float32), platforms=HERE))
    output, h_n = net.apply(params, x, state)
    for x_t in jnp.swapaxes(x, 0, 1) if batch_first else x:
        state, y = call(params, state, x_t)
    _assert_close((state, y), (h_n, output[:, -1] if batch_first else output[-1]))


@pytest.mark.parametrize("name", slow_but(["lstm"], NETS))
def test_a_gradient_is_exported_too(name):
    net, params = _net(name)
    x, h_0 = _arguments(net)

    def loss(apply):
        return lambda params, x, h_0: jnp.sum(apply(params, x, h_0)[0] ** 2)

    call = _again(interop.export_apply(net, params, platforms=HERE))
    found, expected = (jax.grad(loss(apply), (0, 1))(params, x, h_0) for apply in (call, net.apply))
    _assert_close(found, expected, 1e-4)


def test_it_is_lowered_for_all_platforms():
    net, params = _net("lstm")
    for exported in (
        interop.export_apply(net, params, lengths=True),
        interop.export_step(jr.gru, jr.gru.init(jax.random.key(0), 3, 4), jnp.zeros(3)),
    ):
        assert exported.platforms == ("cpu", "cuda", "rocm", "tpu")
        assert "custom_call @jaxrnn" not in exported.mlir_module()


_ELSEWHERE = """
import sys
import jax, numpy as np
from safetensors.numpy import load_file
folder = sys.argv[1]
call = jax.export.deserialize(bytearray(open(f"{folder}/net.stablehlo", "rb").read())).call
given = np.load(f"{folder}/given.npz")
output, (h_n, c_n) = call(load_file(f"{folder}/net.safetensors"), given["x"], (given["h_0"], given["c_0"]))
assert not any(name.startswith("jaxrnn") for name in sys.modules)
np.save(f"{folder}/output.npy", output)
"""


def test_a_process_without_jaxrnn(tmp_path):
    pytest.importorskip("safetensors")
    net, params = _net("lstm")
    x, (h_0, c_0) = _arguments(net)
    interop.save(tmp_path / "net.safetensors", net, params)
    (tmp_path / "net.stablehlo").write_bytes(interop.export_apply(net, params).serialize())
    np.savez(tmp_path / "given.npz", x=x, h_0=h_0, c_0=c_0)
    command = [sys.executable, "-c", _ELSEWHERE, str(tmp_path)]
    subprocess.run(command, check=True, timeout=100, cwd=tmp_path)
    _assert_close(jnp.asarray(np.load(tmp_path / "output.npy")), net.apply(params, x, (h_0, c_0))[0])


@pytest.mark.parametrize("checkpoint", [2, "sqrt"])
def test_checkpoints_need_a_number_of_steps(checkpoint):
    net, params = _net("rnn")
    (t,) = export.symbolic_shape("t")
    run = jax.jit(lambda x: net.apply(params, x, checkpoint=checkpoint))
    with pytest.raises(ValueError, match=r"checkpoint must be None where T is a symbol, t, got"):
        export.export(run)(jax.ShapeDtypeStruct((t, 3), jnp.float32))


def test_a_run_of_a_users_own_cell_in_few_bits():
    def run(params, state, xs, active, *, reverse, return_states):
        raise AssertionError("the parts of √T steps that it would be given have no length")

    cell, params = nested._replace(run=run), make("nested", jnp.bfloat16)[1]
    (t,) = export.symbolic_shape("t")
    exported = export.export(jax.jit(lambda xs: jr.unroll(cell, params, xs)))(
        jax.ShapeDtypeStruct((t, FEATURES), jnp.bfloat16)
    )
    xs = random_like(jax.ShapeDtypeStruct((5, FEATURES), jnp.bfloat16))
    _assert_close(exported.call(xs), jr.unroll(nested, params, xs), 0.01)


WRONG = {
    "no network": (lambda: interop.export_apply(jr.gru, {}), TypeError, "net must be a jr.RNN, jr.LSTM or jr.GRU, got"),
    "params": (lambda: interop.export_apply(NETS["rnn"], {}), ValueError, "params has no"),
    "no arrays": (lambda: interop.export_apply(NETS["rnn"], {"a": "b"}), TypeError, "must be an array or its shape"),
    "lengths": (lambda: interop.export_apply(*_net("rnn"), lengths=[3]), TypeError, "lengths must be a bool, got"),
    "platforms": (lambda: interop.export_apply(*_net("rnn"), platforms="cpu"), TypeError, "platforms must be"),
    "platform": (lambda: interop.export_apply(*_net("rnn"), platforms=("cu",)), ValueError, "platforms must be"),
    "directions": (lambda: interop.export_step(*_net("gru"), jnp.zeros(3)), ValueError, "must run in one direction"),
    "features": (lambda: interop.export_step(*make("gru"), jnp.zeros(5)), ValueError, "x has shape"),
    "a batch": (lambda: interop.export_step(*make("gru"), jnp.zeros((2, 3))), ValueError, "without a batch axis"),
    "no layer": (lambda: interop.export_step(3, {}, jnp.zeros(3)), TypeError, "layer must be a jaxrnn.Cell"),
    "no input": (lambda: interop.export_step(*make("gru"), 3), TypeError, "x must be an array or its shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()
