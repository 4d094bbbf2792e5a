"""Files by their format: what `python -m jaxrnn` reads and writes."""

import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO

from .._core.files import replacing
from ._arrays import FormatError, required
from ._inference import Asked
from ._linen import from_linen, to_linen
from ._models import Spec
from ._onnx.layers import to_layers
from ._onnx.reading import from_onnx
from ._onnx.writing import to_onnx
from ._safetensors import file_at, is_safetensors, load, read_metadata, save
from ._torch import from_torch, to_torch

SUFFIXES = {
    ".safetensors": "jaxrnn",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
    ".msgpack": "linen",
    ".onnx": "onnx",
}
_BY_NAME = {".msgpack": "linen", ".onnx": "onnx"}
_USED = {"linen": ["nonlinearity"], "onnx": ["prefix", "batch_first"], "jaxrnn": []}  # of what may be asked for


def format_of(path: Any) -> str:
    """The format of a file, by what is in it, or by its name."""
    path = file_at(path)
    if path.suffix in _BY_NAME:
        return _BY_NAME[path.suffix]
    return "jaxrnn" if is_safetensors(path) and "jaxrnn_digest" in read_metadata(path) else "torch"


def read_file(path: Any, prefix: str, asked: Asked) -> tuple[Spec, Any]:
    """The model in a file of `save`, torch, flax.serialization or ONNX, with what was asked for where it is needed.

    Raises:
      FormatError: the file is none of these, or damaged; more must be asked for, or something was in vain.
      OSError: it cannot be read.
    """
    path, found = file_at(path), format_of(path)
    if found == "torch":
        return from_torch(path, prefix, **vars(asked))
    _check_unused(path, asked, prefix, found)
    if found == "onnx":
        return to_layers(*from_onnx(path, prefix), batch_first=asked.batch_first)
    return load(path) if found == "jaxrnn" else from_linen(_restored(path), nonlinearity=asked.nonlinearity)


def write_file(path: pathlib.Path, to: str, spec: Spec, params: Any) -> None:
    """Write the model in one of the formats of SUFFIXES, whole or not at all."""
    if to == "jaxrnn":
        save(path, spec, params)
        return
    write = _writer(to, spec, params)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        write(file)


def _writer(to: str, spec: Spec, params: Any) -> Callable[[BinaryIO], Any]:
    """What writes the file, made before there is one."""
    if to == "torch":
        torch, state_dict = required("torch"), to_torch(spec, params)
        return lambda file: torch.save(state_dict, file)
    if to == "onnx":
        data = to_onnx(spec, params).SerializeToString()
    else:
        data = required("flax.serialization").to_bytes(to_linen(spec, params))
    return lambda file: file.write(data)


def _restored(path: pathlib.Path) -> Any:
    restore = required("flax.serialization").msgpack_restore
    try:
        return restore(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # whatever damaged bytes lead to
        raise FormatError(f"{path} must be variables that flax.serialization wrote, got others: {error}") from error


def _check_unused(path: pathlib.Path, asked: Asked, prefix: str, found: str) -> None:
    given = [name for name in [*asked.given(), *(["prefix"] if prefix else [])] if name not in _USED[found]]
    if given:
        raise FormatError(
            f"{given[0]} must not be given for {path}, a file of {found} that needs none, but it is given"
        )
