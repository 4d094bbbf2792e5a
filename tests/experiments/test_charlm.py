"""The character language model, as its user sees it: on one device, on eight, and in two processes."""

import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments._corpus import encode, make_corpus, read_text, streams
from experiments._run import UserError
from experiments.charlm import pictures
from experiments.charlm.__main__ import main
from experiments.charlm.evaluate import figures, read
from experiments.charlm.model import CELLS, CharModel
from experiments.charlm.sampling import draw, sample
from experiments.charlm.train import Config, load, loss
from jaxrnn import training

from ..marks import few_of

pytestmark = pytest.mark.timeout(300)  # for what trains in processes of its own
ROOT = pathlib.Path(__file__).parents[2]
FILES = {"metrics.jsonl", "checkpoints", "learning.png", "summary.json"}
SMALL = ["--hidden", "12", "--embedding", "5", "--batch", "8", "--length", "10"]


def train(text, out, *options):
    return main(["train", "--text", str(text), "--out", str(out), *SMALL, *map(str, options)])


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return np.array([row["loss"] for row in metrics(folder) if "loss" in row])


@pytest.fixture(scope="session")
def trained(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train(text, folder, "--steps", 150, "--evaluate-every", 50, "--checkpoint-every", 50) == 0
    return folder


def test_a_run_leaves_its_files_and_learns(trained):
    assert {path.name for path in trained.iterdir()} >= FILES
    rows = metrics(trained)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 151))
    evaluations = [row for row in rows if "validation_loss" in row]
    assert [row["step"] for row in evaluations] == [50, 100, 150]
    assert evaluations[-1]["validation_loss"] < evaluations[0]["validation_loss"] < math.log(20)
    for row in evaluations:
        assert row["validation_bits_per_character"] == pytest.approx(row["validation_loss"] / math.log(2))
        assert row["validation_perplexity"] == pytest.approx(math.exp(row["validation_loss"]))
    assert (trained / "learning.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((trained / "summary.json").read_text())["ended"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--cell", "gru", "--layers", "2", "--dropout", "0.3"],
        ["--cell", "rnn", "--embedding", "0"],
        ["--cell", "rnn_relu", "--tied", "--embedding", "12"],
        ["--accumulate", "4", "--weight-decay", "0.1", "--patience", "1"],
    ],
)
def test_models_of_all_kinds(text, tmp_path, capsys, options):
    assert train(text, tmp_path / "run", "--steps", 60, "--evaluate-every", 30, "--watch", 20, *options) == 0
    out = capsys.readouterr().out
    assert "--- step 30 ---" in out
    assert "finished at step 60" in out or "stopped at step" in out
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    assert main(["eval", "--run", str(tmp_path / "run"), "--part", "test"]) == 0
    assert main(["sample", "--run", str(tmp_path / "run"), "--length", "5", "--temperature", "0"]) == 0


@pytest.mark.slow
def test_bfloat16_learns_as_float32_does(text, trained, tmp_path):
    options = "--dtype", "bfloat16", "--steps", 150, "--evaluate-every", 50
    assert train(text, tmp_path / "run", *options) == 0
    ours, theirs = (metrics(folder)[-1]["validation_loss"] for folder in (tmp_path / "run", trained))
    assert ours == pytest.approx(theirs, rel=0.01)
    assert not np.array_equal(losses(tmp_path / "run"), losses(trained))
    model, params = restore(tmp_path / "run")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(model.initial_state(params))} == {jnp.dtype("bfloat16")}
    assert main(["eval", "--run", str(tmp_path / "run")]) == 0
    assert main(["sample", "--run", str(tmp_path / "run"), "--length", "5"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("embedding_dim", [0, 4])
def test_the_gradient_of_bfloat16_is_near_that_of_float32(embedding_dim):
    (model, params), (low, _) = (
        model_and_params(embedding_dim=embedding_dim, dtype=d) for d in ("float32", "bfloat16")
    )
    ids = np.asarray(jax.random.randint(jax.random.key(1), (3, 9), 0, 7))
    batch = {"ids": ids, "begins": np.zeros(3, bool)}

    def gradient(model):
        state = model.initial_state(params, (3,))
        return jax.value_and_grad(lambda p: loss(model, p, state, batch, None), has_aux=True)(params)

    ((ours, (state, _)), grads), ((theirs, _), expected) = gradient(low), gradient(model)
    assert ours.dtype == theirs.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("bfloat16")}
    assert ours == pytest.approx(float(theirs), rel=0.005)
    assert ours != theirs
    difference = jax.tree.map(lambda a, b: a - b, grads, expected)
    assert optax.tree.norm(difference) < 0.02 * optax.tree.norm(expected)


def test_the_standard_library_is_the_default_text():
    text = read_text(None)
    assert "def namedtuple(" not in text[:100]
    assert len(text) > 1_000_000
    assert "import" in text


def test_a_folder_is_its_files_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("2")
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "c.txt").write_text("3")
    assert read_text(str(tmp_path)) == "123"


