"""Attacks on memory: what is too large is refused before any of it is taken."""

import importlib
import re

import jax
import jax.numpy as jnp
import pytest

from experiments import _memory, _run
from experiments.charlm.train import Config
from experiments.charlm.train import loss as charlm_loss

LARGEST = "2147483647"
TOO_LARGE = {
    "sine": [
        ("--hidden", "1000000"),
        ("--hidden", LARGEST),
        ("--seeds", LARGEST),
        ("--layers", "100", "--hidden", "9999"),
    ],
    "hello": [("--source", "x" * 1_000_000, "--target", "x" * 1_000_000)],
    "digits": [("--hidden", "1000000"), ("--hidden", LARGEST)],
    "charlm train": [
        ("--hidden", "1000000"),
        ("--hidden", "1000000000"),
        ("--hidden", LARGEST),
        ("--embedding", LARGEST),
        ("--batch", "1000000", "--length", "100000"),
        ("--gradient", "rtrl", "--hidden", "10000"),
    ],
    "gradients explode": [
        ("--steps", LARGEST),
        ("--hidden", LARGEST),
        ("--distances", LARGEST),
        ("--networks", LARGEST),
    ],
    "gradients derive": [("--steps", LARGEST), ("--hidden", LARGEST), ("--inputs", LARGEST), ("--outputs", LARGEST)],
    "gradients compare": [("--hidden", "100000"), ("--steps", LARGEST), ("--batch", LARGEST), ("--repeats", LARGEST)],
    "gradients balance": [("--truncations", LARGEST), ("--steps", LARGEST), ("--keys", LARGEST)],
    "gradients sparse": [("--hidden", "100000"), ("--hidden", "1000"), ("--longest", LARGEST), ("--batch", LARGEST)],
    "gradients online": [("--hidden", "100000"), ("--hidden", "1000"), ("--batch", LARGEST)],
    "gradients variance": [("--hidden", "10000"), ("--draws", LARGEST)],
    "gradients costs": [("--sizes", "3000"), ("--steps", LARGEST)],
    "dynamics spectrum": [("--sizes", "100", "100000"), ("--sizes", "100", LARGEST), ("--networks", LARGEST)],
    "dynamics training": [("--hidden", "100000"), ("--hidden", LARGEST)],
    "dynamics fixedpoints": [("--hidden", "100000"), ("--hidden", LARGEST), ("--candidates", LARGEST)],
    "dynamics remedies": [("--hidden", "100000"), ("--batch", LARGEST), ("--tasks", "copy", "--length", LARGEST)],
    "gradients longterm": [("--hidden", "1000000"), ("--lengths", LARGEST), ("--seeds", LARGEST)],
}
CASES = {
    f"{command} {' '.join(f'{option:.12}' for option in options)}": (command, options)
    for command, several in TOO_LARGE.items()
    for options in several
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_too_large_is_one_line(tmp_path, capsys, monkeypatch, case):
    """On a machine of any size."""
    monkeypatch.setattr(_memory, "available", lambda: 10**8)
    command, options = CASES[case]
    experiment, *subcommand = command.split()
    (tmp_path / "text.txt").write_text("some text " * 1000)
    text = ["--text", str(tmp_path / "text.txt")] if command in ("charlm train", "gradients online") else []
    main = importlib.import_module(f"experiments.{experiment}.__main__").main
    assert main([*subcommand, *text, *options, "--out", str(tmp_path / "run")]) == 2
    out, error = capsys.readouterr()
    assert not out
    assert re.fullmatch(
        r".*: error: would take about [\d.,]+ [kMGTPE]B of memory, 100 MB are free: lower .*\n", error
    ) or re.fullmatch(
        r".*: error: (--gradient )?rtrl.* would keep an influence matrix of .* bytes, above budget.*\n", error
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("command", "file"), [("sine", "summary.json"), ("gradients derive", "derive.json")])
def test_what_is_refused_replaces_nothing(tmp_path, monkeypatch, command, file):
    monkeypatch.setattr(_memory, "available", lambda: 1000)
    (tmp_path / file).write_text("mine")
    experiment, *subcommand = command.split()
    main = importlib.import_module(f"experiments.{experiment}.__main__").main
    assert main([*subcommand, "--out", str(tmp_path), "--overwrite"]) == 2
    assert (tmp_path / file).read_text() == "mine"


N = 1000


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (lambda x: x, 1),
        (lambda x: x + 1, 2),
        (lambda x: ((x + 1) * 2) ** 2, 3),  # two at a time, and the input
        (lambda x: (x + 1, x + 2, x + 3), 4),
        (lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, length=10)[1], 12),  # the results and the last c
        (lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=10)[0], 2),
        (jax.jit(lambda x: x + 1), 2),
    ],
)
def test_the_peak_of_a_call_is_counted(function, arrays):
    found = _memory.peak(function, jax.ShapeDtypeStruct((N,), jnp.float32)) / (4 * N)
    assert arrays - 0.1 <= found <= arrays + 1.1


@pytest.mark.parametrize("config", [Config(), Config(cell="gru", layers=2, embedding=0, batch=8, length=200)])
def test_the_estimate_of_a_training_is_near_what_xla_plans(config):
    model = config.model("".join(map(chr, range(100))))
    params = model.init(jax.random.key(0))
    batch = {"ids": jnp.zeros((config.batch, config.length + 1), jnp.uint8), "begins": jnp.zeros(config.batch, bool)}
    gradient = jax.grad(lambda *arguments: charlm_loss(model, *arguments, None)[0])
    arguments = params, config.carry(model, params), batch
    plan = jax.jit(gradient).lower(*arguments).compile().memory_analysis()
    planned = plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes
    assert 0.75 <= _memory.peak(gradient, *arguments) / planned <= 2


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (MemoryError("Unable to allocate 1 TiB"), 1, "out of memory: Unable to allocate 1 TiB"),
        (jax.errors.JaxRuntimeError("INTERNAL: Out of memory: 8 bytes.\nand"), 1, "Out of memory: 8 bytes."),
        (OSError(28, "No space left on device", "a.json"), 1, "cannot use a.json: No space left on device"),
        (_run.UserError("two\nlines\x1b[0m"), 2, r"two\nlines\x1b[0m"),
    ],
)
def test_what_fails_all_the_same_is_one_line(capsys, error, status, line):
    def fail():
        raise error

    assert _run.exit_status("p", fail) == status
    assert capsys.readouterr().err == f"p: error: {line}\n"


def test_what_is_no_lack_of_memory_is_shown_as_it_is():
    def fail():
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    with pytest.raises(jax.errors.JaxRuntimeError):
        _run.exit_status("p", fail)
