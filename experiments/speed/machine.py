"""What was measured on: machine, versions, precision and threads."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
from typing import Any

import jax

import jaxrnn as jr

from .. import _run

_BUSY = (
    "the load was {load} before it began: other programs are running; times then say little, torch's least of all, "
    "whose threads wait for each other"
)
_VARIABLES = ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "JAX_DEFAULT_MATMUL_PRECISION")


def select(device: str, dtype: str) -> None:
    """Have JAX use the device, with products as precise as the dtype says."""
    # A GPU's memory is shared with torch, and float32 products are float32, as torch's are, rather than tf32.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if (found := jax.default_backend()) != device:
        raise _run.UserError(f"--device {device}: JAX found no {device.upper()} here, its default device is a {found}")
    if device == "gpu" and dtype == "float32":
        jax.config.update("jax_default_matmul_precision", "highest")


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(device: str, dtype: str, versions: dict[str, str]) -> dict[str, Any]:
    """Machine, versions of Python, JAX and the peers, precision, threads, date."""
    gpu = {"gpu": jax.devices()[0].device_kind} if device == "gpu" else {}
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": cores(),
        **gpu,
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
        "dtype": dtype,
        "precision": _precision(device, dtype),
        "threads": {"torch": cores(), "XLA": cores()},
        "kernels": jr.native.info()._asdict(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")},
            **versions,
        },
    }


def lines(machine: dict[str, Any]) -> str:
    """The description, for the terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    variables = "".join(f", {name}={value}" for name, value in machine["environment"].items())
    threads = ", ".join(f"{name} {count}" for name, count in machine["threads"].items())
    busy = machine["load"] > machine["cores"] / 2
    note = f"\nnote: {_BUSY.format(load=machine['load'])}" if busy else ""
    device = f"{machine['gpu']}, " if "gpu" in machine else ""
    kernels = machine["kernels"]["instruction_set"] or f"none, {machine['kernels']['reason']}"
    return (
        f"{device}{machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['date']}\n"
        f"{versions}\n{machine['dtype']} ({machine['precision']}); threads: {threads}; kernels: {kernels}"
        f"{variables}{note}"
    )


def _precision(device: str, dtype: str) -> str:
    if dtype == "float32":
        return "products in float32, no tf32" if device == "gpu" else "products in float32"
    return "parameters, inputs and outputs; what a product accumulates in is each program's own choice"


def _cpu() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
