"""Which way a sequence is run: the decisions, as a table."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn as jr
from jaxrnn._scan import plan
from jaxrnn._scan.native import library
from jaxrnn._scan.plan import AffineChunks

ARRAYS = (jnp.zeros(1),)


# (T, B, G*H, dtype, platform) -> steps of a chunk: of the derivative, and where nothing is differentiated
@pytest.mark.parametrize(
    ("steps", "batch", "rows", "dtype", "platform", "expected"),
    [
        (1, 1, 16, jnp.float32, "cpu", (1, 1)),
        (50, 1, 16, jnp.float32, "cpu", (50, 1)),  # all of it is tiny
        (256, 1, 64, jnp.float32, "cpu", (256, 1)),  # 64 KiB
        (257, 1, 64, jnp.float32, "cpu", (64, 257)),  # a byte more; 64 does not divide 257
        (1024, 4, 32, jnp.float32, "cpu", (256, 1024)),  # a quarter of the sequence
        (128, 32, 128, jnp.float32, "cpu", (32, 128)),
        (128, 32, 512, jnp.float32, "cpu", (16, 128)),  # 1 MiB of pre-activations
        (256, 32, 1024, jnp.float32, "cpu", (16, 16)),  # 512 rows; more than 8 MiB in all
        (256, 32, 1024, jnp.float64, "cpu", (16, 16)),
        (128, 128, 2048, jnp.float32, "cpu", (4, 4)),
        (128, 4096, 2048, jnp.float32, "cpu", (1, 1)),  # a step alone has 512 rows
        (256, 32, 1024, jnp.float32, "gpu", (64, 64)),  # 64 MiB where nothing has been measured
        (256, 32, 1024, jnp.float32, "tpu", (64, 64)),
        (1000, 0, 64, jnp.float32, "cpu", (1000, 1)),  # an empty batch
        (30, 512, 64, jnp.float32, "cpu", (6, 30)),  # 7 steps are near 6, which divides 30
    ],
)
def test_chunks_of_affine_cells(steps, batch, rows, dtype, platform, expected):
    z = jax.ShapeDtypeStruct((rows,), jnp.float32 if dtype == jnp.float32 else jnp.float64)
    chunks = plan.affine(steps, batch, z, arrays=ARRAYS, is_closed=True, platform=platform)
    assert chunks == AffineChunks(*expected)


@pytest.mark.parametrize(
    ("arrays", "is_closed"), [((jnp.zeros(1), jnp.zeros(1, int)), True), ((jnp.zeros(1, bool),), True), (ARRAYS, False)]
)
def test_affine_cells_that_are_stepped(arrays, is_closed):
    z = jax.ShapeDtypeStruct((16,), jnp.float32)
    assert plan.affine(50, 1, z, arrays=arrays, is_closed=is_closed, platform="cpu") is None


@pytest.mark.parametrize(
    ("units", "is_ragged", "platform", "expected"),
    [(1, False, "cpu", True), (256, False, "cpu", True), (257, False, "cpu", False), (1, True, "cpu", False)]
    + [(1, False, platform, False) for platform in ("gpu", "tpu", "rocm")],
)
def test_both_directions_at_once(units, is_ragged, platform, expected):
    assert plan.both_directions_at_once(units, is_ragged=is_ragged, platform=platform) is expected


# (T, B, I, G*H, R), dtype, platform -> how a kernel runs it
@pytest.mark.parametrize(
    ("sizes", "dtype", "platform", "expected"),
    [
        ((1, 1, 1, 64, 16), "float32", "cpu", "short"),
        ((2, 1, 1, 64, 16), "float32", "cpu", "whole"),  # few weights
        ((1, 32, 64, 256, 64), "float32", "cpu", None),  # 32 Ki weights packed for one step
        ((8, 8, 64, 256, 64), "float32", "cpu", "whole"),
        ((9, 7, 64, 256, 64), "float64", "cpu", None),
        ((255, 4, 256, 256, 256), "float32", "cpu", None),  # no gates
        ((256, 4, 256, 256, 256), "float32", "cpu", "whole"),
        ((1024, 4, 32, 128, 32), "float64", "cpu", "whole"),
        ((128, 1, 256, 1024, 256), "float32", "cpu", None),  # one sequence, 512 Ki weights
        ((512, 1, 256, 1024, 256), "float32", "cpu", "whole"),
        ((1, 1, 256, 1024, 256), "float32", "cpu", "short"),  # 2 MiB of weights read once
        ((1, 1, 256, 1024, 256), "float64", "cpu", None),
        ((2, 2, 256, 1024, 256), "float64", "cpu", "short"),
        ((5, 1, 256, 1024, 256), "float32", "cpu", None),
        ((128, 32, 128, 512, 128), "bfloat16", "cpu", None),
        ((128, 32, 128, 512, 128), "float32", "gpu", None),
        ((128, 0, 128, 512, 128), "float32", "cpu", None),
    ],
)
def test_what_kernels_run(sizes, dtype, platform, expected, monkeypatch):
    monkeypatch.setattr(library, "is_ready", lambda: True)
    assert plan.native(plan.Sizes(*sizes), jnp.dtype(dtype), ARRAYS, platform=platform) is expected


def test_what_kernels_never_run(monkeypatch):
    sizes, dtype = plan.Sizes(128, 32, 128, 512, 128), jnp.dtype("float32")
    monkeypatch.setattr(library, "is_ready", lambda: False)
    assert not plan.native(sizes, dtype, ARRAYS, platform="cpu")
    monkeypatch.setattr(library, "is_ready", lambda: True)
    assert plan.native(sizes, dtype, ARRAYS, platform="cpu")
    monkeypatch.setattr(plan, "is_spread", lambda values, platform: True)
    assert not plan.native(sizes, dtype, ARRAYS, platform="cpu")


def test_the_platform_is_that_of_the_default_device():
    assert plan.platform() == jax.default_backend()
    with jax.default_device(jax.devices()[0]):
        assert plan.platform() == jax.devices()[0].platform
    with jax.default_device("cpu"):
        assert plan.platform() == "cpu"


@pytest.mark.slow
def test_a_plan_for_another_platform_has_the_same_numbers(monkeypatch):
    params = jr.lstm.init(jax.random.key(0), 3, 64)
    xs = jax.random.normal(jax.random.key(1), (40, 32, 3))

    def loss(params):
        return jnp.sum(jr.unroll(jr.lstm, params, xs)[1] ** 2)

    here = jax.value_and_grad(loss)(params)
    jax.clear_caches()
    monkeypatch.setattr(plan, "platform", lambda: "gpu")
    there = jax.value_and_grad(loss)(params)
    jax.clear_caches()
    for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
        assert float(jnp.abs(a - b).max()) <= 1e-5 * float(jnp.abs(b).max())
