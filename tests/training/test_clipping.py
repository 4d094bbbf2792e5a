"""Clipping whose events are logged: the rows say which steps were clipped, and the training is as without."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import training

STEPS = 12
CLIPS = {
    "norm": (optax.clip_by_global_norm(2.0), lambda grads: np.linalg.norm(grads) > 2.0),
    "value": (optax.clip(1.0), lambda grads: np.abs(grads).max() > 1.0),
}


def loss(w, carry, batch, key):
    return jnp.sum(batch * w["a"]) + 0 * w["b"], (carry, {})


def batches(start, stop):
    """The gradient of w["a"] itself."""
    return np.random.RandomState(0).normal(size=(STEPS, 3)).astype(np.float32)[start:stop]


def fit(optimizer, folder=None):
    params = {"a": jnp.zeros(3), "b": jnp.zeros(())}
    return training.fit(loss, params, optimizer, batches, STEPS, chunk=4, folder=folder)


@pytest.mark.parametrize("name", CLIPS)
def test_the_rows_say_which_steps_were_clipped(tmp_path, name):
    clip, is_clipped = CLIPS[name]
    result = fit(optax.chain(training.log_clipping(clip), optax.sgd(0.1)), training.RunFolder(tmp_path))
    expected = [bool(is_clipped(grads)) for grads in batches(0, STEPS)]
    assert 0 < sum(expected) < STEPS
    assert [row["clipped"] for row in result.history] == expected
    rows = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [row["clipped"] for row in rows] == expected
    plain = fit(optax.chain(clip, optax.sgd(0.1)))
    np.testing.assert_array_equal(result.state.params["a"], plain.state.params["a"])
    assert "clipped" not in plain.history[0]


def test_of_two_clippings_either_counts():
    never, always = (training.log_clipping(optax.clip_by_global_norm(norm)) for norm in (1e6, 1e-6))
    result = fit(optax.chain(never, optax.sgd(0.1), always))
    assert all(row["clipped"] for row in result.history)
    assert not any(row["clipped"] for row in fit(optax.chain(never, optax.sgd(0.1))).history)


def test_what_is_no_clipping_is_refused():
    with pytest.raises(TypeError, match=r"clip must be an optax.GradientTransformation, .* got float"):
        training.log_clipping(1.0)
