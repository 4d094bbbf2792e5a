"""The speed benchmark: that all do the same work, what is made of the times, and that it ends as it should."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from experiments import _run
from experiments.speed import __main__ as program
from experiments.speed import (
    clock,
    compare,
    compilation,
    layers,
    machine,
    memory,
    peers,
    profile,
    report,
    roofline,
    summary,
)
from experiments.speed.grid import BLOCKS, BOTH, CELLS, FORWARD, GRID, MODES, Shape, Task
from experiments.speed.peers._peer import jax_program
from experiments.speed.section import Settings

from ..marks import slow_but

SMALL = Shape(steps=3, batch=2, inputs=5, hidden=4)
BUDGET = clock.Budget(seconds=0, rounds=1)


def task(cell, shape=SMALL, **options):
    return Task(cell, shape, "float32", "cpu", **options)


def spread(median, width=0.02):
    return clock.Spread(median * (1 - width), median, median * (1 + width), 9)._asdict()


def record(cell, shape, times, over_roofline=1.2):
    """A grid point at which each name takes some milliseconds."""
    return {
        "cell": cell,
        "label": shape.label,
        "milliseconds": {mode: {name: spread(time) for name, time in times.items()} for mode in MODES},
        "over_scan": {mode: spread(times["jaxrnn"] / times["scan"]) for mode in MODES},
        "over_roofline": {mode: spread(over_roofline) for mode in MODES},
        "left_out": {"equinox": "has no Elman cell"} if cell == "rnn" else {},
    }


def results(**parts):
    return {part: parts.get(part, []) for part in program.PARTS}


# --- the implementations ---------------------------------------------------------------------------------------------


def program_of(name, work):
    found, missing = peers.load([name])
    if missing:
        pytest.skip(missing[name])
    return found[name].build(work)


OPTIONS = {
    "gru": {},
    "rnn": {"layers": 2, "bidirectional": True},
    "lstm": {"shape": Shape(3, 2, 5, 4, heads=2)},
}


@pytest.mark.parametrize("cell", slow_but(("lstm",), OPTIONS))
def test_ours_and_the_plain_scan_are_the_same_function(cell):
    ours, scan = (program_of(name, task(cell, **OPTIONS[cell])) for name in (peers.OURS, "scan"))
    for mode in ("forward", "gradient"):
        for a, b in zip(*(p.numpy(getattr(p, mode)()) for p in (ours, scan)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_torch_does_the_same_work():
    torch_layer = program_of("torch", task("gru"))
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    ours = program_of(peers.OURS, task("gru"))
    ours.params.update(zip(names, (jnp.asarray(p.detach().numpy()) for p in torch_layer.params), strict=True))
    (a,), (b,) = ours.numpy(ours.forward()), torch_layer.numpy(torch_layer.forward())
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    loss, gradients = ours.gradient()
    expected = torch_layer.numpy(torch_layer.gradient())
    for a, b in zip([loss, *(gradients[name] for name in names)], expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", slow_but(("linen",), ["linen", "nnx", "haiku", "equinox"]))
def test_a_peer_s_outputs_and_gradients_are_looked_at(name):
    found, missing = peers.load([name])
    if missing:
        pytest.skip(missing[name])
    work = Task("gru", SMALL, "bfloat16", "cpu")
    made, left_out = peers.build({name: found[name]}, work)
    assert not left_out
    assert jax.tree.leaves(made[name].gradient()[1])[0].dtype == jnp.bfloat16


def test_what_cannot_be_done_is_left_out_with_its_reason():
    found, _ = peers.load(["cudnn"])
    broken = peers.Peer("broken", "1", lambda task: None, lambda task: 1 / 0)
    made, left_out = peers.build({**found, "broken": broken}, task("gru"))
    assert list(made) == ["jaxrnn"]
    assert left_out == {"cudnn": "needs --device gpu", "broken": "ZeroDivisionError: division by zero"}
    with pytest.raises(ZeroDivisionError):  # ours may not fail
        peers.build({peers.OURS: broken}, task("gru"))


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(peers._MODULES, "haiku", "no_such_module")
    found, missing = peers.load(["haiku", "scan"])
    assert list(found) == ["jaxrnn", "scan"]
    assert missing["haiku"].startswith("not installed")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda params, xs: xs, "outputs of shape"),
        (lambda params, xs: params * jnp.zeros((3, 2, 4)), "all gradients are zero"),
        (lambda params, xs: params * jnp.full((3, 2, 4), jnp.nan), "not finite"),
    ],
)
def test_a_program_that_does_not_do_its_work_is_noticed(fault, message):
    with pytest.raises(ValueError, match=message):
        peers.checked(jax_program(task("rnn"), fault, jnp.ones(())), task("rnn"))


# --- the roofline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "shape"), [("gru", SMALL), ("lstm", Shape(3, 2, 5, 4, heads=2))])
def test_the_roofline_is_the_products_in_their_order(cell, shape):
    xs, weight_ih, product, weight_hh = roofline._operands(task(cell, shape))
    assert weight_ih.shape == (5, BLOCKS[cell] * 4)
    for _ in range(shape.steps):
        product = product[..., : shape.head_size] @ weight_hh
    for run in roofline.programs(task(cell, shape)).values():
        hoisted, last = (np.asarray(a) for a in run())
        np.testing.assert_allclose(hoisted, xs @ weight_ih, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(last, product, rtol=1e-4, atol=1e-5)


# --- the clock -------------------------------------------------------------------------------------------------------


def test_each_round_times_everything_once():
    calls = []
    programs = {name: functools.partial(calls.append, name) for name in "abc"}
    samples = clock.interleaved(programs, clock.Budget(seconds=0, rounds=5))
    assert {name: len(values) for name, values in samples.items()} == dict.fromkeys("abc", 5)
    measured = [name for name, before in zip(calls[1:], calls, strict=False) if name != before]
    rounds = ["".join(measured[-15:][i : i + 3]) for i in range(0, 15, 3)]
    assert len(set(rounds)) > 1  # not always in the same order


def test_a_spread_is_the_quartiles_and_ratios_are_taken_within_rounds():
    assert clock.spread([4, 1, 2, 3, 5]) == (2, 3, 4, 5)
    assert clock.paired([1, 20, 300], [2, 40, 600]) == (0.5, 0.5, 0.5, 3)


# --- what is made of the times ---------------------------------------------------------------------------------------


def test_ratios_means_and_lags():
    grid = [
        record("rnn", GRID[0], {"jaxrnn": 1, "torch": 2, "scan": 8}),
        record("gru", GRID[3], {"jaxrnn": 2, "torch": 16, "scan": 1}, over_roofline=1.3),
    ]
    assert summary.ratios(grid[0], FORWARD) == {"torch": 2, "scan": 8}
    assert summary.best(grid[1], FORWARD) == ("scan", 0.5)
    assert summary.geometric_means(grid, BOTH) == pytest.approx({"best peer": 1, "torch": 4, "scan": 2})
    assert [lag[1:] for lag in summary.lags(grid)] == [("scan", 0.5)] * 2
    met = {target.what: target.met for target in summary.targets(results(grid=grid))}
    assert met == {
        "forward+backward, times as fast as the best peer": False,
        "forward+backward, times as fast as torch": False,
        "forward, times as fast as the best peer": False,
        "forward, time over the roofline's": False,
        "forward+backward, time over the roofline's": False,
    }
    text = report.text(results(grid=grid))
    assert "0.50  gru T256 B32 I256 H256 forward: scan" in text
    assert "equinox in grid rnn T50 B1 I1 H16: has no Elman cell" in text
    assert "2 of the 18 points" in text


def test_a_quick_run_has_no_verdicts():
    """Its times are of three rounds of one small shape."""
    slow = results(grid=[record("rnn", GRID[0], {"jaxrnn": 2, "scan": 1})])
    verdicts = ("slower than the best peer", "target", "short")
    assert all(verdict in report.text(slow) for verdict in verdicts)
    quick = report.text(slow, quick=True)
    assert "T50 B1 I1 H16" in quick
    assert not any(verdict in quick for verdict in verdicts)


def test_without_peers_there_is_no_best_one():
    lonely = record("rnn", GRID[0], {"jaxrnn": 1, "scan": 1})
    for times in lonely["milliseconds"].values():
        del times["scan"]
    assert summary.best(lonely, BOTH) is None
    assert "T50 B1 I1 H16" in report.text(results(grid=[lonely]))


@pytest.mark.parametrize(
    ("after", "slower"),
    [((0.9, 1.0, 1.1), False), ((1.02, 1.1, 1.2), False), ((1.11, 1.2, 1.3), True), ((0.5, 0.6, 0.7), False)],
)
def test_slower_is_what_lies_beyond_noise(after, slower):
    before = {"a": {"scan": (0.9, 1.0, 1.1)}, "gone": {"scan": (1.0, 1.0, 1.0)}}
    assert bool(compare.slower(before, {"a": {"scan": after}, "new": {"scan": (9.0, 9.0, 9.0)}})) == slower


def test_a_change_within_five_percent_is_none_however_sharp():
    before, slightly, more = ({"a": {"bytes": (size, size, size)}} for size in (100, 104, 106))
    assert not compare.slower(before, slightly)
    assert compare.slower(before, more) == [("a", 1.06, {"bytes": (100, 106)})]


def test_slower_over_one_thing_alone_is_a_change_of_that_thing():
    alike = (1.0, 1.0, 1.0)
    before = {"a": {"scan": alike, "roofline": alike}}
    assert not compare.slower(before, {"a": {"scan": alike, "roofline": (2.0, 2.0, 2.0)}})
    assert compare.slower(before, {"a": {"scan": (3.0, 3.0, 3.0), "roofline": (2.0, 2.0, 2.0)}})[0].growth == 2
    assert compare.slower(before, {"a": {"roofline": (2.0, 2.0, 2.0)}})


def test_a_few_rounds_are_not_compared():
    few = {**spread(1), "rounds": 4}
    part = {"jax_seconds": few, "jaxrnn_seconds": few, "over_jax": few}
    assert not compare.figures(results(**{"import": [part]}))
    assert compare.figures(results(**{"import": [{**part, "over_jax": spread(1)}]}))


def test_a_comparison_names_what_differs():
    machine = {"date": "2026-11-21", "cpu": "A", "dtype": "float32", "versions": {"jax": "1", "torch": "2"}}
    other = {**machine, "cpu": "B", "versions": {"jax": "1", "torch": "3"}}
    old, new = (results(grid=[record("rnn", GRID[0], {"jaxrnn": ms, "scan": 2}, ms)]) for ms in (1, 1.5))
    text, worse = compare.report({"machine": machine, "results": old}, other, new)
    assert worse
    assert "cpu: A -> B" in text
    assert "versions: torch 2 -> 3" in text
    change = "over scan's 0.5 -> 0.75, over the roofline's 1 -> 1.5"
    assert f"1.50 times  grid: rnn T50 B1 I1 H16 forward: {change}" in text
    assert "2 of them became worse" in text
    text, worse = compare.report({"machine": machine, "results": new}, machine, old)
    assert not worse
    assert "nothing became worse" in text
    assert "note" not in text


# --- the sections ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings():
    found, _ = peers.load(["scan"])
    return Settings(("rnn",), found, "cpu", "float32", True, BUDGET)


def test_steps_cover_the_grid(settings):
    all_cells = dataclasses.replace(settings, cells=CELLS, quick=False)
    titles = [step.title for step in layers.grid_steps(all_cells)]
    assert titles == [f"grid: {cell} {shape.label}" for cell in CELLS for shape in GRID]
    on_gpu = layers.grid_steps(dataclasses.replace(all_cells, device="gpu"))
    assert {title.split("I768 ")[1] for title in (s.title for s in on_gpu) if "I768" in title} == {
        "H48x16",
        "H12x64",
        "H768",
    }


@pytest.mark.slow
def test_a_checkpoint_saves_memory(settings):
    steps = [step for step in memory.steps(settings) if step.part == "checkpoint"]
    assert [step.title for step in steps] == ["checkpoint: rnn, final state", "checkpoint: rnn, all outputs"]
    found = steps[0].measure()
    assert summary.saved_memory(found) > 5
    assert set(found["milliseconds"]) == set(memory.WAYS)


@pytest.mark.slow
def test_import_is_timed_in_processes_of_its_own():
    found = compilation._import(1)
    assert 0 < found["jaxrnn_seconds"]["median"] < found["jax_seconds"]["median"]


@pytest.mark.slow
def test_a_profile(settings):
    steps = profile.steps(dataclasses.replace(settings, cells=("lstm",)))
    assert [step.part for step in steps] == ["profile", "pages"]
    found = steps[0].measure()
    assert found["gates_nanoseconds"] > 0
    assert set(found["page_faults"]) == set(MODES)
    assert "GFLOP/s" in report.text(results(profile=[found]))
    assert not profile.steps(settings)  # of the lstm alone


@pytest.mark.slow
def test_large_pages_are_measured_in_processes_of_their_own():
    found = profile._pages(SMALL, BUDGET, 1)
    assert all(spread["median"] > 0 for spread in found["over_usual"].values())


@pytest.mark.skipif(not jr.native.info().is_ready, reason=str(jr.native.info().reason))
def test_ours_without_kernels_is_the_same_function_and_no_peer_to_be_best():
    ours, in_xla = (program_of(name, task("gru")) for name in (peers.OURS, peers.OURS_IN_XLA))
    for a, b in zip(*(p.numpy(p.gradient()) for p in (ours, in_xla)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert "custom_call @jaxrnn" not in in_xla._new_gradient().lower(in_xla.params, in_xla.xs, in_xla.weights).as_text()
    assert summary.best(record("gru", SMALL, {"jaxrnn": 2, "jaxrnn-xla": 1, "scan": 3}), BOTH) == ("scan", 1.5)


def test_several_runs_as_one(tmp_path, capsys):
    grid = [[record("rnn", GRID[0], {"jaxrnn": 1, "scan": ms})] for ms in (2, 5, 3)]
    paths = [tmp_path / f"{n}.json" for n in range(3)]
    for path, points in zip(paths, grid, strict=True):
        described = machine.describe("cpu", "float32", {})
        path.write_text(json.dumps({"format": compare.FORMAT, "machine": described, "results": results(grid=points)}))
    assert program.main(["--median", *map(str, paths), "--out", str(tmp_path / "out")]) == 0
    assert "3.00 scan" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert (written["runs"], written["results"]["grid"][0]["milliseconds"][BOTH]["scan"]["median"]) == (3, 3)
    paths[1].write_text(json.dumps({**json.loads(paths[1].read_text()), "results": results()}))
    assert program.main(["--median", *map(str, paths), "--out", str(tmp_path / "other")]) == 2
    assert f"{paths[1]}: has other points, or other peers, than {paths[0]}" in capsys.readouterr().err


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_leaves_its_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(program, "Budget", lambda seconds, rounds: clock.Budget(0, compare.ROUNDS))
    out = tmp_path / "speed"
    options = ["--quick", "--cells", "rnn", "--peers", "scan", "--sections", "grid", "inference", "--out", str(out)]
    assert program.main(options) == 0
    assert {file.name for file in out.iterdir()} == {"speed.json", "speed.png"}
    assert (out / "speed.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((out / "speed.json").read_text())
    assert written["format"] == compare.FORMAT
    assert [len(written["results"][part]) for part in program.PARTS] == [1, 0, 0, 0, 0, 0, 1, 0, 0]
    assert written["machine"]["versions"]["jax"] == jax.__version__
    assert set(written["results"]["grid"][0]["milliseconds"][BOTH]) == {"jaxrnn", "scan"}
    printed = capsys.readouterr()
    assert "threads: torch" in printed.out
    assert "T50 B1 I1 H16" in printed.out
    assert "target" not in printed.out
    assert not printed.err  # no bar where there is no terminal

    assert program.main(options) == 2
    assert "already holds a run" in capsys.readouterr().err

    faster = written["results"]["grid"][0]
    for part in ("over_scan", "over_roofline"):
        faster[part] = {mode: spread(1e-6) for mode in MODES}
    (tmp_path / "old.json").write_text(json.dumps(written))
    assert program.main([*options, "--overwrite", "--compare", str(tmp_path / "old.json")]) == 1
    assert "beyond noise" in capsys.readouterr().out


def test_an_interrupted_run_keeps_what_was_measured(tmp_path, capsys, monkeypatch):
    done = program.Step("grid", "a point", lambda: record("rnn", GRID[0], {"jaxrnn": 1, "scan": 2}))
    stop = program.Step("grid", "the next", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setitem(program.SECTIONS, "grid", lambda settings: [done, stop])
    options = ["--sections", "grid", "--peers", "scan", "--out", str(tmp_path)]
    assert program.main(options) == _run.STATUS["interrupted"]
    assert len(json.loads((tmp_path / "speed.json").read_text())["results"]["grid"]) == 1
    assert (tmp_path / "speed.png").exists()
    printed = capsys.readouterr().out
    assert "T50 B1 I1 H16" in printed
    assert "interrupted after 1 of 2 measurements" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("{", "is not JSON"), ("[]", "is not a speed.json"), ('{"runs": {}}', "is not a speed")],
)
def test_a_foreign_file_to_compare_with_is_one_line(content, message, tmp_path, capsys):
    old = tmp_path / "old.json"
    if content is not None:
        old.write_text(content)
    assert program.main(["--compare", str(old), "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("speed: error: --compare")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_without_a_gpu_there_is_one_line(tmp_path, capsys):
    if jax.default_backend() == "gpu":
        pytest.skip("there is a GPU")
    precision = jax.config.jax_default_matmul_precision
    assert program.main(["--device", "gpu", "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert "--device gpu: JAX found no GPU" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert jax.config.jax_default_matmul_precision == precision


@pytest.mark.parametrize(
    "options", [["--cells", "mgu"], ["--peers", "keras"], ["--device", "tpu"], ["--seconds", "0"], ["--sections", "x"]]
)
def test_bad_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.main(options)
    assert exit_.value.code == 2
    assert options[0] in capsys.readouterr().err
