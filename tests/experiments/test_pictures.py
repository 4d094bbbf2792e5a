"""What a person sees of the pictures of the experiments: legends that cover no curve, colour bars that say of what."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.charlm import pictures as charlm
from experiments.digits import pictures as digits
from experiments.digits.train import Run
from experiments.gradients import derive
from experiments.hello import pictures as hello
from experiments.hello.train import Run as Spelling
from experiments.hello.words import Words


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are not written."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: figures.append(figure))
    return figures


def digits_runs():
    norms = {"h": np.geomspace(1e-9, 1, 64), "c": np.geomspace(1e-6, 1, 64)}
    run = Run(np.linspace(0.1, 1, 30), norms, norms, 1.0, "finished")
    return {(form, cell): run for form in ("rows", "pixels") for cell in ("rnn", "lstm", "gru")}


def test_the_legends_of_digits_cover_no_curve(tmp_path, drawn):
    digits.draw(tmp_path, "title", digits_runs())
    drawn[0].draw_without_rendering()
    boxes = [axis.get_window_extent() for axis in drawn[0].axes]
    assert len(boxes) == 6
    for axis in drawn[0].axes:
        legend = axis.get_legend().get_window_extent()
        assert not any(legend.overlaps(box) for box in boxes)
        assert legend.y0 >= 0


def draw_derive():
    norms = dict.fromkeys(("U", "W", "b"), np.tril(np.ones((4, 4))))
    figure = Figure()
    derive._draw_triangles(figure, figure.subplots(1, 3), "sigmoid", norms)
    figure.savefig("")


def draw_hello():
    hello.draw("", Words("ab", "bb"), {"rnn": Spelling(np.linspace(1, 0.1, 9), np.ones((9, 2), int), "finished")}, 0)


def draw_charlm():
    charlm.draw_heat_map("", "some text", np.ones(9), 3, np.linspace(-1, 1, 9))


@pytest.mark.parametrize(("draw", "count"), [(draw_derive, 1), (draw_hello, 1), (draw_charlm, 2)])
def test_colour_bars_say_of_what(drawn, draw, count):
    draw()
    bars = [axis for axis in drawn[0].axes if axis.get_label() == "<colorbar>"]
    assert len(bars) == count
    assert all(bar.get_ylabel() for bar in bars)