@settings(max_examples=30)
@given(st.text(min_size=1))
def test_encoding_keeps_every_character(text):
    corpus = make_corpus(text, (100.0, 0.0, 0.0))
    assert "".join(corpus.vocabulary[i] for i in corpus.ids) == text
    assert list(corpus.vocabulary) == sorted(set(text))


def test_parts_are_by_position():
    corpus = make_corpus("abcdefghij" * 10, (80.0, 15.0, 5.0))
    parts = [corpus.part(name) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [80, 15, 5]
    np.testing.assert_array_equal(np.concatenate(parts), corpus.ids)


@settings(deadline=None)
@given(st.integers(30, 200), st.integers(1, 4), st.integers(1, 6), st.integers(0, 3))
def test_streams_go_through_the_text(size, batch, length, seed):
    """Each stream's chunks follow each other; inputs and targets are one apart; every epoch begins anew."""
    steps = (size - 1) // (batch * length)
    ids = np.arange(size)
    chunk = streams(ids, batch, length, seed)(0, 2 * steps)
    assert chunk["ids"].shape == (2 * steps, batch, length + 1)
    np.testing.assert_array_equal(np.diff(chunk["ids"], axis=-1), 1)
    np.testing.assert_array_equal(chunk["begins"].all(axis=1), np.arange(2 * steps) % steps == 0)
    np.testing.assert_array_equal(chunk["begins"].any(axis=1), chunk["begins"].all(axis=1))
    for epoch in (0, 1):
        rows = chunk["ids"][epoch * steps : (epoch + 1) * steps]
        np.testing.assert_array_equal(rows[1:, :, 0], rows[:-1, :, -1])
        targets = rows[:, :, 1:].ravel()
        assert len(set(targets)) == len(targets) == batch * length * steps
    again = streams(ids, batch, length, seed)(steps, 2 * steps)
    np.testing.assert_array_equal(again["ids"], chunk["ids"][steps:])


def model_and_params(**options):
    options = {
        "kind": "lstm",
        "hidden_size": 6,
        "num_layers": 2,
        "embedding_dim": 4,
        "tied": False,
        "dropout": 0.0,
    } | options
    model = CharModel(7, **options)
    return model, model.init(jax.random.key(0))


@pytest.mark.parametrize(("kind", "embedding_dim"), few_of([("gru", 0), ("lstm", 4)], CELLS, [0, 4]))
def test_a_step_at_a_time_is_the_sequence(kind, embedding_dim):
    model, params = model_and_params(kind=kind, embedding_dim=embedding_dim)
    ids = jax.random.randint(jax.random.key(1), (9, 3), 0, 7)
    state = model.initial_state(params, (3,))
    final, logits = model.apply(params, state, ids)
    for t in range(9):
        state, expected = model.step(params, state, ids[t])
        np.testing.assert_allclose(logits[t], expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), final, state)


