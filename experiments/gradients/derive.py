"""The gradients of a recurrent network by hand, as sums over time, next to what `jax.grad` finds.

h_t = tanh(U x_t + W h_{t-1} + b)        y_t = softmax(V h_t + c)        L = Σ_t L_t

∂L_t/∂V = e_t h_tᵀ        ∂L_t/∂c = e_t        e_t = ∂L_t/∂(V h_t + c)

∂L_t/∂W = Σ_s a_ts h_{s-1}ᵀ        ∂L_t/∂U = Σ_s a_ts x_sᵀ        ∂L_t/∂b = Σ_s a_ts        s = 1 … t

a_ts = D_s Wᵀ D_{s+1} … Wᵀ D_t Vᵀ e_t        D_s = diag(1 - h_s²)
"""

import argparse
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import jaxrnn as jr

from .. import _memory, _run
from .._command import Subparsers, add_parser

PICTURE = "derive.png"
RESULTS = "derive.json"
FILES = (PICTURE, RESULTS)
TOLERANCE = 1e-12  # of a gradient's largest element, in float64
WIDTH = 120  # of what is printed
PRINTED = 60  # numbers of all steps' matrices: where there are more, they are in the JSON alone

LOSSES = {"cross-entropy": "L_t = -Σ y′_t log y_t", "squared": "L_t = ½ |y_t - y′_t|²"}

DESCRIPTION = """\
Derive the gradients of a recurrent network by hand, term by term, and compare them with jax.grad.

  h_t = tanh(U x_t + W h_{t-1} + b)    y_t = softmax(V h_t + c)    L = Σ_t L_t    t = 1 ... T    h_0 = 0

for two losses, L_t = -Σ y′_t log y_t and L_t = ½ |y_t - y′_t|². V and c act on the loss at t at that time alone:

  ∂L_t/∂V = e_t h_tᵀ    ∂L_t/∂c = e_t    e_t = ∂L_t/∂(V h_t + c)

U, W and b act at every step s <= t, and there they contribute

  to ∂L_t/∂U  a_ts x_sᵀ    to ∂L_t/∂W  a_ts h_{s-1}ᵀ    to ∂L_t/∂b  a_ts

  a_ts = D_s Wᵀ D_{s+1} ... Wᵀ D_t Vᵀ e_t    D_s = diag(1 - h_s²)

Every W and D between s and t makes a term smaller or larger: so gradients vanish or explode. The terms come from NumPy
loops in float64; weights, inputs and targets are random.
"""

EPILOG = f"""\
files in DIR:
  {PICTURE}   how large each term is, by the time of the loss t and the step s it came from
  {RESULTS}  arguments, and for both losses the terms' norms, the sums and how far they are from jax.grad

The exit status is 1 if a sum is further from jax.grad than {TOLERANCE:g} of its largest element.
"""


class Weights(NamedTuple):
    """Under the names of the equations."""

    U: Any  # (H, I)
    W: Any  # (H, H)
    V: Any  # (O, H)
    b: Any  # (H,)
    c: Any  # (O,)


class Derivation(NamedTuple):
    """What one loss gives."""

    terms: Weights  # (T, T, ...) of U, W and b, by t and s; (T, ...) of V and c, by t
    by_jax: Weights
    deviation: dict[str, float]  # of the sum of the terms from jax.grad, in units of its largest element

    def totals(self) -> Weights:
        """The terms' sums over time: the gradients."""
        axes = Weights(U=(0, 1), W=(0, 1), V=0, b=(0, 1), c=0)
        return Weights(*(np.sum(term, axis=axis) for term, axis in zip(self.terms, axes, strict=True)))

    def norms(self) -> Weights:
        """Each term's Frobenius norm, (T, T) or (T,)."""
        axes = Weights(U=(2, 3), W=(2, 3), V=(1, 2), b=2, c=1)
        return Weights(*(np.linalg.norm(term, axis=axis) for term, axis in zip(self.terms, axes, strict=True)))


def add(subparsers: Subparsers) -> None:
    """Its parser."""
    parser = add_parser(
        subparsers, "derive", "hand-derived gradients, term by term, next to jax.grad", DESCRIPTION, EPILOG
    )
    sizes = parser.add_argument_group("sizes")
    for name, default, what in (("steps", 4, "T"), ("inputs", 2, "I"), ("hidden", 3, "H"), ("outputs", 2, "O")):
        sizes.add_argument(
            f"--{name}", type=_run.positive, default=default, metavar=what, help=f"{what} (default: {default})"
        )
    sizes.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of all numbers (default: 0)")


