"""The networks of a run that an experiment left, each with sequences of its own task."""

import functools
import itertools
import json
import operator
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn as jr
from jaxrnn import training

from .. import _run
from ..charlm import gradient as charlm_gradient
from ..charlm.train import Config, corpus_of
from ..charlm.train import load as load_charlm
from ..digits import data as digits_data
from ..digits import model as digits_model
from ..digits.train import BATCH as DIGITS_BATCH
from ..digits.train import optimizer as digits_optimizer
from ..dynamics import fixedpoints, flip_flop
from ..dynamics import training as over_training
from ..hello.model import FORMS, LAYERS, EmbeddedNetwork, Model, OneHotCell
from ..hello.words import Words
from ..sine import data as sine_data
from ..sine.model import CELLS, Forecaster, mse
from ..sine.train import RECIPES
from ..sine.train import optimizer as sine_optimizer
from .subject import Subject

SEQUENCES = 8  # at most, of each task


def subjects(folder: pathlib.Path) -> list[Subject]:
    """All networks of a run: its own checkpoint, or those of its subfolders.

    Raises:
      UserError: there is none, or it is of no experiment that reports are made on.
      CheckpointError: one is damaged.
    """
    folders = (
        [folder] if _holds_checkpoint(folder) else sorted(path for path in folder.iterdir() if _holds_checkpoint(path))
    )
    if not folders:
        raise _run.UserError(f"{folder} holds no checkpoint of a trained network, as runs of {_known()} leave them")
    found = []
    for path in folders:
        run = training.RunFolder(path)
        config = run.saved_config()
        kind = str(config.get("experiment", "another program"))
        if kind not in READERS:
            raise _run.UserError(f"{path} holds a run of {kind}, expected one of {_known()}; or give a Python file")
        try:
            found += READERS[kind](run, config)
        except KeyError as error:
            raise _run.UserError(f"{path} holds a run of an older version, without {error}: train it again") from error
    return found


def _holds_checkpoint(path: pathlib.Path) -> bool:
    checkpoints = path / "checkpoints"
    return checkpoints.is_dir() and any(checkpoints.iterdir())


def _known() -> str:
    return ", ".join(READERS)


def _history(run: training.RunFolder) -> tuple[dict[str, Any], ...]:
    """The rows of steps, without those of evaluations."""
    if not run.metrics.exists():
        return ()
    rows = map(json.loads, run.metrics.read_text(encoding="utf-8").splitlines())
    return tuple(row for row in rows if "grad_norm" in row)


def _load(
    run: training.RunFolder, init: Callable[[], Any], optimizer: Any, carry: Callable[[Any], Any] = lambda params: None
) -> Any:
    """The parameters of the newest checkpoint; `carry` is of the parameters."""

    def initial() -> training.TrainState:
        params = init()
        return training.initial_state(params, optimizer, carry(params))

    return run.load(jax.eval_shape(initial)).params


def _sine(run: training.RunFolder, config: dict[str, Any]) -> list[Subject]:
    windows, what = _sine_windows(run, config)
    model = Forecaster(config["cell"], config["hidden"], config["layers"], windows.shape[-1])
    keys = jax.random.split(jax.random.key(0), config["seeds"])

    def init() -> Any:
        return dict.fromkeys(RECIPES, jax.vmap(model.init)(keys))

    def carry(params: Any) -> Any:
        return {recipe: jax.vmap(lambda of: model.cell.initial_state(of["rnn"]))(params[recipe]) for recipe in RECIPES}

    params = _load(run, init, sine_optimizer(config["steps"]), carry)
    rows = _history(run)

    def loss(params: Any, state: Any, y: Any) -> Any:
        return mse(model.linear.apply(params["linear"], model.cell.output(state)), y) / (windows.shape[1] - 1)

    def subject(recipe: str, index: int) -> Subject:
        own = jax.tree.map(lambda a: a[index], params[recipe])
        seed = f", seed {config['seed'] + index}" * (config["seeds"] > 1)
        return Subject(
            recipe + seed,
            f"sine, {RECIPES[recipe]}: {_layers(config['cell'], config['hidden'], config['layers'])}",
            model.cell,
            own,
            operator.itemgetter("rnn"),
            model.cell.initial_state(own["rnn"]),
            what,
            jnp.asarray(windows[:, :-1]),
            jnp.asarray(windows[:, 1:]),
            loss,
            history=_of_member(rows, recipe, index),
        )

    return [subject(recipe, index) for recipe in RECIPES for index in range(config["seeds"])]


