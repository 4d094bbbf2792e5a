"""`python -m experiments.gradients online`: its streams, its learners, what it leaves."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _run
from experiments.gradients import compare, compare_picture, curves, online, online_tasks
from experiments.gradients.__main__ import main
from experiments.gradients.online_picture import Points
from jaxrnn import gradients

from ..marks import slow_but


@pytest.mark.parametrize("longest", [1, 3, 9, online_tasks.LONGEST + 1])
def test_strings_are_said_again_once_they_are_over(longest):
    steps = 60
    xs, ys = online_tasks.strings(np.random.default_rng(0), steps, longest)
    assert xs.shape == (steps, 3)
    assert (xs.sum(axis=1) == 1).all()
    heard, again, lengths = [], [], []
    for x, symbol, weight in zip(xs, ys["symbol"], ys["weight"], strict=True):
        if x[2]:
            again.append(int(symbol))
            assert weight > 0
        else:
            if again:
                assert again == heard
                lengths.append(len(heard))
                heard, again = [], []
            heard.append(int(x.argmax()))
            assert weight == 0
    assert again == heard[: len(again)]
    assert set(lengths) <= set(range(max(1, longest - 5), min(longest, 20) + 1))
    assert ys["weight"].mean() == pytest.approx(1)


def test_strings_become_longer_when_they_are_learnt():
    stream = online_tasks.Copies(streams=4, every=5, seed=0)
    xs, ys = stream.batches(0, 10)
    assert xs.shape == (10, 4, 5, 3)
    assert ys["weight"].shape == (10, 4, 5)
    one_after_another = np.asarray(xs).swapaxes(0, 1).reshape(4, 50, 3)
    np.testing.assert_array_equal(one_after_another[:, :, 2], np.tile([0, 1], (4, 25)))  # of one symbol each
    assert [stream.heard(bits) for bits in (0.9, 0.15, 0.1, 0.2, 0.1)] == [0, 0, 1, 1, 2]
    assert [stream.heard(0) for _ in range(30)][-1] == online_tasks.LONGEST
    assert stream.batches(10, 20)[0].shape == xs.shape


def test_a_text_is_asked_for_what_comes_next(tmp_path):
    text = "abacabadabacabae" * 10
    (tmp_path / "text.txt").write_text(text)
    task = online_tasks.reading(str(tmp_path / "text.txt"))
    xs, ys = task.stream(streams=2, every=3, seed=0).batches(0, 4)
    assert xs.shape == (4, 2, 3, 5)
    held_out, asked = task.held_out
    assert held_out.shape == (1, 7, 5)  # 5% of 160, the last one asked for alone
    pairs = [(xs[:, stream].reshape(-1, 5), ys["symbol"][:, stream].ravel()) for stream in range(2)]
    for x, symbols in [*pairs, (held_out[0], asked["symbol"][0])]:
        read, following = ("".join("abcde"[i] for i in ids) for ids in (np.asarray(x).argmax(-1), symbols))
        assert read[1:] == following[:-1]
        assert read + following[-1] in text
    assert read + following[-1] == text[152:]
    counts = np.array([text[:152].count(letter) for letter in text[153:]])
    unigram = -np.log2((counts + 1) / (152 + 5)).mean()
    assert task.levels() == pytest.approx({"chance": np.log2(5), "unigram": unigram})


def test_what_is_missing_is_measured_in_bits():
    """A network of zeros knows nothing: one bit of each of two symbols, log2(5) of one of five."""
    for task in (online_tasks.copying(), online_tasks.Task(5, 5)):
        params = jax.tree.map(jnp.zeros_like, online_tasks.init("lstm", 3, task, jax.random.key(0)))
        xs, ys = online_tasks.copying().held_out
        xs = np.pad(xs, ((0, 0), (0, 0), (0, task.inputs - 3)))
        found = online_tasks.missing("lstm", 3, task.outputs, params, (xs, ys))
        assert found == pytest.approx(np.log2(task.outputs), rel=1e-5)


def test_every_online_learner_is_there():
    assert {name.split()[0] for name in online.LEARNERS} - {"bptt"} == {*gradients.online.__all__} - {
        "Learner",
        "batched",
    }
    assert all(way.steps % way.every == 0 for way in online.LEARNERS.values())
    assert len({curves.color_of(name) for name in (*online.LEARNERS, *compare.ALGORITHMS)}) == len(curves.COLORS)


@pytest.mark.parametrize("name", slow_but(("bptt 50", "tbptt 1, 10", "rtrl", "eprop"), online.LEARNERS))
def test_every_learner_takes_both_tasks(name):
    """Traced: gradients like the parameters, and a loss in bits of a symbol."""
    way, task = online.LEARNERS[name], online_tasks.copying()
    batch = jax.tree.map(lambda a: a[0], task.stream(2, way.every, 0).batches(0, 50 // way.every))
    for cell in ("gru", "lstm"):
        arguments = argparse.Namespace(cell=cell, hidden=3, batch=2, seed=0)
        gradient = online._gradient(arguments, task, way)
        params, carry = jax.eval_shape(lambda a=arguments, g=gradient: online._begin(a, task, g))
        (value, _), grads = jax.eval_shape(gradient.function, params, carry, batch, jax.random.key(0))
        assert value.shape == ()
        assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)


def learnt(*bits, longest=1, failed=()):
    count = len(bits)
    return online.Learnt(0.1, Points([500] * count, [0.5] * count, [longest] * count, list(bits), list(failed)))


def test_the_best_rate_is_the_one_that_comes_furthest():
    tried = [learnt(), learnt(1.0, 0.1, failed=["inf"]), learnt(1.0, 0.5), learnt(1.0, 0.4), learnt(0.6, longest=2)]
    for count in range(1, len(tried) + 1):
        assert online.best({"a": tried[:count]})["a"] is tried[count - 1]


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ([], []),
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.2, 0.2, 0.2, 0.9], [0.1, 0.2, 0.3, 0.9]),
        ([0, 0.02], [0, 0.1]),
        ([0.5, 0.99, 1], [0.5, 0.9, 1]),
    ],
)
def test_names_at_the_ends_do_not_collide(wanted, places):
    np.testing.assert_allclose(curves.spread(np.array(wanted), 0.1), places, atol=1e-12)


def test_a_curve_has_one_loss_at_a_time():
    points = compare_picture.Points([1, 2, 10, 20], [0.5, 0.5, 0.5, 1.0], [4.0, 3.0, 2.0, 1.0])
    assert points.in_time() == ([0.5, 1.0], [2.0, 1.0])


@pytest.mark.slow
def test_online_leaves_its_files(text, tmp_path, capsys, monkeypatch):
    """Of two rates one is none; the files hold what is left."""
    monkeypatch.setattr(online, "LEARNERS", {"tbptt 10, 10": online.LEARNERS["tbptt 10, 10"]})
    monkeypatch.setattr(online, "HEAVIEST", ("tbptt 10, 10",))
    command = ["online", "--text", str(text), "--hidden", "6", "--batch", "2", "--seconds", "1"]
    out = ["--out", str(tmp_path)]
    assert main([*command, "--lr", "1e38", "0.01", *out]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"online.png", "online.json"}
    results = json.loads((tmp_path / "online.json").read_text())
    for task in ("copy", "text"):
        found = results[task]["tbptt 10, 10"]
        assert found["rate"] == 0.01
        assert found["tried"][0]["failed"]
        assert not found["failed"]
        assert found["bits"][-1] < found["bits"][0]
        assert found["seconds"] == sorted(found["seconds"])
        assert found["seconds"][-1] >= 1
        assert len({len(found[field]) for field in ("steps", "seconds", "longest", "bits")}) == 1
    assert results["levels"]["text"]["unigram"] < results["levels"]["text"]["chance"]
    assert "tbptt 10, 10" in capsys.readouterr().out
    assert main([*command, *out]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_online_interrupted_leaves_what_is_there(text, tmp_path, monkeypatch):
    def interrupted(arguments, task, way, rate, points):
        for column, value in zip(points, (500, 0.5, 0, 0.9), strict=False):
            column.append(value)
        raise KeyboardInterrupt

    monkeypatch.setattr(online, "_learn", interrupted)
    monkeypatch.setattr(online, "check", lambda arguments: None)
    assert main(["online", "--text", str(text), "--out", str(tmp_path)]) == _run.STATUS["interrupted"]
    results = json.loads((tmp_path / "online.json").read_text())
    assert results["copy"]["bptt 50"]["bits"] == [0.9]
    assert results["text"] == {}
    assert (tmp_path / "online.png").read_bytes().startswith(b"\x89PNG")


def test_a_text_that_is_too_short_is_an_error(tmp_path, capsys):
    (tmp_path / "short.txt").write_text("too short")
    assert main(["online", "--text", str(tmp_path / "short.txt"), "--out", str(tmp_path / "run")]) == 2
    assert "has 9 characters, 8 streams of 50 need 401" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
