"""The command line: `python -m experiments.charlm train | sample | eval`."""

import argparse
import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxrnn import training

from .. import _corpus as corpora
from .. import _run
from . import pictures
from .evaluate import figures, read
from .gradient import BPTT, canonical
from .model import CELLS, CharModel
from .sampling import sample
from .train import PRESETS, Config, check_memory, corpus_of, load, train

KIND = "charlm"
LEARNING, SUMMARY, HEAT_MAP, EVALUATION = "learning.png", "summary.json", "heatmap.png", "eval.json"
RUN = ("metrics.jsonl", "checkpoints", LEARNING, SUMMARY, HEAT_MAP, EVALUATION)
SHOWN = 1500  # characters of the heat map

DESCRIPTION = """\
A character language model: recurrent layers that read a text and learn to say what comes next.

  python -m experiments.charlm train --text book.txt --preset minute
  python -m experiments.charlm eval
  python -m experiments.charlm sample --prime "Once upon a time" --temperature 0.8
"""

TRAINING = f"""\
Without --text the corpus is the source of Python's own standard library. The text is split by position. Training goes
through the first part in parallel streams, the state carried from step to step and reset where the streams begin anew.

files in DIR:
  metrics.jsonl    a line a step, and a line an evaluation, of the validation part cut into --batch stretches
  checkpoints/     parameters, optimiser, state, key, position and configuration, the newest --keep
  {LEARNING:16} the loss over the steps
  {SUMMARY:16} configuration, how the run ended, its last figures, seconds

--gradient NAME[:ARGUMENT=VALUE,...] trains by another algorithm of jaxrnn.gradients (defaults are shown):
  bptt               back-propagation through the --length characters of a step
  tbptt:k1=16,k2=64  every k1 characters the losses since, k2 back, across the borders of steps
  artbp:cut=0.1      back-propagation that is cut at random, unbiased
  rtrl               exact, forward in time; for few units: each stream keeps units x parameters
  snap:order=1       RTRL with the influence that a parameter has within so many steps
  uoro:samples=1     RTRL's influence as a random outer product, unbiased
rtrl, snap and uoro unroll nothing; with --length 1 the parameters change at every character. All but bptt read one-hot
characters (--embedding 0) without dropout.

Ctrl-C or SIGTERM ends the run after a checkpoint. A run that was stopped or killed goes on when its command is given
again with --resume, to the same parameters and metrics, bit for bit, as if nothing had happened.

With --mesh data=N each step's batch is spread over N devices. For several processes, on one machine or many that share
DIR, start the same command in each with --coordinator HOST:PORT --processes N --process-id 0 ... N-1; under a cluster
manager that JAX knows (Slurm, Open MPI, Cloud TPU, Kubernetes) --distributed is enough.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status."""
    return _run.exit_status("charlm", lambda: _run_command(_parse(argv)))


