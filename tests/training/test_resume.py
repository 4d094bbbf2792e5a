"""A run that is killed, stopped or refused loses nothing, and goes on to the very same end."""

import os
import pathlib
import random
import re
import resource
import shutil
import signal
import time

import jax
import numpy as np
import optax
import pytest

from jaxrnn import training

from .runs import EVERY, PROCESSES, STEPS, content, flipped, like, outcome, refuse, run, train, without_seconds
from .task import BATCH, HIDDEN, OPTIMIZER, batches, fit, loss, make, rows


def never_killed(path, gradient):
    process = PROCESSES.Process(target=train, args=(path, gradient))
    process.start()
    process.join(100)
    assert process.exitcode == 0
    return outcome(path, gradient)


def while_writing(path, chance):
    """A moment of a write of a checkpoint, which takes about so long."""
    delay, seen = chance.uniform(0, 0.03), []

    def moment():
        if (path / "checkpoints" / ".unfinished").exists() and not seen:
            seen.append(time.monotonic())
        return seen and time.monotonic() - seen[0] >= delay

    return moment


def while_training(path, chance):
    """Some time after this process's first chunk."""
    delay, seen, metrics = chance.uniform(0, 0.5), [], path / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns if metrics.exists() else None

    def moment():
        if not seen and metrics.exists() and metrics.stat().st_mtime_ns != before and metrics.stat().st_size:
            seen.append(time.monotonic())
        return seen and time.monotonic() - seen[0] >= delay

    return moment


def stop_at(process, moment, signum):
    """Send the signal when `moment()` says so."""
    while process.is_alive() and not moment():
        time.sleep(0.0005)
    if process.is_alive():
        os.kill(process.pid, signum)
    process.join(100)
    assert process.exitcode is not None


def newest_step(path):
    return max((int(step.name) for step in (path / "checkpoints").glob("[0-9]*")), default=0)


KILLS = {
    ("loss", signal.SIGKILL): 24,
    ("snap", signal.SIGKILL): 24,
    ("loss", signal.SIGTERM): 9,
    ("loss", signal.SIGINT): 9,
}


@pytest.mark.slow
@pytest.mark.parametrize(("gradient", "signum"), KILLS, ids=lambda value: getattr(value, "name", value))
def test_killed_at_any_moment_and_resumed(tmp_path, gradient, signum):
    """Half of the times while a checkpoint is being written; a run that ends is followed by a new one.

    By the gradient of a loss, and by SnAp-1, whose memory of the streams is in the checkpoint. By SIGKILL, and by the
    signals after which the chunk and its checkpoint are finished.
    """
    expected = never_killed(tmp_path / "never", gradient)
    chance, kills, inside, begun = random.Random(0), 0, 0, [tmp_path / "0"]
    while kills < KILLS[gradient, signum]:
        path = begun[-1]
        moment = (while_writing if kills % 2 else while_training)(path, chance)
        process = PROCESSES.Process(target=train, args=(path, gradient))
        process.start()
        stop_at(process, moment, signum)
        if newest_step(path) < STEPS:
            kills += 1
            inside += (path / "checkpoints" / ".unfinished").exists()
        else:
            begun.append(tmp_path / str(len(begun)))
    assert inside >= 3 if signum == signal.SIGKILL else inside == 0
    for path in begun:
        run(training.RunFolder(path, {"of": "the test"}, every=EVERY, resume=True), gradient=gradient)
        assert outcome(path, gradient) == expected


def test_there_are_at_least_27_kills():
    assert sum(KILLS.values()) >= 27


def test_a_finished_run_resumes_to_itself(tmp_path):
    first = run(training.RunFolder(tmp_path / "run"))
    before = content(tmp_path)
    again = run(training.RunFolder(tmp_path / "run", resume=True))
    assert again.ended == "finished"
    assert again.history == first.history
    assert again.evaluations == first.evaluations
    assert content(tmp_path) == before


