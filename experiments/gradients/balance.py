"""`python -m experiments.gradients balance`: where truncated gradients have the wrong sign."""

import argparse
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrnn import gradients, training

from .. import _ensemble, _memory, _run
from .._command import Subparsers, add_parser

PICTURE = "balance.png"
RESULTS = "balance.json"
FILES = (PICTURE, RESULTS)
UNITS = 23
POSITIVE = 10
NEGATIVE = UNITS - POSITIVE
AT_REST = 2 * (POSITIVE - NEGATIVE)  # dh¹/dθ
TARGET = 1.0
STILL = 20_000  # steps over whose second half gradients at θ = 0 are averaged
DECAY = 10_000.0  # steps
CHUNK = 1000  # steps a compiled call

_ROW, _NUMBER = 700, 100  # bytes that are kept of a step, and of each key in it: rows of `fit` and arrays made of them

DESCRIPTION = f"""\
Influence balancing: a task where the short-term gradient points away from the long-term one (Tallec and Ollivier 2017).

  h_t = A h_{{t-1}} + θ (1 … 1, -1 … -1)        A = I/2 + shift/2: a half on the diagonal and just above it
  loss_t = ½ (h¹_t - {TARGET:g})²

θ drives {POSITIVE} units up and, behind them, {NEGATIVE} down; what a unit holds travels towards unit 1.
There θ arrives first from the {POSITIVE}: k steps back, dh¹/dθ is +k for k up to {POSITIVE}. In the end it is
2 ({POSITIVE} - {NEGATIVE}) = {AT_REST}. So truncated back-propagation has the wrong sign and makes the loss grow,
unless it goes far back; real-time recurrent learning (RTRL) and its unbiased estimate (UORO) learn
θ = {TARGET / AT_REST:.4f}. All begin at θ = 0 and take a step of gradient descent at each time, with
learning rate R/√(1 + t/{DECAY:,g}).
"""

EPILOG = f"""\
files in DIR:
  {PICTURE}   loss over the steps, of UORO the median over the keys and its middle half
  {RESULTS}  arguments, each method's gradient at the start, its last θ, and its loss at 200 steps
"""


class Learnt(NamedTuple):
    """What became of one method, over the keys if it draws any."""

    gradient: float  # at θ = 0, after a long time, mean over time and keys
    standard_error: float | None  # of that, where there are several keys
    theta: list[float]  # the last, of each key
    losses: np.ndarray  # (keys, steps)


def step(theta: Array, h: Array, x: Any) -> Array:
    """The next h (23,), of a scalar θ."""
    del x
    return 0.5 * h + 0.5 * jnp.append(h[1:], jnp.zeros((), h.dtype)) + theta * _signs(h.dtype)


def _signs(dtype: Any) -> Array:
    return jnp.where(jnp.arange(UNITS) < POSITIVE, jnp.ones((), dtype), -jnp.ones((), dtype))


def loss(theta: Array, h: Array, y: Any) -> Array:
    """Of unit 1."""
    del theta, y
    return 0.5 * (h[0] - TARGET) ** 2


PROBLEM = gradients.Problem(step, loss)


def influence(steps: int | None = None) -> float:
    """dh¹/dθ as seen this many steps back; all of it without a number.

    Σ_{j<k} e₁ᵀ Aʲ (1 … 1, -1 … -1)        in all 2 (positive - negative): h_i = h_{i+1} + 2 (±θ) at rest
    """
    signs = np.where(np.arange(UNITS) < POSITIVE, 1.0, -1.0)
    if steps is None:
        return 2 * float(signs.sum())
    matrix, row, total = (np.eye(UNITS) + np.eye(UNITS, k=1)) / 2, np.eye(UNITS)[0], 0.0
    for _ in range(steps):
        total, row = total + row @ signs, row @ matrix
    return float(total)


def learners(truncations: list[int]) -> dict[str, gradients.Learner]:
    """The methods by their names."""
    truncated = {f"TBPTT({k})": gradients.online.tbptt(PROBLEM, k1=1, k2=k) for k in truncations}
    return {**truncated, "RTRL": gradients.online.rtrl(PROBLEM), "UORO": gradients.online.uoro(PROBLEM)}


