"""The hello experiment, as its user and as PyTorch see it."""

import io
import json
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import _run
from experiments.hello.__main__ import main
from experiments.hello.model import EMBEDDING, FORMS, HIDDEN, LAYERS
from experiments.hello.train import train
from experiments.hello.words import Words

from ..marks import slow_but

ROOT = pathlib.Path(__file__).parents[2]
HELLO = Words("hello", "ohlol")
EPOCHS = 100  # the default: every test that trains in this process shares its compiled steps


def files(folder):
    return {str(file.relative_to(folder)) for file in folder.iterdir()}


@pytest.mark.slow
def test_a_run_prints_each_epoch_and_leaves_its_files(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 0
    assert files(tmp_path) == {"hello.png", "summary.json", *FORMS}
    assert (tmp_path / "hello.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["vocabulary"] == "ehlo"
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Predicted")]
    for index, form in enumerate(FORMS):
        rows = [json.loads(line) for line in (tmp_path / form / "metrics.jsonl").read_text().splitlines()]
        words = ["".join("ehlo"[i] for i in row["predicted"][0]) for row in rows]
        assert printed[index * EPOCHS : (index + 1) * EPOCHS] == [
            f"Predicted: {word}, Epoch [{epoch}/{EPOCHS}] loss = {row['loss']:.4f}"
            for epoch, (word, row) in enumerate(zip(words, rows, strict=True), start=1)
        ]
        assert summary["forms"][form]["first_epoch"] == words.index("ohlol") + 1
        assert summary["forms"][form]["predicted"] == words[-1] == "ohlol"
        assert (tmp_path / form / "checkpoints" / f"{EPOCHS:08d}").is_dir()


@pytest.mark.parametrize("form", slow_but(("rnn",), FORMS))
def test_nineteen_of_twenty_seeds_spell_the_word(form):
    last = [HELLO.spell(train(form, HELLO, EPOCHS, seed).predictions[-1]) for seed in range(20)]
    assert last.count("ohlol") >= 19, last


def torch_form(torch, form, params):
    """The notes' model in torch with our parameters: from ids (1, T) to logits (1, T, V), and its tensors."""
    nn = torch.nn
    if form == "cell":
        model = nn.ModuleDict({"network": nn.RNNCell(4, 4)})
        params = {"network": params._asdict()}
    elif form == "rnn":
        model = nn.ModuleDict({"network": nn.RNN(4, 4)})
        params = {"network": params}
    else:
        network = {"embedding": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[form]
        model = nn.ModuleDict(
            {
                "embedding": nn.Embedding(4, EMBEDDING),
                "network": network(EMBEDDING, HIDDEN, LAYERS, batch_first=True),
                "linear": nn.Linear(HIDDEN, 4),
            }
        )
    for name, module in model.items():
        module.load_state_dict({key: torch.tensor(np.asarray(a)) for key, a in params[name].items()})

    def logits(ids):
        if form == "cell":
            h, hs = torch.zeros(1, 4), []
            for x in nn.functional.one_hot(ids[0], 4).float():
                h = model["network"](x[None], h)
                hs.append(h)
            return torch.stack(hs, dim=1)
        if form == "rnn":
            return model["network"](nn.functional.one_hot(ids.T, 4).float())[0].swapaxes(0, 1)
        return model["linear"](model["network"](model["embedding"](ids))[0])

    return logits, list(model.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_training_is_torch_s(form):
    """From the same parameters: the same losses and the same spelling, epoch by epoch."""
    torch = pytest.importorskip("torch")
    run = train(form, HELLO, EPOCHS, seed=3)
    logits, parameters = torch_form(torch, form, _run.init(FORMS[form].model(4), jax.random.key(3)))
    one_hot = form in ("cell", "rnn")
    optimizer = torch.optim.AdamW(parameters, 0.1 if form == "cell" else 0.05, weight_decay=0.5 if one_hot else 0.0)
    source, target = torch.tensor(HELLO.source_ids[None]).long(), torch.tensor(HELLO.target_ids).long()
    for epoch in range(10):
        y = logits(source)[0]
        loss = torch.nn.functional.cross_entropy(y, target, reduction="sum" if form == "cell" else "mean")
        per_character = loss.item() / (len(target) if form == "cell" else 1)
        np.testing.assert_allclose(run.losses[epoch], per_character, rtol=1e-4)
        np.testing.assert_array_equal(run.predictions[epoch], y.argmax(dim=-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


WORDS = {
    "Cyrillic": ("привет", "тевирп"),
    "one character": ("a", "a"),
    "signs of TeX": ("$x_1$", "$\\f$\n"),
    "long, beyond the font": ("日本語🙂" * 20, "🙂語本日" * 20),
}


@pytest.mark.parametrize("name", slow_but(("signs of TeX",), WORDS))
def test_words_of_any_characters(tmp_path, capsys, name):
    source, target = WORDS[name]
    assert (
        main(["--source", source, "--target", target, "--form", "cell", "--epochs", "3", "--out", str(tmp_path)]) == 0
    )
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["vocabulary"] == "".join(sorted(set(source + target)))
    assert len(summary["forms"]["cell"]["predicted"]) == len(source)
    out, error = capsys.readouterr()
    assert out.count("Predicted: ") == 3
    assert "Traceback" not in error
    assert (tmp_path / "hello.png").exists()


def test_a_terminal_without_the_characters_shows_escapes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert _run.exit_status("p", lambda: print("é") or 0) == 0
    assert stream.buffer.getvalue() == b"\\xe9\n"


BAD_WORDS = {
    "unequal": (["--target", "ohlo"], "equally long, got 5 and 4 characters ('hello', 'ohlo')"),
    "empty source": (["--source", "", "--target", ""], "--source is empty"),
    "empty target": (["--target", ""], "--target is empty"),
}


@pytest.mark.parametrize(("options", "message"), BAD_WORDS.values(), ids=BAD_WORDS)
def test_bad_words_are_one_line_and_leave_nothing(tmp_path, capsys, options, message):
    assert main([*options, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options", [["--form", "elman"], ["--epochs", "0"], ["--seed", "-1"], ["--seed", "4294967296"]]
)
def test_bad_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_an_earlier_run_is_not_overwritten(tmp_path, capsys):
    options = ["--form", "cell", "--epochs", str(EPOCHS), "--out", str(tmp_path)]
    assert main(options) == 0
    before = (tmp_path / "cell" / "metrics.jsonl").read_text()
    assert main(["--form", "rnn", "--out", str(tmp_path)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "cell" / "metrics.jsonl").read_text() == before
    (tmp_path / "mine.txt").write_text("kept")
    assert main([*options, "--seed", "1", "--overwrite"]) == 0
    assert (tmp_path / "cell" / "metrics.jsonl").read_text() != before
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_run_is_reproducible(tmp_path):
    for name in ("a", "b"):
        assert main(["--form", "rnn", "--out", str(tmp_path / name)]) == 0
    for file in ("a", "b"):
        summary = json.loads((tmp_path / file / "summary.json").read_text())
        del summary["arguments"]["out"]
        (tmp_path / file / "summary.json").write_text(json.dumps(summary))
    for file in ("summary.json", "hello.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_traceback(start):
    program = "import sys; from experiments import _run; sys.exit(_run.exit_status('p', lambda: print('x' * 10**6)))"
    process = start("-c", program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_what_was_done(tmp_path, monkeypatch):
    said = []

    def printable(line):
        said.append(line)
        if len(said) == 1:
            signal.raise_signal(signal.SIGINT)
        return line

    monkeypatch.setattr(_run, "printable", printable)
    assert main(["--epochs", "300", "--out", str(tmp_path)]) == 130
    assert files(tmp_path) == {"hello.png", "summary.json", "cell"}
    assert json.loads((tmp_path / "summary.json").read_text())["forms"]["cell"]["epochs_done"] == 100
    assert (tmp_path / "cell" / "checkpoints" / "00000100").is_dir()
