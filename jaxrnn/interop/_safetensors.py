"""safetensors, with the spec and a digest in the metadata: a file that says what it is and whether it is whole."""

import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from .._core.checks import shown
from .._core.files import replacing
from ._arrays import FLOATING, FormatError, of_bytes, required, to_jax
from ._models import Spec, Tensors, by_owner, model_of, parts_of, tensors_of
from ._specs import from_json, to_json

_FORMAT = "1"  # of the metadata
_NO_DIGEST = "0" * hashlib.sha256().digest_size * 2
_LENGTH = 8  # bytes that say how long the header is
_HEADER = 2**27  # bytes: more than safetensors itself takes


def save(path: str | os.PathLike[str], spec: Spec, params: Any) -> None:
    """Write parameters and what they are of to a safetensors file, whole or not at all.

    The tensors have the names of a torch state_dict, so that torch and Hugging Face's tools read them. The metadata are
    the spec, the dtype, the version of jaxrnn and a SHA-256 of the whole file.

    Args:
      path: of the file, which is replaced if it is there.
      spec: a network, `jr.Linear`, `jr.Embedding`, or one of the cells `jr.rnn`, `jr.rnn_relu`, `jr.lstm`,
        `jr.lstm_peephole`, `jr.gru`, `jr.gru_reset_before`; or a dict of them by name.
      params: of the layer, or a dict of each one's under the same names.

    Raises:
      FormatError: params do not fit the spec.
      TypeError: an argument is of the wrong type.
      OSError: the file cannot be written.
      ImportError: safetensors is not installed.

    >>> import jax, jaxrnn as jr, pathlib, tempfile
    >>> from jaxrnn import interop
    >>> spec = {"rnn": jr.LSTM(3, 8), "out": jr.Linear(8, 2)}
    >>> params = {name: layer.init(jax.random.key(0)) for name, layer in spec.items()}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     interop.save(pathlib.Path(folder) / "model.safetensors", spec, params)
    ...     loaded, again = interop.load(pathlib.Path(folder) / "model.safetensors")
    >>> loaded == spec, bool((again["rnn"]["weight_hh_l0"] == params["rnn"]["weight_hh_l0"]).all())
    (True, True)
    """
    from .. import __version__

    path = _path(path)
    tensors = {name: _array(name, a) for name, a in tensors_of(parts_of(spec, params)).items()}
    metadata = {
        "format": "pt",  # without which Hugging Face's transformers refuse a file
        "jaxrnn_format": _FORMAT,
        "jaxrnn_version": __version__,
        "jaxrnn_spec": to_json(spec),
        "jaxrnn_dtype": " ".join(sorted({a.dtype.name for a in tensors.values()})),
        "jaxrnn_digest": _NO_DIGEST,
    }
    data = required("safetensors.numpy").save(tensors, metadata)
    with replacing(path) as unfinished:
        unfinished.write_bytes(_with_digest(data, _NO_DIGEST, _digest(data)))


def load(path: str | os.PathLike[str]) -> tuple[Spec, Any]:
    """What `save` wrote: the spec and the params, equal to the bit.

    Args:
      path: of the file.

    Returns:
      (spec, params).

    Raises:
      FormatError: the file is damaged, cut short, or from elsewhere; `from_torch` reads those of torch's names. JAX
        would not keep its float64, as long as `jax_enable_x64` is not set.
      OSError: the file cannot be read.
      ImportError: safetensors is not installed.
    """
    path = file_at(path)
    data = path.read_bytes()
    tensors, metadata = _taken_apart(path, data)
    if "jaxrnn_digest" not in metadata:
        raise FormatError(f"{path} must be a file that jaxrnn.interop.save wrote, got another; from_torch may read it")
    digest = metadata["jaxrnn_digest"]
    if _digest(_with_digest(data, digest, _NO_DIGEST)) != digest:
        raise FormatError(f"{path} is damaged: expected the SHA-256 {shown(digest)}, got another")
    if metadata.get("jaxrnn_format") != _FORMAT:
        raise FormatError(
            f"{path} must be of format {_FORMAT}, got {metadata.get('jaxrnn_format')!r}: of a newer jaxrnn"
        )
    spec = from_json(metadata.get("jaxrnn_spec", ""))
    groups = by_owner({name: to_jax(name, a) for name, a in tensors.items()})
    layers = spec if isinstance(spec, dict) else {"": spec}
    if layers.keys() != groups.keys():
        raise FormatError(f"{path} must have tensors of {list(layers)}, as its spec has, got those of {list(groups)}")
    return model_of({name: (layer, groups[name]) for name, layer in layers.items()})


def file_at(path: Any) -> pathlib.Path:
    """A path to read from, of no folder and no device, which may have no end."""
    path = _path(path)
    if path.exists() and not path.is_file():
        raise FormatError(f"{path} must be a file, got a {'folder' if path.is_dir() else 'device or pipe'}")
    return path


def is_safetensors(path: pathlib.Path) -> bool:
    """Whether the file begins as one, with the length of a JSON object."""
    with path.open("rb") as file:
        start = file.read(_LENGTH + 1)
    return start[_LENGTH:] == b"{" and int.from_bytes(start[:_LENGTH], "little") < _HEADER


def read_tensors(path: pathlib.Path) -> Tensors:
    """The tensors of any safetensors file, as NumPy arrays."""
    return _taken_apart(path, path.read_bytes())[0]


def read_metadata(path: pathlib.Path) -> dict[str, str]:
    """The metadata of any safetensors file."""
    return _taken_apart(path, path.read_bytes())[1]


def _taken_apart(path: pathlib.Path, data: bytes) -> tuple[Tensors, dict[str, str]]:
    safetensors = required("safetensors")
    try:
        found = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise FormatError(f"{path} must be a safetensors file, got a damaged or another one: {error}") from error
    header = json.loads(data[_LENGTH : _LENGTH + int.from_bytes(data[:_LENGTH], "little")])
    return {name: of_bytes(name, tensor) for name, tensor in found}, header.get("__metadata__") or {}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _with_digest(data: bytes, old: str, new: str) -> bytes:
    """The file with another digest in its metadata; quotes in names and values are escaped there."""
    return data.replace(f'"jaxrnn_digest":"{old}"'.encode(), f'"jaxrnn_digest":"{new}"'.encode(), 1)


def _path(path: Any) -> pathlib.Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a str or a path, got {shown(path)}")
    return pathlib.Path(os.fsdecode(path))


def _array(name: str, array: Any) -> np.ndarray:
    array = np.ascontiguousarray(array)
    if array.dtype not in FLOATING.values():
        raise FormatError(f"{name} has dtype {array.dtype}, expected one of {', '.join(FLOATING)}")
    return array
