"""The implementations that are measured, a module each."""

import importlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from ..grid import Task
from ._peer import Peer as Peer
from ._peer import Program as Program

Made = TypeVar("Made")

OURS, OURS_IN_XLA = "jaxrnn", "jaxrnn-xla"
JAX_PEERS = ("linen", "nnx", "haiku", "equinox", "scan")
CPU_PEERS = ("torch", *JAX_PEERS, OURS_IN_XLA)
GPU_PEERS = ("torch", *JAX_PEERS, "cudnn", "flashrnn")
ALL_PEERS = (*CPU_PEERS, "cudnn", "flashrnn")

_MODULES = {
    OURS: "jaxrnn_layers",
    OURS_IN_XLA: "jaxrnn_scans",
    "torch": "torch_layers",
    "linen": "linen_layers",
    "nnx": "nnx_layers",
    "haiku": "haiku_cores",
    "equinox": "equinox_cells",
    "scan": "plain_scan",
    "cudnn": "cudnn_lstm",
    "flashrnn": "flashrnn_kernels",
}


def load(names: Iterable[str]) -> tuple[dict[str, Peer], dict[str, str]]:
    """Ours and the peers of these names that can be imported; why the others cannot."""
    peers, missing = {}, {}
    for name in (OURS, *names):
        try:
            peers[name] = importlib.import_module(f"{__name__}.{_MODULES[name]}").PEER
        except ImportError as error:
            missing[name] = f"not installed ({error})"
        except Exception as error:  # flashrnn asks for compilers and a GPU when it is imported
            missing[name] = f"cannot be imported: {first_line(error)}"
    return peers, missing


def checked(program: Program, task: Task) -> Program:
    """The program, once its outputs have the task's shape, every gradient is finite and some are not zero."""
    (outputs,) = program.numpy(program.forward())
    if outputs.shape != task.output_shape:
        raise ValueError(f"outputs of shape {outputs.shape}, expected {task.output_shape}")
    gradients = program.numpy(program.gradient())[1:]
    if not all(np.isfinite(gradient).all() for gradient in gradients):
        raise ValueError("a gradient is not finite")
    if not any(gradient.any() for gradient in gradients):
        raise ValueError("all gradients are zero")
    return program


def build(
    peers: dict[str, Peer], task: Task, use: Callable[[Any, Task], Made] = checked
) -> tuple[dict[str, Made], dict[str, str]]:
    """What `use` makes of the program of each peer that can do the task; why the others cannot."""
    made, left_out = {}, {}
    for name, peer in peers.items():
        if reason := peer.refuses(task):
            left_out[name] = reason
            continue
        try:
            made[name] = use(peer.build(task), task)
        except Exception as error:  # a peer may fail in any way of its own; ours may not
            if name == OURS:
                raise
            left_out[name] = first_line(error)
    return made, left_out


def first_line(error: Exception) -> str:
    """Kind and first line of an error's message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