def check(arguments: argparse.Namespace) -> None:
    """An error if the terms would not fit."""
    _memory.check_bytes("--steps, --inputs, --hidden or --outputs", _bytes(arguments))


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Derive, print, draw; the exit status."""
    weights, xs, targets = make_problem(arguments)
    found = {loss: derive(loss, weights, xs, targets) for loss in LOSSES}
    _run.write_json(
        folder / RESULTS,
        {"arguments": vars(arguments), "losses": {loss: _as_json(derivation) for loss, derivation in found.items()}},
    )
    with _run.replacing(folder / PICTURE) as path:
        _draw(path, found)
    for loss, derivation in found.items():
        print(_report(loss, derivation))
    print(f"{folder}: {PICTURE}, {RESULTS}")
    for loss, derivation in found.items():
        wrong = [name for name, deviation in derivation.deviation.items() if not deviation <= TOLERANCE]
        if wrong:
            raise _run.RunError(f"with the loss {loss}, the sums for {', '.join(wrong)} are not what jax.grad finds")
    return 0


def _bytes(arguments: argparse.Namespace) -> int:
    """What the terms take, as arrays and for the JSON file as lists."""
    steps, inputs, hidden, outputs = (getattr(arguments, name) for name in ("steps", "inputs", "hidden", "outputs"))
    numbers = steps**2 * hidden * (inputs + hidden + 1) + steps * outputs * (hidden + 1)
    return len(LOSSES) * numbers * (8 + 32) + 3 * 8 * outputs**2  # and the softmax's Jacobian


def make_problem(arguments: argparse.Namespace) -> tuple[Weights, np.ndarray, np.ndarray]:
    """Weights, xs (T, I), and targets (T, O) that are one-hot."""
    rng = np.random.default_rng(arguments.seed)
    inputs, hidden, outputs, steps = arguments.inputs, arguments.hidden, arguments.outputs, arguments.steps
    shapes = Weights(U=(hidden, inputs), W=(hidden, hidden), V=(outputs, hidden), b=(hidden,), c=(outputs,))
    weights = Weights(*(rng.normal(0, shape[-1] ** -0.5, shape) for shape in shapes))
    return weights, rng.normal(size=(steps, inputs)), np.eye(outputs)[rng.integers(outputs, size=steps)]


def derive(loss: str, weights: Weights, xs: np.ndarray, targets: np.ndarray) -> Derivation:
    """All terms, and how far their sums are from jax.grad."""
    with jax.enable_x64(True):
        by_jax = Weights(*map(np.asarray, jax.grad(total_loss, argnums=1)(loss, weights, xs, targets)))
    derivation = Derivation(_terms(loss, weights, xs, targets), by_jax, {})
    for name, ours, theirs in zip(Weights._fields, derivation.totals(), by_jax, strict=True):
        derivation.deviation[name] = float(np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1))
    return derivation


def total_loss(loss: str, weights: Weights, xs: Any, targets: Any) -> jax.Array:
    """L by the library, for jax.grad."""
    U, W, V, b, c = map(jnp.asarray, weights)  # noqa: N806
    params = jr.rnn.init(jax.random.key(0), U.shape[1], U.shape[0], dtype=U.dtype)
    params = params._replace(weight_ih=U, weight_hh=W, bias_ih=b, bias_hh=jnp.zeros_like(b))
    _, hs = jr.unroll(jr.rnn, params, jnp.asarray(xs))
    logits = hs @ V.T + c
    if loss == "cross-entropy":
        return -jnp.sum(targets * jax.nn.log_softmax(logits))
    return 0.5 * jnp.sum((jax.nn.softmax(logits) - targets) ** 2)


def _terms(loss: str, weights: Weights, xs: np.ndarray, targets: np.ndarray) -> Weights:
    """The equations, as loops: term [t, s] of U, W and b is what step s gives to the gradient of L_t."""
    hs = _states(weights, xs)  # h_0 … h_T, so that hs[t + 1] follows xs[t]
    steps = len(xs)
    terms = Weights(*(np.zeros((steps, steps, *a.shape)) for a in weights))
    terms = terms._replace(V=terms.V[0], c=terms.c[0])
    for t in range(steps):
        e = _output_error(loss, weights, hs[t + 1], targets[t])
        terms.V[t], terms.c[t] = np.outer(e, hs[t + 1]), e
        through = weights.V.T @ e
        for s in range(t, -1, -1):
            a = (1 - hs[s + 1] ** 2) * through
            terms.U[t, s], terms.W[t, s], terms.b[t, s] = np.outer(a, xs[s]), np.outer(a, hs[s]), a
            through = weights.W.T @ a
    return terms


def _states(weights: Weights, xs: np.ndarray) -> list[np.ndarray]:
    hs = [np.zeros(len(weights.b))]
    for x in xs:
        hs.append(np.tanh(weights.U @ x + weights.W @ hs[-1] + weights.b))
    return hs


def _output_error(loss: str, weights: Weights, h: np.ndarray, target: np.ndarray) -> np.ndarray:
    """e_t: through the softmax, whose Jacobian is diag(y) - y yᵀ."""
    powers = np.exp(weights.V @ h + weights.c)
    y = powers / powers.sum()
    return y - target if loss == "cross-entropy" else (np.diag(y) - np.outer(y, y)) @ (y - target)


def _as_json(derivation: Derivation) -> dict[str, Any]:
    def lists(weights: Weights) -> dict[str, Any]:
        return {name: a.tolist() for name, a in weights._asdict().items()}

    return {
        "term_norms": lists(derivation.norms()),
        "terms": lists(derivation.terms),
        "sums": lists(derivation.totals()),
        "jax_grad": lists(derivation.by_jax),
        "deviation": derivation.deviation,
    }


def _report(loss: str, derivation: Derivation) -> str:
    """The terms of every gradient, their sum and jax.grad's."""
    blocks = [f"=== {loss}: {LOSSES[loss]}"]
    for name in Weights._fields:
        norms = getattr(derivation.norms(), name)
        blocks += [f"∂L/∂{name}", _triangle(norms) if norms.ndim == 2 else _row(norms)]
        if len(norms) * getattr(derivation.by_jax, name).size <= PRINTED:
            blocks.append(_matrices(derivation, name))
        blocks.append(f"  furthest from jax.grad: {derivation.deviation[name]:.1e} of its largest element\n")
    return "\n".join(blocks)