def _run_command(arguments: argparse.Namespace) -> int:
    return arguments.command(arguments)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _run.parser("charlm", DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_sample(commands)
    _add_eval(commands)
    return parser.parse_args(argv)


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model on a text",
        description="Train a model on a text.",
        epilog=TRAINING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given comes from the preset
    )
    parser.set_defaults(command=_train)
    text = parser.add_argument_group("text")
    text.add_argument(
        "--text", type=_run.path, metavar="PATH", help="a UTF-8 file, or a folder of them (default: Python's library)"
    )
    text.add_argument("--split", type=_split, metavar="A/B/C", help="train/validation/test in percent (90/5/5)")
    text.add_argument(
        "--preset",
        choices=PRESETS,
        default="minute",
        help="where all defaults below come from, by time on two cores (minute, whose values are shown)",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--cell", choices=CELLS, help="kind of cell (lstm)")
    model.add_argument("--tied", action=argparse.BooleanOptionalAction, help="read out by the embedding's weight (no)")
    _option(model, "hidden", _run.positive, "H", "units of a layer")
    _option(model, "layers", _run.layers, "L", "layers of cells")
    _option(model, "embedding", _run.natural, "E", "features of a character; 0: one-hot")
    _option(model, "dropout", _run.fraction, "P", "of what goes into each layer and the read-out")
    what = "of the computation; parameters, optimiser and loss are float32 (float32)"
    model.add_argument("--dtype", choices=["float32", "bfloat16"], help=what)
    fit = parser.add_argument_group("training")
    fit.add_argument("--gradient", type=_gradient, metavar="NAME", help="bptt, or another one: see below (bptt)")
    _option(fit, "steps", _run.positive, "N", "steps of Adam")
    _option(fit, "batch", _run.positive, "B", "parallel streams")
    _option(fit, "length", _run.positive, "T", "characters of a stream a step, and so how far gradients reach")
    _option(fit, "lr", _run.above_zero, "R", "peak learning rate; it falls to 0 as a cosine")
    _option(fit, "warmup", _run.natural, "N", "steps until the peak")
    _option(fit, "weight-decay", _run.not_negative, "D", "decoupled, of matrices")
    _option(fit, "clip", _run.above_zero, "NORM", "largest norm of the gradient")
    _option(fit, "accumulate", _run.positive, "N", "parts of the batch, one after the other, if it does not fit")
    _option(fit, "seed", _run.seed, "S", "of parameters, dropout and stream positions")
    watch = parser.add_argument_group("on the way")
    _option(watch, "evaluate-every", _run.positive, "N", "steps between evaluations")
    watch.add_argument(
        "--patience",
        type=_run.positive,
        metavar="N",
        help="evaluations without a better one until the run stops (never)",
    )
    watch.add_argument("--watch", type=_run.positive, metavar="N", help="print N sampled characters at each evaluation")
    output = parser.add_argument_group("output")
    _add_folder(output, "--out", "folder of the run")
    output.add_argument("--checkpoint-every", type=_run.positive, metavar="N", help="steps between checkpoints (500)")
    output.add_argument("--keep", type=_run.positive, metavar="N", help="newest checkpoints to keep (2)")
    again = output.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in DIR, begin if there is none")
    again.add_argument("--overwrite", action="store_true", help="replace the run in DIR")
    scale = parser.add_argument_group("many devices")
    scale.add_argument("--mesh", type=_mesh, metavar="data=N", help="spread the batch over N devices")
    scale.add_argument("--coordinator", type=_address, metavar="HOST:PORT", help="of process 0")
    scale.add_argument("--processes", type=_run.positive, metavar="N", help="how many processes there are")
    scale.add_argument("--process-id", type=_run.natural, metavar="I", help="which of them this one is, from 0")
    scale.add_argument("--distributed", action="store_true", help="find the processes through the cluster manager")


def _option(group: Any, name: str, kind: Any, metavar: str, what: str) -> None:
    """A field of the configuration."""
    value = getattr(Config(), name.replace("-", "_"))
    group.add_argument(f"--{name}", type=kind, metavar=metavar, help=f"{what} ({value:g})")


def _add_sample(commands: Any) -> None:
    parser = commands.add_parser("sample", help="let a trained model write", description="Let a trained model write.")
    parser.set_defaults(command=_sample)
    _add_run(parser)
    parser.add_argument("--prime", default="\n", metavar="TEXT", help="what the text begins with (a line break)")
    parser.add_argument("--length", type=_run.positive, default=500, metavar="N", help="characters to write (500)")
    parser.add_argument("--temperature", type=_run.not_negative, default=0.8, help="0 takes the likeliest (0.8)")
    parser.add_argument("--top-k", type=_run.positive, metavar="K", help="draw from the K likeliest characters only")
    parser.add_argument(
        "--top-p",
        type=_run.probability,
        default=1.0,
        metavar="P",
        help="draw from the likeliest that hold P together (1)",
    )
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help="of the draws (0)")


def _add_eval(commands: Any) -> None:
    parser = commands.add_parser(
        "eval",
        help="measure a trained model, and draw a text as it reads it",
        description="The mean loss over every character of a part of the text, streamed once from a zero state, "
        f"written to {EVALUATION}; and {HEAT_MAP}, its beginning coloured by loss and by what a unit holds.",
    )
    parser.set_defaults(command=_eval)
    _add_run(parser)
    parser.add_argument(
        "--text", type=_run.path, metavar="PATH", help="another text, all of it (default: the run's own)"
    )
    parser.add_argument("--part", choices=corpora.PARTS, help="of the run's own text (default: validation)")
    parser.add_argument("--unit", type=_run.natural, metavar="U", help="the unit to draw (default: a persistent one)")
    parser.add_argument(
        "--out", type=_run.folder_name, metavar="DIR", help="folder for the files (default: that of the run)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier evaluation's files")


def _add_run(parser: Any) -> None:
    _add_folder(parser, "--run", "folder of a trained run")
    parser.add_argument("--best", action="store_true", help="its parameters of the least validation loss, not the last")


def _add_folder(parser: Any, name: str, what: str) -> None:
    parser.add_argument(name, type=_run.folder_name, default="runs/charlm", metavar="DIR", help=f"{what} (runs/charlm)")


