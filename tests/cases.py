"""The table of network arguments that is checked against torch, and inputs for each case."""

import dataclasses
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import jaxrnn as jr

STEPS, BATCH, FEATURES, HIDDEN, PROJECTED = 5, 3, 3, 5, 2

FACTORS: dict[str, tuple[Any, ...]] = {
    "kind": ("rnn_tanh", "rnn_relu", "gru", "lstm", "lstm_proj"),
    "num_layers": (1, 2, 3),
    "bias": (True, False),
    "batch_first": (False, True),
    "dropout": ("off", "eval", "all"),  # 0; 0.4 in evaluation; 1 in training, which zeroes without chance
    "bidirectional": (False, True),
    "batched": (True, False),
    "state": ("zero", "given"),
    "lengths": ("none", "ragged"),
}
DROPOUT = {"off": 0.0, "eval": 0.4, "all": 1.0}


@dataclasses.dataclass(frozen=True)
class Case:
    """One value for each factor."""

    kind: str
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: str
    bidirectional: bool
    batched: bool
    state: str
    lengths: str

    def __str__(self) -> str:
        flags = [name for name in ("bias", "batch_first", "bidirectional", "batched") if getattr(self, name)]
        words = [self.kind, f"{self.num_layers}", f"dropout_{self.dropout}", f"state_{self.state}", *flags]
        return "-".join(words + (["ragged"] if self.lengths == "ragged" else []))

    @property
    def net(self) -> Any:
        """The network, without torch's and our warning that dropout does nothing in a single layer."""
        options: dict[str, Any] = {name: getattr(self, name) for name in ("num_layers", "bias", "batch_first")}
        options |= {"bidirectional": self.bidirectional, "dropout": DROPOUT[self.dropout]}
        if self.kind.startswith("rnn"):
            make, options["nonlinearity"] = jr.RNN, self.kind.removeprefix("rnn_")
        elif self.kind == "gru":
            make = jr.GRU
        else:
            make, options["proj_size"] = jr.LSTM, PROJECTED if self.kind == "lstm_proj" else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(FEATURES, HIDDEN, **options)

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def state_widths(self) -> dict[str, int]:
        """Features of each state: h, and c of an LSTM."""
        if not self.kind.startswith("lstm"):
            return {"h": HIDDEN}
        return {"h": PROJECTED if self.kind == "lstm_proj" else HIDDEN, "c": HIDDEN}

    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """torch's names and shapes, written from its documentation."""
        gates = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3}.get(self.kind, 4)
        width, shapes = self.state_widths["h"], {}
        for layer, direction in itertools.product(range(self.num_layers), range(self.directions)):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            features = FEATURES if layer == 0 else width * self.directions
            shapes["weight_ih" + suffix] = (gates * HIDDEN, features)
            shapes["weight_hh" + suffix] = (gates * HIDDEN, width)
            if self.bias:
                shapes["bias_ih" + suffix] = shapes["bias_hh" + suffix] = (gates * HIDDEN,)
            if self.kind == "lstm_proj":
                shapes["weight_hr" + suffix] = (PROJECTED, HIDDEN)
        return shapes

    def inputs(self) -> dict[str, Any]:
        """Float64 arrays from a stream that NumPy keeps frozen: params, x, the states (h_0, c_0), lengths, and
        weights of the outputs whose weighted sum is differentiated (output, h_n, c_n)."""
        random = np.random.RandomState(1 + FULL.index(self))
        batch = (BATCH,) if self.batched else ()
        time_major = (STEPS, *batch, FEATURES)
        swap = self.batched and self.batch_first
        x_shape = (BATCH, STEPS, FEATURES) if swap else time_major
        rows = self.num_layers * self.directions
        states = {name: random.normal(size=(rows, *batch, width)) for name, width in self.state_widths.items()}
        return {
            "params": {name: random.uniform(-0.6, 0.6, shape) for name, shape in self.param_shapes().items()},
            "x": random.normal(size=x_shape),
            "states": {name + "_0": value for name, value in states.items()} if self.state == "given" else None,
            "lengths": np.array([2, 5, 3]) if self.lengths == "ragged" else None,
            "weights": {
                "output": random.normal(size=(*x_shape[:-1], self.state_widths["h"] * self.directions)),
                **{name + "_n": random.normal(size=value.shape) for name, value in states.items()},
            },
        }


def _full() -> Iterator[Case]:
    for values in itertools.product(*FACTORS.values()):
        case = Case(*values)
        if case.batched or case.lengths == "none":
            yield case


def triples(case: Case) -> set[tuple[tuple[str, Any], ...]]:
    """All combinations of three factors' values in a case."""
    return set(itertools.combinations(dataclasses.asdict(case).items(), 3))


def _covering(cases: list[Case]) -> list[Case]:
    """Cases that cover all triples, found greedily and without chance."""
    columns: dict[Any, int] = {}
    indices = [[columns.setdefault(triple, len(columns)) for triple in sorted(triples(c), key=str)] for c in cases]
    contains = np.zeros((len(cases), len(columns)))
    for row, present in zip(contains, indices, strict=True):
        row[present] = 1
    missing, chosen = np.ones(len(columns)), []
    while missing.any():
        best = int(np.argmax(contains @ missing))
        chosen.append(cases[best])
        missing[contains[best] == 1] = 0
    return chosen


FULL = list(_full())
TABLE = _covering(FULL)
