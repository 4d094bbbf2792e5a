"""The core is tested under strict dtype promotion and without silent rank promotion."""

import pathlib

import jax
import pytest
from jax._src import compiler  # JAX has no public setting that gives all programs an XLA option

_AS_USERS_DO = ("test_parity", "test_torch", "test_memory", "test_charlm", "test_resume")
_STANDARD = ("experiments", "training", "README.md")  # Optax itself needs standard promotion


@pytest.fixture(autouse=True)
def _strict(request):
    path = pathlib.Path(request.node.path)
    if any(part in path.parts or part in path.name for part in _STANDARD):
        yield
    else:
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            yield


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly(request):
    """Compilation takes most of the time; tests of rounding, of memory and of other processes compile as users do."""
    quickly = request.path.stem not in _AS_USERS_DO
    if jax.config.read("jax_disable_most_optimizations") != quickly:
        jax.config.update("jax_disable_most_optimizations", quickly)
        compiler.get_compile_options = _quick_options if quickly else _OPTIONS
        jax.clear_caches()  # what is compiled already knows nothing of the change


_OPTIONS = compiler.get_compile_options


def _quick_options(*args, env_options_overrides=None, **options):
    """XLA:CPU's older code generation, which takes a quarter of the time to compile."""
    overrides = {"xla_cpu_use_fusion_emitters": False, **(env_options_overrides or {})}
    return _OPTIONS(*args, env_options_overrides=overrides, **options)


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield
