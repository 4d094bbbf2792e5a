"""check_gradient: silent on cells that are right, and finds the errors planted in others."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import linear_call

import jaxrnn as jr
from jaxrnn import gradients

from ..cell_table import FEATURES, make, nested, random_like
from ..marks import slow_but
from .problems import make_problem

W = jnp.array([[0.3, -0.5], [0.7, 0.2]])
H = jnp.array([0.4, -0.6])
XS = jnp.array([[0.5, -0.3], [1.1, 0.4], [-0.8, 0.9]])


def findings(step, params=W, state=H, xs=XS):
    """What is reported, one string an error."""
    with pytest.raises(AssertionError) as raised:
        gradients.check_gradient(step, params, state, xs)
    head, *lines = str(raised.value).splitlines()
    count = "an error" if len(lines) == 1 else f"{len(lines)} errors"
    assert head == f"check_gradient found {count}:"
    return [line.strip() for line in lines]


def numbers(line):
    return [float(word) for word in re.findall(r"(?<= )-?\d+\.?\d*(?:e-?\d+)?(?= |,|$)", line)]


@pytest.mark.parametrize(
    "name", slow_but(("lstm",), ["rnn", "rnn_relu", "gru", "lstm", "lstm_proj", "nested", "stack"])
)
def test_cells_that_are_right(name):
    cell, params = make(name)
    state = random_like(cell.initial_state(params))
    assert gradients.check_gradient(cell, params, state, random_like(jnp.zeros((3, FEATURES)))) is None


@pytest.mark.slow
def test_a_bare_step_with_a_clock_and_a_key():
    problem, (params, state, xs, _) = make_problem("bare", jnp.float32)
    gradients.check_gradient(problem.step, params["cell"], state, xs)


def test_one_step_of_tokens_from_zeros_in_numpy():
    table = np.linspace(-1, 1, 10)

    def step(params, h, token):
        return jnp.tanh(params["w"] * h + params["table"][token])

    gradients.check_gradient(step, {"w": 0.5, "table": table}, 0.0, np.array([3]))
    gradients.check_gradient(step, {"w": 0.5, "table": table}, 0.0, np.array([3, 1, 4, 1]))


# --- planted errors -------------------------------------------------------------------------------


@jax.custom_vjp
def _wrong_vjp(a):
    return jnp.tanh(a)


_wrong_vjp.defvjp(lambda a: (jnp.tanh(a), jnp.tanh(a)), lambda y, g: (g * (1 - y),))  # the square forgotten


def test_a_wrong_custom_vjp():
    """Named with the right number: the finite difference is the true derivative."""

    def step(w, h, x):
        return _wrong_vjp(w @ h + x)

    found = findings(step, xs=XS[:1])
    assert [line.split("[")[0].split(" is ")[0] for line in found] == [
        "finite differences: dL/dparams",
        "finite differences: dL/dstate",
        "finite differences: dL/dxs",
        "jvp against vjp: the step has none, as of a custom_vjp: jax.jvp, jax.jacfwd and jax.hessian fail; a "
        "custom_jvp in its place has both",
    ]
    y = np.random.default_rng(0).normal(size=2)  # the weights of L
    out = np.tanh(np.asarray(W, float) @ H + XS[0])
    element = int(re.search(r"dxs\[0, (\d)\]", found[2])[1])
    np.testing.assert_allclose(
        numbers(found[2]), [y[element] * (1 - out[element]), y[element] * (1 - out[element] ** 2)], 1e-5
    )


def test_a_right_custom_vjp_lacks_forward_mode_alone():
    @jax.custom_vjp
    def tanh(a):
        return jnp.tanh(a)

    tanh.defvjp(lambda a: (jnp.tanh(a), jnp.tanh(a)), lambda y, g: (g * (1 - y**2),))
    (line,) = findings(lambda w, h, x: tanh(w @ h + x))
    assert line.startswith("jvp against vjp: the step has none")


def test_a_wrong_custom_jvp():
    @jax.custom_jvp
    def sine(a):
        return jnp.sin(a)

    sine.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), -jnp.cos(primals[0]) * tangents[0]))
    found = findings(lambda w, h, x: w @ h + sine(x))
    assert len(found) == 1
    assert found[0].startswith("finite differences: dL/dxs[")
    by_vjp, by_differences = numbers(found[0])
    np.testing.assert_allclose(by_vjp, -by_differences, 1e-5)


def test_forward_and_reverse_that_differ():
    def scale(a):
        return linear_call(lambda _, a: 2 * a, lambda _, g: 3 * g, (), a)

    def step(w, h, x):
        return jnp.tanh(scale(w @ h) + x)

    found = findings(step)
    assert any(line.startswith("jvp against vjp: along a random direction in params ") for line in found)
    assert any(line.startswith("finite differences: dL/dparams[") for line in found)


def test_a_stop_gradient_left_in():
    def step(params, state, x):
        h = jnp.tanh(params["w"] @ state["h"] + x)
        return {"h": h, "mean": (0.9 * jax.lax.stop_gradient(state["mean"][0]) + 0.1 * h,)}

    (line,) = findings(step, {"w": W}, {"h": H, "mean": (H,)}, XS[:1])
    assert re.match(r"finite differences: dL/dstate\['mean'\]\[0\]\[\d\] is 0 by vjp, ", line)
    assert line.endswith(": a stop_gradient left in?")


def test_one_wrong_element_of_many_is_named():
    """The gradient of one weight of 2 x 200 is lost."""

    def step(w, h, x):
        kept = jnp.zeros(w.shape, bool).at[1, 7].set(True)
        return jnp.tanh(jnp.where(kept, jax.lax.stop_gradient(w), w) @ x)

    rng = np.random.default_rng(0)
    w, xs = jnp.asarray(rng.normal(0, 0.1, (2, 120))), jnp.asarray(rng.normal(size=(2, 120)))
    (line,) = findings(step, w, H, xs)
    assert "dL/dparams[1, 7] is 0 by vjp" in line


def test_a_leaf_beyond_the_limit_says_how_much_was_seen():
    (line,) = findings(lambda w, h, x: h + jax.lax.stop_gradient(w) @ x, jnp.ones((2, 500)), H, jnp.ones((2, 500)))
    assert "the worst of 256 of its 1,000 elements" in line


def test_a_state_that_changes_dtype():
    def step(w, state, x):
        h = jnp.tanh(w @ state["h"] + x)
        return {"h": h, "sum": (state["sum"] + h).astype(jnp.float32)}

    assert findings(step, W, {"h": H, "sum": H}) == [
        "dtype: in bfloat16 state['sum'] goes in as bfloat16[2] and comes out as float32[2]",
        "dtype: in float64 state['sum'] goes in as float64[2] and comes out as float32[2]",
    ]


def test_float32_constants_in_a_bfloat16_step():
    """The rest of the checks run where float64 is right."""
    with jax.numpy_dtype_promotion("standard"):
        found = findings(lambda w, h, x: jnp.tanh(jnp.float32(0.5) * (w @ jax.lax.stop_gradient(h)) + x), xs=XS[:1])
    assert found[0] == "dtype: in bfloat16 state goes in as bfloat16[2] and comes out as float32[2]"
    assert found[1].startswith("finite differences: dL/dstate[")
    (line,) = findings(lambda w, h, x: jnp.tanh(jnp.float32(0.5) * (w @ h) + x))[1:]
    assert line.startswith("dtype: in float64 the step raises TypePromotionError: ")


def test_a_state_that_changes_shape_or_structure():
    found = findings(lambda w, h, x: jnp.tanh(w @ h + x)[None])
    assert found[1] == "dtype: in float32 state goes in as float32[2] and comes out as float32[1,2]"
    found = findings(lambda w, h, x: (h, x))
    assert found[1] == "dtype: in float32 the state goes in as float32[2] and comes out as ('float32[2]', 'float32[2]')"


def _mean_step(params, state, x):
    new = nested.step(params, state, x)
    return {**new, "fast": new["fast"] * (1 + 0.1 * x.mean())}


@pytest.mark.slow
def test_a_cell_that_looks_over_the_batch():
    """Right for one example, so a bare step is; not right as a cell."""
    cell = nested._replace(step=_mean_step)
    params = cell.init(jax.random.key(0), 2, 3)
    state = random_like(cell.initial_state(params))
    found = findings(cell, params, state, XS)
    assert len(found) == 1
    assert re.match(
        r"batch: a step with a batch axis and a loop over examples give for state\['fast'\]\[\d, \d\]: ", found[0]
    )
    gradients.check_gradient(_mean_step, params, state, XS)


def test_a_cell_without_batches():
    cell = nested._replace(step=lambda params, h, x: jnp.tanh(params @ h + x))
    (line,) = findings(cell)
    assert line.startswith("batch: a step with a batch axis: raises TypeError: ")


def test_a_rule_of_vmap_that_is_wrong():
    @jax.custom_batching.custom_vmap
    def double(a):
        return 2 * a

    double.def_vmap(lambda size, batched, a: (3 * a, True))
    assert any(
        line.startswith("batch: jax.vmap of the step and a loop") for line in findings(lambda w, h, x: double(h))
    )


def test_a_nan_behind_a_where():
    """√ of a negative number in the branch not taken: the value is 0, its derivative that of both branches."""

    def step(params, h, x):
        root = jnp.where(params["gain"] > 0, jnp.sqrt(params["gain"]), 0.0)
        return jnp.tanh(root * h + x)

    found = findings(step, {"gain": jnp.array([0.5, -0.5])})
    assert len(found) == 2
    assert re.match(r"finite differences: dL/dparams\['gain'\]\[1\] is nan by vjp, 0 by finite differences", found[0])
    assert found[0].endswith(": a jnp.where, whose other branch has no finite derivative there?")
    assert re.match(r"jvp against vjp: along a random direction in params\['gain'\] \S+ and nan", found[1])


def test_states_that_are_not_finite():
    (line,) = findings(lambda w, h, x: h / (x - 0.5), xs=jnp.array([1.0, 0.5, 2.0]))
    assert line == "value: state is not finite after step 2 of 3"


def test_a_run_that_is_not_the_step():
    cell = jr.gru._replace(run=jr.affine_cell(lambda params, z, r, h: 0.9 * (z + r)[..., : h.shape[-1]], 3).run)
    params = cell.init(jax.random.key(0), 2, 2)
    (line,) = findings(cell, params)
    assert re.match(r"run: L is \S+ by run, \S+ by step, which must have the same numbers", line)


def test_a_step_that_cannot_be_differentiated_backward():
    def step(w, h, x):
        return jax.lax.while_loop(lambda a: jnp.sum(a**2) > 1, lambda a: 0.5 * (w @ a), 2 * h + x)

    assert [line for line in findings(step) if line.startswith("vjp raises ValueError: Reverse-mode differentiation")]


def test_large_networks_are_checked_but_for_rtrl(monkeypatch):
    monkeypatch.setattr(gradients._check, "BUDGET", 100)
    params = jr.rnn.init(jax.random.key(0), 2, 2)
    with pytest.warns(UserWarning, match="leaves out RTRL against BPTT: its influence matrix would have 24 numbers"):
        gradients.check_gradient(jr.rnn, params, H, XS)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((3, W, H, XS), TypeError, "step must be a jaxrnn.Cell or a function"),
        ((jr.rnn, {"a": jnp.arange(3)}, H, XS), TypeError, r"params\['a'\] has dtype int32"),
        ((jr.rnn, W, jnp.arange(3), XS), TypeError, "state must have a floating-point leaf"),
        ((jr.rnn, W, H, jnp.zeros((0, 2))), ValueError, r"xs has shape \(0, 2\), expected \(T, ...\)"),
        ((jr.rnn, W, H, None), ValueError, "xs and ys hold no arrays"),
    ],
)
def test_bad_arguments(args, error, message):
    with pytest.raises(error, match=message):
        gradients.check_gradient(*args)


def test_inside_jit():
    with pytest.raises(TypeError, match="not known inside a jitted function"):
        jax.jit(lambda w: gradients.check_gradient(jr.rnn, w, H, XS))(W)
