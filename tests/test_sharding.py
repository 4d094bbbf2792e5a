"""Sequences spread over devices: `shard_map`, and `jit` over a mesh of Auto axes, on eight virtual devices."""

import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = """
import functools
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jaxrnn as jr

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
xs = jax.random.normal(jax.random.key(0), (6, 16, 3))
lengths = jnp.arange(16) % 7
net = jr.LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.0, proj_size=2)
stack = jr.stack(jr.gru, jr.rnn)


def of_cell(cell, sizes, params, xs, lengths, **options):
    state, ys = jr.unroll(cell, params, xs, **options, lengths=lengths)
    return ys


def of_network(params, xs, lengths):
    return net.apply(params, xs, lengths=lengths)[0]


def of_equal_lengths(params, xs, lengths):
    return net.apply(params, xs)[0]


cases = {"network": (of_network, net.init(jax.random.key(1))), "equal": (of_equal_lengths, net.init(jax.random.key(1)))}
for name, cell, sizes in (("rnn", jr.rnn, 4), ("gru", jr.gru, 4), ("lstm", jr.lstm, 4), ("stack", stack, (4, 5))):
    for options in ({}, {"reverse": True}, {"checkpoint": "sqrt"}) if name == "lstm" else ({},):
        run = functools.partial(of_cell, cell, sizes, **options)
        cases[name, *options] = run, cell.init(jax.random.key(1), 3, sizes)

def loss(run, mean, params, xs, lengths):
    return mean(jnp.mean(run(params, xs, lengths) ** 2))

for name, (run, params) in cases.items():
    expected = jax.jit(run)(params, xs, lengths)
    specs = (P(), P(None, "data"), P("data"))
    mapped = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=P(None, "data")))
    np.testing.assert_allclose(mapped(params, xs, lengths), expected, rtol=0, atol=1e-6, err_msg=str(name))

    value, gradient = jax.value_and_grad(functools.partial(loss, run, lambda a: a))(params, xs, lengths)
    share = functools.partial(loss, run, lambda a: jax.lax.pmean(a, "data"))
    whole = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=P())
    for got in (
        jax.jit(jax.value_and_grad(whole))(params, xs, lengths),
        jax.jit(jax.shard_map(jax.value_and_grad(share), mesh=mesh, in_specs=specs, out_specs=P()))(
            params, xs, lengths),
        jax.jit(jax.value_and_grad(functools.partial(loss, run, lambda a: a)))(
            *(jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip((params, xs, lengths), specs))),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6, err_msg=str(name)),
                     (value, gradient), got)
"""


@pytest.mark.slow
def test_eight_devices_agree_with_one():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    root = pathlib.Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, env=environment, check=True, timeout=110)
