"""Temporary memory of forward and backward as XLA plans it, and what `checkpoint="sqrt"` saves and costs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn as jr

from .clock import Budget, interleaved, paired, spread
from .grid import GRID, QUICK, Shape, Task
from .peers import JAX_PEERS, OURS, build, plain_scan
from .peers.jaxrnn_layers import CELLS
from .section import Settings, Step

LONG = Shape(4096, 8, 64, 64)
QUICK_LONG = Shape(256, 2, 8, 8)
FINAL_STATE, ALL_OUTPUTS = LOSSES = ("final state", "all outputs")
PLAIN, SQRT, SCAN = WAYS = ("plain", "sqrt", "scan")  # ours, ours with checkpoint="sqrt", a plain lax.scan


def steps(settings: Settings) -> list[Step]:
    """The memory of every shape and cell, then the checkpoints of every cell and loss."""
    shapes = (QUICK,) if settings.quick else GRID
    tasks = [Task(cell, shape, settings.dtype, settings.device) for cell in settings.cells for shape in shapes]
    memory = [
        Step("memory", f"memory: {task.cell} {task.shape.label}", functools.partial(_memory, settings, task))
        for task in tasks
    ]
    long = QUICK_LONG if settings.quick else LONG
    checkpoints = [
        Step("checkpoint", f"checkpoint: {cell}, {loss}", functools.partial(_checkpoint, task, loss, settings.budget))
        for cell in settings.cells
        for loss in LOSSES
        for task in [Task(cell, long, settings.dtype, settings.device)]
    ]
    return memory + checkpoints


def _memory(settings: Settings, task: Task) -> dict[str, Any]:
    """Bytes of each JAX implementation."""
    peers = {name: peer for name, peer in settings.peers.items() if name in (OURS, *JAX_PEERS)}
    temporary_bytes, left_out = build(peers, task, lambda program, _: _temporary_bytes(program.compile_gradient()))
    return {"cell": task.cell, "label": task.shape.label, "temporary_bytes": temporary_bytes, "left_out": left_out}


def _temporary_bytes(compiled: Any) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


def _checkpoint(task: Task, loss: str, budget: Budget) -> dict[str, Any]:
    """Bytes and times of the gradient of a long sequence's loss, three ways."""
    gradients = {way: jax.jit(jax.grad(functools.partial(_loss, task.cell, loss, way))) for way in WAYS}
    shape = task.shape
    params = CELLS[task.cell].init(jax.random.key(0), shape.inputs, shape.hidden, dtype=jnp.dtype(task.dtype))
    xs, weights = (jnp.asarray(array, task.dtype) for array in (task.inputs(), task.loss_weights()))
    compiled = {way: gradient.lower(params, xs, weights).compile() for way, gradient in gradients.items()}
    runs = {way: functools.partial(_finished, program, params, xs, weights) for way, program in compiled.items()}
    samples = interleaved(runs, budget)
    return {
        "cell": task.cell,
        "label": shape.label,
        "loss": loss,
        "temporary_bytes": {way: _temporary_bytes(program) for way, program in compiled.items()},
        "milliseconds": {way: 1e3 * spread(values).median for way, values in samples.items()},
        "over_plain": paired(samples[SQRT], samples[PLAIN])._asdict(),
    }


def _finished(program: Any, *arguments: Any) -> Any:
    return jax.block_until_ready(program(*arguments))


def _loss(cell: str, loss: str, way: str, params: Any, xs: Array, weights: Array) -> Array:
    if way == SCAN:
        (h, *_), ys = plain_scan.unroll(cell, params._asdict(), xs)
    else:
        state, ys = jr.unroll(CELLS[cell], params, xs, checkpoint="sqrt" if way == SQRT else None)
        h = CELLS[cell].output(state)
    return jnp.sum(ys * weights) if loss == ALL_OUTPUTS else jnp.sum(h * weights[-1])
