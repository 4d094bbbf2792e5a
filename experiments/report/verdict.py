"""What the measurements of a network mean, in words, with what to try."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from jaxrnn import gradients

from .measures import SURVIVES, Measured, Refused

Level = Literal["good", "watch", "bad", "unknown"]

SPIKE = 10.0  # times the median norm of the gradient
SPIKES = 0.01  # of all steps, from which on clipping is worth a try
UNCERTAIN = 2.0  # standard errors
NEGLIGIBLE = 0.1  # nats over a sequence
SLOWER = 0.1  # nats a step
FEW = 10  # states, from which nothing is told of their movement


class Try(NamedTuple):
    """Something that may help: in words, and as code."""

    words: str
    code: str = ""


class Finding(NamedTuple):
    """One of the things that a report says."""

    level: Level
    title: str
    text: str
    tries: tuple[Try, ...] = ()


FLOSS = Try(
    "gradient flossing before and during training: a term of the loss", "remedies.floss(step, params, state, xs, k)"
)
OMEGA = Try("Pascanu's regulariser as a term of the loss", "remedies.omega(problem, params, state, xs, ys)")
CLIP = Try("clipping", "optax.chain(optax.clip_by_global_norm(1.0), optimizer)")
CHRONO = Try("gates that begin open for as long as sequences are", "remedies.chrono(key, params, max_length={steps})")
LONGER = {
    "plain": (
        Try("a gated cell", "jr.gru, jr.lstm"),
        Try("orthogonal recurrent weights at the start", "remedies.orthogonal(key, params)"),
        Try("or throughout", "jr.orthogonal_cell"),
        FLOSS,
        OMEGA,
    ),
    "lstm": (CHRONO, Try("or a forget gate that begins open", "remedies.forget_gate_bias(params)"), FLOSS, OMEGA),
    "gated": (CHRONO, FLOSS, OMEGA),
    "other": (FLOSS, OMEGA, Try("a cell that is made to carry gradients far", "jr.orthogonal_cell, jr.cornn, jr.lstm")),
}
CALMER = {
    "plain": (CLIP, Try("smaller recurrent weights at the start", "remedies.scaled_spectral(params, 0.95)"), FLOSS),
    "lstm": (CLIP, Try("layer normalisation", "jr.layer_norm_lstm"), FLOSS),
    "gated": (CLIP, Try("layer normalisation", "jr.layer_norm_gru"), FLOSS),
    "other": (CLIP, FLOSS),
}


def findings(measured: Measured) -> list[Finding]:
    """All that there is to say, the worst first."""
    order = {"bad": 0, "watch": 1, "good": 2, "unknown": 3}
    says: tuple[Callable[[Measured], Finding | None], ...] = (
        _gradients,
        _exponents,
        _reach,
        _points,
        _activity,
        _course,
    )
    if not math.isfinite(measured.activity.largest):
        says = (_not_finite, _course)
    found = [finding for say in says if (finding := say(measured)) is not None]
    return sorted(found, key=lambda finding: order[finding.level])


def headline(found: list[Finding]) -> str:
    """The verdict in a few sentences: what is amiss, and what is not."""
    amiss, good = (
        " ".join(f"{finding.title}." for finding in found if finding.level in levels)
        for levels in (("bad", "watch"), ("good",))
    )
    if amiss:
        return f"{amiss} On the other hand: {good}" if good else amiss
    return f"Nothing is amiss. {good}" if good else "Nothing could be measured."


def tries(found: list[Finding]) -> list[Try]:
    """What to try, for all findings together, each once."""
    return list(dict.fromkeys(found_try for finding in found for found_try in finding.tries))


def kind(measured: Measured) -> str:
    """Of the cell, as far as advice depends on it."""
    if isinstance(measured.weights, Refused):
        return "other"
    gates = 1 + max(weights.gate for weights in measured.weights)
    return {1: "plain", 4: "lstm"}.get(gates, "gated")


def _tries(table: dict[str, tuple[Try, ...]], measured: Measured) -> tuple[Try, ...]:
    steps = str(measured.subject.steps)
    return tuple(each._replace(code=each.code.replace("{steps}", steps)) for each in table[kind(measured)])


def rate(measured: Measured) -> float:
    """Nats for each step back of |dL_t/ds_k|, the median over sequences; nan if it cannot be told."""
    if isinstance(measured.flows, Refused):
        return math.nan
    return float(np.median([flow.rate for flow in measured.flows]))


def _gradients(measured: Measured) -> Finding:
    if isinstance(measured.flows, Refused):
        return Finding("unknown", "Gradient flow not measured", f"{_sentence(measured.flows.why)}")
    steps, by = measured.subject.steps, rate(measured)
    if math.isnan(by):
        return Finding("unknown", "Gradient flow cannot be told", _sentence(measured.flows[0].sentence()))
    if math.isinf(by):
        text = "No loss has a gradient at any time before its own: nothing that came earlier can be learnt."
        return Finding("bad", "Gradients do not reach back at all", text, _tries(LONGER, measured))
    over = (
        f"On its way back a loss's gradient changes by a factor of {_factor(by)} a step, "
        f"{_factor(by * steps)} over the {steps:,} steps of a sequence (median of {measured.subject.sequences})."
    )
    counts = [flow.verdict for flow in measured.flows]
    verdict = "vanishing" if by < 0 else "exploding"
    if abs(by) * steps <= math.log(10):
        others = len(counts) - counts.count("neither")
        mixed = f" On {others} of the sequences it does change by more than 10." * (others > 0)
        return Finding("good", "Gradients reach back through whole sequences", over + mixed)
    if verdict == "exploding":
        reach = math.ceil(math.log(10) / by)
        text = f"{over} After {_steps(reach)} it is ten times as large: single sequences can throw training off."
        return Finding("bad", "Gradients explode", text, _tries(CALMER, measured))
    reach = _steps(_reaches(measured.flows))
    text = f"{over} A tenth or more of it arrives up to {reach} back: enough for a task that asks for nothing older."
    if not isinstance(measured.spectrum, Refused) and measured.spectrum.exponents[0] > by + SLOWER:
        text += " The state itself forgets more slowly than that, as its exponents say, in directions that the loss "
        text += "does not see."
    if not isinstance(measured.points, Refused) and measured.points.found.stable.sum() > 1:
        text += " By its stable states it can remember all the same; that gradients vanish there is the price."
    return Finding("watch", "Gradients vanish", text, _tries(LONGER, measured))


def _reaches(flows: list[gradients.Flow]) -> int:
    """The most steps k at which |dL_t/ds_{t-k}|, a mean over t and sequences, is a tenth of its largest or more."""
    maps = np.mean([np.nan_to_num(flow.map) for flow in flows], axis=0)
    profile = np.array([np.mean(np.diagonal(maps, -back)) for back in range(len(maps))])
    back = int(np.flatnonzero(profile >= 0.1 * profile.max())[-1])
    return back * int(flows[0].times[1] - flows[0].times[0]) if back else 0


def _exponents(measured: Measured) -> Finding:
    found = measured.spectrum
    if isinstance(found, Refused):
        return Finding("unknown", "Exponents not measured", _sentence(found.why))
    largest, error = float(found.exponents[0]), float(found.standard_errors[0])
    shown = (
        f"The largest Lyapunov exponent is {largest:.4g}" + f" ± {error:.2g}" * math.isfinite(error) + " nats a step"
    )
    if math.isinf(largest):
        text = f"{shown}: after one step nothing of the state before is left."
        return Finding("bad", "The state is forgotten at once", text, _tries(LONGER, measured))
    if not math.isfinite(error):
        text = f"{shown}, over too few steps for a standard error."
        return Finding("watch" if largest > 0 else "good", "Small changes " + ("grow" if largest > 0 else "fade"), text)
    uncertain = max(UNCERTAIN * error, NEGLIGIBLE / measured.subject.steps)
    if not found.warmup:
        title = "Small changes grow along a sequence" if largest > uncertain else "Small changes do not grow"
        text = f"{shown}, over the {found.steps:,} steps from the first state, too few for an attractor."
        return Finding("watch" if largest > uncertain else "good", title, text)
    if largest > uncertain:
        text = (
            f"{shown}: small changes of the state grow e-fold in {1 / largest:.3g} steps, so what comes later depends "
            "on details that no gradient can follow far back."
        )
        return Finding("bad", "The dynamics are chaotic", text, _tries(CALMER, measured))
    if largest >= -uncertain:
        text = f"{shown}, as good as zero: along its slowest direction the state neither forgets nor explodes."
        return Finding("good", "The dynamics are at the edge of chaos", text)
    memory = -1 / largest
    text = f"{shown}: a change of the state fades e-fold in {memory:.3g} steps"
    if memory < measured.subject.steps / 5:
        text += f", much sooner than the {measured.subject.steps:,} steps of a sequence."
        return Finding("watch", "The state forgets", text, _tries(LONGER, measured))
    return Finding("good", "The dynamics are stable and slow", f"{text}.")


def _reach(measured: Measured) -> Finding | None:
    """How many directions survive the longest lag."""
    if isinstance(measured.lags, Refused):
        return Finding("unknown", "Singular values not measured", _sentence(measured.lags.why))
    last, size = measured.lags[-1], measured.activity.size
    if last.lag == 1:
        return None
    text = (
        f"Over {last.lag} steps {last.surviving:.3g} of {size} directions of the state keep {SURVIVES:.0%} of their "
        f"length or more; the strongest is multiplied by {last.largest:.3g}."
    )
    if last.largest > 1 / SURVIVES:
        return Finding("watch", "Some directions grow", text, _tries(CALMER, measured))
    if last.surviving < 1:
        return Finding("watch", "No direction is kept", text, _tries(LONGER, measured))
    return Finding("good", "Some directions are kept", text)


def _points(measured: Measured) -> Finding:
    points = measured.points
    if isinstance(points, Refused):
        return Finding("unknown", "Fixed points not sought", _sentence(points.why))
    found = points.found
    text = f"With the input held at {points.held}: {found.sentence()}."
    stable, counts = int(found.stable.sum()), found.counts
    if 2 * counts.sum() < len(found.of_candidates):
        return Finding("unknown", "Fixed points are not settled", f"{text} Most candidates came to none.")
    if 2 * counts[~found.is_fixed].sum() > counts.sum():
        return Finding(
            "good", "The state drifts slowly", f"{text} Along slow points a quantity can be kept for a while."
        )
    if stable > 1:
        return Finding("good", f"The state can rest in {stable} places", f"{text} Each is something it can remember.")
    if stable == 1:
        return Finding("watch", "There is one place to rest", f"{text} Without changing input all memory ends there.")
    return Finding("watch", "There is no stable fixed point", f"{text} The state cycles, wanders, or moves on.")


def _not_finite(measured: Measured) -> Finding:
    why = measured.spectrum.why if isinstance(measured.spectrum, Refused) else "the states are not finite"
    return Finding("bad", "The states are not finite", _sentence(why), _tries(CALMER, measured))


def _activity(measured: Measured) -> Finding | None:
    activity = measured.activity
    if activity.still == 0 or measured.subject.sequences * measured.subject.steps < FEW:
        return None
    text = f"{activity.still} of {activity.size} numbers of the state hardly ever move on these sequences."
    level: Level = "bad" if activity.still == activity.size else "watch"
    return Finding(
        level, "Some units are silent", text, (Try("a smaller network, another initialisation or learning rate"),)
    )


def _course(measured: Measured) -> Finding | None:
    """Of training: gradients that stand out from those around them."""
    norms = np.array([row["grad_norm"] for row in measured.subject.history if row.get("grad_norm") is not None], float)
    width = max(20, len(norms) // 50)
    if len(norms) < width:
        return None
    whole = norms[: len(norms) // width * width].reshape(-1, width)
    spikes = int(np.sum(whole > SPIKE * np.median(whole, axis=1, keepdims=True)))
    text = f"In training the gradient's norm had a median of {np.median(norms):.3g} and reached {norms.max():.3g}"
    clipped = sum(bool(row.get("clipped")) for row in measured.subject.history)
    text += f" ({clipped:,} of {len(norms):,} steps were clipped)" * (clipped > 0)
    if spikes > SPIKES * whole.size:
        text += f"; at {spikes:,} of {whole.size:,} steps it was more than {SPIKE:g} times the median of those around."
        return Finding("watch", "Gradients spiked in training", text, (CLIP,))
    return Finding("good", "Gradients were even in training", f"{text}, without spikes.")


def _steps(count: int) -> str:
    return f"{count:,} step{'s' * (count != 1)}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." * (not text.endswith("."))


def _factor(exponent: float) -> str:
    """e to it, which may be beyond what a float holds."""
    return f"{math.exp(exponent):.3g}" if abs(exponent) < 700 else f"10^{exponent / math.log(10):.0f}"
