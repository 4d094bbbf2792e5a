"""The report: what it measures against closed forms, what it says, and the page as a browser shows it."""

import importlib
import importlib.util
import math
import shutil
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn as jr
from experiments import _memory
from experiments.charlm.train import Config
from experiments.digits import data as digits_data
from experiments.digits import model as digits_model
from experiments.dynamics import flip_flop
from experiments.hello.model import FORMS
from experiments.hello.words import Words
from experiments.report import measures, runs, verdict
from experiments.report.__main__ import main
from experiments.report.subject import Subject
from experiments.sine.data import sine_windows
from experiments.sine.model import Forecaster, mse
from jaxrnn import dynamics, gradients
from tests.marks import slow_but

NETWORK = """
    import jax, jax.numpy as jnp, jaxrnn as jr
    name = "<script>alert(1)</script> & 猫"
    step = jr.rnn
    params = jr.rnn.init(jax.random.key(0), 2, 4)
    xs = [jax.random.normal(jax.random.key(i), (24, 2)) for i in range(4)]
    ys = [jnp.zeros((24, 4))] * 4
    def loss(params, state, y):
        return jnp.mean((state - y) ** 2)
"""


def write(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def linear(matrix, steps=40, sequences=4, loss=True):
    """h -> A h + x, with the last state's sum as the loss."""
    xs = jax.random.normal(jax.random.key(0), (sequences, steps, len(matrix)))
    last = jnp.broadcast_to(jnp.arange(steps) == steps - 1, (sequences, steps))
    return Subject(
        "linear",
        "a matrix",
        lambda a, h, x: a @ h + x,
        jnp.asarray(matrix, jnp.float32),
        lambda params: params,
        jnp.zeros(len(matrix)),
        "noise",
        xs,
        last if loss else None,
        (lambda params, h, is_last: jnp.where(is_last, h.sum(), 0.0)) if loss else None,
    )


def measured(subject):
    return measures.measure(subject, 0, lambda what: None)


@pytest.mark.parametrize("factor", slow_but(["0.5"], ["0.5", "1.0", "1.2"]))
def test_a_multiple_of_an_orthogonal_matrix(factor):
    """All rates are log f, all singular values over a lag f^lag, and the verdict says so."""
    factor = float(factor)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    found = measured(linear(factor * rotation))
    np.testing.assert_allclose(found.spectrum.exponents, math.log(factor), atol=1e-5)
    assert found.spectrum.warmup == 8
    for lag in found.lags:
        np.testing.assert_allclose(lag.values, factor**lag.lag, rtol=1e-4)
        assert lag.surviving == (6 if factor**lag.lag >= 0.1 else 0)
    assert [lag.lag for lag in found.lags] == [1, 2, 4, 8, 16, 32]
    assert math.isclose(verdict.rate(found), math.log(factor), abs_tol=1e-5)
    says = {finding.title: finding for finding in verdict.findings(found)}
    if factor == 1.0:
        assert says["Gradients reach back through whole sequences"].level == "good"
        assert says["The dynamics are at the edge of chaos"].level == "good"
    elif factor < 1:
        assert "factor of 0.5 a step" in says["Gradients vanish"].text
        assert "fades e-fold in 1.44 steps" in says["The state forgets"].text
        assert says["No direction is kept"].level == "watch"
    else:
        assert "factor of 1.2 a step" in says["Gradients explode"].text
        assert "e-fold in 5.48 steps" in says["The dynamics are chaotic"].text
        assert verdict.CLIP in says["Gradients explode"].tries
    assert verdict.headline(list(says.values()))


def test_what_rounding_has_taken_is_no_number():
    """Of diag(1, 0.01) over 16 steps the smaller singular value is 1e-32."""
    subject = linear(np.diag([1.0, 0.01]))
    last = measures._lags(subject, subject.states())[-1]
    assert last.lag == 32
    np.testing.assert_allclose(last.values[:, 0], 1, rtol=1e-5)
    assert np.isnan(last.values[:, 1]).all()
    assert math.isnan(measures.Lag(1, np.array([[1.0, 1.0, np.nan], [1.0, np.nan, np.nan]])).median)


def test_lags_begin_at_the_states_of_the_sequences():
    """The first and the last window of a cell are those that jacobian_singular_values gives."""
    params = jr.gru.init(jax.random.key(0), 3, 5)
    xs = jax.random.normal(jax.random.key(1), (2, 40, 3))
    subject = Subject("gru", "", jr.gru, params, lambda p: p, jnp.zeros(5), "", xs)
    for lag in measures._lags(subject, subject.states())[::2]:
        for window, (x, place) in {0: (xs[0], 0), -1: (xs[1], 40 - 32)}.items():
            known = np.isfinite(lag.values[window])
            along = dynamics.jacobian_singular_values(jr.gru, params, jnp.zeros(5), x, lag.lag)[place]
            np.testing.assert_allclose(lag.values[window][known], along[known], rtol=0.02)
    assert [weights.gate for weights in measures._weights(subject)] == [0, 1, 2]


def test_states_that_are_not_finite_give_no_number():
    found = measured(linear(1e30 * np.eye(2)))
    assert {type(part) for part in (found.flows, found.spectrum, found.lags, found.points)} == {measures.Refused}
    first = verdict.findings(found)[0]
    assert (first.level, first.title) == ("bad", "The states are not finite")
    assert first.text == "The state is not finite from step 3 of sequence 1 on."
    assert len(verdict.findings(found)) == 1


def test_a_tenth_arrives_as_far_back_as_it_is_measured():
    """Of a delay of five steps: all of the gradient five steps back, none further."""
    shift = np.eye(6, k=-1)
    subject = linear(shift)
    last = jnp.eye(6)[5]
    subject = subject._replace(ys=jnp.ones((4, 40)), loss=lambda a, h, y: y * last @ h)
    assert verdict._reaches(measures._flows(subject)) == 5


def test_fixed_points_that_cannot_be_told_are_not_sought():
    whole = linear(np.eye(2))
    low = whole._replace(state=jnp.zeros(2, jnp.bfloat16), params=jnp.eye(2, dtype=jnp.bfloat16))
    clock = whole._replace(step=lambda a, s, x: {"h": a @ s["h"] + x, "t": s["t"] + 1})
    clock = clock._replace(state={"h": jnp.zeros(2), "t": jnp.zeros((), jnp.int32)})
    for subject, why in (
        (low._replace(xs=low.xs.astype(jnp.bfloat16)), "low precision"),
        (clock, "not floating-point"),
    ):
        with pytest.raises(ValueError, match=why):
            measures._points(subject, subject.states(), np.zeros((4, 40, 2)), 0)


def test_a_silent_unit_is_told():
    params = jr.rnn_relu.init(jax.random.key(0), 2, 4)
    params = params._replace(bias_ih=params.bias_ih.at[1].set(-100.0))
    xs = jax.random.normal(jax.random.key(1), (4, 20, 2))
    subject = Subject("relu", "", jr.rnn_relu, params, lambda p: p, jnp.zeros(4), "", xs)
    activity = measures._activity(np.asarray(measures._flat(subject.states())))
    assert activity.still >= 1
    found = measures.Measured(subject, *[measures.Refused("not asked for")] * 5, activity)
    assert any(finding.title == "Some units are silent" for finding in verdict.findings(found))


def test_spikes_are_told_from_a_gradient_that_falls():
    falling = [{"step": i, "loss": 1.0, "grad_norm": 100 * 0.99**i} for i in range(1000)]
    spiking = [{"step": i, "loss": 1.0, "grad_norm": 1.0 + 99 * (i % 50 == 0)} for i in range(1000)]
    for rows, title in ((falling, "Gradients were even in training"), (spiking, "Gradients spiked in training")):
        subject = linear(np.eye(2), loss=False)._replace(history=tuple(rows))
        unmeasured = [measures.Refused("not asked for")] * 5
        found = measures.Measured(subject, *unmeasured, measures.Activity(2, 0, 1.0))
        assert title in [finding.title for finding in verdict.findings(found)]


def test_what_rests_in_two_places_can_remember():
    """h -> tanh(2 h + x): two stable states, an unstable one between them."""
    xs = jnp.zeros((2, 30, 1)).at[0, 0].set(1).at[1, 0].set(-1)
    ys = jnp.ones((2, 30))
    step = lambda w, h, x: jnp.tanh(w * h + x)  # noqa: E731
    subject = Subject(
        "a bit", "", step, jnp.array(2.0), lambda w: w, jnp.zeros(1), "", xs, ys, lambda w, h, y: (h * y)[0]
    )
    says = {finding.title: finding for finding in verdict.findings(measured(subject))}
    assert says["The state can rest in 2 places"].level == "good"
    assert says["Gradients vanish"].level == "watch"
    assert "On the other hand: Small changes fade. The state can rest in 2 places." in verdict.headline(
        list(says.values())
    )
    assert "that gradients vanish there is the price" in says["Gradients vanish"].text


BAD_FILES = {
    "no xs": ("step = len\nparams = 1.0", "defines no xs: expected step, params, xs"),
    "an exit": ("import sys\nsys.exit(3)", "line 3: SystemExit: 3"),
    "an error": ("import jaxrnn\n\n1 / 0", "line 4: ZeroDivisionError: division by zero"),
    "a syntax error": ("step = (", "SyntaxError"),
    "step is a number": ("step = 1\nparams = 1.0\nxs = [[1.0]]", "step must be a function, got int"),
    "no state": ("step = lambda p, h, x: h\nparams = 1.0\nimport numpy\nxs = numpy.ones(3)", "defines no state"),
    "a loss alone": (f"{NETWORK}\n    del ys", "loss and ys go together"),
    "other lengths": (f"{NETWORK}\n    ys = ys[0][:5]", "ys has 1 sequence of 5 steps, xs 4 sequences of 24 steps"),
    "unequal": (f"{NETWORK}\n    xs = [xs[0], xs[1][:3]]", "all equally long"),
    "select forgotten": (
        f"{NETWORK}\n    params = {{'cell': params}}",
        "step cannot use params (select says which of params the step reads)",
    ),
    "a loss of many": (
        f"{NETWORK}\n    def loss(params, state, y):\n        return (state - y) ** 2",
        "loss must return one number, got (4,)",
    ),
    "batch first": (f"{NETWORK}\n    xs, ys = jnp.stack(xs), jnp.stack(ys)", "several sequences are a list"),
    "empty": (f"{NETWORK}\n    xs = []", "xs is an empty list"),
    "no time": (f"{NETWORK}\n    xs = 1.0", "xs has (), expected (T, ...)"),
    "not finite": (
        f"{NETWORK}\n    params = params._replace(bias_ih=params.bias_ih * jnp.nan)",
        "4 of 4 numbers not finite",
    ),
    "another shape": (f"{NETWORK}\n    xs = jnp.ones((24, 3))\n    ys = ys[0]", "x has shape"),
    "another state": (f"{NETWORK}\n    step = lambda p, h, x: (h, h)\n    state = jnp.zeros(4)", "state"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_line(tmp_path, capsys, case):
    text, message = BAD_FILES[case]
    path = write(tmp_path, "\n" + text)
    assert main([str(path), "--out", str(tmp_path / "run")]) == 2
    out, error = capsys.readouterr()
    assert not out
    assert error.count("\n") == 1
    assert message in error
    assert str(path) in error
    assert not (tmp_path / "run").exists()


def test_folders_without_a_network_are_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no checkpoint of a trained network" in capsys.readouterr().err
    assert main([str(tmp_path / "none.py")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_what_does_not_fit_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 10**4)
    assert main([str(write(tmp_path, NETWORK)), "--out", str(tmp_path / "run")]) == 2
    assert "would take about" in capsys.readouterr().err


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    assert main([str(write(folder, NETWORK)), "--out", str(folder)]) == 0
    return folder / "report.html"


def test_the_page_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    outside = {part.split('"')[0] for part in text.split('="http')[1:]}
    assert outside <= {"://www.w3.org/2000/svg", "://www.w3.org/1999/xlink"}
    assert " src=" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 猫" in text
    assert {path.name for path in page.parent.iterdir()} == {"mine.py", "report.html"}


def test_an_earlier_page_is_kept(page, capsys):
    before = page.read_bytes()
    assert main([str(page.parent / "mine.py"), "--out", str(page.parent)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert page.read_bytes() == before


def of_hello(form, params):
    model = FORMS[form].model(4)
    words = Words("hello", "ohlol")
    logits = model.logits(params, words.source_ids[None])
    return optax.softmax_cross_entropy_with_integer_labels(logits, words.target_ids[None]).mean()


def of_sine(subject):
    model = Forecaster("gru", 4, 2, 1)
    windows = sine_windows().data
    zeros = model.cell.initial_state(subject.params["rnn"])
    return mse(model.predict(subject.params, zeros, windows[0][:-1])[0], windows[0][1:])


def of_digits(subject):
    image = digits_data.load("rows").test
    logits = digits_model.Classifier("lstm", 8, 6).logits(subject.params, image.xs[:1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, image.labels[:1])[0]


def of_charlm(subject):
    config = Config(cell="rnn", hidden=8, layers=2, embedding=4)
    vocabulary_size = subject.params["linear"]["bias"].shape[0]
    model = config.model("x" * vocabulary_size)
    return optax.softmax_cross_entropy_with_integer_labels(logits_of(model, subject), subject.ys[0]).mean()


def logits_of(model, subject):
    state = model.initial_state(subject.params)
    ys = subject.xs[0]
    for cell, initial in zip(subject.params["cells"], state, strict=True):
        _, ys = jr.unroll(jr.rnn, cell, ys, initial)
    return model.logits(subject.params, ys)


def of_flip_flop(subject, kind="gru", bits=1):
    batch = flip_flop.Batch(subject.xs[0][:, None], subject.ys[0][:, None])
    return flip_flop.Network(kind, 4, bits).error(subject.params, batch)


RUNS = {  # the command, how many networks it leaves, and the loss on the first sequence by the experiment's own model
    "hello": ("hello --form gru --epochs 5", 1, lambda subject: of_hello("gru", subject.params)),
    "hello cell": ("hello --form cell --epochs 5", 1, lambda subject: of_hello("cell", subject.params)),
    "hello rnn": ("hello --form rnn --epochs 5", 1, lambda subject: of_hello("rnn", subject.params)),
    "sine": ("sine --cell gru --hidden 4 --layers 2 --seeds 2 --steps 100", 4, of_sine),
    "digits": ("digits --form rows --cell lstm --hidden 6 --epochs 1", 1, of_digits),
    "charlm": (
        "charlm train --text LICENSE --cell rnn --hidden 8 --layers 2 --embedding 4 --steps 10 --evaluate-every 10",
        1,
        of_charlm,
    ),
    "training": (
        "dynamics training --hidden 4 --steps 20 --every 10",
        4,
        lambda subject: of_flip_flop(subject, "rnn", 3),
    ),
    "fixedpoints": ("dynamics fixedpoints --cell gru --hidden 4 --bits 1 --steps 10 --candidates 4", 1, of_flip_flop),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_networks_of_a_run(tmp_path, name):
    """They are those that it trained: the loss along a sequence is that of the experiment's own model."""
    command, count, loss = RUNS[name]
    experiment, *options = command.split()
    run = importlib.import_module(f"experiments.{experiment}.__main__").main
    assert run([*options, "--out", str(tmp_path)]) == 0
    subjects = runs.subjects(tmp_path)
    assert len(subjects) == count
    for subject in subjects:
        first = jax.tree.map(lambda a: a[0], (subject.xs, subject.ys))
        value, _, _ = gradients.bptt(subject.problem, subject.params, subject.state, *first)
        np.testing.assert_allclose(value, loss(subject), rtol=1e-4)
        assert subject.history[-1]["step"] > 1
    if name == "hello":
        assert main([str(tmp_path)]) == 0
        assert "Course of training" in (tmp_path / "report.html").read_text(encoding="utf-8")


def browser(dark):
    """Headless Chromium, by its driver."""
    if importlib.util.find_spec("selenium") is None or not shutil.which("chromedriver"):
        pytest.skip("needs selenium, chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-component-update", "window-size=1100,1400"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    return driver


def brightness(driver, of):
    """Of a colour of the page, from 0 to 255."""
    color = driver.execute_script(f"return getComputedStyle(document.body).{of}")
    return np.mean([int(part) for part in color[4:-1].split(",")])


@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(page, dark):
    """No error in the console; every figure there; light and dark, by itself and by the button; tables are sorted."""
    driver = browser(dark)
    try:
        driver.get(page.as_uri())
        assert driver.get_log("browser") == []
        figures = driver.execute_script(
            "return [...document.querySelectorAll('figure')].map((f) => [f.ariaLabel, f.firstElementChild.tagName, "
            "f.getBoundingClientRect().width, f.getBoundingClientRect().height, f.querySelectorAll('path').length])"
        )
        names = ["Gradient flow", "Lyapunov spectrum", "Jacobian singular values over lag", "Fixed points"]
        assert [label for label, *_ in figures] == [f"{name} of <script>alert(1)</script> & 猫" for name in names]
        assert all(
            tag == "svg" and width > 400 and height > 150 and paths > 20 for _, tag, width, height, paths in figures
        )
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert (brightness(driver, "backgroundColor") < 128 < brightness(driver, "color")) == dark
        driver.find_element("css selector", "button.theme").click()
        assert (brightness(driver, "backgroundColor") < 128 < brightness(driver, "color")) != dark
        column = (
            "return [...document.querySelectorAll('table')[0].tBodies[0].rows].map((r) => +r.cells[2].dataset.value)"
        )
        head = driver.find_elements("css selector", "table")[0].find_elements("css selector", "th button")[2]
        head.click()
        assert driver.execute_script(column) == sorted(driver.execute_script(column))
        head.click()
        assert driver.execute_script(column) == sorted(driver.execute_script(column), reverse=True)
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