def test_a_stopped_run_stays_stopped(tmp_path):
    def stop(evaluations):
        return len(evaluations) == 2

    options = {"evaluation": training.Evaluation(lambda params: {"value": 1.0}, 10, stop)}
    first = fit(folder=training.RunFolder(tmp_path / "run"), **options)
    again = fit(folder=training.RunFolder(tmp_path / "run", resume=True), **options)
    assert (first.ended, again.ended) == ("stopped", "stopped")
    assert rows(again) == rows(first)


def test_the_newest_checkpoints_are_kept(tmp_path):
    run(training.RunFolder(tmp_path, every=50, keep=3))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000200", "00000250", "00000300"]


def test_a_key_of_another_kind_comes_back(tmp_path):
    key, carry = jax.random.key(3, impl="rbg"), np.zeros((BATCH, HIDDEN), np.float32)
    folder = training.RunFolder(tmp_path)
    training.fit(loss, make(), OPTIMIZER, batches, 10, chunk=10, carry=carry, key=key, folder=folder)
    shapes = jax.eval_shape(lambda: training.initial_state(make(), OPTIMIZER, carry, key))
    loaded = folder.load(shapes).key
    assert jax.random.key_impl(loaded) == jax.random.key_impl(key)
    np.testing.assert_array_equal(jax.random.key_data(loaded), jax.random.key_data(key))


