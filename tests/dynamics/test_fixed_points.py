"""Fixed points, their stability and their continuation, where they are known."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from jaxrnn import dynamics

from .systems import driven, grown, henon, scale


def double_well(w, h, x):
    return jnp.tanh(w * h + x)


def cube(w, h, x):
    """Independent double wells: 3 ** n fixed points, of which 2 ** n are stable."""
    return jnp.tanh(w * h)


def grid(n, count):
    """(count ** n, n)."""
    axis = np.linspace(-1.1, 1.1, count)
    return np.stack(np.meshgrid(*[axis] * n), axis=-1).reshape(-1, n)


def test_all_of_a_cube_are_found_with_their_modes(x64):
    found = dynamics.fixed_points(cube, 2.0, None, grid(2, 9))
    side = 0.957504024077269  # tanh(2 s) = s
    expected = {(a, b) for a in (-side, 0, side) for b in (-side, 0, side)}
    assert {tuple(point) for point in np.round(found.vectors, 9) + 0.0} == {tuple(np.round(p, 9)) for p in expected}
    assert found.is_fixed.all()
    assert found.stable.sum() == 4
    for point, eigenvalues, modes, unstable in zip(
        found.vectors, found.eigenvalues, found.modes, found.unstable, strict=True
    ):
        slopes = 2 * (1 - np.tanh(2 * point) ** 2)
        np.testing.assert_allclose(np.sort(eigenvalues.real), np.sort(slopes), rtol=1e-9)
        np.testing.assert_allclose(np.diag(slopes) @ modes, modes * eigenvalues, atol=1e-9)
        assert unstable == np.sum(slopes > 1)
    assert (found.counts.sum(), len(found.of_candidates)) == (81, 81)
    nearest = np.linalg.norm(found.points[found.of_candidates] - grid(2, 9), axis=1)
    assert np.median(nearest) < 0.5
    assert (found.speeds < 1e-24).all()


@pytest.mark.slow
def test_in_float32_they_are_found_to_rounding():
    found = dynamics.fixed_points(cube, jnp.float32(2), None, jnp.asarray(grid(2, 5), jnp.float32))
    assert len(found.speeds) == 9
    assert found.is_fixed.all()
    assert np.abs(np.abs(found.vectors[np.abs(found.vectors) > 0.1]) - 0.957504).max() < 1e-5


def test_of_the_henon_map_a_state_with_names(x64):
    """x = (b - 1 ± √((1 - b)² + 4 a)) / 2 a, both saddles."""
    xs = np.array([0.6, -1.0, 0.5])
    found = dynamics.fixed_points(henon, (1.4, 0.3), None, {"x": xs, "y": 0.3 * xs})
    expected = (-0.7 + np.array([1, -1]) * np.sqrt(0.49 + 5.6)) / 2.8
    np.testing.assert_allclose(found.points["x"], expected, rtol=1e-9)
    np.testing.assert_allclose(found.points["y"], 0.3 * expected, rtol=1e-9)
    np.testing.assert_array_equal(found.unstable, [1, 1])
    np.testing.assert_allclose(np.prod(found.eigenvalues, axis=1), -0.3, rtol=1e-9)


@pytest.mark.slow
def test_one_of_an_lstm(x64):
    cell, params, _, xs = driven("lstm")
    rng = np.random.default_rng(0)
    candidates = jr.LSTMState(*(jnp.asarray(rng.normal(size=(5, 4))) for _ in range(2)))
    found = dynamics.fixed_points(cell, params, xs[0], candidates)
    after = cell.step(params, jax.tree.map(jnp.asarray, found.points), jnp.broadcast_to(xs[0], (len(found.speeds), 3)))
    np.testing.assert_allclose(after.c, found.points.c, atol=1e-10)
    assert found.stable.sum() == 1


def test_slow_points_are_told_from_fixed_ones(x64):
    """Just beyond the saddle node: the two upper points are gone, and a minimum of q is left where they met."""
    found = dynamics.fixed_points(double_well, 2.0, -0.54, np.array([[0.7], [-0.9], [0.75]]))
    assert found.is_fixed.tolist() == [False, True] or found.is_fixed.tolist() == [True, False]
    slow = int(np.argmin(found.is_fixed))
    assert abs(found.vectors[slow, 0] - 0.7071) < 0.02  # 2 (1 - s²) = 1
    assert 1e-7 < found.speeds[slow] < 1e-4
    assert not found.stable[slow]
    assert (found.of_candidates >= 0).all()
    assert "1 stable and 0 other fixed points, 1 slow points; 0 of 3 candidates" in str(found)


def test_candidates_that_do_not_converge_say_so(x64):
    found = dynamics.fixed_points(lambda w, h, x: h + jnp.exp(-h), (), None, np.array([[0.0], [1.0]]), iterations=3)
    assert found.of_candidates.tolist() == [-1, -1]
    assert len(found.speeds) == 0
    assert found.vectors.shape == (0, 1)
    assert "0 stable and 0 other fixed points, 0 slow points; 2 of 2 candidates did not converge" in str(found)
    drift = dynamics.fixed_points(lambda w, h, x: h + 1, (), None, np.array([[0.0], [1.0]]))
    assert drift.of_candidates.tolist() == [-1, -1]  # q has no slope, but nothing is slow


@pytest.mark.slow
def test_a_line_attractor_is_many_points(x64):
    w = np.diag([1.0, 0.5])
    found = dynamics.fixed_points(lambda w, h, x: w @ h, w, None, np.stack([np.linspace(-1, 1, 5), np.ones(5)], axis=1))
    assert len(found.speeds) == 5
    np.testing.assert_allclose(found.vectors[:, 1], 0, atol=1e-10)
    np.testing.assert_allclose(np.abs(found.eigenvalues), [[1, 0.5]] * 5)
    assert not found.stable.any()


def test_continuation_follows_a_point_until_it_vanishes(x64):
    xs = np.linspace(0, -1, 101)
    path = dynamics.continuation(double_well, 2.0, xs, np.array([[0.957504], [0.0], [-0.957504]]))
    fold = np.sqrt(2) - np.arctanh(np.sqrt(0.5))  # of 2 s + x = atanh s and 2 (1 - s²) = 1
    lost = xs < -fold
    np.testing.assert_array_equal(path.converged, np.stack([~lost, ~lost, np.ones(101, bool)], axis=1))
    np.testing.assert_allclose(
        np.tanh(2 * path.points[..., 0] + xs[:, None])[path.converged], path.points[path.converged][:, 0], atol=1e-10
    )
    slopes = 2 * (1 - path.points[..., 0] ** 2)
    np.testing.assert_allclose(path.eigenvalues[..., 0].real, slopes, rtol=1e-9)
    np.testing.assert_array_equal(path.stable, path.converged & [True, False, True])
    assert np.isnan(path.points[lost, 0]).all()


def test_they_draw_print_and_convert_themselves(x64):
    found = dynamics.fixed_points(cube, 2.0, None, grid(3, 3))
    rng = np.random.default_rng(0)
    paths = [rng.uniform(-1, 1, 3)]
    for _ in range(20):
        paths.append(np.tanh(2 * paths[-1]))
    axis = found.plot(np.stack(paths)).axes[0]
    assert axis.name == "3d"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "stable (8)",
        "fixed, unstable along the lines (19)",
    ]
    assert found.sentence() in axis.figure.get_suptitle()
    flat = dynamics.fixed_points(cube, 2.0, None, grid(1, 5))
    assert len(flat.plot().axes) == 1
    assert repr(found) == str(found)
    assert "… and 7 more" in str(found)
    read = json.loads(json.dumps(found.to_dict()))
    assert np.shape(read["eigenvalues"]) == (27, 3, 2)


def test_a_second_search_does_not_trace_again():
    traced = []

    def step(w, h, x):
        traced.append(1)
        return jnp.tanh(w * h)

    search = lambda w: dynamics.fixed_points(step, w, None, jnp.ones((2, 1)))  # noqa: E731
    search(jnp.float32(0.5))
    first = len(traced)
    search(jnp.float32(0.6))
    assert len(traced) == first


C = jnp.ones((3, 2))
ERRORS = {
    "not finite": ({"candidates": C.at[1].set(jnp.nan)}, "candidates is not finite"),
    "no states": ({"candidates": C[:0]}, r"candidates has shape \(0, 2\), expected the same number of states first"),
    "two numbers": ({"candidates": {"a": C, "b": C[:2]}}, r"candidates\['b'\] has shape \(2, 2\), expected the same"),
    "structure": ({"step": grown}, "the state that step returns is"),
    "tolerance": ({"tolerance": 0}, "tolerance must be a number above 0, got 0"),
    "distance": ({"distance": "far"}, "distance must be a number above 0, got 'far'"),
    "iterations": ({"iterations": 0}, "iterations must be at least 1, got 0"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    options, message = ERRORS[case]
    arguments = {"step": scale, "params": jnp.ones(2), "x": None, "candidates": C} | options
    with pytest.raises((ValueError, TypeError), match=message):
        dynamics.fixed_points(**arguments)


def test_errors_inside_jit_and_of_pictures():
    with pytest.raises(TypeError, match=r"cannot be looked for inside jax.jit"):
        jax.jit(lambda c: dynamics.fixed_points(scale, jnp.ones(2), None, c).vectors)(C)
    with pytest.raises(ValueError, match=r"points\['b'\] has shape"):
        dynamics.continuation(scale, jnp.ones(2), C, {"a": C, "b": C[:2]})
    found = dynamics.fixed_points(lambda w, h, x: h + 1, (), None, C)
    with pytest.raises(ValueError, match=r"trajectories have shape \(4, 3\), expected \(..., T, n\) with n = 2"):
        found.plot(np.zeros((4, 3)))


def test_without_optax(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxrnn.dynamics._descent", raising=False)
    monkeypatch.delattr("jaxrnn.dynamics._descent", raising=False)
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError, match=r"fixed_points needs Optax: pip install 'jaxrnn\[dynamics\]'"):
        dynamics.fixed_points(scale, jnp.ones(2), None, C)