@dataclasses.dataclass(frozen=True)
class Logged:
    """A learner's gradient, which is a metric too."""

    stream: training.StepGradient

    def __call__(self, params: Array, carry: Any, batch: Any, key: Array) -> Any:
        """The same, for one key."""
        (value, (carry, metrics)), grads = self.stream.function(params, carry, batch, key)
        return (value, (carry, {**metrics, "gradient": grads})), grads


def learn(learner: gradients.Learner, steps: int, rate: float, keys: Array) -> Learnt:
    """Gradient descent at every step, from θ = 0 and h = 0, once for each key."""
    found = _descend(learner, STILL, 0.0, keys).gradients[:, STILL // 2 :].mean(axis=1)
    error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else None
    theta, losses, _ = _descend(learner, steps, rate, keys)
    return Learnt(float(found.mean()), error, theta.tolist(), losses)


class Descent(NamedTuple):
    """Of each key; after a step that is not finite there are no more, and what is missing is infinite."""

    theta: np.ndarray  # (keys,), the last
    losses: np.ndarray  # (keys, steps)
    gradients: np.ndarray  # (keys, steps)


def _descend(learner: gradients.Learner, steps: int, rate: float, keys: Array) -> Descent:
    stream = training.over_streams(learner)
    theta, h, x = jnp.zeros(len(keys)), jnp.zeros((len(keys), 1, UNITS)), jnp.zeros((len(keys), 1))
    try:
        result = training.fit(
            _ensemble.gradient(Logged(stream)),
            theta,
            optax.sgd(functools.partial(_rate_at, rate)),
            lambda start, stop: (np.zeros((stop - start, len(keys), 1, 1)), np.zeros((stop - start, len(keys), 1, 1))),
            steps,
            carry=jax.vmap(stream.init)(theta, h, x, keys),
            chunk=CHUNK,
            progress=False,
        )
    except training.NonFiniteLossError as error:
        result = error.result
    _run.raise_if_asked(result.ended)
    losses, found = (np.full((len(keys), steps), np.inf) for _ in range(2))
    for array, name in ((losses, "losses"), (found, "gradient")):
        rows = np.array([row[name] for row in result.history]).reshape(-1, len(keys))
        array[:, : len(rows)] = rows.T
    return Descent(np.asarray(result.state.params), losses, found)


def _rate_at(rate: float, step: ArrayLike) -> Array:
    return rate / jnp.sqrt(1 + jnp.asarray(step) / DECAY)


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(
        subparsers,
        "balance",
        "influence balancing: short truncation learns the wrong way, RTRL and UORO learn",
        DESCRIPTION,
        EPILOG,
    )
    fit = parser.add_argument_group("training")
    fit.add_argument(
        "--truncations",
        nargs="+",
        type=_run.positive,
        default=[1, 10, 100],
        metavar="K",
        help="steps that TBPTT goes back (default: 1 10 100)",
    )
    fit.add_argument("--steps", type=_run.positive, default=50_000, metavar="N", help="default: 50000")
    fit.add_argument(
        "--lr", type=_run.above_zero, default=1e-5, metavar="R", help="the first learning rate (default: 0.00001)"
    )
    fit.add_argument("--keys", type=_run.positive, default=9, metavar="N", help="runs of UORO (default: 9)")
    fit.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="that the keys come from (default: 0)")