DAMAGE = {
    "first byte": lambda good, other: flipped(good, 0),
    "middle byte": lambda good, other: flipped(good, len(good) // 2),
    "last byte": lambda good, other: flipped(good, -1),
    "first half": lambda good, other: good[: len(good) // 2],
    "second half": lambda good, other: good[len(good) // 2 :],
    "without its end": lambda good, other: good[:-1],
    "one more byte": lambda good, other: good + b"\0",
    "twice": lambda good, other: good + good,
    "zeros": lambda good, other: bytes(len(good)),
    "empty": lambda good, other: b"",
    "another file": lambda good, other: other,
    "removed": lambda good, other: None,
    "a folder": lambda good, other: pathlib.Path(),
}


def files(folder):
    return [path for path in sorted((folder / "checkpoints" / "00000100").rglob("*")) if path.is_file()]


def replace(file, bad):
    """By other bytes, by a folder, or by nothing."""
    file.unlink()
    if isinstance(bad, bytes):
        file.write_bytes(bad)
    elif bad is not None:
        file.mkdir()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_every_damaged_file_is_found(copy, damage):
    contents = {file: file.read_bytes() for file in files(copy)}
    for file, good in contents.items():
        replace(file, damage(good, next(other for other in contents.values() if other != good)))
        refuse(copy, training.CheckpointError, "is damaged")
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        file.write_bytes(good)
    assert run(training.RunFolder(copy, {"cell": "gru"}, resume=True), steps=100).ended == "finished"


def test_there_are_at_least_126_damaged_files(finished):
    assert len(DAMAGE) * len(files(finished)) >= 126
    assert all(file.stat().st_size > 1 for file in files(finished))


def test_a_folder_that_is_no_checkpoint(copy):
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints" / "00000100").mkdir(parents=True)
    (copy / "checkpoints" / "00000100" / "notes.txt").write_text("mine")
    refuse(copy, training.CheckpointError, "is damaged or no checkpoint of ours")


def test_another_config(copy):
    message = r"has cell='gru', seed=None, and cannot go on with cell='lstm', seed=3"
    refuse(copy, training.RunFolderError, message, {"cell": "lstm", "seed": 3})


def test_another_model(copy):
    wide = training.RunFolder(copy, {"cell": "gru"})
    params = make() | {"more": np.zeros(3, np.float32)}
    message = r"is of another model: it has nothing as params\.more, expected float32\[3\]"
    with pytest.raises(training.CheckpointError, match=message):
        wide.load(like(params))


def test_metrics_that_end_before_the_checkpoint(copy):
    (copy / "metrics.jsonl").write_text("".join((copy / "metrics.jsonl").read_text().splitlines(keepends=True)[:30]))
    refuse(copy, training.RunFolderError, r"metrics.jsonl has \d+ bytes, the checkpoint was written after \d+")


def test_metrics_without_their_last_line(copy):
    (copy / "metrics.jsonl").write_text("".join((copy / "metrics.jsonl").read_text().splitlines(keepends=True)[:-1]))
    refuse(copy, training.RunFolderError, r"metrics.jsonl has \d+ bytes")


def test_a_run_that_never_began_leaves_its_folder_free(tmp_path):
    with pytest.raises(TypeError, match="loss must return"):
        fit(loss=lambda p, c, b, k: p["out"]["bias"].sum(), folder=training.RunFolder(tmp_path / "run"))
    assert fit(folder=training.RunFolder(tmp_path / "run")).ended == "finished"


def test_a_config_that_json_cannot_hold():
    with pytest.raises(TypeError, match="config must be what JSON can hold"):
        training.RunFolder("runs", {"a": np.ones(2)})


def test_a_folder_that_holds_another_run(copy):
    before = content(copy)
    with pytest.raises(training.RunFolderError, match="already holds a run: resume it, or name another folder"):
        run(training.RunFolder(copy, {"cell": "gru"}))
    assert content(copy) == before


def test_nothing_to_load(tmp_path):
    with pytest.raises(training.CheckpointError, match="holds no checkpoint"):
        training.RunFolder(tmp_path).load(like())


def test_a_checkpoint_can_be_gone_back_on(copy):
    """What to do about a damaged one: remove it, and resume from the one before."""
    whole = outcome(copy)
    shutil.rmtree(copy / "checkpoints" / "00000100")
    run(training.RunFolder(copy, {"cell": "gru"}, every=EVERY, resume=True), steps=100)
    assert outcome(copy) == whole


def wide_run(path, largest_file=None, errors=None, steps=STEPS):
    """With a parameter that makes a large file; perhaps where no large file can be written."""
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    params = make() | {"wide": jax.random.normal(jax.random.key(0), (100_000,))}
    folder = training.RunFolder(path, every=EVERY, resume=True)
    carry = np.zeros((BATCH, HIDDEN), np.float32)
    try:
        training.fit(loss, params, OPTIMIZER, batches, steps, carry=carry, chunk=10, folder=folder)
    except (training.CheckpointError, training.RunFolderError) as error:
        errors.put((type(error).__name__, str(error)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("largest_file", "error", "message"),
    [
        (200_000, "CheckpointError", r"cannot write the checkpoint of step 100 to .*; the last good one is of step 50"),
        (2_000, "RunFolderError", r"cannot write to .*metrics.jsonl: File too large"),
    ],
)
def test_a_full_disk(tmp_path, largest_file, error, message):
    """Writes that really fail: no file of the process may be larger than `largest_file`."""
    path = tmp_path / "run"
    wide_run(path, steps=EVERY)
    saved = content(path / "checkpoints")
    errors = PROCESSES.Queue()
    process = PROCESSES.Process(target=wide_run, args=(path, largest_file, errors))
    process.start()
    raised = errors.get(timeout=120)
    process.join()
    assert raised[0] == error
    assert re.fullmatch(message, raised[1])
    assert {file: part for file, part in content(path / "checkpoints").items() if ".unfinished" not in file} == saved
    for folder in (path, tmp_path / "never"):
        wide_run(folder)
    ends = [without_seconds(folder / "metrics.jsonl") for folder in (path, tmp_path / "never")]
    assert ends[0] == ends[1]
    assert len(ends[0]) == STEPS


def test_an_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(training.RunFolderError, match="cannot write to"):
        run(training.RunFolder(tmp_path / "file" / "run"))


def test_sgd_has_a_checkpoint_too(tmp_path):
    """An optimiser state without arrays."""
    optimizer = optax.sgd(0.1)
    carry = np.zeros((BATCH, HIDDEN), np.float32)
    for resume in (False, True):
        folder = training.RunFolder(tmp_path, resume=resume)
        result = training.fit(loss, make(), optimizer, batches, 10, chunk=10, carry=carry, folder=folder)
    assert result.ended == "finished"
