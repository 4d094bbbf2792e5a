"""Mean-field theory of x <- g J tanh(x), J_ij ~ N(0, 1/N), for N -> ∞.

A unit's input is a sum of many independent terms, so Gaussian, with the variance of the step before it; and what a
small change is multiplied by is independent of it:

    σ² = g² ∫Dz tanh²(σ z)                   self-consistent, Dz the standard normal distribution
    λ_1 = ½ log(g² ∫Dz (1 - tanh²(σ z))²)    as |δ_{t+1}|² = g² ⟨tanh'(x)²⟩ |δ_t|²

For g <= 1 there is σ = 0 alone, and λ_1 = log g. Source: Molgedey, Schuchhardt and Schuster 1992, PRL 69.
"""

import math
from typing import Any

import numpy as np
from scipy.optimize import brentq

_NODES = np.linspace(-12, 12, 2401)  # the trapezoidal rule, exact to rounding for what is smooth and ends at 0
_WEIGHTS = 0.01 * np.exp(-(_NODES**2) / 2) / math.sqrt(2 * math.pi)


def variance(gain: float) -> float:
    """σ²."""
    if gain <= 1:
        return 0.0
    found: Any = brentq(lambda v: gain**2 * _mean(np.tanh(math.sqrt(v) * _NODES) ** 2) - v, 1e-12, gain**2, xtol=1e-14)
    return found


def largest_exponent(gain: float) -> float:
    """λ_1."""
    slopes = 1 - np.tanh(math.sqrt(variance(gain)) * _NODES) ** 2
    return math.log(gain) + 0.5 * math.log(_mean(slopes**2))


def _mean(values: np.ndarray) -> float:
    """∫Dz."""
    return float(_WEIGHTS @ values)
