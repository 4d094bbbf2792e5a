"""A run folder in hostile hands: other processes, altered files, signals; and the best parameters in it."""

import hashlib
import json
import logging
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import time

import jax
import numpy as np
import pytest

from jaxrnn import training

from .runs import EVERY, PROCESSES, STEPS, flipped, like, refuse, run, without_seconds
from .task import fit, make, rows

NEWEST = pathlib.Path("checkpoints") / "00000100"


# Other processes


def train(path, ended):
    """What two processes do at once."""
    try:
        run(training.RunFolder(path, every=EVERY), seconds=0.01)
        ended.put("finished")
    except training.RunFolderError as error:
        ended.put(str(error))


def race(path):
    ended = PROCESSES.Queue()
    processes = [PROCESSES.Process(target=train, args=(path, ended)) for _ in range(2)]
    for process in processes:
        process.start()
    found = sorted(ended.get(timeout=100) for _ in processes)
    for process in processes:
        process.join(100)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(9))
def test_of_two_processes_one_runs_and_one_is_told(turn, tmp_path):
    finished_, told = sorted(race(tmp_path / "run"), key=lambda text: text != "finished")
    assert finished_ == "finished"
    assert told in (
        f"another process is running in {tmp_path / 'run'}: name another folder",
        f"{tmp_path / 'run'} already holds a run: resume it, or name another folder",  # it came late
    )
    steps = [row["step"] for row in without_seconds(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, STEPS + 1))
    assert run(training.RunFolder(tmp_path / "run", every=EVERY, resume=True)).ended == "finished"


def hold(path, held):
    with training.RunFolder(path).locked():
        held.put(True)
        time.sleep(100)


def test_the_lock_dies_with_its_process(tmp_path):
    held = PROCESSES.Queue()
    process = PROCESSES.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.get(timeout=60)
    with pytest.raises(training.RunFolderError, match=f"another process is running in {tmp_path}"):
        fit(folder=training.RunFolder(tmp_path))
    process.kill()
    process.join()
    assert fit(folder=training.RunFolder(tmp_path)).ended == "finished"
    assert not (tmp_path / ".lock").exists()


def test_blocks_of_one_process_stand_inside_each_other(tmp_path):
    folder = training.RunFolder(tmp_path)
    with folder.locked():
        assert fit(folder=folder).ended == "finished"
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


# Checkpoints that disagree with themselves


def signed(manifest):
    """With the digest that it ought to have."""
    manifest.pop("digest", None)
    return manifest | {"digest": hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}


