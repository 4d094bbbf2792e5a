"""torch and back, live: the same numbers from the same weights, each bit of them, and what is refused."""

import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import interop

torch = pytest.importorskip("torch")

D, H, T, N = 3, 4, 6, 2
NETWORKS = {
    "rnn": lambda: torch.nn.RNN(D, H),
    "rnn_relu": lambda: torch.nn.RNN(D, H, 2, nonlinearity="relu", bias=False),
    "gru": lambda: torch.nn.GRU(D, H, 2, bidirectional=True, batch_first=True),
    "gru_no_bias": lambda: torch.nn.GRU(D, H, bias=False),
    "lstm": lambda: torch.nn.LSTM(D, H, 2, dropout=0.3),
    "lstm_proj": lambda: torch.nn.LSTM(D, H, 2, bidirectional=True, proj_size=2),
    "one_unit": lambda: torch.nn.LSTM(1, 1),
}
CELLS = {
    "rnn": (lambda: torch.nn.RNNCell(D, H), jr.rnn),
    "rnn_relu": (lambda: torch.nn.RNNCell(D, H, nonlinearity="relu"), jr.rnn_relu),
    "gru": (lambda: torch.nn.GRUCell(D, H), jr.gru),
    "gru_no_bias": (lambda: torch.nn.GRUCell(D, H, bias=False), jr.gru),
    "lstm": (lambda: torch.nn.LSTMCell(D, H), jr.lstm),
}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, D)
        self.encoder = torch.nn.ModuleDict({"rnn": torch.nn.GRU(D, H, batch_first=True), "drop": torch.nn.Dropout()})
        self.cell = torch.nn.LSTMCell(H, H)
        self.out = torch.nn.Linear(H, 2, bias=False)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def bits(tensor):
    """The bytes of a tensor or an array."""
    is_tensor = isinstance(tensor, torch.Tensor)
    return (
        tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if is_tensor else np.asarray(tensor).tobytes()
    )


def asked(module):
    """What its tensors do not say."""
    named = {"batch_first": module.batch_first, "dropout": module.dropout} if hasattr(module, "batch_first") else {}
    return named | ({"nonlinearity": module.nonlinearity} if hasattr(module, "nonlinearity") else {})


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_torch_s_numbers(name):
    module = NETWORKS[name]().eval()
    net, params = interop.from_torch(module)
    assert interop.from_torch(module.state_dict(), **asked(module))[0] == net
    x = draw(N, T, net.input_size) if net.batch_first else draw(T, N, net.input_size)
    h_0 = jax.tree.map(lambda a: draw(*a.shape, seed=a.shape[-1]), jax.eval_shape(net.apply, params, x)[1])
    ours = jax.tree.leaves(net.apply(params, x, h_0))
    output, states = module(torch.tensor(x), jax.tree.map(torch.tensor, h_0))
    theirs = [output, *(states if isinstance(states, tuple) else (states,))]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_cells_have_torch_s_numbers(name):
    make, cell = CELLS[name]
    module = make()
    found, params = interop.from_torch(module)
    assert found == cell
    assert interop.from_torch(module.state_dict(), **asked(module))[0] == cell
    x, h, c = draw(N, D), draw(N, H, seed=1), draw(N, H, seed=2)
    ours = cell.step(params, jr.LSTMState(h, c) if name == "lstm" else h, x)
    theirs = module(torch.tensor(x), (torch.tensor(h), torch.tensor(c)) if name == "lstm" else torch.tensor(h))
    for a, b in zip(jax.tree.leaves(ours), theirs if name == "lstm" else (theirs,), strict=True):
        np.testing.assert_allclose(a, b.detach(), rtol=1e-5, atol=1e-6)
    assert module.load_state_dict(interop.to_torch(cell, params))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_bit_comes_and_goes(dtype):
    module = Model().to(getattr(torch, dtype))
    words = np.random.default_rng(0)
    for tensor in module.state_dict().values():  # NaN of all kinds, infinities and subnormal numbers among them
        tensor.copy_(
            torch.tensor(np.frombuffer(words.bytes(tensor.nbytes), np.uint8)).view(tensor.dtype).view(tensor.shape)
        )
    before = {name: bits(tensor) for name, tensor in module.state_dict().items()}
    with jax.enable_x64(dtype == "float64"):
        spec, params = interop.from_torch(module)
        arrays = {name: part if isinstance(part, dict) else part._asdict() for name, part in params.items()}
        ours = {f"{name}.{key}": bits(a) for name, part in arrays.items() for key, a in part.items() if a is not None}
        assert ours == before
        after = interop.to_torch(spec, params)
    assert {name: bits(tensor) for name, tensor in after.items()} == before
    assert {tensor.dtype for tensor in after.values()} == {getattr(torch, dtype)}


