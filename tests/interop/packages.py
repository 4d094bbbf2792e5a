"""Each package's recurrent cells, live: random weights of its own, and a run over a sequence from a given state."""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import interop

from ..cell_table import random_like

STEPS, BATCH, FEATURES, HIDDEN = 6, 3, 4, 5


def as_theirs(run):
    """Other packages promote dtypes and ranks."""

    @functools.wraps(run)
    def relaxed(*arguments):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return run(*arguments)

    return relaxed


class Linen:
    def __init__(self, name, **options):
        self.linen = pytest.importorskip("flax.linen")
        self.module = getattr(self.linen, name)(HIDDEN, **options)
        self.nonlinearity = {"nonlinearity": "relu" if options else "tanh"} if name == "SimpleCell" else {}

    @as_theirs
    def tree(self):
        x = jnp.ones((BATCH, FEATURES))
        carry = self.module.initialize_carry(jax.random.key(0), x.shape)
        return random_like(jax.eval_shape(self.module.init, jax.random.key(0), carry, x))

    def read(self, tree):
        return interop.from_linen(tree, **self.nonlinearity)

    def write(self, spec, params):
        return interop.to_linen(spec, params)

    @as_theirs
    def run(self, tree, xs, h, c):
        carry, ys = h if c is None else (c, h), []
        for x in xs:
            carry, y = self.module.apply(tree, carry, x)
            ys.append(y)
        return np.stack(ys)


class Nnx(Linen):
    def __init__(self, name, **options):
        self.nnx = pytest.importorskip("flax.nnx")
        self.module = getattr(self.nnx, name)(FEATURES, HIDDEN, rngs=self.nnx.Rngs(0), **options)
        self.nonlinearity = {"nonlinearity": "relu" if options else "tanh"} if name == "SimpleCell" else {}
        self.options = {"optimized": True} if name == "OptimizedLSTMCell" else {}

    def tree(self):
        return random_like(self.nnx.to_pure_dict(self.nnx.state(self.module, self.nnx.Param)))

    def read(self, tree):
        self.nnx.update(self.module, tree)
        spec, params = interop.from_nnx(self.module)
        again, _ = interop.from_nnx(tree, **self.nonlinearity)
        assert again == spec
        return spec, params

    def write(self, spec, params):
        return interop.to_nnx(spec, params, **self.options)

    @as_theirs
    def run(self, tree, xs, h, c):
        self.nnx.update(self.module, tree)
        carry, ys = h if c is None else (c, h), []
        for x in xs:
            carry, y = self.module(carry, x)
            ys.append(y)
        return np.stack(ys)


class Haiku:
    def __init__(self, name):
        hk = pytest.importorskip("haiku")
        self.hk = hk

        def unroll(xs, state):
            return hk.dynamic_unroll(getattr(hk, name)(HIDDEN), xs, state)[0]

        self.function = hk.without_apply_rng(hk.transform(unroll))

    def _state(self, h, c):
        return h if c is None else self.hk.LSTMState(h, c)

    @as_theirs
    def tree(self):
        xs, h = jnp.ones((STEPS, BATCH, FEATURES)), jnp.ones((BATCH, HIDDEN))
        for c in (None, h):
            with contextlib.suppress(Exception):
                return random_like(jax.eval_shape(self.function.init, jax.random.key(0), xs, self._state(h, c)))
        raise AssertionError("no state fits")

    def read(self, tree):
        return interop.from_haiku(tree)

    def write(self, spec, params):
        return interop.to_haiku(spec, params)

    @as_theirs
    def run(self, tree, xs, h, c):
        return self.function.apply(tree, xs, self._state(h, c))