def _train(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    mesh = _connect(given)
    names = {field.name for field in dataclasses.fields(Config)}
    config = dataclasses.replace(PRESETS[arguments.preset], **{n: v for n, v in given.items() if n in names})
    config = _one_hot(config, given) if config.gradient != BPTT else config
    if config.tied and config.embedding != config.hidden:
        raise _run.UserError(
            f"--tied needs --embedding as wide as --hidden: got {config.embedding} and {config.hidden}"
        )
    parts = config.accumulate * (mesh.size if mesh else 1)
    if config.batch % parts:
        raise _run.UserError("--batch must be a multiple of --accumulate times the number of devices")
    text = given.get("text")
    corpus = corpora.make_corpus(corpora.read_text(text), config.split)
    check_memory(dataclasses.replace(config, batch=config.batch // parts), config.model(corpus.vocabulary))
    described = {
        "experiment": KIND,
        **dataclasses.asdict(config),
        "vocabulary": corpus.vocabulary,
        "text_sha256": corpus.digest,
    }
    folder = training.RunFolder(
        arguments.out,
        described,
        every=given.get("checkpoint_every", 500),
        keep=given.get("keep", 2),
        resume=given.get("resume", False),
        notes={"text": text},
    )
    with _run.output_folder(arguments.out, RUN, given.get("overwrite", False), given.get("resume", False)):
        if folder.resume and folder.checkpoints.exists() and any(folder.checkpoints.iterdir()):
            _config_of(folder)
        return _train_in(folder, config, corpus, mesh, given.get("watch"))


def _train_in(
    folder: training.RunFolder, config: Config, corpus: corpora.Corpus, mesh: Any, watched: int | None
) -> int:
    first = jax.process_index() == 0

    def on_chunk(rows: list[dict[str, Any]], state: training.TrainState) -> None:
        if watched and rows[-1]["step"] % config.evaluate_every == 0:
            drawn = sample(config.model(corpus.vocabulary), state.params, corpus.vocabulary, _prime(corpus), watched)
            text = "".join(drawn)
            if first:
                tqdm.write(f"--- step {rows[-1]['step']} ---\n{text}", file=sys.stdout)

    began = time.perf_counter()
    result = train(config, corpus, folder, mesh, on_chunk)
    if first:
        _report(folder, result, time.perf_counter() - began)
    return _run.STATUS.get(result.ended, 0)


def _one_hot(config: Config, given: dict[str, Any]) -> Config:
    """For a gradient other than bptt: what it cannot have is an error if it was asked for."""
    for name in ("embedding", "dropout", "tied"):
        if given.get(name):
            raise _run.UserError(f"--{name} is for --gradient bptt alone, got --gradient {config.gradient}")
    return dataclasses.replace(config, embedding=0, dropout=0.0)


def _connect(given: dict[str, Any]) -> Any:
    """Find the other processes, if there are any; the mesh to train on, or None."""
    address, processes, process_id = (given.get(name) for name in ("coordinator", "processes", "process_id"))
    if address is not None or processes is not None or process_id is not None:
        if address is None or processes is None or process_id is None or given.get("distributed"):
            raise _run.UserError("--coordinator, --processes and --process-id go together, without --distributed")
        if process_id >= processes:
            raise _run.UserError(f"--process-id must lie in [0, {processes}), got {process_id}")
        _initialize(address, processes, process_id)
    elif given.get("distributed"):
        _initialize()
    devices = given.get("mesh")
    if devices is None and jax.process_count() == 1:
        return None
    try:
        return training.data_mesh(devices)
    except ValueError as error:
        raise _run.UserError(f"--mesh: {error}") from error


def _initialize(*cluster: Any) -> None:
    try:
        jax.distributed.initialize(*cluster)
    except (ValueError, RuntimeError) as error:
        raise _run.UserError(f"cannot find the other processes: {str(error).splitlines()[0]}") from error


def _report(run: training.RunFolder, result: training.Result, seconds: float) -> None:
    folder, described, last = pathlib.Path(run.path), run.config, result.history[-1]
    evaluation = result.evaluations[-1] if result.evaluations else {}
    summary = {
        "config": described | run.notes,
        "ended": result.ended,
        "last_step": last,
        "last_evaluation": evaluation,
        "best_step": result.best and result.best.step,
        "seconds": seconds,
    }
    _run.write_json(folder / SUMMARY, summary)
    with _run.replacing(folder / LEARNING) as path:
        title = f"{described['cell']}, {described['layers']} x {described['hidden']} units, seed {described['seed']}"
        pictures.draw_learning(path, f"charlm: {title}", result.history, result.evaluations)
    shown = f", validation {evaluation['validation_loss']:.4f}" if evaluation else ""
    print(
        f"{result.ended} at step {last['step']} after {seconds:.1f} s: loss {last['loss']:.4f}{shown} nats a character"
    )
    print(f"{folder}: {', '.join(RUN[:4])}")


def _sample(arguments: argparse.Namespace) -> int:
    run = training.RunFolder(arguments.run)
    config = _config_of(run)
    drawn = sample(
        *_load(run, config, best=arguments.best),
        config["vocabulary"],
        arguments.prime,
        arguments.length,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    print(arguments.prime, end="", flush=True)
    for character in drawn:
        print(character, end="", flush=True)
    print()
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    if arguments.text is not None and arguments.part:
        raise _run.UserError("--part is of the run's own text; with --text all of that text is read")
    run = training.RunFolder(arguments.run)
    config = _config_of(run)
    model, params = _load(run, config, best=arguments.best)
    if arguments.unit is not None and arguments.unit >= model.hidden_size:
        raise _run.UserError(f"--unit must lie in [0, {model.hidden_size}), got {arguments.unit}")
    folder = pathlib.Path(arguments.out or arguments.run)
    _run.check_absent(folder, (EVALUATION, HEAT_MAP), arguments.overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    corpus, what, ids = _text_to_read(arguments, run, config)
    losses = read(model, params, ids)
    result = {"of": what, "characters": len(losses), **figures(float(losses.mean()))}
    _run.write_json(folder / EVALUATION, result)
    activity = np.asarray(jax.jit(model.activity)(params, ids[: SHOWN + 1]))[1:]
    unit = pictures.most_persistent_unit(activity) if arguments.unit is None else arguments.unit
    shown = "".join(corpus.vocabulary[i] for i in ids[1 : SHOWN + 1])
    with _run.replacing(folder / HEAT_MAP) as path:
        pictures.draw_heat_map(path, shown, losses[:SHOWN], unit, activity[: len(shown), unit])
    print(
        f"{what}, {len(losses)} characters: {result['loss']:.4f} nats, {result['bits_per_character']:.4f} bits a "
        f"character, perplexity {result['perplexity']:.3f}\n{folder}: {EVALUATION}, {HEAT_MAP}"
    )
    return 0


def _text_to_read(
    arguments: argparse.Namespace, run: training.RunFolder, config: dict[str, Any]
) -> tuple[corpora.Corpus, str, np.ndarray]:
    """The corpus, and of it what is read: its name and its ids."""
    if arguments.text:
        corpus = corpora.make_corpus(corpora.read_text(arguments.text), config["split"], config["vocabulary"])
        what, ids = arguments.text, corpus.ids
    else:
        part = arguments.part or "validation"
        corpus = corpus_of(run)
        what, ids = f"{part} part", corpus.part(part)
    if len(ids) < 2:
        raise _run.UserError(f"the {what} has {len(ids)} characters, expected at least 2")
    return corpus, what, ids


def _load(run: training.RunFolder, config: dict[str, Any], *, best: bool) -> tuple[CharModel, Any]:
    """The model and its parameters, the last or the best."""
    return load(Config.of(config), config["vocabulary"], run, best=best)


def _config_of(run: training.RunFolder) -> dict[str, Any]:
    """The configuration of a run that is there, which is one of ours."""
    config = run.saved_config()
    kind = config.get("experiment", "another program")
    if kind != KIND:
        raise _run.UserError(f"{run.path} holds a run of {kind}, expected one of {KIND}")
    return config


def _prime(corpus: corpora.Corpus) -> str:
    return "\n" if "\n" in corpus.vocabulary else corpus.vocabulary[0]


def _gradient(text: str) -> str:
    try:
        return canonical(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _split(text: str) -> tuple[float, ...]:
    try:
        parts = tuple(float(part) for part in text.split("/"))
    except ValueError:
        parts = ()
    if len(parts) != 3 or min(parts) < 0 or parts[0] == 0 or not abs(sum(parts) - 100) <= 1e-9:  # nan is refused, too
        raise argparse.ArgumentTypeError(
            f"expected three percentages that make 100, such as 90/5/5, got {_run.shown(text)}"
        )
    return parts


def _mesh(text: str) -> int:
    name, _, count = text.partition("=")
    if name != "data":
        raise argparse.ArgumentTypeError(f"expected data=N, N devices, got {_run.shown(text)}")
    return _run.positive(count)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {_run.shown(text)}")
    _run.whole(port, 1, 2**16 - 1)
    return text


if __name__ == "__main__":
    sys.exit(main())
