"""What `flow` found: norms and a verdict that print as text and draw themselves."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .drawing import drawing
from .tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FACTOR = 10.0  # over the whole sequence, above which gradients vanish or explode
_ROUNDING = 1e-6  # how far from 1 the bound of an orthogonal matrix may be


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Flow:
    """Norms of the gradient at each state. `str` and `plot` show it.

    Fields:
      total: (T,) |dL/ds_t|, t = 1 … T.
      norms: the same (T,) for each leaf of the state, by its path.
      times: (R,) those in the map; all of 1 … T, or of longer sequences every 2nd, 3rd, …
      map: (R, R) |dL_t/ds_k|, t in rows, k in columns; 0 for k > t.
      rate: nats per step that |dL_t/ds_k| grows (> 0) or shrinks by with t - k; -inf if nothing arrives one step back,
        nan if it cannot be told.
      omega: Pascanu's Ω, 0 if every |λ_t| is carried back unchanged.
      bound: the largest singular value of what `bound_of` says.
      bound_of: "weight_hh", or "jacobian" for the largest ∂s_t/∂s_{t-1} along the sequence.
    """

    total: np.ndarray
    norms: dict[str, np.ndarray]
    times: np.ndarray
    map: np.ndarray
    rate: float
    omega: float
    bound: float
    bound_of: Literal["weight_hh", "jacobian"]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.total)

    @property
    def verdict(self) -> Literal["vanishing", "exploding", "neither"]:
        """Whether the rate makes a factor of more than 10 over T steps."""
        if abs(self.rate) * self.steps > math.log(_FACTOR):
            return "vanishing" if self.rate < 0 else "exploding"
        return "neither"

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists and numbers, for `json.dumps`."""
        fields = dataclasses.asdict(self) | {"norms": {path: norms.tolist() for path, norms in self.norms.items()}}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}

    def plot(self) -> "Figure":
        """The norms over time, and the map, both logarithmic. A matplotlib Figure.

        Raises:
          ImportError: matplotlib is not installed.
        """
        return drawing().draw_flow(self)

    def __str__(self) -> str:
        omega = f"Pascanu's omega: {self.omega:.4g}"
        return "\n".join([self.sentence(), *self._norm_lines(), self.bound_sentence(), omega, self._note()])

    __repr__ = __str__

    def sentence(self) -> str:
        """The verdict with the rate that it is from."""
        if not self.total.any():
            return "neither: the gradient is 0 at every state, as no loss depends on any"
        if math.isnan(self.rate):
            return "neither: no rate can be told, as no loss has a finite gradient at two of the times"
        if math.isinf(self.rate):
            return "vanishing: no loss has a gradient at any time before its own"
        return (
            f"{self.verdict}: |dL_t/ds_k| changes by {self.rate:+.4g} nats for each step back, "
            f"a factor of {_power(self.rate)}, {_power(self.rate * self.steps)} over T={self.steps} steps"
        )

    def bound_sentence(self) -> str:
        """What the bound allows."""
        if not math.isfinite(self.bound):
            says = "which bounds nothing"
        elif abs(self.bound - 1) <= _ROUNDING:
            says = "which is 1 to rounding: nothing can explode"
        elif self.bound < 1:
            says = "below 1, which suffices for vanishing"
        else:
            says = "above 1, which is necessary for exploding, not sufficient"
        of = "weight_hh" if self.bound_of == "weight_hh" else "ds_t/ds_(t-1), the largest along this sequence"
        return f"largest singular value of {of}: {self.bound:.6g}, {says}"

    def sampling(self) -> str:
        """Which times the map has."""
        if len(self.times) == self.steps:
            return f"all {self.steps:,} times"
        stride = int(self.times[1] - self.times[0])
        return f"one in {stride} times, {len(self.times):,} of {self.steps:,}"

    def _norm_lines(self) -> list[str]:
        rows = [["|dL/ds_t|", "t=1", f"t={self.steps}", "least", "at t", "largest", "at t"]]
        leaves = self.norms if len(self.norms) > 1 else {}
        for name, norms in {"total": self.total, **leaves}.items():
            least, largest = int(np.argmin(norms)), int(np.argmax(norms))
            ends, extremes = norms[[0, -1]], norms[[least, largest]]
            shown = [f"{value:.3g}" for value in (*ends, *extremes)]
            rows += [[name, *shown[:3], f"{least + 1}", shown[3], f"{largest + 1}"]]
        return ["", *table(rows).split("\n"), ""]

    def _note(self) -> str:
        silent = np.all(self.map == 0, axis=1)
        others = self.map[~silent][np.tri(len(self.map), dtype=bool)[~silent]]
        zeros, wild = int(np.sum(others == 0)), int(np.sum(~np.isfinite(others)))
        parts = [f"map of |dL_t/ds_k|: {self.sampling()}"]
        parts += [f"{silent.sum():,} of {silent.size:,} losses have no gradient"] if silent.any() else []
        parts += [f"{zeros:,} of {others.size:,} entries are 0, too small or without influence"] if zeros else []
        parts += [f"{wild:,} of {others.size:,} entries are not finite"] if wild else []
        return "; ".join(parts)


def rate_of(times: np.ndarray, logs: np.ndarray) -> float:
    """The slope of log norms[t, k] over t - k, with an intercept for each t, of those that are finite."""
    lags = (times[:, None] - times).astype(float)
    usable = (lags >= 0) & np.isfinite(logs)
    counts = np.maximum(usable.sum(axis=1, keepdims=True), 1)
    logs = np.where(usable, logs, 0)
    x, y = (np.where(usable, a - np.sum(a * usable, axis=1, keepdims=True) / counts, 0) for a in (lags, logs))
    if x.any():
        return float(np.sum(x * y) / np.sum(x * x))
    arrived = usable[1:][lags[1:] > 0]
    return -math.inf if usable[1:].any() and not arrived.any() else math.nan


def _power(exponent: float) -> str:
    """e to it, which may be beyond what a float holds."""
    return f"{math.exp(exponent):.4g}" if abs(exponent) < 700 else f"10^{exponent / math.log(10):.0f}"