def test_the_state_is_carried_and_reset():
    """The loss of a chunk is that of the text before it read too; where a stream begins, of nothing before."""
    model, params = model_and_params()
    ids = np.asarray(jax.random.randint(jax.random.key(1), (2, 11), 0, 7))
    zero, key = model.initial_state(params, (2,)), jax.random.key(0)
    keep, begin = np.array([False, False]), np.array([True, False])
    of = jax.jit(functools.partial(loss, model, params))
    first, (state, _) = of(zero, {"ids": ids[:, :6], "begins": keep}, key)
    second, _ = of(state, {"ids": ids[:, 5:], "begins": keep}, key)
    whole, _ = of(zero, {"ids": ids, "begins": keep}, key)
    np.testing.assert_allclose((first + second) / 2, whole, rtol=1e-5)
    mixed = jax.tree.map(lambda a: a.at[0].set(0), state)
    expected, _ = of(mixed, {"ids": ids[:, 5:], "begins": keep}, key)
    reset, _ = of(state, {"ids": ids[:, 5:], "begins": begin}, key)
    np.testing.assert_allclose(reset, expected, rtol=1e-6)
    assert abs(float(reset - second)) > 1e-4


def test_dropout_drops_the_given_share_the_same_at_every_time_step():
    model, _ = model_and_params(dropout=0.3)
    dropped = model._drop(jax.random.key(0), 0, jnp.ones((5, 100, 100)))
    assert bool((dropped == dropped[0]).all())
    assert abs(float((dropped == 0).mean()) - 0.3) < 0.02
    np.testing.assert_allclose(dropped.max(), 1 / 0.7, rtol=1e-6)
    assert model._drop(None, 0, jnp.ones(3)) is not None


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("tied", [False, True])
def test_loss_and_gradient_are_torch_s(kind, tied):
    torch = pytest.importorskip("torch")
    model, params = model_and_params(kind=kind, tied=tied, embedding_dim=6)
    ids = np.asarray(jax.random.randint(jax.random.key(1), (9, 3), 0, 7))
    batch = {"ids": ids.T, "begins": np.zeros(3, bool)}
    state = model.initial_state(params, (3,))
    (ours, _), gradient = jax.value_and_grad(lambda p: loss(model, p, state, batch, None), has_aux=True)(params)

    embedding, linear = torch.nn.Embedding(7, 6), torch.nn.Linear(6, 7)
    net = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind](6, 6, 2)
    if tied:
        linear.weight = embedding.weight
    with torch.no_grad():
        embedding.weight.copy_(torch.tensor(np.asarray(params["embedding"]["weight"])))
        for name, value in params["linear"].items():
            getattr(linear, name).copy_(torch.tensor(np.asarray(value)))
        for layer, cell in enumerate(params["cells"]):
            for name, value in cell._asdict().items():
                if value is not None:
                    getattr(net, f"{name}_l{layer}").copy_(torch.tensor(np.asarray(value)))
    logits = linear(net(embedding(torch.tensor(ids[:-1])))[0])
    theirs = torch.nn.functional.cross_entropy(logits.reshape(-1, 7), torch.tensor(ids[1:]).reshape(-1).long())
    theirs.backward()
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient["embedding"]["weight"], embedding.weight.grad, atol=1e-6)
    np.testing.assert_allclose(gradient["linear"]["bias"], linear.bias.grad, atol=1e-6)
    np.testing.assert_allclose(gradient["cells"][1].weight_hh, net.weight_hh_l1.grad, atol=1e-6)


