"""python -m jaxrnn: convert trained networks, look into them, and see whether two are the same.

Exit status 0; 1 if `verify` finds a difference; 2 for what the person at the command line can put right.
"""

import argparse
import os
import pathlib
import signal
import sys
from typing import Any, NoReturn

import jax

from ._layers.embedding import Embedding
from ._layers.linear import Linear
from .interop import FormatError
from .interop._comparison import difference
from .interop._files import SUFFIXES, format_of, read_file, write_file
from .interop._inference import Asked
from .interop._inspection import inspected

_BROKEN_PIPE = 128 + 13
_KINDS = {"Embedding": Embedding, "Linear": Linear}
_EPILOG = """files that are read:
  .safetensors   of jaxrnn.interop.save, or of torch's names
  .msgpack       variables of flax.linen, by flax.serialization
  .onnx          operators RNN, LSTM and GRU; --prefix picks a node
  all others     state_dicts of torch, as tensors alone: code in a file is not run"""


class _Parser(argparse.ArgumentParser):
    """Its errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {_line(message)} (--help lists all options)\n")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    given = _parser().parse_args(arguments)
    try:
        with jax.enable_x64(True):  # so that float64 stays what it is
            status = given.run(given)
            print(end="", flush=True)  # a full disk is to be told of here, not at exit
            return status
    except FormatError as error:
        return _fail(given.command, f"{error} (--help lists all options)")
    except KeyboardInterrupt:
        return _fail(given.command, "interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        return _fail(given.command, f"cannot use {error.filename or 'the output'}: {error.strerror or error}")
    except (ImportError, MemoryError, TypeError, ValueError) as error:
        return _fail(given.command, error or "out of memory")


def _fail(command: str, reason: object, status: int = 2) -> int:
    print(f"python -m jaxrnn {command}: error: {_line(reason)}", file=sys.stderr)
    return status


def _convert(given: argparse.Namespace) -> int:
    out = pathlib.Path(given.out)
    to = given.to or SUFFIXES.get(out.suffix)
    if to is None:
        raise FormatError(f"OUT must end in {', '.join(SUFFIXES)}, or --to be given, got {given.out}")
    if out.exists() and not given.overwrite:
        raise FormatError(f"{out} is there: --overwrite must be given to replace it, got none")
    spec, params = read_file(given.file, given.prefix, _asked(given))
    write_file(out, to, spec, params)
    return 0


def _inspect(given: argparse.Namespace) -> int:
    print(inspected(*read_file(given.file, given.prefix, _asked(given))))
    return 0


def _verify(given: argparse.Namespace) -> int:
    models = [_read_one_of_two(path, given) for path in (given.a, given.b)]
    found = difference(models[0], models[1])
    if isinstance(found, str):
        print(f"not the same: {found}")
        return 1
    is_same = found.largest <= given.tolerance
    print(
        f"{'the same' if is_same else 'not the same'}: largest difference {found.largest:.3g} of the largest output, "
        f"in {found.name}"
    )
    return 0 if is_same else 1


def _read_one_of_two(path: str, given: argparse.Namespace) -> Any:
    """With what is given for those files that do not say it themselves."""
    found, asked = format_of(path), _asked(given)
    if found == "torch":
        return read_file(path, given.prefix, asked)
    prefix = given.prefix if found == "onnx" else ""
    return read_file(path, prefix, Asked(nonlinearity=asked.nonlinearity if found == "linen" else None))


def _asked(given: argparse.Namespace) -> Asked:
    return Asked(given.nonlinearity, given.batch_first, given.dropout, dict(given.kind) if given.kind else None)


def _parser() -> argparse.ArgumentParser:
    form: Any = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="python -m jaxrnn", description=__doc__, epilog=_EPILOG, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    convert = _command(commands, "convert", "write a model in another format", _convert)
    convert.add_argument("file", metavar="IN")
    convert.add_argument("out", metavar="OUT")
    convert.add_argument("--to", choices=sorted(set(SUFFIXES.values())), help="format of OUT (default: by its name)")
    convert.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    _command(commands, "inspect", "spec, tensors, spectral radii, verdict", _inspect).add_argument(
        "file", metavar="FILE"
    )
    verify = _command(commands, "verify", "run two models on random input: do they compute the same?", _verify)
    verify.add_argument("a", metavar="A")
    verify.add_argument("b", metavar="B")
    verify.add_argument("--tolerance", type=float, default=1e-5, help="of the largest output (default: %(default)s)")
    return parser


def _command(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    asked = parser.add_argument_group("what the tensors of torch and Flax do not say")
    asked.add_argument("--prefix", default="", help="part of the model, as encoder.rnn")
    asked.add_argument("--nonlinearity", choices=("tanh", "relu"), help="of an RNN or its cell")
    layout = asked.add_mutually_exclusive_group()
    layout.add_argument("--batch-first", action="store_true", default=None, help="x is (N, T, I)")
    layout.add_argument("--time-first", action="store_false", dest="batch_first", default=None, help="x is (T, N, I)")
    asked.add_argument("--dropout", type=float, help="of networks (default: 0)")
    asked.add_argument(
        "--kind", type=_kind, action="append", metavar="NAME=KIND", help="NAME is an Embedding or a Linear without bias"
    )
    return parser


def _kind(text: str) -> tuple[str, type]:
    name, _, kind = text.rpartition("=")
    if kind not in _KINDS:
        raise argparse.ArgumentTypeError(f"expected NAME=Embedding or NAME=Linear, got {text!r}")
    return name, _KINDS[kind]


def _line(text: object) -> str:
    return " ".join(str(text).split())


if __name__ == "__main__":
    sys.exit(main())