def test_whole_models():
    module = Model()
    spec, params = interop.from_torch(module)
    assert list(spec) == ["embed", "encoder.rnn", "cell", "out"]
    assert spec["encoder.rnn"] == jr.GRU(D, H, batch_first=True)
    kinds = {"embed": jr.Embedding, "out": jr.Linear}
    assert interop.from_torch(module.state_dict(), batch_first=True, kinds=kinds)[0] == spec
    ids = np.array([[1, 2, 6], [0, 0, 3]])
    ys, h = spec["encoder.rnn"].apply(params["encoder.rnn"], spec["embed"].apply(params["embed"], ids))
    state = jr.lstm.step(params["cell"], jr.LSTMState(h[0], h[0]), ys[:, 1])
    theirs, hidden = module.encoder["rnn"](module.embed(torch.tensor(ids)))
    expected = module.out(module.cell(theirs[:, 1], (hidden[0], hidden[0]))[0])
    np.testing.assert_allclose(spec["out"].apply(params["out"], state.h), expected.detach(), rtol=1e-5, atol=1e-6)
    assert Model().load_state_dict(interop.to_torch(spec, params))


@pytest.mark.parametrize("prefix", ["encoder.rnn", "encoder.rnn.", "encoder"])
def test_a_prefix_picks_a_part(prefix):
    module = Model()
    spec, params = interop.from_torch(module, prefix)
    again = interop.from_torch(
        {"state_dict": module.state_dict(), "epoch": 3}, f"state_dict.{prefix}", batch_first=True
    )
    assert again[0] == spec
    jax.tree.map(np.testing.assert_array_equal, again[1], params)


def test_arrays_and_tensors_share_no_memory():
    module = torch.nn.Linear(2, 2)
    linear, params = interop.from_torch(module)
    before, out = np.array(params["weight"]), interop.to_torch(linear, params)
    module.weight.data.zero_()
    out["weight"].zero_()
    np.testing.assert_array_equal(params["weight"], before)


@pytest.mark.parametrize("form", ["pt", "old", "safetensors"])
def test_files(form, tmp_path):
    module = torch.nn.GRU(D, H).bfloat16()
    path = tmp_path / "model"
    if form == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=form == "pt")
    net, params = interop.from_torch(path, batch_first=False)
    assert net == jr.GRU(D, H)
    assert {name: bits(a) for name, a in params.items()} == {name: bits(a) for name, a in module.state_dict().items()}


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["pt", "old", "pickle", "beside tensors"])
def test_code_in_a_file_is_not_run(form, tmp_path):
    path, trace = tmp_path / "model.pt", tmp_path / "it was run"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Hostile(trace)))
    else:
        value = {"weight": torch.ones(2), "extra": Hostile(trace)} if form == "beside tensors" else Hostile(trace)
        torch.save(value, path, _use_new_zipfile_serialization=form == "pt")
    with pytest.raises(interop.FormatError, match="whose code is not run"):
        interop.from_torch(path)
    assert not trace.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(torch.nn.GRU(D, H), tmp_path / "model.pt")
    with pytest.raises(interop.FormatError, match="must be a state_dict saved by"):
        interop.from_torch(tmp_path / "model.pt")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_raise_one_error(seed, tmp_path):
    """Cut anywhere, and with bytes changed anywhere, they give weights of the right shapes or a FormatError."""
    path, random = tmp_path / "model.pt", np.random.default_rng(seed)
    torch.save(torch.nn.GRU(D, H).state_dict(), path)
    whole = path.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        if random.random() < 0.3:
            data = data[: random.integers(len(data))]
        else:
            data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(data)
        try:
            net, _ = interop.from_torch(path, batch_first=False)
        except interop.FormatError:
            continue
        assert net == jr.GRU(D, H)  # torch has no digest of the numbers