def check(arguments: argparse.Namespace) -> None:
    """An error if the learners, or what is noted of each step, would not fit."""
    flags = "--truncations, --steps or --keys"
    for name, learner in learners(arguments.truncations).items():
        keys = arguments.keys if name == "UORO" else 1
        _memory.check_bytes(flags, max(arguments.steps, STILL) * (_ROW + keys * _NUMBER))
        stream = training.over_streams(learner)

        def initial(stream: training.StepGradient = stream, keys: int = keys) -> Any:
            theta, h, x = jnp.zeros(keys), jnp.zeros((keys, 1, UNITS)), jnp.zeros((keys, 1))
            carry = jax.vmap(stream.init)(theta, h, x, jax.random.split(jax.random.key(0), keys))
            return theta, carry, (jnp.zeros((keys, 1, 1)), jnp.zeros((keys, 1, 1)))

        _memory.check_training(flags, _ensemble.gradient(Logged(stream)), optax.sgd(1.0), initial)


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Learn by every method; the exit status."""
    keys = jax.random.split(jax.random.key(arguments.seed), arguments.keys)
    exact = -TARGET * influence()  # (h¹ - target) dh¹/dθ at h = 0
    print(f"exact gradient at θ = 0: {exact:+.2f}; learnt, θ is {TARGET / influence():.4f} and the loss 0")
    learnt: dict[str, Learnt] = {}
    for name, learner in learners(arguments.truncations).items():
        learnt[name] = learn(learner, arguments.steps, arguments.lr, keys if name == "UORO" else keys[:1])
        print(_report(name, learnt[name], exact), flush=True)
    _run.write_json(folder / RESULTS, _results(arguments, exact, learnt))
    with _run.replacing(folder / PICTURE) as path:
        draw(path, learnt, exact)
    print(f"\n{folder}: {PICTURE}, {RESULTS}")
    return 0


def _report(name: str, learnt: Learnt, exact: float) -> str:
    sign = "right" if learnt.gradient * exact > 0 else "WRONG"
    first, last = (np.median(learnt.losses[:, index]) for index in (0, -1))
    outcome = "grows to" if not last <= first else "falls to"
    error = "" if learnt.standard_error is None else f" ± {learnt.standard_error:.2f}"
    return (
        f"{name:11} gradient {learnt.gradient:+.2f}{error}, {sign} sign; the loss {outcome} {last:.1e} from {first:.1e}"
    )


def _results(arguments: argparse.Namespace, exact: float, learnt: dict[str, Learnt]) -> dict[str, Any]:
    """What the JSON file holds."""
    shown = np.unique(np.linspace(0, arguments.steps - 1, 200).astype(int))
    return {
        "arguments": vars(arguments),
        "exact_gradient": exact,
        "exact_theta": TARGET / influence(),
        "steps": shown.tolist(),
        "methods": {
            name: {
                "gradient": found.gradient,
                "gradient_standard_error": found.standard_error,
                "theta": found.theta,
                "losses": found.losses[:, shown].tolist(),
            }
            for name, found in learnt.items()
        },
    }


def draw(path: pathlib.Path, learnt: dict[str, Learnt], exact: float) -> None:
    """The loss of each method over the steps, and its gradient at the start beside the exact one."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    figure.suptitle(f"influence balancing, {UNITS} units, {POSITIVE} driven up by θ")
    losses, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    for index, (name, found) in enumerate(learnt.items()):
        _draw_losses(losses, name, found.losses, f"C{index}")
        bars.barh(index, found.gradient, xerr=found.standard_error, color=f"C{index}")
    losses.set(xlabel="step", ylabel="½ (h¹ − 1)²", yscale="log", ylim=(1e-7, 1e6), title="loss")
    losses.grid(alpha=0.3)
    losses.legend(fontsize="small")
    bars.axvline(exact, color="black", linestyle="--", linewidth=1, label=f"exact, {exact:+g}")
    bars.axvline(0, color="black", linewidth=1)
    bars.set(xlabel="dloss/dθ", title="gradient at θ = 0", ylim=(len(learnt) - 0.4, -0.6))
    bars.set_yticks(range(len(learnt)), list(learnt))
    bars.legend(fontsize="small")
    figure.savefig(path, format="png", dpi=100)


def _draw_losses(axis: Axes, name: str, losses: np.ndarray, color: str) -> None:
    steps = np.arange(1, losses.shape[1] + 1)
    finite = np.where(np.isfinite(losses), losses, np.finfo(np.float32).max)
    low, middle, high = np.quantile(finite, [0.25, 0.5, 0.75], axis=0)
    axis.plot(steps, middle, "--" if name == "RTRL" else "-", color=color, label=name)  # RTRL lies on long truncation
    if len(losses) > 1:
        axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
