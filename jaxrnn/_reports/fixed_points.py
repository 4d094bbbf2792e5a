"""What `fixed_points` found: points that print as a table and draw themselves among trajectories."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from .drawing import drawing
from .tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 20  # points in the table


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class FixedPoints:
    """P different fixed and slow points, those that most candidates came to first. `str` and `plot` show them.

    Fields:
      points: the states, (P, ...) per leaf.
      vectors: (P, n) the same, flattened.
      speeds: (P,) q = ½ |step(s) - s|².
      is_fixed: (P,) False for slow points, where q has a minimum that is not 0.
      eigenvalues: (P, n) complex, of the Jacobian at each point, of the largest magnitude first.
      modes: (P, n, n) complex, as columns their right eigenvectors of length 1.
      of_candidates: (C,) which point each candidate came to, -1 if it did not converge.
    """

    points: Any
    vectors: np.ndarray
    speeds: np.ndarray
    is_fixed: np.ndarray
    eigenvalues: np.ndarray
    modes: np.ndarray
    of_candidates: np.ndarray

    @property
    def unstable(self) -> np.ndarray:
        """(P,) in how many directions each grows: eigenvalues outside the unit circle."""
        return np.sum(np.abs(self.eigenvalues) > 1, axis=1)

    @property
    def stable(self) -> np.ndarray:
        """(P,) which are fixed, with all eigenvalues inside the unit circle."""
        return self.is_fixed & np.all(np.abs(self.eigenvalues) < 1, axis=1)

    @property
    def counts(self) -> np.ndarray:
        """(P,) how many candidates came to each."""
        return np.bincount(self.of_candidates[self.of_candidates >= 0], minlength=len(self.speeds))

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists and numbers, for `json.dumps`; a complex number is a pair, modes are left out."""
        return {
            "points": self.vectors.tolist(),
            "speeds": self.speeds.tolist(),
            "is_fixed": self.is_fixed.tolist(),
            "eigenvalues": np.stack([np.real(self.eigenvalues), np.imag(self.eigenvalues)], axis=-1).tolist(),
            "of_candidates": self.of_candidates.tolist(),
        }

    def plot(self, trajectories: Any = None) -> "Figure":
        """The points on the principal axes of trajectories (..., T, n), or of themselves. A matplotlib Figure.

        Up to three axes. Lines from a point that is not stable go along its modes that grow.

        Raises:
          ValueError: trajectories have another n; there are neither points nor trajectories.
          ImportError: matplotlib is not installed.
        """
        size = self.vectors.shape[1]
        paths = np.zeros((0, 1, size)) if trajectories is None else np.asarray(trajectories, float)
        if paths.ndim < 2 or paths.shape[-1] != size:
            raise ValueError(f"trajectories have shape {paths.shape}, expected (..., T, n) with n = {size}")
        if not (paths.size or self.vectors.size):
            raise ValueError("there is nothing to draw: no point was found, and trajectories are not given")
        return drawing().draw_fixed_points(self, paths.reshape(-1, *paths.shape[-2:]))

    def sentence(self) -> str:
        """How many points of which kind, of how many candidates."""
        saddles = int(np.sum(self.is_fixed & ~self.stable))
        lost = int(np.sum(self.of_candidates < 0))
        return (
            f"{int(self.stable.sum())} stable and {saddles} other fixed points, {int(np.sum(~self.is_fixed))} slow "
            f"points; {lost:,} of {len(self.of_candidates):,} candidates did not converge"
        )

    def __str__(self) -> str:
        rows = [["point", "kind", "q", "unstable", "largest |eigenvalue|", "candidates"]]
        for index in range(min(len(self.speeds), _SHOWN)):
            kind = "stable" if self.stable[index] else "fixed" if self.is_fixed[index] else "slow"
            numbers = [f"{self.unstable[index]}", f"{abs(self.eigenvalues[index, 0]):.6g}", f"{self.counts[index]:,}"]
            rows += [[f"{index}", kind, f"{self.speeds[index]:.2g}", *numbers]]
        rest = [f"… and {len(self.speeds) - _SHOWN:,} more"] * (len(self.speeds) > _SHOWN)
        return "\n".join([self.sentence(), *([table(rows, left=(1,))] if len(rows) > 1 else []), *rest])

    __repr__ = __str__