class Equinox:
    def __init__(self, name):
        self.eqx = pytest.importorskip("equinox")
        self.name = name

    def tree(self):
        module = getattr(self.eqx.nn, self.name)(FEATURES, HIDDEN, key=jax.random.key(0))
        arrays, rest = self.eqx.partition(module, self.eqx.is_array)
        return self.eqx.combine(random_like(arrays), rest)

    def read(self, tree):
        return interop.from_equinox(tree)

    def write(self, spec, params):
        return interop.to_equinox(spec, params)

    @as_theirs
    def run(self, tree, xs, h, c):
        step, ys = jax.vmap(tree), []
        carry = h if c is None else (h, c)
        for x in xs:
            carry = step(x, carry)
            ys.append(carry if c is None else carry[0])
        return np.stack(ys)


class Keras:
    def __init__(self, name, **options):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        self.keras = pytest.importorskip("keras")
        self.options, self.name = options | {"recurrent_initializer": "zeros"}, name  # its own has no low precision

    def layer(self, weights=None):
        options = {"use_bias": len(weights) == 3} if weights else {}
        layer = getattr(self.keras.layers, self.name)(HIDDEN, return_sequences=True, **self.options, **options)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            layer.build((None, STEPS, FEATURES))
            layer.set_weights(weights or [np.asarray(random_like(np.asarray(w))) for w in layer.get_weights()])
        return layer

    def tree(self):
        return self.layer().get_weights()

    @as_theirs
    def read(self, tree):
        return interop.from_keras(self.layer(tree))

    def write(self, spec, params):
        return interop.to_keras(spec, params)

    @as_theirs
    def run(self, tree, xs, h, c):
        states = [np.asarray(h)] if c is None else [np.asarray(h), np.asarray(c)]
        ys = self.layer(tree)(np.swapaxes(np.asarray(xs), 0, 1), initial_state=states)
        return np.swapaxes(np.asarray(ys), 0, 1)


# name: (how to make it, the cell that it is)
CASES = {
    "linen SimpleCell": (lambda: Linen("SimpleCell"), jr.rnn),
    "linen SimpleCell relu": (lambda: Linen("SimpleCell", activation_fn=jax.nn.relu), jr.rnn_relu),
    "linen GRUCell": (lambda: Linen("GRUCell"), jr.gru),
    "linen LSTMCell": (lambda: Linen("LSTMCell"), jr.lstm),
    "linen OptimizedLSTMCell": (lambda: Linen("OptimizedLSTMCell"), jr.lstm),
    "linen MGUCell": (lambda: Linen("MGUCell"), jr.mgu),
    "linen MGUCell without reset": (lambda: Linen("MGUCell", reset_gate=False), jr.mgu_without_reset),
    "nnx SimpleCell": (lambda: Nnx("SimpleCell"), jr.rnn),
    "nnx SimpleCell relu": (lambda: Nnx("SimpleCell", activation_fn=jax.nn.relu), jr.rnn_relu),
    "nnx GRUCell": (lambda: Nnx("GRUCell"), jr.gru),
    "nnx LSTMCell": (lambda: Nnx("LSTMCell"), jr.lstm),
    "nnx OptimizedLSTMCell": (lambda: Nnx("OptimizedLSTMCell"), jr.lstm),
    "haiku VanillaRNN": (lambda: Haiku("VanillaRNN"), jr.rnn_relu),
    "haiku LSTM": (lambda: Haiku("LSTM"), jr.lstm),
    "haiku GRU": (lambda: Haiku("GRU"), jr.gru_reset_before),
    "equinox LSTMCell": (lambda: Equinox("LSTMCell"), jr.lstm),
    "equinox GRUCell": (lambda: Equinox("GRUCell"), jr.gru),
    "keras SimpleRNN": (lambda: Keras("SimpleRNN"), jr.rnn),
    "keras SimpleRNN relu": (lambda: Keras("SimpleRNN", activation="relu"), jr.rnn_relu),
    "keras LSTM": (lambda: Keras("LSTM"), jr.lstm),
    "keras GRU": (lambda: Keras("GRU"), jr.gru),
    "keras GRU reset before": (lambda: Keras("GRU", reset_after=False), jr.gru_reset_before),
}