def test_a_file_that_grows_when_it_is_unpacked_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(10**6))
    with pytest.raises(interop.FormatError, match="is damaged"):
        interop.from_torch(tmp_path / "model.pt")


@pytest.mark.parametrize("form", ["memory", "file"])
def test_dicts_without_end_are_refused(form, tmp_path):
    circle = {}
    circle["again"] = circle
    torch.save(circle, tmp_path / "model.pt")
    with pytest.raises(interop.FormatError, match="dicts that are in themselves"):
        interop.from_torch(circle if form == "memory" else tmp_path / "model.pt")


def weights(*names, module=None):
    state_dict = (module or torch.nn.LSTM(D, H, 2)).state_dict()
    return {name: tensor for name, tensor in state_dict.items() if name not in names}


REFUSED = {
    "missing": (lambda: weights("weight_hh_l1"), r"params has no \['weight_hh_l1'\]"),
    "missing layer": (lambda: weights(*(n for n in weights() if n.endswith("_l0"))), "has no weight_ih_l0"),
    "one bias": (lambda: weights("bias_ih_l0", "bias_ih_l1"), "unexpected keys"),
    "far layer": (lambda: weights() | {"weight_ih_l99999": torch.ones(2, 2)}, "has a layer 99999"),
    "wrong shape": (lambda: weights() | {"bias_hh_l1": torch.ones(15)}, r"bias_hh_l1 has shape \(15,\)"),
    "no LSTM": (lambda: weights() | {"weight_hh_l0": torch.ones(16, 8)}, "expected 1, 3 or 4 times as many"),
    "empty": (lambda: weights() | {"weight_hh_l0": torch.ones(16, 0)}, "none of them empty"),
    "three axes": (lambda: weights() | {"weight_ih_l0": torch.ones(16, 3, 1)}, "expected two axes"),
    "mixed": (lambda: weights() | {"bias_hh_l1": torch.ones(16).half()}, "mixed dtypes"),
    "integers": (lambda: weights() | {"bias_hh_l1": torch.ones(16).int()}, "has dtype torch.int32"),
    "complex": (lambda: weights() | {"bias_hh_l1": torch.ones(16) * 1j}, "has dtype torch.complex64"),
    "float64": (lambda: weights(module=torch.nn.LSTM(D, H).double()), "jax_enable_x64"),
    "meta": (lambda: weights(module=torch.nn.LSTM(D, H, device="meta")), "a meta one"),
    "sparse": (lambda: weights() | {"weight_hh_l0": torch.ones(16, 4).to_sparse()}, "a dense tensor"),
    "checkpoint": (lambda: {"model": weights(), "epoch": 3}, "epoch must be a tensor, got 3"),
    "numbers": (lambda: {3: torch.ones(2)}, "must have names, got 3"),
    "nothing": (dict, "got none"),
    "convolution": (
        lambda: weights(module=torch.nn.Conv1d(2, 2, 3)),
        r"cannot tell what this is, got the tensors weight",
    ),
    "norm": (lambda: {"norm.weight": torch.ones(4), "norm.bias": torch.ones(4)}, "cannot tell what 'norm' is"),
    "projected RNN": (lambda: weights(module=torch.nn.RNN(D, H)) | {"weight_hr_l0": torch.ones(2, 4)}, "rows|3 or 4"),
    "cell with more": (lambda: weights(module=torch.nn.GRUCell(D, H)) | {"scale": torch.ones(2)}, "'scale' given"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_state_dicts_that_are_refused(make, message):
    with pytest.raises(interop.FormatError, match=message) as caught:
        interop.from_torch(make(), batch_first=None if message == "'scale' given" else False)
    assert "\n" not in str(caught.value)


class Residual(torch.nn.GRU):
    """A class of one's own may compute anything."""


MODULES = {
    "other layer": (lambda: torch.nn.Sequential(torch.nn.GRU(D, H), torch.nn.LayerNorm(H)), "'1' is a LayerNorm"),
    "subclass": (lambda: Residual(D, H), "the module is a Residual"),
    "max_norm": (lambda: torch.nn.Embedding(3, 2, max_norm=1.0), "max_norm"),
    "parameter": (lambda: torch.nn.ParameterList([torch.ones(2)]), "the module is a ParameterList"),
    "nothing": (lambda: torch.nn.Tanh(), "must hold tensors"),
}


@pytest.mark.parametrize(("make", "message"), MODULES.values(), ids=MODULES)
def test_modules_that_are_refused(make, message):
    with pytest.raises(interop.FormatError, match=message):
        interop.from_torch(make())


ASKED = {
    "nonlinearity": (lambda: torch.nn.RNN(D, H), {"batch_first": False}, "nonlinearity must be given"),
    "of a cell": (lambda: torch.nn.RNNCell(D, H), {}, "nonlinearity must be given"),
    "batch_first": (lambda: torch.nn.GRU(D, H), {}, "batch_first must be given for GRU"),
    "kinds": (lambda: torch.nn.Embedding(3, 2), {}, "kinds must say which"),
    "no RNN": (
        lambda: torch.nn.GRU(D, H),
        {"batch_first": True, "nonlinearity": "tanh"},
        "nonlinearity='tanh' is given",
    ),
    "no network": (lambda: torch.nn.GRUCell(D, H), {"batch_first": True}, "batch_first=True is given"),
    "no name": (lambda: torch.nn.GRUCell(D, H), {"kinds": {"out": jr.Linear}}, "kinds has 'out'"),
    "no Embedding": (lambda: torch.nn.Linear(3, 2), {"kinds": {"": jr.Embedding}}, "unexpected keys"),
    "a prefix of none": (
        lambda: torch.nn.GRU(D, H),
        {"prefix": "encoder"},
        "prefix must begin a name of .*, got 'encoder'",
    ),
}


@pytest.mark.parametrize(("make", "given", "message"), ASKED.values(), ids=ASKED)
def test_what_tensors_do_not_say_is_asked_for(make, given, message):
    with pytest.raises(interop.FormatError, match=message):
        interop.from_torch(make().state_dict(), **given)


def test_a_module_says_it_all():
    with pytest.raises(interop.FormatError, match="batch_first must not be given for a module"):
        interop.from_torch(torch.nn.GRU(D, H), batch_first=True)
    with pytest.raises(interop.FormatError, match=r"prefix 'encoder\.gru' must name a part"):
        interop.from_torch(Model(), "encoder.gru")


def test_a_projected_cell_has_no_place_in_torch():
    with pytest.raises(interop.FormatError, match="weight_hr has no place in torch"):
        interop.to_torch(jr.lstm, jr.lstm.init(jax.random.key(0), D, H, proj_size=2))


@pytest.mark.parametrize("cell", [jr.gru_reset_before, jr.lstm_peephole, jr.mgu, jr.conv_lstm], ids=repr)
def test_other_cells_have_no_place_in_torch(cell):
    with pytest.raises(interop.FormatError, match=r"spec is a \w+, which torch does not hold: it has nn\.RNNCell"):
        interop.to_torch(cell, cell.init(jax.random.key(0), D, H))


def test_params_that_do_not_fit_are_refused():
    net, linear = jr.GRU(D, H), jr.Linear(2, 2)
    params = net.init(jax.random.key(0))
    for spec, given, message in (
        (net, params | {"bias_hh_l0": jnp.ones(3)}, r"params of GRU: bias_hh_l0 has shape \(3,\)"),
        ({"a": net}, {"b": params}, r"params must have the names of spec, \['a'\], got \['b'\]"),
        ({"a": linear}, {"a": {}}, r"params\['a'\] of Linear: params has no"),
        (jr.gru, jr.lstm.init(jax.random.key(0), D, H), "must be a jaxrnn.AffineParams"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            interop.to_torch(spec, given)
