"""Linear and Embedding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr


@pytest.mark.parametrize("batch", [(), (2,), (4, 2), (0,)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(batch, bias):
    linear = jr.Linear(5, 3, bias)
    params = linear.init(jax.random.key(0))
    x = np.random.RandomState(0).normal(size=(*batch, 5)).astype(np.float32)
    expected = x @ np.asarray(params["weight"]).T + (np.asarray(params["bias"]) if bias else 0)
    np.testing.assert_allclose(linear.apply(params, x), expected, rtol=1e-5, atol=1e-6)


def test_linear_initialisation():
    params = jr.Linear(400, 50).init(jax.random.key(0))
    for tensor in params.values():
        scaled = np.asarray(tensor).ravel() * 20
        assert np.abs(scaled).max() <= 1
        assert abs((scaled**2).mean() - 1 / 3) < 4 * (4 / 45 / scaled.size) ** 0.5


def test_embedding_looks_rows_up():
    embedding = jr.Embedding(6, 4)
    params = embedding.init(jax.random.key(0))
    ids = np.array([[0, 5, 2], [5, 5, 1]])
    np.testing.assert_array_equal(embedding.apply(params, ids), np.asarray(params["weight"])[ids])
    assert embedding.apply(params, np.int32(3)).shape == (4,)


def test_embedding_initialisation_is_normal():
    weight = np.asarray(jr.Embedding(200, 50).init(jax.random.key(0))["weight"])
    assert abs(weight.mean()) < 0.04
    assert abs(weight.std() - 1) < 0.03
    assert 3 < np.abs(weight).max() < 6


@pytest.mark.parametrize("bad", [-1, 6, 100, -100])
def test_an_id_out_of_range_is_an_error_or_not_a_number(bad):
    embedding = jr.Embedding(6, 4)
    params, ids = embedding.init(jax.random.key(0)), jnp.array([0, bad, 5])
    with pytest.raises(ValueError, match=rf"ids must lie in \[0, 6\).*got {bad}"):
        embedding.apply(params, ids)
    rows = jax.jit(embedding.apply)(params, ids)
    assert jnp.isnan(rows[1]).all()
    np.testing.assert_array_equal(rows[::2], params["weight"][::5])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32"])
def test_ids_of_any_integer_type(dtype):
    embedding = jr.Embedding(300, 2)
    params, ids = embedding.init(jax.random.key(0)), jnp.array([0, 100], dtype)
    for apply in (embedding.apply, jax.jit(embedding.apply)):
        np.testing.assert_array_equal(apply(params, ids), params["weight"][jnp.array([0, 100])])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        linear, embedding = jr.Linear(3, 2), jr.Embedding(3, 2)
        assert linear.apply(linear.init(jax.random.key(0), dtype), jnp.ones(3, dtype)).dtype == dtype
        assert embedding.apply(embedding.init(jax.random.key(0), dtype), jnp.array([1])).dtype == dtype
