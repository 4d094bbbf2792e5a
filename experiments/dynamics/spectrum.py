"""The subcommand `spectrum`: Lyapunov exponents of random networks against their gain, beside mean-field theory."""

import argparse
import functools
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import dynamics

from .. import _memory, _run
from .._command import Subparsers, add_parser
from . import mean_field, spectrum_picture

PICTURE = "spectrum.png"
RESULTS = "spectrum.json"
FILES = (PICTURE, RESULTS)

GAINS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0)
COMPARED = (1.5, 2.0, 3.0)  # with theory
WHOLE = 8  # times smaller are networks of which all exponents are measured, and twice as many times

DESCRIPTION = f"""\
Lyapunov exponents of random networks x <- g J tanh(x), J_ij ~ N(0, 1/N), beside mean-field theory for N -> ∞:

  σ² = g² ∫Dz tanh²(σ z)        λ = ½ log(g² ∫Dz (1 - tanh²(σ z))²)        Dz the standard normal distribution

  largest exponent  against g, the mean over networks of each size
  size              at g = {", ".join(map(str, COMPARED))}: of each size, the line a + b/N fitted to all, and theory
  all exponents     of one network at each of these g, of two sizes {2 * WHOLE} and {WHOLE} times smaller, with dimension and entropy rate

One network is run at all g at once.
"""  # noqa: E501

EPILOG = f"""\
files in DIR:
  {PICTURE}   all three
  {RESULTS}  arguments, and the numbers in the picture with their standard errors

Ctrl-C ends early and leaves nothing but what was printed.
"""


class Found(NamedTuple):
    """Largest exponents by size, (networks, gains), and whole spectra."""

    largest: dict[int, np.ndarray]
    spectra: dict[int, dict[float, dynamics.Lyapunov]]


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(
        subparsers, "spectrum", "Lyapunov exponents against gain, with mean-field theory", DESCRIPTION, EPILOG
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        default=[125, 250, 500, 1000],
        metavar="N",
        help="units, at least two sizes (default: 125 250 500 1000)",
    )
    parser.add_argument("--networks", type=_several, default=10, metavar="R", help="of each size (default: 10)")
    parser.add_argument("--warmup", type=_run.positive, default=500, metavar="T", help="steps before (default: 500)")
    parser.add_argument("--steps", type=_run.positive, default=1000, metavar="T", help="counted (default: 1000)")
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def _size(text: str) -> int:
    return _at_least(2 * WHOLE, text)


def _several(text: str) -> int:
    return _at_least(2, text)


def _at_least(least: int, text: str) -> int:
    value = _run.positive(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"expected at least {least}, got {_run.shown(text)}")
    return value


def check(arguments: argparse.Namespace) -> None:
    """An error if there is one size alone, or a network would not fit."""
    if len(set(arguments.sizes)) < 2:
        raise _run.UserError(f"--sizes must have two different ones at least, got {arguments.sizes[0]}")
    flags, size = "--sizes, --warmup or --steps", max(arguments.sizes)
    call = functools.partial(_largest, warmup=arguments.warmup, length=arguments.warmup + arguments.steps)
    weights = jax.ShapeDtypeStruct((size, size), jnp.float32)
    _memory.check(flags, call, weights, jax.ShapeDtypeStruct((size,), jnp.float32), jnp.array(GAINS))
    _memory.check_bytes("--networks", 8 * len(GAINS) * len(arguments.sizes) * arguments.networks)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Measure, print, draw; the exit status."""
    start = time.perf_counter()
    sizes, length = sorted(set(arguments.sizes)), arguments.warmup + arguments.steps
    keys = jax.random.split(jax.random.key(arguments.seed), arguments.networks)
    largest = {}
    print(f"largest exponent {'N':>6}" + "".join(f"{f'g = {gain}':>19}" for gain in COMPARED))
    for size in sizes:
        found = [np.asarray(_largest(*_network(key, size), jnp.array(GAINS), arguments.warmup, length)) for key in keys]
        largest[size] = np.array(found, float)
        print(f"{size:23,}" + "".join(f"{_shown(*_mean(largest[size][:, GAINS.index(g)])):>19}" for g in COMPARED))
    fits = {gain: _fit(largest, gain) for gain in COMPARED}
    _print_fits(fits, largest)
    found = Found(largest, _spectra(keys[0], sizes[-1], arguments.warmup, length))
    _print_spectra(found.spectra)
    record = {"arguments": vars(arguments), "seconds": time.perf_counter() - start, **_as_json(found, fits)}
    _run.write_json(folder / RESULTS, record)
    with _run.replacing(folder / PICTURE) as path:
        spectrum_picture.draw(path, GAINS, found.largest, fits, found.spectra)
    print(f"\n{folder}: {PICTURE}, {RESULTS}")
    return 0


def _step(params: tuple[Array, Array], x: Array, _: None) -> Array:
    gain, weights = params
    return gain * (weights @ jnp.tanh(x))


def _network(key: Array, size: int) -> tuple[Array, Array]:
    """J and x_0."""
    key_weights, key_x = jax.random.split(key)
    return jax.random.normal(key_weights, (size, size)) / size**0.5, jax.random.normal(key_x, (size,))


@functools.partial(jax.jit, static_argnames=("warmup", "length"))
def _largest(weights: Array, x: Array, gains: Array, warmup: int, length: int) -> Array:
    """At each gain."""

    def at_gain(gain: Array) -> Array:
        return dynamics.lyapunov_spectrum(_step, (gain, weights), x, None, k=1, warmup=warmup, length=length)[0]

    return jax.vmap(at_gain)(gains)


def _spectra(key: Array, size: int, warmup: int, length: int) -> dict[int, dict[float, dynamics.Lyapunov]]:
    """All exponents, of two sizes and at each of the gains that are compared with theory."""
    found: dict[int, dict[float, dynamics.Lyapunov]] = {}
    for units in (size // (2 * WHOLE), size // WHOLE):
        weights, x = _network(key, units)
        found[units] = {
            gain: dynamics.lyapunov(_step, (jnp.float32(gain), weights), x, None, warmup=warmup, length=length)
            for gain in COMPARED
        }
    return found


def _mean(values: np.ndarray) -> tuple[float, float]:
    """With its standard error, over networks."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


