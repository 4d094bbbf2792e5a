"""What JAX does not promise to keep: each test fails if JAX has changed it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import mlir
from jax.sharding import AxisType, PartitionSpec

from jaxrnn._core import compat


def equation_of(function, *args):
    """The one operation of a function."""
    (equation,) = jax.make_jaxpr(function)(*args).eqns
    return equation


def test_is_concrete():
    seen = []
    jax.jit(lambda a: seen.append(compat.is_concrete(a)))(1.0)
    jax.vmap(lambda a: seen.append(compat.is_concrete(a)))(jnp.ones(2))
    jax.grad(lambda a: (seen.append(compat.is_concrete(a)), a)[1])(1.0)
    assert seen == [False] * 3
    assert all(map(compat.is_concrete, (jnp.ones(2), np.ones(2), 1.0)))


def test_varying_axes():
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(AxisType.Auto,))
    seen = []

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(PartitionSpec("devices"), PartitionSpec()), out_specs=PartitionSpec()
    )
    def see(different, same):
        seen.extend(map(compat.varying_axes, (different, same)))
        return same

    see(jnp.ones(2), jnp.ones(2))
    assert seen == [{"devices"}, frozenset()]
    assert compat.varying_axes(jnp.ones(2)) == frozenset()


def test_like_varying():
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(AxisType.Auto,))
    seen = []

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=PartitionSpec("devices"), out_specs=PartitionSpec("devices"))
    def see(different):
        seen.append(compat.like_varying(jax.typeof(different), (3, 4)))
        return different

    see(jnp.ones((2, 1, 1)))
    seen.append(compat.like_varying(jax.typeof(jnp.ones(2)), (3, 4)))
    assert [aval.shape for aval in seen] == [(3, 4)] * 2
    assert [aval.manual_axis_type.varying for aval in seen] == [{"devices"}, frozenset()]


def test_is_spread():
    """By an Explicit mesh of any size; the test of sharding has several devices."""
    mesh = jax.make_mesh((1,), ("devices",))
    explicit = jax.device_put(jnp.ones(2), jax.NamedSharding(mesh, PartitionSpec("devices")))
    seen = []
    auto = jax.make_mesh((1,), ("devices",), axis_types=(AxisType.Auto,))
    see = jax.shard_map(
        lambda a: (seen.append(compat.is_spread([a], "cpu")), a)[1],
        mesh=auto,
        in_specs=PartitionSpec("devices"),
        out_specs=PartitionSpec("devices"),
    )
    see(jnp.ones(2))
    assert seen == [False]
    assert compat.is_spread([explicit], "cpu")
    assert compat.is_spread([jnp.ones(2)], "cpu") == (jax.device_count("cpu") > 1)


def test_is_lowered_for_export():
    primitive, seen = Primitive("probe"), []
    primitive.def_abstract_eval(lambda a: a)

    def lower(context, a):
        seen.append(compat.is_lowered_for_export(context))
        return [a]

    mlir.register_lowering(primitive, lower)
    jax.jit(primitive.bind)(jnp.ones(2))
    jax.export.export(jax.jit(primitive.bind))(jnp.ones(2))
    assert seen == [False, True]


def test_is_symbolic_zero():
    seen = []

    @jax.custom_jvp
    def product(a, b):
        return a * b

    def rule(primals, tangents):
        seen.append(tuple(map(compat.is_symbolic_zero, tangents)))
        return product(*primals), tangents[0] * primals[1]

    product.defjvp(rule, symbolic_zeros=True)
    jax.grad(product)(2.0, 3.0)
    assert seen == [(False, True)]


def test_has_no_forward_mode():
    @jax.custom_vjp
    def double(a):
        return 2 * a

    double.defvjp(lambda a: (2 * a, None), lambda _, cotangent: (2 * cotangent,))
    with pytest.raises(TypeError) as info:
        jax.jvp(double, (1.0,), (1.0,))
    assert compat.has_no_forward_mode(info.value)
    with pytest.raises(TypeError) as info:
        jax.jvp(jnp.sin, (1,), (1.0,))
    assert not compat.has_no_forward_mode(info.value)


def test_temporary_bytes():
    compiled = jax.jit(lambda a: jnp.sort(jnp.sin(a) @ a)[::-1] @ a).lower(jnp.ones((64, 64))).compile()
    size = compat.temporary_bytes(compiled)
    assert isinstance(size, int)
    assert size > 0


def test_closed_values():
    known = jnp.arange(3.0)
    assert compat.closed_values(lambda a: a + 1, jnp.ones(3)) == []
    (value,) = compat.closed_values(lambda a: a + known, jnp.ones(3))
    np.testing.assert_array_equal(value, known)
    seen = []
    jax.jit(lambda outer: seen.extend(compat.closed_values(lambda a: a + outer, jnp.ones(3))))(known)
    assert len(seen) == 1
    assert not compat.is_concrete(seen[0])


def with_a_tangent(function):
    ours = jax.custom_jvp(function)
    ours.defjvp(lambda primals, tangents: (function(*primals), *tangents))
    return ours


def with_a_cotangent(function):
    ours = jax.custom_vjp(function)
    ours.defvjp(lambda a: (function(a), None), lambda _, cotangent: (cotangent,))
    return ours


@pytest.mark.parametrize("transformation", [jax.jit, jax.checkpoint, with_a_tangent, with_a_cotangent])
def test_called_jaxpr(transformation):
    equation = equation_of(transformation(lambda a: jnp.sin(a) * 2), 1.0)
    called = compat.called_jaxpr(equation)
    assert called is not None
    assert [inner.primitive.name for inner in called.eqns] == ["sin", "mul"]
    assert jaxpr_as_fun(called)(1.0) == pytest.approx([2 * np.sin(1)])


def test_called_jaxpr_of_a_closed_call():
    """As there is in the gradient of a scan under `jax.checkpoint`, of what is the same at all of its steps."""

    @jax.checkpoint
    def function(a):
        return jax.lax.scan(lambda carry, _: (jnp.sin(a) * carry, None), 1.0, length=3)[0]

    equation, *_ = jax.make_jaxpr(jax.grad(function))(1.0).eqns
    assert equation.primitive.name == "closed_call"
    called = compat.called_jaxpr(equation)
    assert called is not None
    assert [inner.primitive.name for inner in called.eqns] == ["sin", "scan"]


def test_called_jaxpr_of_what_is_no_call():
    assert compat.called_jaxpr(equation_of(jnp.sin, 1.0)) is None
    assert compat.called_jaxpr(equation_of(lambda a: jax.lax.fori_loop(0, 2, lambda _, b: 2 * b, a), 1.0)) is None


def test_run_jaxpr():
    """On the values' names: constants, literals, results that are used twice, and several outputs."""
    shift = jnp.arange(2.0)

    def function(a, b):
        low, high = jnp.split(a * 3 + shift, 2)
        return high + b, low, b

    def apply(equation, operands):
        name = f"{equation.primitive.name}({', '.join(operands)})"
        return [f"{name}.{i}" for i in range(len(equation.outvars))]

    outputs = compat.run_jaxpr(
        jax.make_jaxpr(function)(jnp.ones(2), jnp.ones(1)), ["a", "b"], apply, lambda value: str(np.asarray(value))
    )
    total = "add(mul(a, 3.0).0, [0. 1.]).0"
    assert outputs == [f"add(split({total}).1, b).0", f"split({total}).0", "b"]


