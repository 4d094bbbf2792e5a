"""Our own files: whole, readable by others, and each changed byte of them noticed."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import jaxrnn as jr
from jaxrnn import interop

from ..cell_table import random_like

safetensors = pytest.importorskip("safetensors.numpy")

MODEL = {
    "embed": jr.Embedding(7, 3),
    "encoder.rnn": jr.LSTM(3, 4, 2, batch_first=True, dropout=0.25, bidirectional=True, proj_size=2),
    "cell": jr.gru,
    "out": jr.Linear(4, 2, bias=False),
}
SPECS = {
    "rnn": jr.RNN(3, 4, nonlinearity="relu"),
    "lstm": jr.LSTM(3, 4, 2, bidirectional=True, proj_size=2),
    "gru": jr.GRU(np.int64(3), 4, 2, dropout=np.float32(0.1)),
    "no_bias": jr.GRU(3, 4, bias=False),
    "linear": jr.Linear(3, 2),
    "embedding": jr.Embedding(3, 2),
    "cell_rnn": jr.rnn,
    "cell_relu": jr.rnn_relu,
    "cell_lstm": jr.lstm,
    "cell_gru": jr.gru,
    "cell_reset_before": jr.gru_reset_before,
    "cell_peephole": jr.lstm_peephole,
    "model": MODEL,
}


def init(layer, dtype=jnp.float32):
    """Parameters of N(0, 1)."""
    sizes = (3, 4) if isinstance(layer, jr.Cell) else ()
    return random_like(jax.eval_shape(lambda key: layer.init(key, *sizes, dtype=dtype), jax.random.key(0)))


def made(spec, dtype=jnp.float32):
    return {name: init(layer, dtype) for name, layer in spec.items()} if isinstance(spec, dict) else init(spec, dtype)


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.dtype, a.shape, np.asarray(a).tobytes()) == (b.dtype, b.shape, np.asarray(b).tobytes())


@pytest.mark.parametrize("name", SPECS)
def test_what_was_saved_is_loaded(name, tmp_path):
    spec, params = SPECS[name], made(SPECS[name])
    interop.save(tmp_path / "model.safetensors", spec, params)
    loaded, again = interop.load(str(tmp_path / "model.safetensors"))
    assert loaded == spec
    assert type(again) is type(params)
    assert_same(again, params)
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_bit_is_kept(dtype, tmp_path):
    with jax.enable_x64(dtype == "float64"):
        random, like = np.random.default_rng(0), made(jr.gru, jnp.dtype(dtype))
        params = jax.tree.map(
            lambda a: jnp.asarray(np.frombuffer(random.bytes(a.nbytes), a.dtype).reshape(a.shape)), like
        )
        interop.save(tmp_path / "model", jr.gru, params)
        assert_same(interop.load(tmp_path / "model")[1], params)
    if dtype == "float64":
        with pytest.raises(interop.FormatError, match="jax_enable_x64"):
            interop.load(tmp_path / "model")


def test_the_file_says_what_it_is(tmp_path):
    interop.save(tmp_path / "model", MODEL, made(MODEL))
    metadata = header(tmp_path / "model")["__metadata__"]
    assert metadata["jaxrnn_version"] == jr.__version__
    assert metadata["jaxrnn_dtype"] == "float32"
    assert metadata["format"] == "pt"
    assert json.loads(metadata["jaxrnn_spec"])["layers"]["embed"] == {
        "kind": "Embedding",
        "num_embeddings": 7,
        "embedding_dim": 3,
    }


def header(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_torch_reads_it(tmp_path):
    torch, load_file = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch").load_file
    net = jr.GRU(3, 4, 2, bidirectional=True)
    params = made(net, jnp.bfloat16)
    interop.save(tmp_path / "model", net, params)
    module = torch.nn.GRU(3, 4, 2, bidirectional=True, dtype=torch.bfloat16)
    module.load_state_dict(load_file(tmp_path / "model"))
    assert_same(interop.from_torch(module)[1], params)
    assert_same(interop.from_torch(tmp_path / "model", batch_first=False)[1], params)


def test_every_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "model"
    interop.save(path, jr.gru, made(jr.gru))
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1 << index % 8]) + whole[index + 1 :])
        with pytest.raises(interop.FormatError):
            interop.load(path)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 0.5, -1])
def test_a_file_cut_short_is_refused(keep, tmp_path):
    path = tmp_path / "model"
    interop.save(path, jr.gru, made(jr.gru))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(interop.FormatError, match="must be a safetensors file"):
        interop.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(interop.FormatError, match="must be a safetensors file"):
        interop.load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(["LSTM", "gru", "Linear", "__class__", "Cell"])
FIELDS = st.sampled_from(["hidden_size", "input_size", "num_layers", "dropout", "in_features"])
SPECS_LIKE = st.builds(lambda kind, rest: {"kind": kind} | rest, KINDS, st.dictionaries(FIELDS, JSON, max_size=5))


@settings(max_examples=150, deadline=None)
@given(spec=JSON | SPECS_LIKE | st.dictionaries(st.just("layers"), st.dictionaries(st.text(), SPECS_LIKE, max_size=2)))
def test_what_is_no_spec_is_refused(spec):
    """Files with a good digest all the same."""
    assume(spec != {"kind": "gru"})
    with pytest.raises(interop.FormatError):
        read(with_metadata(jaxrnn_spec=json.dumps(spec)))


METADATA = {"jaxrnn_format": "1", "jaxrnn_spec": '{"kind": "gru"}'}


def with_metadata(**metadata):
    """A file with the metadata, and its digest."""
    from jaxrnn.interop import _safetensors as ours

    arrays = {name: np.asarray(a) for name, a in made(jr.gru)._asdict().items()}
    data = safetensors.save(arrays, METADATA | metadata | {"jaxrnn_digest": ours._NO_DIGEST})
    return ours._with_digest(data, ours._NO_DIGEST, ours._digest(data))


def read(data):
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return interop.load(file.name)


def test_files_of_others_are_refused_by_name():
    assert read(with_metadata())[0] == jr.gru
    for metadata, message in (
        ({"jaxrnn_format": "2"}, "must be of format 1, got '2'"),
        ({"jaxrnn_spec": '{"kind": "lstm"}'}, "weight_hh has shape|weight_ih has shape"),
        ({"jaxrnn_spec": '{"layers": {"a": {"kind": "gru"}}}'}, r"must have tensors of \['a'\]"),
        ({"jaxrnn_spec": "[" * 100_000}, "spec must be JSON"),
        ({"jaxrnn_spec": '{"kind": "Transformer"}'}, "spec must be of RNN, LSTM"),
    ):
        with pytest.raises(interop.FormatError, match=message):
            read(with_metadata(**metadata))
    with pytest.raises(interop.FormatError, match="from_torch may read it"):
        read(safetensors.save({"weight": np.ones((2, 2), np.float32)}))
    with pytest.raises(interop.FormatError, match="dtype I64"):
        read(safetensors.save({"weight": np.ones((2, 2), np.int64)}))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, what in ((".", "a folder"), ("pipe", "a device or pipe")):
        with pytest.raises(interop.FormatError, match=f"must be a file, got {what}"):
            interop.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        interop.load(tmp_path / "none")


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model"
    interop.save(path, jr.gru, made(jr.gru))
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space"):
        interop.save(path, jr.rnn, made(jr.rnn))
    assert os.listdir(tmp_path) == ["model"]
    assert path.read_bytes() == before


def test_cells_of_one_s_own_are_refused(tmp_path):
    own = jr.affine_cell(lambda params, z, r, h: z + r, blocks=1)
    with pytest.raises(TypeError, match=r"spec must be one of jr.rnn, .* got jaxrnn.affine_cell"):
        interop.save(tmp_path / "model", own, own.init(jax.random.key(0), 2, 3))
