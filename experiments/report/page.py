"""Measurements as one HTML page that needs nothing else."""

import math
import pathlib
from typing import Any, NamedTuple

import jax
import jinja2
import markupsafe
import numpy as np

import jaxrnn
from jaxrnn import gradients

from . import pictures, verdict
from .measures import SURVIVES, Lag, Measured, Points, Refused, Spectrum, Weights

_MOST_POINTS = 200  # in a table


class Cell(NamedTuple):
    """Of a table: what it shows, what it is sorted by, and how good it is."""

    text: str
    value: float | str
    level: str = ""


class Table(NamedTuple):
    """With a caption and a head for each column."""

    caption: str
    heads: tuple[str, ...]
    rows: list[list[Cell]]


class Part(NamedTuple):
    """A figure with its words and tables, of one network."""

    title: str
    text: str
    svg: markupsafe.Markup | None = None
    tables: tuple[Table, ...] = ()


def render(title: str, networks: list[Measured], found: list[list[verdict.Finding]]) -> str:
    """The page, with the findings of each network."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    sections = [
        {
            "name": measured.subject.name,
            "about": f"{measured.subject.about}; {measured.activity.size:,} numbers in the state; seen on "
            f"{measured.subject.data}",
            "level": findings[0].level,
            "headline": verdict.headline(findings),
            "findings": findings,
            "tries": verdict.tries(findings),
            "parts": _parts(measured),
        }
        for measured, findings in zip(networks, found, strict=True)
    ]
    return environment.get_template("page.html").render(
        title=title,
        subtitle="What its dynamics do to gradients: the verdict first, then what it rests on.",
        overview=_overview(networks, found) if len(networks) > 1 else None,
        sections=sections,
        footer=f"jaxrnn {jaxrnn.__version__}, jax {jax.__version__}, {jax.default_backend()}",
    )


def _overview(networks: list[Measured], found: list[list[verdict.Finding]]) -> Table:
    heads = ("network", "verdict", "largest exponent", "± standard error", "gradient's rate", "stable points")
    rows = []
    for measured, findings in zip(networks, found, strict=True):
        spectrum, points = measured.spectrum, measured.points
        refused = isinstance(spectrum, Refused)
        rows.append(
            [
                _text(measured.subject.name),
                Cell(findings[0].title, findings[0].title, findings[0].level),  # the worst
                _number(math.nan if refused else float(spectrum.exponents[0])),
                _number(math.nan if refused else float(spectrum.standard_errors[0]), 2),
                _number(verdict.rate(measured)),
                _number(math.nan if isinstance(points, Refused) else int(points.found.stable.sum())),
            ]
        )
    return Table("All networks of the run; click a head to sort", heads, rows)


def _parts(measured: Measured) -> list[Part]:
    parts = [
        _part("Gradient flow", measured.flows, _flow),
        _part("Lyapunov spectrum", measured.spectrum, lambda found: _spectrum(found, measured.subject.size)),
        _part("Jacobian singular values over lag", measured.lags, _lags),
        _part("Fixed points", measured.points, _points),
        _part("Recurrent weights", measured.weights, _weights),
    ]
    history = measured.subject.history
    return [*parts, _course(history)] if len(history) > 1 else parts


def _part(title: str, found: Any, make: Any) -> Part:
    return (
        Part(title, f"Not measured: {found.why}.") if isinstance(found, Refused) else make(found)._replace(title=title)
    )


def _flow(flows: list[gradients.Flow]) -> Part:
    """The sequence with the median rate is drawn."""
    rates = np.array([flow.rate for flow in flows])
    drawn = int(np.argsort(rates)[(len(rates) - 1) // 2])
    text = (
        "Left: the norm of the whole loss's gradient at the state of each time. Right: the gradient of the loss at "
        f"time t by the state at time k. Of sequence {drawn + 1}, that of the median rate."
    )
    heads = ("sequence", "verdict", "nats a step back", "|dL/ds_1|", "|dL/ds_T|", "largest", "Pascanu's Ω")
    rows = [
        [
            _number(index + 1),
            _text(flow.verdict),
            *map(_number, (flow.rate, flow.total[0], flow.total[-1], flow.total.max(), flow.omega)),
        ]
        for index, flow in enumerate(flows)
    ]
    table = Table("Each sequence", heads, rows)
    return Part("", text, _svg(flows[drawn].plot()), (table,))


def _spectrum(found: Spectrum, size: int) -> Part:
    beyond = f"more than {len(found.exponents)} exponents can tell"
    dimension = f"{found.dimension:.3g}" if math.isfinite(found.dimension) else beyond
    entropy = f"{found.entropy:.3g} nats a step" if math.isfinite(found.entropy) else beyond
    warmup = f" after {found.warmup:,} of warm-up" * (found.warmup > 0)
    text = (
        f"The rates at which small changes of the state grow (above 0) or fade, over {found.steps:,} steps of "
        f"each sequence{warmup}. Kaplan and Yorke's dimension of the attractor: {dimension}. Entropy rate at most: "
        f"{entropy}."
    )
    rows = [
        [_number(index + 1), _number(value), _number(error, 2), _number(-1 / value if value < 0 else math.nan, 3)]
        for index, (value, error) in enumerate(zip(found.exponents, found.standard_errors, strict=True))
    ]
    heads = ("i", "exponent, nats a step", "standard error", "fades e-fold in steps")
    return Part("", text, _svg(pictures.draw_spectrum(found, size)), (Table("Exponents", heads, rows),))


def _lags(lags: list[Lag]) -> Part:
    size = lags[0].values.shape[1]
    text = (
        "By how much changes of the state k steps ago are multiplied, direction by direction. What is below rounding "
        "of the largest one is not shown."
    )
    heads = ("k, steps", "largest", "median", f"directions of {size} that keep {SURVIVES:.0%}")
    rows = [[_number(lag.lag), _number(lag.largest), _number(lag.median), _number(lag.surviving, 3)] for lag in lags]
    return Part("", text, _svg(pictures.draw_lags(lags)), (Table("Singular values", heads, rows),))


def _points(points: Points) -> Part:
    found = points.found
    kinds = np.where(found.stable, "stable", np.where(found.is_fixed, "fixed, not stable", "slow"))
    rows = [
        [
            _number(index + 1),
            _text(str(kinds[index])),
            *(
                _number(value)
                for value in (found.speeds[index], found.unstable[index], abs(found.eigenvalues[index, 0]))
            ),
            _number(found.counts[index]),
        ]
        for index in range(min(len(found.speeds), _MOST_POINTS))
    ]
    more = f", the first {_MOST_POINTS} of {len(found.speeds):,}" * (len(found.speeds) > _MOST_POINTS)
    heads = ("point", "kind", "q", "growing directions", "largest |eigenvalue|", "candidates")
    text = (
        f"States that a step with the input held at {points.held} leaves where they are, or nearly so (slow points), "
        "among the trajectories of the sequences."
    )
    tables = (Table(f"Points{more}", heads, rows),) * bool(rows)
    return Part("", text, _svg(pictures.draw_points(points)), tables)


def _weights(weights: list[Weights]) -> Part:
    text = "Of each gate's recurrent matrix: the largest |eigenvalue|, and the largest singular value."
    rows = [[_text(w.path), _number(w.gate), _number(w.radius), _number(w.norm)] for w in weights]
    return Part("", text, None, (Table("Matrices", ("matrix", "gate", "spectral radius", "spectral norm"), rows),))


def _course(rows: tuple[dict[str, Any], ...]) -> Part:
    text = "What the run has logged: each step, and the median of a hundredth of all steps at a time."
    return Part("Course of training", text, _svg(pictures.draw_course(rows)))


def _svg(figure: Any) -> markupsafe.Markup:
    return markupsafe.Markup(pictures.svg(figure))


def _text(text: str) -> Cell:
    return Cell(text, text)


def _number(value: Any, digits: int = 4) -> Cell:
    """What is not a number is a dash, and sorted last."""
    value = float(value)
    if math.isnan(value):
        return Cell("–", "")
    if math.isinf(value):
        return Cell("-∞" if value < 0 else "∞", "-Infinity" if value < 0 else "Infinity")
    return Cell(f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.{digits}g}", repr(value))