def test_run_jaxpr_leaves_out_what_is_not_needed():
    seen = []

    def function(a):
        return jnp.sin(a), jnp.tan(jnp.cos(a))

    def apply(equation, operands):
        seen.append(equation.primitive.name)
        return operands

    closed = jax.make_jaxpr(lambda a: function(a)[0])(1.0)
    assert compat.run_jaxpr(closed, [3], apply, str) == [3]
    assert seen == ["sin"]


@pytest.mark.parametrize("around", [lambda f: f, jax.jit, lambda f: lambda a: jax.lax.cond(a > 0, f, jnp.cos, a)])
def test_is_reverse_only(around):
    for function, expected in ((with_a_cotangent(jnp.sin), True), (jnp.sin, False)):
        tangent = jax.make_jaxpr(functools.partial(jax.jvp, around(function)))((1.0,), (1.0,))
        assert compat.is_reverse_only(tangent) == expected


def test_is_pure():
    assert compat.is_pure(equation_of(jnp.sin, 1.0))
    equation, *_ = jax.make_jaxpr(lambda a: jax.debug.callback(lambda b: None, a))(1.0).eqns
    assert not compat.is_pure(equation)


def test_output_shapes():
    equation = equation_of(lambda a: jax.lax.top_k(a, 2), jnp.ones((4, 3)))
    assert compat.output_shapes(equation) == [(4, 2), (4, 2)]


def test_evaluate():
    """Known at once, even while another function is traced."""
    one = equation_of(jnp.sin, 1.0)
    several = equation_of(lambda a: jnp.split(a, 2), jnp.ones(4))
    seen = []

    def function(a):
        seen.append(compat.evaluate(one, [2.0]))
        seen.append(compat.evaluate(several, [np.arange(4, dtype=np.float32)]))
        return a

    jax.jit(function)(1.0)
    assert all(map(compat.is_concrete, jax.tree.leaves(seen)))
    (sine,), (low, high) = seen
    assert sine == pytest.approx(np.sin(2))
    assert low.tolist() == [0, 1]
    assert high.tolist() == [2, 3]


def test_which_argument():
    pair = jnp.ones(2), {"h": jnp.ones(3)}
    assert compat.which_argument(lambda pair: pair[1]["h"], pair) == 1
    assert compat.which_argument(lambda a, b: b, *pair) == 1
    assert compat.which_argument(lambda pair: 2 * pair[0], pair) is None
    assert compat.which_argument(lambda pair: pair, pair) is None
    assert compat.which_argument(lambda pair: 1.0, pair) is None