def alter(path, change):
    """Sign a changed manifest anew."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest = change(manifest) or manifest
    (path / "manifest.json").write_text(json.dumps(signed(manifest)))


def nested(depth):
    return "[" * depth + "]" * depth


FIELDS = ("step", "config", "notes", "metrics_bytes", "metrics_sha256", "arrays", "best", "files")
ODD = {
    **{f"without {field}": lambda m, field=field: m.pop(field) and None for field in FIELDS if field != "best"},
    **{f"a list as {field}": lambda m, field=field: m.update({field: []}) for field in FIELDS},
    "another step": lambda m: m.update(step=200),
    "a negative step": lambda m: m.update(step=-100),
    "a step that is a float": lambda m: m.update(step=100.0),
    "one more field": lambda m: m.update(more=1),
    "a file that is not there": lambda m: m["files"].update({"state/more": "0" * 64}),
    "a file outside": lambda m: m["files"].update({"../../../etc/passwd": "0" * 64}),
    "a name with a null byte": lambda m: m["files"].update({"a\0b": "0" * 64}),
    "a best without values": lambda m: m.update(best={}),
    "a best that is text": lambda m: m.update(best={"step": "x", "value": "y", "arrays": "z"}),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_manifests_are_refused_even_if_they_are_signed(copy, change):
    alter(copy / NEWEST, change)
    with pytest.raises(training.CheckpointError) as info:
        training.RunFolder(copy).load_best(make())
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "text", ["", "null", "3", "[]", "{}", '"manifest"', "{", nested(100_000), '{"digest": ' + nested(100_000) + "}"]
)
def test_manifests_that_are_none(copy, text):
    (copy / NEWEST / "manifest.json").write_text(text)
    refuse(copy, training.CheckpointError, "is damaged or no checkpoint of ours: its manifest.json cannot be read")


def test_a_checkpoint_under_another_name(copy):
    (copy / NEWEST).rename(copy / "checkpoints" / "00000150")
    refuse(copy, training.CheckpointError, "00000150 is damaged: its manifest.json is of step 100", steps=150)


def test_the_state_of_another_step_under_valid_digests(copy):
    shutil.rmtree(copy / NEWEST / "state")
    shutil.copytree(copy / "checkpoints" / "00000050" / "state", copy / NEWEST / "state")
    files = sorted(file for file in (copy / NEWEST).rglob("*") if file.is_file() and file.name != "manifest.json")
    digests = {str(file.relative_to(copy / NEWEST)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    alter(copy / NEWEST, lambda manifest: manifest.update(files=digests))
    refuse(copy, training.CheckpointError, "00000100 is damaged: its state is of step 50")


# Metrics that have been altered


def flip_digit(path):
    text = path.read_text()
    index = next(i for i, character in enumerate(text) if character in "12345678")
    path.write_text(text[:index] + str(int(text[index]) + 1) + text[index + 1 :])


def shorten(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


ALTER = {
    "a digit": (flip_digit, "is damaged: it is not as it was written before the checkpoint"),
    "deleted": (pathlib.Path.unlink, "has 0 bytes, the checkpoint was written after"),
    "shortened": (shorten, "bytes, the checkpoint was written after"),
    "emptied": (lambda path: path.write_text(""), "has 0 bytes, the checkpoint was written after"),
    "lines exchanged": (
        lambda path: path.write_text("".join(sorted(path.read_text().splitlines(keepends=True)))),
        "is damaged",
    ),
}


@pytest.mark.parametrize(("change", "message"), ALTER.values(), ids=ALTER)
def test_altered_metrics_are_noticed_on_resuming(copy, change, message):
    change(copy / "metrics.jsonl")
    refuse(copy, training.RunFolderError, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip_digit, "is not as this run has written it"),
        (pathlib.Path.unlink, "is gone, this run has written"),
        (shorten, r"has \d+ bytes, this run has written \d+: something else has changed it"),
        (lambda path: path.write_text(path.read_text() + "{}\n"), "something else has changed it"),
    ],
    ids=["a digit", "deleted", "shortened", "lengthened"],
)
def test_altered_metrics_are_noticed_while_running(tmp_path, change, message):
    folder = training.RunFolder(tmp_path, every=10)

    def on_chunk(new, state):
        if new[-1]["step"] == 20:
            change(folder.metrics)

    with pytest.raises(training.RunFolderError, match=message):
        fit(folder=folder, on_chunk=on_chunk)
    assert [path.name for path in sorted(folder.checkpoints.iterdir())] == ["00000010"]


def test_metrics_are_json_whatever_is_measured(tmp_path):
    values = iter([float("nan"), float("inf"), 1.0, float("-inf")])
    evaluation = training.Evaluation(lambda params: {"value": next(values)}, every=10)
    result = fit(folder=training.RunFolder(tmp_path), evaluation=evaluation)

    def refuse_constant(name):
        raise AssertionError(name)

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    read = [json.loads(line, parse_constant=refuse_constant) for line in lines]
    assert [row["value"] for row in read if "value" in row] == [None, None, 1.0, None]
    again = fit(folder=training.RunFolder(tmp_path, resume=True), evaluation=evaluation)
    np.testing.assert_array_equal([row["value"] for row in again.evaluations], [np.nan, np.nan, 1.0, np.nan])
    assert rows(again) == rows(result)


def test_files_have_ordinary_modes(copy):
    mask = os.umask(0)
    os.umask(mask)
    for path in copy.rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_what_may_differ_on_resuming_is_kept(tmp_path):
    fit(folder=training.RunFolder(tmp_path, {"seed": 1}, notes={"data": "here"}))
    fit(steps=50, folder=training.RunFolder(tmp_path, {"seed": 1}, notes={"data": "there"}, resume=True))
    folder = training.RunFolder(tmp_path)
    assert (folder.saved_config(), folder.saved_notes()) == ({"seed": 1}, {"data": "there"})


LOADS = {
    "a number": (lambda folder: folder.load(3), "like must be a training.TrainState, got int"),
    "parameters": (lambda folder: folder.load(make()), "like must be a training.TrainState, got dict"),
    "no shapes": (
        lambda folder: folder.load(like()._replace(carry="x")),
        r"like\.carry must be an array or its shape, got str",
    ),
    "no mesh": (lambda folder: folder.load(like(), 3), "mesh must be a mesh from training.data_mesh, got int"),
    "params": (lambda folder: folder.load_best({"w": 3.0}), r"params\['w'\] must be an array or its shape, got float"),
    "best of no mesh": (lambda folder: folder.load_best(make(), "x"), "mesh must be a mesh .*, got str"),
}


@pytest.mark.parametrize(("call", "message"), LOADS.values(), ids=LOADS)
def test_what_to_load_is_checked(finished, call, message):
    with pytest.raises(TypeError, match=message):
        call(training.RunFolder(finished))


def test_a_folder_needs_a_name_and_json():
    with pytest.raises(ValueError, match="path must name a folder, got an empty one"):
        training.RunFolder("")
    with pytest.raises(TypeError, match="notes must be what JSON can hold"):
        training.RunFolder("runs", notes={"a": float("nan")})


# Signals


@pytest.mark.usefixtures("ctrl_c")
def test_sigterm_ends_after_the_chunk(tmp_path):
    def on_chunk(new, state):
        if new[-1]["step"] == 20:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    result = fit(on_chunk=on_chunk, folder=training.RunFolder(tmp_path))
    assert (result.ended, len(result.history)) == ("terminated", 20)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = fit(folder=training.RunFolder(tmp_path, resume=True))
    assert rows(resumed) == rows(fit())


TERMINATED_TWICE = """
import os, signal, sys
from tests.training.task import fit
def on_chunk(new, state):
    os.kill(os.getpid(), signal.SIGTERM)
    print("one", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("two", flush=True)
fit(on_chunk=on_chunk)
"""


@pytest.mark.slow
def test_a_second_sigterm_ends_at_once(start):
    process = start("-c", TERMINATED_TWICE, stdout=subprocess.PIPE)
    assert process.communicate(timeout=60)[0] == "one\n"
    assert process.returncode == -signal.SIGTERM


@pytest.mark.usefixtures("ctrl_c")
def test_where_ctrl_c_is_ignored_it_says_how_to_stop(caplog):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with caplog.at_level(logging.WARNING):
        fit(steps=10)
    assert caplog.messages == [f"Ctrl-C is ignored, as in the background: `kill {os.getpid()}` ends the training"]


# The best parameters


def best_of(values, folder=None, steps=40, **options):
    """`fit` with an evaluation that gives these values, and the parameters that it was given."""
    given, source = [], iter(values)

    def measure(params):
        given.append(params)
        return {"value": next(source)}

    evaluation = training.Evaluation(measure, every=10, best="value")
    return fit(steps=steps, folder=folder, evaluation=evaluation, **options), given


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([3.0, 1.0, 2.0, 1.0], 20),
        ([float("nan"), 2.0, float("nan"), 3.0], 20),
        ([float("-inf"), 5.0, 4.0, float("nan")], 30),
        ([float("nan")] * 4, None),
    ],
)
def test_the_best_parameters_are_those_of_the_least_value(tmp_path, values, step):
    result, given = best_of(values, training.RunFolder(tmp_path))
    if step is None:
        assert result.best is None
        with pytest.raises(training.CheckpointError, match="has no best parameters"):
            training.RunFolder(tmp_path).load_best(make())
        return
    assert (result.best.step, result.best.value) == (step, values[step // 10 - 1])
    same(result.best.params, given[step // 10 - 1])
    same(result.best.params, fit(steps=step).state.params)
    loaded = training.RunFolder(tmp_path).load_best(jax.eval_shape(make))
    assert loaded[:2] == result.best[:2]
    same(loaded.params, result.best.params)


def test_a_resumed_run_has_the_best_of_both(tmp_path):
    """Stopped at step 20, with its best at 10; the rest is no better, and then is."""
    for later, expected in (([3.0, 4.0], 10), ([3.0, 1.0], 40)):
        path = tmp_path / str(expected)
        best_of([2.0, 3.0], training.RunFolder(path, every=10), on_chunk=lambda new, state: new[-1]["step"] == 20)
        result, _ = best_of(later, training.RunFolder(path, resume=True))
        assert (result.ended, result.best.step) == ("finished", expected)
        same(result.best.params, fit(steps=expected).state.params)
        same(training.RunFolder(path).load_best(make()).params, result.best.params)


def test_a_run_that_is_resumed_without_its_evaluation_keeps_its_best(tmp_path):
    best_of([2.0, 1.0], training.RunFolder(tmp_path, every=10), steps=20)
    result = fit(steps=40, folder=training.RunFolder(tmp_path, resume=True))
    assert result.best.step == 20
    same(training.RunFolder(tmp_path).load_best(make()).params, fit(steps=20).state.params)


def test_a_run_killed_after_its_checkpoint_has_the_best_of_the_checkpoint(tmp_path):
    """What was best after the checkpoint is not known to the run that goes on from it."""
    best_of([2.0, 3.0, 1.0, 4.0], training.RunFolder(tmp_path, every=20, keep=3))
    shutil.rmtree(tmp_path / "checkpoints" / "00000040")
    result, _ = best_of([5.0, 6.0], training.RunFolder(tmp_path, every=20, resume=True))
    assert (result.best.step, result.best.value) == (10, 2.0)


def test_what_an_evaluation_and_on_chunk_saw_lives_on():
    states = []
    result, given = best_of([4.0, 3.0, 2.0, 1.0], on_chunk=lambda new, state: states.append(state))
    assert len(states) == len(given) == 4
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((states, given, result.best.params)))
    for state, params in zip(states, given, strict=True):
        same(state.params, params)


def test_an_evaluation_without_the_best_s_value():
    with pytest.raises(KeyError, match="evaluations have no 'other', they have"):
        fit(evaluation=training.Evaluation(lambda params: {"value": 1.0}, best="other"))
    with pytest.raises(TypeError, match="best must be a name, got int"):
        training.Evaluation(dict, best=3)


def test_every_damaged_file_of_the_best_is_found(tmp_path):
    best_of([2.0, 1.0, 3.0, 4.0], training.RunFolder(tmp_path))
    newest = tmp_path / "checkpoints" / "00000040"
    for file in [path for path in (newest / "best").rglob("*") if path.is_file() and path.stat().st_size]:
        good = file.read_bytes()
        file.write_bytes(flipped(good, len(good) // 2))
        with pytest.raises(training.CheckpointError, match="is damaged"):
            training.RunFolder(tmp_path).load_best(make())
        file.write_bytes(good)
    assert training.RunFolder(tmp_path).load_best(make()).step == 20
