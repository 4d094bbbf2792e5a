"""What a profile shows: the sequence, each layer, and each gradient algorithm, by name."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxrnn as jr
from jaxrnn import gradients

PARAMS = jr.rnn.init(jax.random.key(0), 2, 3)
PROBLEM = gradients.Problem(jr.rnn, lambda params, h, y: jnp.sum(h))
ALGORITHMS = {
    "bptt": gradients.bptt,
    "tbptt": functools.partial(gradients.tbptt, k1=1, k2=2),
    "artbp": functools.partial(gradients.artbp, key=jax.random.key(0)),
    "rtrl": gradients.rtrl,
    "snap": gradients.snap,
    "uoro": functools.partial(gradients.uoro, key=jax.random.key(0)),
}


def names(function, *args):
    return jax.jit(function).lower(*args).as_text(debug_info=True)


def test_layers():
    net = jr.GRU(2, 3, num_layers=2)
    text = names(net.apply, net.init(jax.random.key(0)), jnp.ones((4, 2)))
    assert all(name in text for name in ("layer0", "layer1", "jaxrnn.unroll"))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_gradient_algorithms(name):
    run = functools.partial(ALGORITHMS[name], PROBLEM)
    assert f"jaxrnn.gradients.{name}" in names(run, PARAMS, jnp.zeros(3), jnp.ones((4, 2)), None)