def test_eval_is_the_mean_over_every_character_read_once(trained, text, capsys):
    capsys.readouterr()
    assert main(["eval", "--run", str(trained)]) == 0
    result = json.loads((trained / "eval.json").read_text())
    whole = text.read_text()
    validation = whole[round(0.9 * len(whole)) : round(0.95 * len(whole))]
    config = training.RunFolder(trained).saved_config()
    model, params = restore(trained)
    ids, state, total = encode(validation, config["vocabulary"]), model.initial_state(params), 0.0
    step = jax.jit(model.step)
    for now, following in itertools.pairwise(ids):
        state, logits = step(params, state, jnp.asarray(now))
        logits = np.asarray(logits, np.float64)
        total += np.log(np.exp(logits).sum()) - logits[following]
    assert result["characters"] == len(validation) - 1
    assert result["loss"] == pytest.approx(total / (len(ids) - 1), rel=1e-4)
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert f"{result['loss']:.4f} nats" in capsys.readouterr().out
    assert (trained / "heatmap.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_an_evaluation_is_not_replaced_unasked(trained, tmp_path, capsys):
    copy = pathlib.Path(shutil.copytree(trained, tmp_path / "copy"))
    for name in ("eval.json", "heatmap.png"):
        (copy / name).unlink(missing_ok=True)
    assert main(["eval", "--run", str(copy)]) == 0
    before = (copy / "eval.json").read_bytes()
    assert main(["eval", "--run", str(copy), "--part", "test"]) == 2
    assert "already holds a run (eval.json, heatmap.png): replace it with --overwrite" in capsys.readouterr().err
    assert (copy / "eval.json").read_bytes() == before
    assert main(["eval", "--run", str(copy), "--part", "test", "--out", str(tmp_path / "test")]) == 0
    assert json.loads((tmp_path / "test" / "eval.json").read_text())["of"] == "test part"
    assert main(["eval", "--run", str(copy), "--part", "test", "--overwrite"]) == 0
    assert (copy / "eval.json").read_bytes() == (tmp_path / "test" / "eval.json").read_bytes()


@pytest.mark.slow
def test_the_best_parameters_can_be_read(text, tmp_path, capsys):
    """The first step of a warm-up changes nothing, the next two ruin the model: the best are not the last."""
    options = ["--steps", 3, "--evaluate-every", 1, "--lr", 1000, "--warmup", 1]
    assert train(text, tmp_path, *options) == 0
    evaluations = [row for row in metrics(tmp_path) if "validation_loss" in row]
    least = min(evaluations, key=lambda row: row["validation_loss"])
    assert json.loads((tmp_path / "summary.json").read_text())["best_step"] == least["step"] == 1
    read_losses = []
    for best in ([], ["--best"]):
        assert main(["eval", "--run", str(tmp_path), "--overwrite", *best]) == 0
        read_losses.append(json.loads((tmp_path / "eval.json").read_text())["loss"])
    assert read_losses[1] < 0.1 * read_losses[0]
    assert read_losses[1] == pytest.approx(least["validation_loss"], rel=0.01)
    capsys.readouterr()
    assert main(["sample", "--run", str(tmp_path), "--best", "--length", "5"]) == 0
    assert len(capsys.readouterr().out) == 7  # a line break first and last


def test_a_text_that_has_moved_is_the_same_text(trained, text, tmp_path):
    copy, moved = pathlib.Path(shutil.copytree(trained, tmp_path / "copy")), tmp_path / "moved.txt"
    shutil.copy(text, moved)
    assert train(moved, copy, "--steps", 150, "--evaluate-every", 50, "--checkpoint-every", 50, "--resume") == 0


def restore(folder):
    run = training.RunFolder(folder)
    saved = run.saved_config()
    names = {field.name for field in dataclasses.fields(Config)}
    return load(Config(**{name: value for name, value in saved.items() if name in names}), saved["vocabulary"], run)


@pytest.mark.parametrize("size", [2, 4096, 4097, 4098, 9000])
def test_reading_in_blocks_is_reading_at_once(size):
    model, params = model_and_params(num_layers=1)
    ids = np.random.RandomState(0).randint(0, 7, size).astype(np.uint8)
    _, logits = model.apply(params, model.initial_state(params), jnp.asarray(ids[:-1]))
    expected = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), ids[1:, None].astype(int), 1)[:, 0]
    np.testing.assert_allclose(read(model, params, ids), expected, rtol=1e-4, atol=1e-5)


def test_figures():
    assert figures(math.log(2)) == {"loss": math.log(2), "bits_per_character": 1.0, "perplexity": pytest.approx(2.0)}
    assert figures(800.0)["perplexity"] == math.inf  # no OverflowError, which would end a training