def _triangle(norms: np.ndarray) -> str:
    """Norms by t and s."""
    lines = [_line("norms of the terms", [f"s={s}" for s in range(1, len(norms) + 1)])]
    lines += [_line(f"from L_{t + 1}", [f"{norm:.2e}" for norm in row[: t + 1]]) for t, row in enumerate(norms)]
    return _if_it_fits(lines)


def _row(norms: np.ndarray) -> str:
    """Norms by t."""
    times = [f"t={t}" for t in range(1, len(norms) + 1)]
    return _if_it_fits([_line("norms of the terms", times), _line("", [f"{norm:.2e}" for norm in norms])])


def _line(title: str, entries: list[str]) -> str:
    return f"  {title:>18}" + "".join(f"{entry:>10}" for entry in entries)


def _if_it_fits(lines: list[str]) -> str:
    return (
        "\n".join(lines) if max(map(len, lines)) <= WIDTH else f"  norms of the terms: too many to print, in {RESULTS}"
    )


def _matrices(derivation: Derivation, name: str) -> str:
    """What each step contributes, over all t, and the sum: side by side, as many as fit."""
    terms, total = getattr(derivation.terms, name), getattr(derivation.totals(), name)
    by_step, index = (terms.sum(axis=0), "s") if name in ("U", "W", "b") else (terms, "t")
    columns = [_cells(f"{index}={step}", a) for step, a in enumerate(by_step, start=1)]
    columns += [_cells("sum", total), _cells("jax.grad", getattr(derivation.by_jax, name))]
    together = max(1, WIDTH // (len(columns[0][0]) + 3))
    lines = []
    for first in range(0, len(columns), together):
        lines += ["   ".join(["", *row]) for row in zip(*columns[first : first + together], strict=True)]
    return "\n".join(lines)


def _cells(title: str, a: np.ndarray) -> list[str]:
    """A matrix, or a vector as a column, under its title."""
    rows = ["".join(f"{value:8.4f}" for value in row) for row in np.reshape(a, (len(a), -1))]
    return [f"{title:>{len(rows[0])}}", *rows]


def _draw(path: pathlib.Path, found: dict[str, Derivation]) -> None:
    """For each loss: the norms of the terms of U, W and b as triangles, and of V and c as lines."""
    figure = Figure(figsize=(13, 0.6 + 3.2 * len(found)), layout="constrained")
    figure.suptitle("norm of each term of the gradient: what step s contributes to the gradient of the loss at t")
    rows = figure.subplots(len(found), 4, squeeze=False)
    for (loss, derivation), row in zip(found.items(), rows, strict=True):
        norms = derivation.norms()
        _draw_triangles(figure, row[:3], loss, {name: getattr(norms, name) for name in ("U", "W", "b")})
        for name in ("V", "c"):
            row[3].plot(np.arange(1, len(norms.V) + 1), getattr(norms, name), "o-", label=f"∂L/∂{name}")
        row[3].set(title=f"∂L/∂V, ∂L/∂c, {loss}", xlabel="loss at t", ylabel="norm", ylim=(0, None))
        row[3].legend(fontsize="small")
        row[3].grid(alpha=0.3)
        row[3].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, format="png", dpi=100)


def _draw_triangles(figure: Figure, axes: np.ndarray, loss: str, norms: dict[str, np.ndarray]) -> None:
    """One colour scale for the three, of a decade at least."""
    positive = np.concatenate([a[a > 0] for a in norms.values()])
    least = positive.min() if positive.size else 0.1
    scale = LogNorm(least, positive.max(initial=10 * least))
    for axis, (name, values) in zip(axes, norms.items(), strict=True):
        axis.imshow(np.where(values > 0, values, np.nan), norm=scale, extent=_from_one(len(values)))
        axis.set(title=f"∂L/∂{name}, {loss}", xlabel="step s", ylabel="loss at t")
        _whole_numbers(axis)
    figure.colorbar(ScalarMappable(scale), ax=axes[-1], label="norm of the term")


def _from_one(steps: int) -> tuple[float, float, float, float]:
    return (0.5, steps + 0.5, steps + 0.5, 0.5)


def _whole_numbers(axis: Axes) -> None:
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(integer=True))