def _of_member(rows: tuple[dict[str, Any], ...], name: str, index: int) -> tuple[dict[str, Any], ...]:
    """The losses of one of several networks trained side by side; the norm of the gradient is of all together."""
    return tuple({"step": row["step"], "loss": row[name][index]} for row in rows)


def _sine_windows(run: training.RunFolder, config: dict[str, Any]) -> tuple[np.ndarray, str]:
    if "column" not in config:
        return sine_data.sine_windows().data, "the sine waves it was trained on, from a zero state"
    notes = run.saved_notes()
    series = sine_data.read_series(notes["csv"], tuple(config["column"]), notes["horizon"], notes["delimiter"])
    return sine_data.series_windows(series).data[-SEQUENCES:], "the last windows it was trained on, from a zero state"


def _layers(cell: str, hidden: int, layers: int) -> str:
    return f"{cell}, {hidden} units" + f" in each of {layers} layers" * (layers > 1)


def _hello(run: training.RunFolder, config: dict[str, Any]) -> list[Subject]:
    words = Words(config["source"], config["target"])
    form = FORMS[config["form"]]
    model = form.model(len(words.vocabulary))
    params = _load(run, lambda: model.init(jax.random.key(0)), form.optimizer)
    embedded = isinstance(model, EmbeddedNetwork)
    cell, select = _hello_cell(model)

    def loss(params: Any, state: Any, target: Any) -> Any:
        logits = cell.output(state)
        logits = model.linear.apply(params["linear"], logits) if isinstance(model, EmbeddedNetwork) else logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, target) / len(words.target)

    ids = jnp.asarray(words.source_ids)[None]
    xs = model.embedding.apply(params["embedding"], ids) if embedded else jax.nn.one_hot(ids, len(words.vocabulary))
    return [
        Subject(
            config["form"],
            f"hello, form {config['form']}",
            cell,
            params,
            select,
            cell.initial_state(select(params)),
            f"the word {words.source!r}, to be spelled {words.target!r}",
            xs,
            jnp.asarray(words.target_ids)[None],
            loss,
            history=_history(run),
        )
    ]


def _hello_cell(model: Model) -> tuple[jr.Cell, Callable[[Any], Any]]:
    """A model's cell, and how its parameters come from the model's, which have torch's names."""
    if isinstance(model, OneHotCell):
        return jr.rnn, lambda params: params
    kind, layers = (model.kind, LAYERS) if isinstance(model, EmbeddedNetwork) else ("rnn", 1)
    of_layer = jr.LSTMParams if kind == "lstm" else jr.AffineParams

    def select(params: Any) -> Any:
        tensors = params["network"] if isinstance(model, EmbeddedNetwork) else params
        found = [of_layer(*(tensors.get(f"{name}_l{layer}") for name in of_layer._fields)) for layer in range(layers)]
        return tuple(found) if layers > 1 else found[0]

    return (jr.stack(*[CELLS[kind]] * layers) if layers > 1 else CELLS[kind]), select


