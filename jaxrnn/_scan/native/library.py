"""The library of compiled kernels: whether it is there, whether it is wanted, and which instruction set it runs."""

import contextlib
import ctypes
import os
import pathlib
import platform
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax

__all__ = ["BACKWARD", "CELLS", "FORWARD", "Info", "disabled", "find", "info", "is_ready"]

CELLS = {"lstm": 0, "gru": 1, "tanh": 2, "relu": 3}  # as kernels.h numbers them
FORWARD, BACKWARD = "jaxrnn_forward", "jaxrnn_backward"

_LIBRARY = pathlib.Path(__file__).with_name("_kernels.so")
_INSTRUCTION_SETS = {0: None, 1: "avx2", 2: "avx512"}
_is_disabled = jax.make_user_context(False)  # a part of the key under which `jax.jit` keeps what it compiled


class Info(NamedTuple):
    """Whether kernels run, and why not.

    Fields:
      is_ready: whether `jr.unroll` may choose them.
      instruction_set: "avx512" or "avx2"; None if they are not there.
      reason: why they do not run; None if they may.
    """

    is_ready: bool
    instruction_set: str | None
    reason: str | None


def info() -> Info:
    """Whether this process can run sequences in compiled kernels, with which instruction set, and if not, why.

    Where it can, `jr.unroll` and all that is built on it choose them on a CPU for sequences that they are faster at;
    the environment variable JAXRNN_NATIVE=0 and `jr.native.disabled()` keep them out, JAXRNN_NATIVE_ISA=avx2 keeps
    AVX-512 out.

    >>> import jaxrnn as jr
    >>> jr.native.info().instruction_set in ("avx512", "avx2", None)
    True
    """
    instruction_set, reason = _FOUND
    if reason is None and _is_disabled.value:
        reason = "inside jr.native.disabled()"
    return Info(reason is None, instruction_set, reason)


def is_ready() -> bool:
    """Whether kernels may be chosen."""
    return info().is_ready


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Inside, sequences are run by XLA alone, as where no kernels are installed. `jax.jit` compiles anew for it.

    What was made outside stays as it is: the pullback of a `jax.vjp` outside runs the kernel here too.

    >>> import jaxrnn as jr
    >>> with jr.native.disabled():
    ...     jr.native.info().is_ready
    False
    """
    with _is_disabled(True):
        yield


def find() -> tuple[str | None, str | None]:
    """The instruction set, and why there is none; registers the kernels with XLA."""
    if _variable("JAXRNN_NATIVE", "1", "0") == "0":
        return None, "the environment variable JAXRNN_NATIVE is 0"
    _variable("JAXRNN_NATIVE_ISA", "", "avx2", "avx512")  # the library reads it
    if not _LIBRARY.exists():
        machine = f"{sys.platform} on {platform.machine()}"
        return None, f"not compiled: that takes Linux on x86-64 and a C++ compiler that works; this is {machine}"
    try:
        return _register(ctypes.CDLL(str(_LIBRARY)))
    except (OSError, AttributeError, RuntimeError) as error:  # the last two: another version's, or JAX's
        return None, f"the compiled kernels cannot be loaded: {error}"


def _register(library: ctypes.CDLL) -> tuple[str | None, str | None]:
    instruction_set = _INSTRUCTION_SETS[library.jaxrnn_instruction_set()]
    if instruction_set is None:
        return None, "this processor has neither AVX-512 nor AVX2 with FMA"
    for name in (FORWARD, BACKWARD):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    return instruction_set, None


def _variable(name: str, default: str, *others: str) -> str:
    """The value of an environment variable, one of these."""
    value = os.environ.get(name, default)
    if value not in (default, *others):
        allowed = " or ".join(sorted(filter(None, (default, *others))))
        raise ValueError(f"the environment variable {name} must be {allowed}, got {value!r}")
    return value


_FOUND = find()  # at once: a program that was compiled earlier, and is loaded from a file, may be all that is run