class Fit(NamedTuple):
    """λ = a + b/N, weighted by standard errors, and those of a and b; and theory's λ for N -> ∞."""

    a: float
    b: float
    a_error: float
    b_error: float
    theory: float


def _fit(largest: dict[int, np.ndarray], gain: float) -> Fit:
    means, errors = np.transpose([_mean(found[:, GAINS.index(gain)]) for found in largest.values()])
    design = np.stack([np.ones(len(largest)), 1 / np.array(list(largest))], axis=1) / errors[:, None]
    covariance = np.linalg.inv(design.T @ design)
    a, b = covariance @ design.T @ (means / errors)
    a_error, b_error = np.sqrt(np.diag(covariance))
    return Fit(float(a), float(b), float(a_error), float(b_error), mean_field.largest_exponent(gain))


def _print_fits(fits: dict[float, Fit], largest: dict[int, np.ndarray]) -> None:
    print(f"{'a of a + b/N':>23}" + "".join(f"{_shown(fit.a, fit.a_error):>19}" for fit in fits.values()))
    print(f"{'b':>23}" + "".join(f"{_shown(fit.b, fit.b_error, 2):>19}" for fit in fits.values()))
    print(f"{'theory, N -> ∞':>23}" + "".join(f"{fit.theory:19.5f}" for fit in fits.values()))
    size = max(largest)
    off = [(mean - fit.b / size - fit.theory) / error for fit, (mean, error) in _at(size, fits, largest)]
    print(f"{f'N = {size:,} less b/N':>23}" + "".join(f"{f'{value:+.1f} s.e. off':>19}" for value in off))
    means = largest[size].mean(axis=0)
    index = int(np.argmax(means > 0))
    if index > 0 and means[index] > 0:
        crossing = np.interp(0, means[index - 1 : index + 1], GAINS[index - 1 : index + 1])
        between = f"between g = {GAINS[index - 1]} and {GAINS[index]}, at {crossing:.3f}"
        print(f"\nN = {size:,}: the largest exponent crosses 0 {between}")


def _at(size: int, fits: dict[float, Fit], largest: dict[int, np.ndarray]) -> list[tuple[Fit, tuple[float, float]]]:
    return [(fit, _mean(largest[size][:, GAINS.index(gain)])) for gain, fit in fits.items()]


def _print_spectra(spectra: dict[int, dict[float, dynamics.Lyapunov]]) -> None:
    print(f"\nall exponents {'N':>9}{'g':>6}{'largest':>19}{'dimension / N':>15}{'entropy rate / N':>18}")
    for size, by_gain in spectra.items():
        for gain, found in by_gain.items():
            largest = _shown(float(found.exponents[0]), float(found.standard_errors[0]))
            print(f"{size:23,}{gain:6}{largest:>19}{found.dimension / size:15.4f}{found.entropy / size:18.4f}")


def _shown(value: float, error: float, digits: int = 5) -> str:
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _as_json(found: Found, fits: dict[float, Fit]) -> dict[str, Any]:
    return {
        "gains": list(GAINS),
        "theory": [mean_field.largest_exponent(gain) for gain in GAINS],
        "largest": {
            str(size): dict(
                zip(("means", "standard_errors"), np.transpose(list(map(_mean, values.T))).tolist(), strict=True)
            )
            for size, values in found.largest.items()
        },
        "fits": {str(gain): fit._asdict() for gain, fit in fits.items()},
        "spectra": {
            str(size): {str(gain): _spectrum_as_json(each) for gain, each in by_gain.items()}
            for size, by_gain in found.spectra.items()
        },
    }


def _spectrum_as_json(found: dynamics.Lyapunov) -> dict[str, Any]:
    return {
        "dimension": float(found.dimension),
        "entropy": float(found.entropy),
        "exponents": [round(value, 5) for value in np.asarray(found.exponents, float).tolist()],
    }