def _digits(run: training.RunFolder, config: dict[str, Any]) -> list[Subject]:
    split = digits_data.load(config["form"])
    model = digits_model.Classifier(config["cell"], digits_data.FORMS[config["form"]][1], config["hidden"])
    optimizer = digits_optimizer(config["epochs"] * (len(split.train.labels) // DIGITS_BATCH))
    params = _load(run, lambda: model.init(jax.random.key(0)), optimizer)
    examples = digits_data.Examples(*(a[:SEQUENCES] for a in split.test))
    problem = digits_model.problem(model)
    return [
        Subject(
            f"{config['form']}-{config['cell']}",
            f"digits read by {config['form']}: {_layers(config['cell'], config['hidden'], 1)}",
            model.cell,
            params,
            problem.select,
            model.cell.initial_state(params["cell"]),
            f"the first {len(examples.labels)} images held out",
            jnp.asarray(examples.xs),
            digits_model.targets(examples),
            problem.loss,
            history=_history(run),
        )
    ]


def _charlm(run: training.RunFolder, saved: dict[str, Any]) -> list[Subject]:
    config, corpus = Config.of(saved), corpus_of(run)
    model, params = load_charlm(config, saved["vocabulary"], run)
    part = "validation" if len(corpus.part("validation")) else "train"
    ids = corpus.part(part)
    length = min(4 * config.length, len(ids) - 1)
    count = min(4, (len(ids) - 1) // length)
    places = length * np.arange(count)[:, None] + np.arange(length + 1)
    problem = charlm_gradient.problem(model, length)
    sequences = jnp.asarray(ids[places].astype(np.int32))
    xs = jr.cast(model.features(params, sequences[:, :-1]), model.dtype)
    state = model.initial_state(params)
    return [
        Subject(
            "charlm",
            f"character model: {_layers(config.cell, config.hidden, config.layers)}",
            problem.step,
            params,
            problem.select,
            state if config.layers > 1 else state[0],
            f"{count} stretches of {length} characters of the {part} part, each from a zero state",
            xs,
            sequences[:, 1:],
            problem.loss,
            history=_history(run),
        )
    ]


def _flip_flop(run: training.RunFolder, config: dict[str, Any]) -> list[Subject]:
    network = flip_flop.Network(config["kind"], config["hidden"], config["bits"])
    params = _load(run, lambda: network.init(jax.random.key(0)), fixedpoints.optimizer())
    return [_of_flip_flop("flip-flop", network, params, fixedpoints.LENGTH, _history(run))]


def _over_training(run: training.RunFolder, config: dict[str, Any]) -> list[Subject]:
    network = over_training.network_of(config["hidden"])
    init = functools.partial(over_training.initial, network, jax.random.key(0))
    params = _load(run, init, over_training.optimizer(config["lr"]))
    rows = _history(run)

    def subject(index: int, gain: float) -> Subject:
        own = [{"step": row["step"], "loss": row["losses"][index], "grad_norm": row["norm"][index]} for row in rows]
        of_one = jax.tree.map(lambda a: a[index], params)
        return _of_flip_flop(f"g = {gain}", network, of_one, over_training.LENGTH, tuple(own))

    return list(itertools.starmap(subject, enumerate(over_training.GAINS)))


def _of_flip_flop(
    name: str, network: flip_flop.Network, params: Any, length: int, history: tuple[dict[str, Any], ...]
) -> Subject:
    drawn = flip_flop.draw(np.random.default_rng(2**33), length, SEQUENCES, network.bits)

    def loss(params: Any, state: Any, y: Any) -> Any:
        return jnp.mean((network.read(params, state) - y) ** 2) / length

    return Subject(
        name,
        f"to hold {network.bits} bits: {_layers(network.kind, network.hidden, 1)}",
        network.cell,
        params,
        operator.itemgetter("cell"),
        network.cell.initial_state(params["cell"]),
        f"{SEQUENCES} fresh sequences of {length} steps",
        jnp.moveaxis(jnp.asarray(drawn.xs), 1, 0),
        jnp.moveaxis(jnp.asarray(drawn.ys), 1, 0),
        loss,
        x=(jnp.zeros(network.bits), "no pulse"),
        history=history,
    )


READERS: dict[str, Callable[[training.RunFolder, dict[str, Any]], list[Subject]]] = {
    "sine": _sine,
    "hello": _hello,
    "digits": _digits,
    "charlm": _charlm,
    "dynamics fixedpoints": _flip_flop,
    "dynamics training": _over_training,
}
