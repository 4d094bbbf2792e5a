"""What is in a model, as text: its spec, its tensors, and the spectral radii of its recurrent matrices."""

from typing import Any

import numpy as np

from .._cells.lstm import lstm
from .._cells.lstm_peephole import lstm_peephole
from .._cells.mgu import mgu, mgu_without_reset
from .._cells.rnn import rnn, rnn_relu
from .._core.cell import Cell
from ._gates import blocks_of
from ._models import Parts, Spec, Tensors, joined, parts_of, tensors_of
from ._networks import split_parts

_GATES = {
    rnn: "h",
    rnn_relu: "h",
    lstm: "ifgo",
    lstm_peephole: "ifgo",
    mgu: "fn",
    mgu_without_reset: "fn",
}  # else: r, u, n


def inspected(spec: Spec, params: Any) -> str:
    """The text, its verdict on the last line."""
    parts = parts_of(spec, params)
    tensors = {name: np.asarray(a) for name, a in tensors_of(parts).items()}
    layers = [f"{name}: {layer}" if name else str(layer) for name, (layer, _) in parts.items()]
    radii = spectral_radii(parts)
    sections = [layers, _table(tensors), _lines_of_radii(radii), [_verdict(tensors, radii)]]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def spectral_radii(parts: Parts) -> dict[str, dict[str, float]]:
    """For each cell and gate the largest modulus of an eigenvalue of W_h; NaN where there are no eigenvalues.

    With a projection it is that of W_hr W_h, which takes h to the h of the next step.
    """
    return {
        name or "spec": dict(zip(_GATES.get(layer, "run"), map(_radius, _matrices(layer, tensors)), strict=True))
        for name, (layer, tensors) in split_parts(parts).items()
        if isinstance(layer, Cell) and layer.input_ndim == 1  # a kernel over places is no matrix
    }


def _matrices(cell: Cell, tensors: Tensors) -> list[np.ndarray]:
    blocks = np.split(np.asarray(tensors["weight_hh"], np.float64), blocks_of(cell))
    if "weight_hr" not in tensors:
        return blocks
    return [np.asarray(tensors["weight_hr"], np.float64) @ block for block in blocks]


def _radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max()) if np.isfinite(matrix).all() else float("nan")


def _table(tensors: Tensors) -> list[str]:
    rows = [("tensor", "shape", "dtype", "norm")]
    rows += [
        (name, str(a.shape), a.dtype.name, f"{np.linalg.norm(a.astype(np.float64)):.4g}") for name, a in tensors.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _lines_of_radii(radii: dict[str, dict[str, float]]) -> list[str]:
    lines = [
        f"{name}: " + ", ".join(f"{gate} {radius:.4g}" for gate, radius in of.items()) for name, of in radii.items()
    ]
    return ["spectral radii of the recurrent matrices, by gate", *lines] if lines else []


def _verdict(tensors: Tensors, radii: dict[str, dict[str, float]]) -> str:
    bad = [name for name, a in tensors.items() if not np.isfinite(a.astype(np.float64)).all()]
    if bad:
        return f"not usable: NaN or infinity in {len(bad)} of {len(tensors)} tensors, the first is {bad[0]}"
    count, dtypes = sum(a.size for a in tensors.values()), sorted({a.dtype.name for a in tensors.values()})
    largest = max(((r, joined(name, gate)) for name, of in radii.items() for gate, r in of.items()), default=None)
    rest = f"; largest spectral radius {largest[0]:.4g}, of {largest[1]}" if largest else ""
    return f"whole: {count:,} numbers in {len(tensors)} tensors of {', '.join(dtypes)}, all finite{rest}"
