"""What `compare` found: numbers that print as a table, convert to a dict, and draw themselves."""

import dataclasses
from typing import TYPE_CHECKING, Any

from .drawing import drawing
from .tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = {
    "cosine": "cosine",
    "norm_ratio": "norm ratio",
    "relative_error": "rel. error",
    "bias": "bias",
    "bias_standard_error": "± chance",
    "variance": "variance",
    "signal_to_noise": "signal/noise",
}
_LEGEND = """\
g is exact, e the estimate: norm ratio |e|/|g|, rel. error |e - g|/|g|. "-" is undefined.
Time, and memory for temporaries, are those of one compiled call."""
_LEGEND_OF_DRAWS = """\
Cosine, ratio and error are means over single draws; bias |mean e - g|/|g|, and about what chance would make of none;
variance E|e - E e|²/|g|²; signal/noise 1/variance."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """An estimate e of one tensor's gradient against the exact g; None where g is 0, or e is not random.

    Fields:
      cosine: e · g / |e||g|, 0 if e is 0; of a stochastic algorithm the mean over draws, as the next two.
      norm_ratio: |e| / |g|.
      relative_error: |e - g| / |g|.
      bias: |mean e - g| / |g|.
      bias_standard_error: √(variance / draws), about what the bias of an unbiased algorithm is by chance.
      variance: E|e - E e|² / |g|², summed over the tensor's entries.
      signal_to_noise: 1 / variance.
    """

    cosine: float | None = None
    norm_ratio: float | None = None
    relative_error: float | None = None
    bias: float | None = None
    bias_standard_error: float | None = None
    variance: float | None = None
    signal_to_noise: float | None = None


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one compiled call.

    Fields:
      seconds: the median of several calls, compilation excluded.
      memory: bytes for temporaries, as the compiler plans them; None if the backend does not say.
    """

    seconds: float
    memory: int | None


@dataclasses.dataclass(frozen=True)
class Measured:
    """One algorithm.

    Fields:
      stochastic: whether it takes a key.
      cost: of one draw.
      total: all tensors as one vector.
      tensors: by their path in params.
    """

    stochastic: bool
    cost: Cost
    total: Agreement
    tensors: dict[str, Agreement]


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Gradient algorithms against the exact gradient. `str`, `to_dict` and `plot` show it.

    Fields:
      steps: T.
      repeats: draws of each stochastic algorithm.
      exact: what exact back-propagation through time costs.
      norm: |g|, all tensors as one vector.
      norms: |g| of each tensor, by its path in params.
      algorithms: what was measured, by the names that `compare` was given.
    """

    steps: int
    repeats: int
    exact: Cost
    norm: float
    norms: dict[str, float]
    algorithms: dict[str, Measured]

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts and numbers, for `json.dumps`."""
        return dataclasses.asdict(self)

    def plot(self) -> "Figure":
        """A panel for each measure, a row for each tensor; time and memory at the right. A matplotlib Figure.

        Raises:
          ImportError: matplotlib is not installed.
        """
        return drawing().draw_comparison(self)

    def __str__(self) -> str:
        title, legend = f"gradients against exact BPTT, T={self.steps}, |g|={self.norm:.4g}", _LEGEND
        if any(measured.stochastic for measured in self.algorithms.values()):
            title += f", {self.repeats} draws of each stochastic algorithm"
            legend += f"\n{_LEGEND_OF_DRAWS}"
        if self.norm == 0:
            title += "\nThe exact gradient is 0: there is nothing to compare with."
        return "\n\n".join([title, self._totals(), self._by_tensor(), legend])

    __repr__ = __str__

    def _totals(self) -> str:
        columns = self._columns()
        rows = [["total", *columns.values(), "time", "memory"]]
        rows += [["exact", *["-"] * len(columns), *_show_cost(self.exact)]]
        for name, measured in self.algorithms.items():
            rows += [[name, *_show(measured.total, columns), *_show_cost(measured.cost)]]
        return table(rows)

    def _by_tensor(self) -> str:
        columns = self._columns()
        rows = [["tensor", "|g|", "algorithm", *columns.values()]]
        for path, norm in self.norms.items():
            heads = [[path, f"{norm:.3g}"], *[["", ""]] * (len(self.algorithms) - 1)]
            for head, (name, measured) in zip(heads, self.algorithms.items(), strict=True):
                rows += [[*head, name, *_show(measured.tensors[path], columns)]]
        return table(rows, left=(0, 2))

    def _columns(self) -> dict[str, str]:
        """Those that an algorithm has, and the first three."""
        present = [measured.total for measured in self.algorithms.values()]
        filled = {name for total in present for name, value in vars(total).items() if value is not None}
        return {name: head for i, (name, head) in enumerate(_COLUMNS.items()) if i < 3 or name in filled}


def _show(agreement: Agreement, columns: dict[str, str]) -> list[str]:
    values = ((name, getattr(agreement, name)) for name in columns)
    return ["-" if value is None else f"{value:.4f}" if name == "cosine" else f"{value:.3g}" for name, value in values]


def _show_cost(cost: Cost) -> list[str]:
    return [f"{1e3 * cost.seconds:.3g} ms", "-" if cost.memory is None else _show_bytes(cost.memory)]


def _show_bytes(number: int) -> str:
    """In kB, MB or GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} B"
