"""`python -m experiments.gradients variance`: how noisy the unbiased forward gradients are."""

import argparse
import functools
import operator
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxrnn as jr
from jaxrnn import gradients, training

from .. import _memory, _run
from .._command import Subparsers, add_parser
from .curves import color_of
from .networks import CELLS

PICTURE = "variance.png"
RESULTS = "variance.json"
FILES = (PICTURE, RESULTS)
INPUTS = 4  # two symbols, a blank, and the sign to begin
LENGTHS = (1, 2, 4, 8)  # of the string; T = 2 length + 1
TRAINED_ON = 8  # its length in training
LEARNING_RATE = 1e-2
BATCH = 16
CHUNK = 10  # updates a compiled call, and draws side by side
RESAMPLES = 2000
LEAST = 1e-9  # drawn; less is rounding errors
TERMS = 8
_RESAMPLED = 24  # bytes of a draw in a resample: its number, and two errors

ALGORITHMS: dict[str, Callable[..., gradients.Gradient]] = {
    "UORO": gradients.uoro,
    "KF-RTRL": gradients.kf_rtrl,
    "OK": gradients.ok,
    f"UORO × {TERMS}": functools.partial(gradients.uoro, samples=TERMS),
    f"KF-RTRL × {TERMS}": functools.partial(gradients.kf_rtrl, samples=TERMS),
    f"OK of rank {TERMS}": functools.partial(gradients.ok, rank=TERMS),
}
RATIOS = (
    ("KF-RTRL", "UORO"),
    ("OK", "KF-RTRL"),
    (f"KF-RTRL × {TERMS}", f"UORO × {TERMS}"),
    (f"OK of rank {TERMS}", f"KF-RTRL × {TERMS}"),
)

DESCRIPTION = f"""\
The variance of the unbiased forward gradients, UORO, KF-RTRL and OK, as Benzing et al. 2019 (arXiv:1902.03993) compare
them: on a network that copies a string of two symbols once it has seen all of it, before training and after.

  variance = E|e - g|²/E|g|²        e the estimate of a random string's gradient, g its exact one; recurrent parameters

for strings of {", ".join(map(str, LENGTHS))} symbols, T = 2 length + 1 steps. Each by itself and with {TERMS} terms:
UORO and KF-RTRL as the mean of {TERMS} independent estimates, OK of rank {TERMS}, which is as many numbers as KF-RTRL
keeps then. Intervals of 95% are by bootstrap over the draws, of the variances, and of the ratios of each method's to
that of the one before.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE}   variance against T, before training and after
  {RESULTS}  arguments, variances and ratios with their intervals
"""


class Interval(NamedTuple):
    """A mean, or a ratio of means, and where 95% of its bootstrap lie."""

    value: float
    low: float
    high: float


class Measured(NamedTuple):
    """Of one network."""

    steps: list[int]  # T
    variance: dict[str, list[Interval]]  # by algorithm
    ratio: dict[str, list[Interval]]  # "A / B"


def copy_task(key: Array, length: int) -> tuple[Array, dict[str, Array]]:
    """A string, the sign to begin, and as many blanks, xs (T, 4); at the blanks the string's symbols are asked for."""
    symbols = jax.random.randint(key, (length,), 0, 2)
    shown = jnp.concatenate([symbols, jnp.array([3]), jnp.full(length, 2)])
    asked = jnp.concatenate([jnp.zeros(length + 1, symbols.dtype), symbols])
    weight = jnp.concatenate([jnp.zeros(length + 1), jnp.full(length, 1 / length)])
    return jax.nn.one_hot(shown, INPUTS), {"symbol": asked, "weight": weight}


@functools.cache
def problem_of(cell_name: str, hidden: int) -> gradients.Problem:
    """A network that says which symbol it is."""
    cell, read = CELLS[cell_name], jr.Linear(hidden, 2)

    def loss(params: Any, state: Any, y: Any) -> Array:
        logits = read.apply(params["out"], cell.output(state))
        return -y["weight"] * jax.nn.log_softmax(logits)[y["symbol"]]

    return gradients.Problem(cell, loss, operator.itemgetter("cell"))


def init(cell_name: str, hidden: int, key: Array) -> tuple[Any, Any]:
    """Its parameters, and a state to begin with."""
    cell, (key_cell, key_out) = CELLS[cell_name], jax.random.split(key)
    params = {"cell": cell.init(key_cell, INPUTS, hidden), "out": jr.Linear(hidden, 2).init(key_out)}
    return params, cell.initial_state(params["cell"])


def trained(problem: gradients.Problem, params: Any, steps: int, key: Array) -> tuple[Any, float]:
    """The parameters after as many updates with the exact gradient, and the last loss."""

    def batches(start: int, stop: int) -> tuple[Array, Any]:
        keys = jax.random.split(jax.random.fold_in(key, start), (stop - start, BATCH))
        return _strings(keys)

    gradient = training.over_sequences(problem, gradients.bptt)
    options = {"key": key, "chunk": CHUNK, "progress": False}
    result = training.fit(gradient, params, optax.adam(LEARNING_RATE), batches, steps, **options)
    _run.raise_if_asked(result.ended)
    return result.state.params, result.history[-1]["loss"]


@jax.jit
def _strings(keys: Array) -> tuple[Array, Any]:
    return jax.vmap(jax.vmap(lambda key: copy_task(key, TRAINED_ON)))(keys)


def measure(
    problem: gradients.Problem, params: Any, state: Any, lengths: tuple[int, ...], draws: int, key: Array
) -> Measured:
    """The variances over the lengths."""
    errors: dict[str, list[np.ndarray]] = {name: [] for name in ALGORITHMS}
    for length in lengths:
        keys = jax.random.split(jax.random.fold_in(key, length), draws)
        for name in ALGORITHMS:
            missed, exact = map(np.asarray, _squares(problem, name, length, params, state, keys))
            errors[name].append(missed / exact.mean())
    rng = np.random.default_rng(0)
    variance = {name: [interval(rng, each) for each in found] for name, found in errors.items()}
    ratio = {f"{a} / {b}": [interval(rng, x, y) for x, y in zip(errors[a], errors[b], strict=True)] for a, b in RATIOS}
    return Measured([2 * length + 1 for length in lengths], variance, ratio)


@functools.partial(jax.jit, static_argnames=("problem", "name", "length"))
def _squares(
    problem: gradients.Problem, name: str, length: int, params: Any, state: Any, keys: Array
) -> tuple[Array, Array]:
    """|e - g|² and |g|² of the recurrent parameters, (draws,), each of a string of its own."""

    def squares(key: Array) -> tuple[Array, Array]:
        key_string, key_signs = jax.random.split(key)
        args = problem, params, state, *copy_task(key_string, length)
        exact = gradients.bptt(*args).grads["cell"]
        estimate = ALGORITHMS[name](*args, key=key_signs).grads["cell"]
        return _square(jax.tree.map(jnp.subtract, estimate, exact)), _square(exact)

    return lax.map(squares, keys, batch_size=CHUNK)


def _square(tree: Any) -> Array:
    return jax.tree.reduce(operator.add, jax.tree.map(lambda a: jnp.sum(a**2), tree))


def interval(rng: np.random.Generator, errors: np.ndarray, others: np.ndarray | None = None) -> Interval:
    """The mean, over that of others if there are any, which are of the same strings: both are resampled alike."""
    others = np.ones_like(errors) if others is None else others
    chosen = rng.integers(len(errors), size=(RESAMPLES, len(errors)))
    low, high = np.quantile(errors[chosen].mean(axis=1) / others[chosen].mean(axis=1), [0.025, 0.975])
    return Interval(float(errors.mean() / others.mean()), float(low), float(high))


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    summary = "how noisy UORO, KF-RTRL and OK are"
    parser = add_parser(subparsers, "variance", summary, DESCRIPTION, EPILOG)
    parser.add_argument("--cell", choices=CELLS, default="lstm", help="default: lstm")
    parser.add_argument("--hidden", type=_run.positive, default=32, metavar="H", help="hidden units (default: 32)")
    parser.add_argument("--longest", type=int, choices=LENGTHS, default=8, help="longest string (default: 8)")
    parser.add_argument(
        "--trained", type=_run.positive, default=300, metavar="N", help="updates of the trained one (default: 300)"
    )
    parser.add_argument(
        "--draws", type=_run.positive, default=1000, metavar="N", help="of each estimate (default: 1000)"
    )
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all that is random (default: 0)")


def check(arguments: argparse.Namespace) -> None:
    """An error if the draws of the algorithm that takes the most, or their bootstrap, would not fit."""
    flags = "--hidden or --draws"
    _memory.check_bytes(flags, arguments.draws * RESAMPLES * _RESAMPLED)

    def initial() -> Any:
        key = jax.random.key(0)
        return *init(arguments.cell, arguments.hidden, key), jax.random.split(key, arguments.draws)

    problem = problem_of(arguments.cell, arguments.hidden)
    call = functools.partial(_squares, problem, f"OK of rank {TERMS}", max(_lengths(arguments)))
    _memory.check(flags, call, *_memory.shapes(flags, initial))


def _lengths(arguments: argparse.Namespace) -> tuple[int, ...]:
    return tuple(length for length in LENGTHS if length <= arguments.longest)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Measure both networks, print, draw; the exit status."""
    key = jax.random.key(arguments.seed)
    problem = problem_of(arguments.cell, arguments.hidden)
    params, state = init(arguments.cell, arguments.hidden, jax.random.fold_in(key, 0))
    lengths = _lengths(arguments)
    learnt, loss = trained(problem, params, arguments.trained, jax.random.fold_in(key, 1))
    names = {"untrained": params, f"after {arguments.trained} updates": learnt}
    measured: dict[str, Measured] = {}
    for name, weights in names.items():
        measured[name] = measure(problem, weights, state, lengths, arguments.draws, jax.random.fold_in(key, 2))
        _tell(name, measured[name])
    print(f"\nloss after {arguments.trained} updates: {loss:.3f}, of guesses {np.log(2):.3f}")
    _run.write_json(folder / RESULTS, {"arguments": vars(arguments), "loss": loss, **_run.rounded(_dicts(measured))})
    with _run.replacing(folder / PICTURE) as path:
        draw(path, f"copying a string: {arguments.cell}, {arguments.hidden} units", measured)
    print(f"\n{folder}: {PICTURE}, {RESULTS}")
    return 0


def _dicts(measured: dict[str, Measured]) -> dict[str, Any]:
    """What the JSON file holds of it."""
    return {name: jax.tree.map(_as_dict, found._asdict(), is_leaf=_is_interval) for name, found in measured.items()}


def _is_interval(node: Any) -> bool:
    return isinstance(node, Interval)


def _as_dict(node: Any) -> Any:
    return node._asdict() if _is_interval(node) else node


def _tell(name: str, measured: Measured) -> None:
    """The table of one network."""
    print(f"\n{name:24}" + "".join(f"{f'T = {steps}':>28}" for steps in measured.steps))
    for label, intervals in (measured.variance | measured.ratio).items():
        print(f"{label:24}" + "".join(f"{_shown(each):>28}" for each in intervals), flush=True)


def _shown(interval: Interval) -> str:
    return f"{interval.value:.2g} ({interval.low:.2g}, {interval.high:.2g})"


def draw(path: pathlib.Path, title: str, measured: dict[str, Measured]) -> None:
    """The variance against T, a panel for each network."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    figure.suptitle(f"{title}; bars: 95% by bootstrap; below {LEAST:g} nothing is drawn")
    for axis, (name, found) in zip(figure.subplots(1, len(measured), sharey=True), measured.items(), strict=True):
        _draw_network(axis, name, found)
    figure.savefig(path, format="png", dpi=100)


def _draw_network(axis: Axes, name: str, measured: Measured) -> None:
    singles = len(measured.variance) // 2
    for index, (label, intervals) in enumerate(measured.variance.items()):
        shown = [(steps, each) for steps, each in zip(measured.steps, intervals, strict=True) if each.value > LEAST]
        values, low, high = (np.array([getattr(each, field) for _, each in shown]) for field in Interval._fields)
        axis.errorbar(
            [steps for steps, _ in shown],
            values,
            yerr=[np.maximum(0, values - low), np.maximum(0, high - values)],
            color=color_of(label.lower().replace("-", "_")),
            linestyle="-" if index < singles else "--",
            marker="o",
            markersize=4,
            capsize=2,
            label=label,
        )
    axis.set(xlabel="T", xscale="log", yscale="log", title=name)
    axis.set_xticks(measured.steps, list(map(str, measured.steps)))
    axis.minorticks_off()
    axis.axhline(1, color="0.6", linewidth=1, linestyle=":")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    axis.set_ylabel("E|e − g|² / E|g|²")