def shares(temperature, top_k, top_p, count=4000):
    logits = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))
    keys = jax.random.split(jax.random.key(0), count)
    drawn = jax.vmap(lambda key: draw(key, logits, temperature, top_k, top_p))(keys)
    return np.bincount(drawn, minlength=4) / count


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "expected"),
    [
        (1.0, None, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (0.5, None, 1.0, np.array([0.01, 0.16, 0.04, 0.09]) / 0.3),
        (0.0, None, 1.0, [0, 1, 0, 0]),
        (1.0, 1, 1.0, [0, 1, 0, 0]),
        (1.0, 2, 1.0, [0, 4 / 7, 0, 3 / 7]),
        (1.0, 100, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (1.0, None, 0.39, [0, 1, 0, 0]),
        (1.0, None, 0.69, [0, 4 / 7, 0, 3 / 7]),
        (1.0, None, 0.71, [0, 4 / 9, 2 / 9, 3 / 9]),
        (1.0, 3, 0.69, [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_draws_follow_the_distribution(temperature, top_k, top_p, expected):
    got = shares(temperature, top_k, top_p)
    np.testing.assert_allclose(got, expected, atol=4 * 0.5 / math.sqrt(4000))
    assert ((got == 0) == (np.array(expected) == 0)).all()


def test_samples_are_of_their_seed_and_follow_the_prime(trained):
    model, params = restore(trained)
    vocabulary = training.RunFolder(trained).saved_config()["vocabulary"]
    texts = ["".join(sample(model, params, vocabulary, "the cat", 30, seed=seed)) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    greedy = "".join(sample(model, params, vocabulary, "the cat", 12, temperature=0))
    state, expected = model.initial_state(params), ""
    for character in "the cat":
        state, logits = model.step(params, state, jnp.asarray(vocabulary.index(character)))
    for _ in range(12):
        expected += vocabulary[int(jnp.argmax(logits))]
        state, logits = model.step(params, state, jnp.asarray(vocabulary.index(expected[-1])))
    assert greedy == expected


def test_the_most_persistent_unit():
    time_ = np.arange(400)
    activity = np.stack([np.where(time_ % 2, 1.0, -1.0), 0.1 * np.ones(400), np.sign(np.sin(time_ / 40))], axis=1)
    assert pictures.most_persistent_unit(activity) == 2


def test_resuming_gives_the_run_that_was_never_stopped(trained, text, tmp_path):
    copy = pathlib.Path(shutil.copytree(trained, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints" / "00000150")
    options = ["--steps", 150, "--evaluate-every", 50, "--checkpoint-every", 50]
    assert train(text, copy, *options, "--resume") == 0
    for a, b in zip(metrics(copy), metrics(trained), strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    jax.tree.map(np.testing.assert_array_equal, restore(copy)[1], restore(trained)[1])


# What runs in processes of its own


def command(text, out, *options):
    return [
        *(sys.executable, "-m", "experiments.charlm", "train", "--text", str(text), "--out", str(out), *SMALL),
        *("--steps", "300", "--evaluate-every", "100", "--checkpoint-every", "100", *map(str, options)),
    ]


@pytest.fixture
def train_apart(text, start):
    """Start a training in a process of its own."""

    def train_apart(out, *options, stdout=None, **environment):
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
        return start(*command(text, out, *options)[1:], env=environment, stdout=stdout, stderr=subprocess.PIPE)

    return train_apart


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors


@pytest.fixture(scope="session")
def one_device(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    assert main(command(text, folder)[3:]) == 0
    return folder


def assert_same_run(folder, one_device):
    ours, theirs = losses(folder), losses(one_device)
    assert abs(ours[0] - theirs[0]) < 1e-6
    assert abs(metrics(folder)[0]["grad_norm"] - metrics(one_device)[0]["grad_norm"]) < 1e-6
    assert len(ours) == 300
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_eight_devices_train_as_one(train_apart, tmp_path, one_device):
    finish(train_apart(tmp_path / "run", "--mesh", "data=8", JAX_NUM_CPU_DEVICES="8"))
    assert_same_run(tmp_path / "run", one_device)


def two_processes(train_apart, out, *options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    cluster = ["--coordinator", address, "--processes", 2, "--process-id"]
    return [train_apart(out, *options, *cluster, index) for index in range(2)]


def wait_for(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def has_begun(folder):
    return lambda: (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").stat().st_size > 0


LONG = ["--steps", 100_000, "--evaluate-every", 100_000, "--checkpoint-every", 100_000]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "status", "word"),
    [
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_ends_with_a_checkpoint(train_apart, tmp_path, signum, status, word):
    process = train_apart(tmp_path, *LONG, stdout=subprocess.PIPE)
    wait_for(has_begun(tmp_path))
    process.send_signal(signum)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, "")
    (step,) = training_steps = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()]
    assert printed.startswith(f"{word} at step {step} after ")
    assert len(losses(tmp_path)) == step, training_steps
    assert json.loads((tmp_path / "summary.json").read_text())["ended"] == word


@pytest.mark.slow
def test_where_ctrl_c_is_ignored_the_run_says_how_to_stop_it(text, tmp_path):
    """As a job that a script starts with `&`."""
    ignoring = ["env", "--ignore-signal=INT", *command(text, tmp_path, *LONG)]
    with subprocess.Popen(ignoring, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(has_begun(tmp_path))
        process.send_signal(signal.SIGINT)
        size = (tmp_path / "metrics.jsonl").stat().st_size
        wait_for(lambda: (tmp_path / "metrics.jsonl").stat().st_size > 2 * size)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert errors.endswith(f"Ctrl-C is ignored, as in the background: `kill {process.pid}` ends the training\n")
    assert errors.count("\n") == 1
    assert process.returncode == 143


@pytest.mark.slow
def test_two_processes_end_together_if_one_gets_the_signal(train_apart, tmp_path):
    processes = two_processes(train_apart, tmp_path, *LONG)
    wait_for(has_begun(tmp_path))
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 143, errors
    (step,) = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()]
    assert len(losses(tmp_path)) == step


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--resume"]])
def test_of_two_on_one_folder_one_is_told(train_apart, tmp_path, options):
    processes = [train_apart(tmp_path / "run", *options) for _ in range(2)]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    ends = sorted(zip([process.returncode for process in processes], errors, strict=True))
    if [status for status, _ in ends] == [0, 2]:
        assert ends[1][1].count("\n") == 1
        assert "another process is running in" in ends[1][1] or "already holds a run" in ends[1][1]
    else:  # one had ended before the other began
        assert options
        assert [status for status, _ in ends] == [0, 0]
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 301))


@pytest.mark.slow
def test_two_processes_train_as_one(train_apart, tmp_path, one_device):
    finish(*two_processes(train_apart, tmp_path / "run"))
    assert_same_run(tmp_path / "run", one_device)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_resumes_on_one(text, train_apart, tmp_path, one_device):
    folder = tmp_path / "run"
    processes = two_processes(train_apart, folder)
    deadline = time.monotonic() + 200
    while not (folder / "checkpoints" / "00000100").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert main([*command(text, folder)[3:], "--resume"]) == 0
    assert_same_run(folder, one_device)


GRADIENTS = """
import sys, jax, numpy as np, optax
from jaxrnn import training
from tests.training.task import BATCH, HIDDEN, batches, loss, make
assert len(jax.devices()) == 8
ends = []
for mesh, parts in ((None, 1), (training.data_mesh(8), 1), (training.data_mesh(4), 2)):
    carry = np.zeros((BATCH, HIDDEN), np.float32)
    result = training.fit(loss, make(), optax.sgd(1.0), batches, 1, carry=carry, chunk=1, mesh=mesh, accumulate=parts)
    ends.append((result.state.params, result.state.carry, result.history[0]["loss"]))
for other in ends[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), 0, 1e-6), ends[0], other)
"""


@pytest.mark.slow
def test_gradients_on_a_mesh_are_those_of_one_device():
    """One step of gradient descent with rate 1: the parameters are the gradient."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", GRADIENTS], cwd=ROOT, env=environment, check=True, timeout=200)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_keeps_what_was_saved(text, train_apart, tmp_path):
    """A first run fills the folder up to step 100; the second can write no file of more than 20 kB."""
    folder = tmp_path / "run"
    process = train_apart(folder)
    deadline = time.monotonic() + 100
    while not (folder / "checkpoints" / "00000100").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    saved = sorted(path.name for path in (folder / "checkpoints").iterdir() if path.name.isdecimal())
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash", *command(text, folder, "--resume")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=200,
    )
    assert limited.returncode != 0
    assert limited.stderr.startswith("charlm: error: cannot write")
    assert limited.stderr.count("\n") == 1
    assert (
        sorted(path.name for path in (folder / "checkpoints").iterdir() if path.name.isdecimal())[: len(saved)] == saved
    )
    assert main([*command(text, folder)[3:], "--resume"]) == 0


# What a user gets wrong


def test_bad_texts_are_one_line(tmp_path, capsys):
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "empty.txt").write_text("")
    cases = {
        "missing.txt": "cannot read",
        "latin.txt": "latin.txt is not UTF-8: byte 0xef at position 2",
        "short.txt": "the training part has 8 characters, 8 streams of 10 need 81",
        "empty.txt": "holds no text",
    }
    for name, message in cases.items():
        assert train(tmp_path / name, tmp_path / "run") == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_bad_runs_are_one_line(text, trained, tmp_path, capsys):
    cases = [
        (["--mesh", "data=4096"], "a mesh of 4096 devices was asked for, there are"),
        (
            ["--out", str(trained)],
            "go on with --resume, replace it with --overwrite, or name another folder with --out",
        ),
        (["--out", str(trained), "--resume"], "has steps=150, and cannot go on with steps=2000"),
        (["--tied"], "--tied needs --embedding as wide as --hidden: got 5 and 12"),
        (["--accumulate", "3"], "--batch must be a multiple of --accumulate times the number of devices"),
        (["--split", "99.95/0.05/0"], "the validation part has 6 characters, too few for 8 streams"),
        (["--split", "100/0/0", "--patience", "2"], "the validation part has 0 characters"),
        (["--processes", "2"], "--coordinator, --processes and --process-id go together"),
    ]
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    for options, message in cases:
        options = [*options, "--evaluate-every", "50", "--steps", "2000"]
        assert main(["train", "--text", str(text), "--out", str(tmp_path / "run"), *SMALL, *options]) != 0
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "options",
    [
        ["--split", "90/20/5"],
        ["--split", "0/50/50"],
        ["--mesh", "model=2"],
        ["--dropout", "1"],
        ["--lr", "0"],
        ["--steps", "none"],
        ["--resume", "--overwrite"],
        ["--out", ""],
    ],
)
def test_bad_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", *options])
    assert exit_.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_unknown_characters_are_named(trained, tmp_path, capsys):
    assert main(["sample", "--run", str(trained), "--prime", "the 猫 Q"]) == 2
    error = capsys.readouterr().err
    assert "does not have 'Q' (U+0051), '猫' (U+732B)" in error
    (tmp_path / "other.txt").write_text("the ✗")
    options = ["--text", str(tmp_path / "other.txt"), "--out", str(tmp_path / "eval")]
    assert main(["eval", "--run", str(trained), *options]) == 2
    assert "'✗' (U+2717)" in capsys.readouterr().err
    with pytest.raises(UserError, match="and 16 more"):
        encode("abcdefghijklmnopqrstuvwxyz", "é")


def test_bad_requests_of_a_trained_run(trained, tmp_path, capsys):
    other = tmp_path / "other"
    training.fit(
        lambda params, carry, batch, key: (params**2, (carry, {})),
        jnp.ones(()),
        optax.sgd(0.1),
        lambda start, stop: np.zeros(stop - start),
        1,
        chunk=1,
        folder=training.RunFolder(other, {"experiment": "sine"}),
    )
    cases = [
        (["eval", "--run", str(tmp_path / "none")], "holds no checkpoint"),
        (["sample", "--run", str(tmp_path / "none")], "holds no checkpoint"),
        (["sample", "--run", str(trained), "--prime", ""], "--prime must hold at least one character"),
        (["eval", "--run", str(trained), "--unit", "12"], "--unit must lie in [0, 12), got 12"),
        (["eval", "--run", str(trained), "--text", "x", "--part", "test"], "--part is of the run's own text"),
        (["eval", "--run", str(other)], f"{other} holds a run of sine, expected one of charlm"),
        (["sample", "--run", str(other)], f"{other} holds a run of sine, expected one of charlm"),
        (["train", "--out", str(other), "--resume"], f"{other} holds a run of sine, expected one of charlm"),
    ]
    for arguments, message in cases:
        assert main(arguments) != 0
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
