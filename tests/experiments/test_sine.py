"""The sine experiment, as its user and as PyTorch see it."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from experiments.sine import evaluate, pictures
from experiments.sine import train as training
from experiments.sine.__main__ import main
from experiments.sine.data import FORECAST, POINTS, READ, Series, read_series, series_windows, sine_windows
from experiments.sine.evaluate import evaluate_series, evaluate_waves, naive_rmse
from experiments.sine.model import Forecaster, torch_names

from ..marks import few_of

RECIPES = ("notes", "cosine")
ARRAYS = {"params.safetensors", "state.safetensors"}
FILES = {"forecast.png", "metrics.jsonl", "summary.json", "checkpoints", *RECIPES}
ROOT = pathlib.Path(__file__).parents[2]


def write_csv(path, columns):
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def trend(tmp_path):
    """A CSV file of a line and a noisy wave, 120 rows."""
    t = np.arange(120)
    noise = np.random.RandomState(0).normal(0, 0.1, 120)
    return write_csv(tmp_path / "trend.csv", {"day": t, "line": 3.0 * t + 5, "wave": np.sin(t / 4) + noise})


@pytest.mark.parametrize(("cell", "seeds"), few_of([("rnn", 2)], ["rnn", "gru", "lstm"], [1, 2]))
def test_a_run_leaves_its_files(tmp_path, capsys, cell, seeds):
    options = ["--cell", cell, "--layers", "2", "--hidden", "5", "--seeds", str(seeds), "--steps", "130"]
    assert main([*options, "--out", str(tmp_path / "run")]) == 0
    assert {file.name for file in (tmp_path / "run").iterdir()} == FILES
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 131))
    assert all(len(line[recipe]) == seeds and np.isfinite(line[recipe]).all() for line in lines for recipe in RECIPES)
    assert all(line["loss"] == pytest.approx(sum(line["notes"] + line["cosine"]), rel=1e-5) for line in lines)
    leading = () if seeds == 1 else (seeds,)
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    for recipe in RECIPES:
        assert {file.name for file in (tmp_path / "run" / recipe).iterdir()} == ARRAYS
        params = load_file(tmp_path / "run" / recipe / "params.safetensors")
        assert params["rnn.weight_ih_l0"].shape == (*leading, gates * 5, 1)
        assert params["rnn.bias_hh_l1"].shape == (*leading, gates * 5)
        assert params["linear.weight"].shape == (*leading, 1, 5)
        state = load_file(tmp_path / "run" / recipe / "state.safetensors")
        assert {name: a.shape for name, a in state.items()} == dict.fromkeys(
            ["h_n", "c_n"] if cell == "lstm" else ["h_n"], (*leading, 2, 5)
        )
    assert (tmp_path / "run" / "forecast.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert all(f"{recipe}: free-running" in out for recipe in RECIPES)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for recipe in RECIPES:
        for errors in ("teacher_forced_mse", "free_running_mse", "forecast_mse"):
            assert np.shape(summary[recipe][errors]) == (seeds, 3)


def test_the_windows_are_the_notes():
    windows = sine_windows()
    assert windows.data.shape == (3, 50, 1)
    for k in range(3):
        np.testing.assert_allclose(windows.data[k, :, 0], np.sin(np.linspace(k, k + 10, 50)), rtol=0, atol=1e-7)


def test_initialisation_is_the_notes():
    params = torch_names(Forecaster("rnn", 64, 2, 1).init(jax.random.key(0)))
    recurrent = np.concatenate([np.ravel(value) for name, value in params.items() if name.startswith("rnn.")])
    assert len(recurrent) == 64 * (1 + 64 + 2) + 64 * (64 + 64 + 2)
    np.testing.assert_allclose([recurrent.mean(), recurrent.std()], [0, 0.001], atol=3e-5)
    assert not np.array_equal(params["rnn.weight_hh_l0"], params["rnn.weight_hh_l1"])
    assert float(jnp.abs(params["linear.weight"]).max()) <= 1 / 8
    assert float(jnp.abs(params["linear.weight"]).max()) > 1 / 10


def wave_index(seed, step):
    """Which wave the training of a seed sees at a step."""
    _, key_data = jax.random.split(jax.random.key(seed))
    return int(jax.random.randint(jax.random.fold_in(key_data, step), (), 0, 3))


def test_each_wave_is_drawn_a_third_of_the_time():
    _, key = jax.random.split(jax.random.key(0))
    draws = jax.vmap(lambda i: jax.random.randint(jax.random.fold_in(key, i), (), 0, 3))(jnp.arange(6000))
    counts = np.bincount(draws, minlength=3)
    assert ((counts - 2000) ** 2 / 2000).sum() < 13.8  # chi-squared with 2 degrees of freedom, p = 0.001


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_is_torch_s(recipe):
    """The same parameters and waves: the same losses and the same h."""
    torch = pytest.importorskip("torch")
    from experiments.sine import torch_notes

    model = Forecaster("rnn", 16, 1, 1)
    initial = torch_names(training._init(model, jax.random.split(jax.random.key(7))[0])[0])
    trained = training.train(model, sine_windows(), [7], 120).recipes[recipe]

    net, h, losses = torch_notes.Net(), torch.zeros(1, 1, 16), []
    net.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in initial.items()})
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)
    for step in range(120):
        wave = torch_notes._wave(wave_index(7, step))
        prediction, h = net(wave[:, :-1], h.detach())
        loss = torch.nn.functional.mse_loss(prediction, wave[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if recipe == "cosine":
            cosine.step()
        losses.append(loss.item())

    np.testing.assert_allclose(trained.losses[:, 0], losses, rtol=1e-3)
    np.testing.assert_allclose(trained.h[0][0], h.detach()[0, 0], atol=1e-3)


def test_free_running_is_torch_s(tmp_path):
    """The parameter files load into the notes' network, which then runs freely to the same error."""
    torch = pytest.importorskip("torch")
    from experiments.sine import torch_notes

    assert main(["--steps", "300", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    for recipe in RECIPES:
        arrays = load_file(tmp_path / recipe / "params.safetensors")
        net = torch_notes.Net()
        net.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
        h = torch.tensor(load_file(tmp_path / recipe / "state.safetensors")["h_n"])[:, None]
        expected = [torch_notes.free_running_mse(net, h, k) for k in range(3)]
        np.testing.assert_allclose(summary[recipe]["free_running_mse"], [expected], rtol=1e-3)


def test_free_running_feeds_predictions_back():
    model = Forecaster("lstm", 4, 2, 1)
    trained = training.train(model, sine_windows(), [3], 50).recipes["cosine"]
    params = jax.tree.map(lambda a: a[0], trained.params)
    h = jax.tree.map(lambda a: a[0], trained.h)
    x, expected, step = jnp.asarray(sine_windows().data[1, 0]), [], jax.jit(model.cell.step)
    for _ in range(POINTS - 1):
        h = step(params["rnn"], h, x)
        x = model.linear.apply(params["linear"], model.cell.output(h))
        expected.append(float(x[0]))
    result = evaluate_waves(model, trained.params, trained.h, sine_windows())
    np.testing.assert_allclose(result.free_running[0, 1], expected, rtol=1e-4, atol=1e-6)


def test_the_long_forecast_reads_then_feeds_predictions_back():
    model = Forecaster("gru", 4, 2, 1)
    trained = training.train(model, sine_windows(), [3], 50).recipes["cosine"]
    params, h = jax.tree.map(lambda a: a[0], (trained.params, trained.h))
    xs, advance = list(jnp.asarray(sine_windows().data[2, :READ])), jax.jit(model.cell.step)
    for step in range(READ + 20 - 1):
        h = advance(params["rnn"], h, xs[step])
        if step >= READ - 1:
            xs.append(model.linear.apply(params["linear"], model.cell.output(h)))
    result = evaluate_waves(model, trained.params, trained.h, sine_windows())
    assert result.forecast.shape == (1, 3, FORECAST)
    np.testing.assert_allclose(result.forecast[0, 2, :20], np.ravel(xs[READ:]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.future[:, : POINTS - READ], sine_windows().data[:, READ:, 0], atol=1e-6)
    np.testing.assert_allclose(result.future[2, -1], np.sin(2 + 10 / 49 * 209))
    np.testing.assert_allclose(
        result.mse()["forecast"], np.mean((result.forecast - result.future) ** 2, axis=-1), rtol=1e-12
    )


@pytest.mark.slow
def test_the_recipes_differ_in_the_learning_rate_alone():
    """They begin as the same run; of a constant gradient Adam's step is the learning rate itself."""
    model = Forecaster("rnn", 16, 1, 1)
    notes, cosine = training.train(model, sine_windows(), [0], 1500).recipes.values()
    assert notes.losses[0] == cosine.losses[0]
    np.testing.assert_allclose(notes.losses[:10], cosine.losses[:10], rtol=1e-3)
    assert not np.allclose(notes.losses[-10:], cosine.losses[-10:], rtol=1e-3)
    optimizer = training.optimizer(1500)
    ones = dict.fromkeys(RECIPES, jnp.ones(1))
    state = optimizer.init(ones)
    sizes = []
    for _ in range(1500):
        updates, state = jax.jit(optimizer.update)(ones, state)
        sizes.append({name: -float(update[0]) for name, update in updates.items()})
    np.testing.assert_allclose([size["notes"] for size in sizes], 0.01, rtol=1e-4)
    rates = 0.005 * (1 + np.cos(np.pi * np.arange(1500) / 1500))
    np.testing.assert_allclose([size["cosine"] for size in sizes], rates, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_with_cosine_decay_the_forecast_holds():
    """Medians over ten seeds that the recipe was not chosen on; over seeds 0 to 19 they are 0.57 and 0.0008."""
    model = Forecaster("rnn", 16, 1, 1)
    errors = {}
    for name, made in training.train(model, sine_windows(), range(10), 6000).recipes.items():
        errors[name] = np.median(evaluate_waves(model, made.params, made.h, sine_windows()).mse()["forecast"])
    assert errors["notes"] > 0.1
    assert errors["cosine"] < 0.01


@pytest.mark.slow
def test_an_ensemble_is_its_members():
    model = Forecaster("gru", 6, 1, 1)
    together = training.train(model, sine_windows(), [4, 5], 40).recipes
    for index, seed in enumerate([4, 5]):
        alone = training.train(model, sine_windows(), [seed], 40).recipes
        for recipe in RECIPES:
            np.testing.assert_allclose(together[recipe].losses[:, index], alone[recipe].losses[:, 0], rtol=1e-4)


def test_series_windows_follow_each_other_and_end_with_the_training_part():
    series = Series(("a",), np.arange(200.0)[:, None], 160)
    windows = series_windows(series)
    rows = windows.data[..., 0] * series.std + series.mean
    np.testing.assert_allclose(rows[:, 0], [159 - 3 * 49, 159 - 2 * 49, 159 - 49], rtol=1e-5)
    np.testing.assert_allclose(rows[1:, 0], rows[:-1, -1], rtol=1e-5)
    np.testing.assert_allclose(rows[-1, -1], 159, rtol=1e-5)


def test_training_sees_no_held_out_value():
    values = np.random.RandomState(1).normal(size=(150, 2))
    other = values.copy()
    other[120:] *= 1e6
    first, second = Series(("a", "b"), values, 120), Series(("a", "b"), other, 120)
    np.testing.assert_array_equal(series_windows(first).data, series_windows(second).data)
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.std, second.std)


def loop_over_origins(model, params, series, horizon):
    """Forecasts (seeds, origins, horizon, F) in the file's units, a step at a time."""
    step, read_out = jax.jit(model.cell.step), jax.jit(model.linear.apply)
    found = []
    for seed in range(len(jax.tree.leaves(params)[0])):
        of_seed = jax.tree.map(lambda a, seed=seed: a[seed], params)
        h = model.cell.initial_state(of_seed["rnn"])
        for row, x in enumerate(jnp.asarray(series.normalised[:-1])):
            h = step(of_seed["rnn"], h, x)
            if row >= series.train - 1:
                ahead, ys = h, []
                for _ in range(horizon):
                    ys.append(read_out(of_seed["linear"], model.cell.output(ahead)))
                    ahead = step(of_seed["rnn"], ahead, ys[-1])
                found.append(np.array(ys, np.float64) * series.std + series.mean)
    return np.reshape(found, (seed + 1, -1, horizon, len(series.names)))


def test_rolling_forecasts_are_a_loop_over_origins(trend, monkeypatch):
    """In five blocks, the last of them shorter, and with a part of them drawn."""
    for name, value in {"SAMPLE": 3, "SAMPLE_STEPS": 2, "_STRETCHES": 100, "_LEAST_STRETCH": 5}.items():
        monkeypatch.setattr(evaluate, name, value)
    series = read_series(trend, ("line", "wave"), 4)
    model = Forecaster("gru", 5, 2, 2)
    params = training.train(model, series_windows(series), [0, 1], 30).recipes["cosine"].params
    result = evaluate_series(model, params, series, 4)
    forecasts = loop_over_origins(model, params, series, 4)
    rows = series.train + np.arange(24)[:, None] + np.arange(4)
    targets = np.where((rows < 120)[..., None], series.values[np.minimum(rows, 119)], np.nan)
    errors = forecasts - targets
    np.testing.assert_allclose(result.rmse, np.sqrt(np.nanmean(errors**2, axis=1)), rtol=1e-3)

    np.testing.assert_array_equal(result.sample.rows, series.train - 1 + np.array([12, 16, 20]))
    np.testing.assert_array_equal(result.sample.steps, [1, 4])
    np.testing.assert_allclose(result.sample.paths, forecasts[:, [12, 16, 20]][:, :, [0, 3]], rtol=1e-3, atol=1e-3)

    np.testing.assert_allclose(result.bands.rows, series.train + 3 + np.array([2, 7, 12, 17, 20]))
    ends = [errors[:, start : min(start + 5, 21), 3] for start in range(0, 21, 5)]
    expected = [np.percentile(part, (10, 50, 90), axis=(0, 1)) for part in ends]
    np.testing.assert_allclose(result.bands.errors, expected, rtol=1e-3, atol=1e-3)


def test_the_naive_forecast_of_a_line(trend):
    """On a line of slope 3 it is 3 off for every step ahead."""
    np.testing.assert_allclose(naive_rmse(read_series(trend, ("line",), 5), 5)[:, 0], [3, 6, 9, 12, 15])


def test_the_mean_of_what_no_square_can_hold():
    series = Series(("a", "b"), np.array([[1e300, 1.0], [3e300, 5.0], [2e300, 3.0]]), 2)
    np.testing.assert_allclose(series.mean, [2e300, 3])
    np.testing.assert_allclose(series.std, [1e300, 2])
    np.testing.assert_allclose(series.normalised, [[-1, -1], [1, 1], [0, 0]], atol=1e-7)


@pytest.mark.slow
def test_the_picture_does_not_grow_with_the_series(tmp_path, monkeypatch):
    """Of 4,000 held-out rows 40 forecasts are drawn one by one, the others as a band, a wide file in part."""
    drawn = []
    monkeypatch.setattr(pictures.Figure, "savefig", lambda figure, *args, **options: drawn.append(figure))
    rng = np.random.default_rng(0)
    series = Series(tuple(f"${i}猫" for i in range(10)), rng.normal(size=(20_000, 10)), 16_000)
    model = Forecaster("rnn", 3, 1, 10)
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2))
    results = dict.fromkeys(RECIPES, evaluate_series(model, params, series, 20))
    losses = dict.fromkeys(RECIPES, rng.uniform(1, 2, (150, 2)))
    pictures.draw_series(tmp_path, "title", series, results, naive_rmse(series, 20), losses)
    axes = drawn[0].axes
    assert len(axes) == 3 * pictures.COLUMNS + 1
    points = sum(len(line.get_xdata()) for axis in axes for line in axis.lines)
    assert points < pictures.COLUMNS * 5000
    drawn[0].draw_without_rendering()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_millions_of_rows_take_seconds_and_little_memory(tmp_path):
    """6.5 million rows, which took 12 GB when every forecast was kept and drawn."""
    wave = "\n".join(f"{np.sin(t / 5) + t % 7 / 10:.3f}" for t in range(10_000))
    (tmp_path / "long.csv").write_text("c\n" + (wave + "\n") * 650)
    program = f"""
import pathlib, re, sys
from experiments.sine.__main__ import main
status = main(["--csv", {str(tmp_path / "long.csv")!r}, "--steps", "100", "--out", {str(tmp_path / "run")!r}])
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert "1300000 held-out rows" in done.stdout
    assert int(done.stdout.split()[-1]) < 1_500_000  # kB
    assert (tmp_path / "run" / "forecast.png").stat().st_size < 500_000


def test_a_csv_run(tmp_path, trend, capsys):
    options = ["--csv", trend, "--column", "wave, line", "--horizon", "3", "--seeds", "2", "--steps", "50"]
    assert main([*options, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "wave: 24 held-out rows" in out
    assert "line: 24 held-out rows" in out
    assert "naive" in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert all(np.shape(summary[recipe]["rmse"]) == (2, 3, 2) for recipe in RECIPES)
    np.testing.assert_allclose(np.array(summary["naive_rmse"])[:, 1], [3, 6, 9])
    assert {file.name for file in (tmp_path / "run").iterdir()} == FILES


def test_the_least_number_of_rows_is_enough(tmp_path):
    file = write_csv(tmp_path / "data.csv", {"c": np.arange(63) % 7})
    assert read_series(file, ("c",), 10).train == 50


def test_a_file_that_cannot_be_read_is_one_line(tmp_path, capsys):
    for name, message in (
        ("missing.csv", "No such file"),
        (".", "it is a folder, expected a file"),
        ("/dev/zero", "it is a device, expected a file"),
    ):
        assert main(["--csv", str(tmp_path / name), "--column", "c", "--out", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--column", "a"],
        ["--column", "a,a", "--csv", "a.csv"],
        ["--delimiter", "ab", "--csv", "a.csv"],
        ["--horizon", "3"],
        ["--checkpoint-every", "50"],
        ["--hidden", "0"],
        ["--steps", "x"],
        ["--seed", "-1"],
    ],
)
def test_bad_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert options[0] in capsys.readouterr().err


@pytest.mark.slow
def test_an_earlier_run_is_not_overwritten(tmp_path, capsys):
    options = ["--steps", "5", "--hidden", "2", "--out", str(tmp_path)]
    assert main(options) == 0
    params = tmp_path / "notes" / "params.safetensors"
    before = params.read_bytes()
    assert main([*options, "--seed", "1"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert params.read_bytes() == before
    assert main([*options, "--seed", "1", "--overwrite"]) == 0
    assert params.read_bytes() != before


@pytest.mark.slow
def test_a_run_is_reproducible(tmp_path):
    for name in ("a", "b"):
        assert main(["--steps", "150", "--out", str(tmp_path / name)]) == 0
    arrays = [f"{recipe}/{file}" for recipe in RECIPES for file in ARRAYS]
    for file in ("forecast.png", *arrays):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tmp_path):
    """The files of both recipes, to the bit, after all that came since the last checkpoint but one is lost."""
    options = ["--steps", "300", "--checkpoint-every", "100", "--out", str(tmp_path)]
    arrays = [tmp_path / recipe / file for recipe in RECIPES for file in ARRAYS]
    assert main(options) == 0
    expected = [file.read_bytes() for file in arrays]
    shutil.rmtree(tmp_path / "checkpoints" / "00000300")
    for recipe in RECIPES:
        shutil.rmtree(tmp_path / recipe)
    assert main([*options, "--resume"]) == 0
    assert [file.read_bytes() for file in arrays] == expected


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done(tmp_path, start):
    command = ["-m", "experiments.sine", "--steps", 100000000, "--out", tmp_path]
    process = start(*command, stdout=subprocess.PIPE)
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    done = json.loads((tmp_path / "summary.json").read_text())["steps_done"]
    assert f"{done} of 100000000 steps" in out
    assert len(metrics.read_text().splitlines()) == done
    assert {file.name for file in tmp_path.iterdir()} == FILES


def test_divergence_is_told_and_what_came_before_is_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "CHUNK", 1)
    monkeypatch.setattr(training, "optimizer", lambda steps: optax.sgd(1e30))
    assert main(["--steps", "50", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "notes, seed 0: the loss became inf at step 2" in error
    assert error.count("\n") == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert 0 < summary["steps_done"] == len((tmp_path / "metrics.jsonl").read_text().splitlines()) < 50
    for recipe in RECIPES:
        params = load_file(tmp_path / recipe / "params.safetensors")
        assert np.isfinite(np.concatenate([a.ravel() for a in params.values()])).all()
