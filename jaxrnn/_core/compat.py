"""What JAX has but does not promise to keep, in one place; `tests/core/test_compat.py` has a test of each."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
from jax import Array
from jax._src.core import (  # jax.extend.core brings Pallas, 19 ms of import
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    Primitive,
)
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec

__all__ = [
    "Primitive",
    "called_jaxpr",
    "check_finite",
    "closed_values",
    "evaluate",
    "has_no_forward_mode",
    "is_concrete",
    "is_lowered_for_export",
    "is_pure",
    "is_reverse_only",
    "is_spread",
    "is_symbolic_zero",
    "like_varying",
    "output_shapes",
    "run_jaxpr",
    "temporary_bytes",
    "varying_axes",
    "which_argument",
]

Value = TypeVar("Value")


def is_concrete(value: Any) -> bool:
    """Whether the values are known, so that checks may look at them."""
    return not isinstance(value, jax.core.Tracer)


def varying_axes(value: Any) -> frozenset[str]:
    """The mesh axes along which `shard_map` gives devices different values of an array."""
    return jax.typeof(value).manual_axis_type.varying


def like_varying(aval: Any, shape: tuple[int, ...]) -> Any:
    """The type of an array of another shape, with the dtype, and varying over the same axes of a mesh."""
    spec = PartitionSpec(*(None,) * len(shape))
    return aval.update(shape=shape, sharding=aval.sharding.update(spec=spec), weak_type=False)


def is_spread(values: Any, platform: str) -> bool:
    """Whether the compiler may spread these arrays over several devices, or their types say that they are.

    Under `jax.shard_map` a device has its own part, and that is all that a function sees.
    """
    context = jax.sharding.get_abstract_mesh()
    if not context.empty and context.are_all_axes_manual:
        return False
    meshes = [context, *(jax.typeof(value).sharding.mesh for value in values)]
    if any(mesh.size > 1 or mesh.explicit_axes for mesh in meshes if not mesh.empty):
        return True
    return jax.device_count(platform) > 1


def check_finite(primitive: Primitive, results: Sequence[Array]) -> None:
    """What `jax.debug_nans` and `jax.debug_infs` ask of an operation's results, where they are on."""
    config: Any = jax.config
    for name, is_wrong in (("nan", jnp.isnan), ("inf", jnp.isinf)):
        if getattr(config, f"jax_debug_{name}s") and any(is_wrong(a).any() for a in results):
            raise FloatingPointError(f"invalid value ({name}) encountered in {primitive.name}")


def is_lowered_for_export(context: Any) -> bool:
    """Whether a lowering rule is called, with this context, by `jax.export`."""
    return context.module_context.lowering_parameters.for_export


def is_symbolic_zero(tangent: Any) -> bool:
    """Whether a `custom_jvp` rule got this tangent for an argument that nothing is differentiated by."""
    return isinstance(tangent, SymbolicZero)


def has_no_forward_mode(error: TypeError) -> bool:
    """Whether it is what `jax.jvp` raises of a function that holds a `custom_vjp`."""
    return "custom_vjp" in str(error)


def temporary_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Memory for temporaries, as the compiler plans it; None if the backend does not say."""
    memory = compiled.memory_analysis()
    return None if memory is None else memory.temp_size_in_bytes


def closed_values(function: Callable, *args: Any) -> list[Any]:
    """The arrays that the function closes over, those that an outer transformation traces among them."""
    return list(jax.make_jaxpr(function)(*args).consts)


def which_argument(function: Callable, *args: Any) -> int | None:
    """Which leaf of the arguments the function gives as it is; None if it gives anything else."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    found = [index for index, leaf in enumerate(jaxpr.invars) if [leaf] == list(jaxpr.outvars)]
    return found[0] if found else None


def run_jaxpr(
    closed: ClosedJaxpr,
    arguments: Sequence[Value],
    apply: Callable[[JaxprEqn, list[Value]], Sequence[Value]],
    constant: Callable[[Any], Value],
) -> list[Value]:
    """The outputs of a jaxpr, run on values of another kind than arrays; operations that they do not need are not run.

    Args:
      closed: as from `jax.make_jaxpr`.
      arguments: one for each leaf of its arguments.
      apply: `(equation, operands) -> results` of one operation.
      constant: the value that stands for an array, or for a tracer of an outer transformation.
    """
    jaxpr, values, needed = closed.jaxpr, {}, _needed(closed)

    def read(atom: Any) -> Value:
        return constant(atom.val) if isinstance(atom, Literal) else values[atom]

    values.update(zip(jaxpr.constvars, map(constant, closed.consts), strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in needed:
        results = apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _needed(closed: ClosedJaxpr) -> list[JaxprEqn]:
    """The operations that the outputs are made of."""
    needed, read = [], {atom for atom in closed.jaxpr.outvars if not isinstance(atom, Literal)}
    for equation in reversed(closed.jaxpr.eqns):
        if not read.isdisjoint(equation.outvars):
            needed.append(equation)
            read.update(atom for atom in equation.invars if not isinstance(atom, Literal))
    return needed[::-1]


# The parameter that holds a jaxpr, by primitive.
_CALLS = {
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "remat2": "jaxpr",
}


def called_jaxpr(equation: JaxprEqn) -> ClosedJaxpr | None:
    """What a call, such as that of a function under `jax.jit` or `jax.checkpoint`, runs; None of another operation."""
    if equation.primitive.name not in _CALLS:
        return None
    called = equation.params[_CALLS[equation.primitive.name]]
    return called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, ())


def is_reverse_only(closed: ClosedJaxpr) -> bool:
    """Whether the jaxpr of a tangent cannot be run, because the function holds a `custom_vjp`."""
    return "custom_lin" in _primitives(closed.jaxpr)


def _primitives(jaxpr: Jaxpr) -> set[str]:
    """The names of all operations, those of loops and calls as well."""
    found = {equation.primitive.name for equation in jaxpr.eqns}
    for part in jax.tree.leaves([list(equation.params.values()) for equation in jaxpr.eqns]):
        if isinstance(part, ClosedJaxpr | Jaxpr):
            found |= _primitives(part.jaxpr if isinstance(part, ClosedJaxpr) else part)
    return found


def is_pure(equation: JaxprEqn) -> bool:
    """Whether the operation does nothing but compute its results."""
    return not equation.effects


def output_shapes(equation: JaxprEqn) -> list[tuple[int, ...]]:
    """The shapes of an operation's results."""
    avals: list[Any] = [variable.aval for variable in equation.outvars]
    return [aval.shape for aval in avals]


def evaluate(equation: JaxprEqn, operands: Sequence[Any]) -> list[Array]:
    """The results of one operation on these arrays, known at once even while another function is traced."""
    with jax.ensure_compile_time_eval():
        results = equation.primitive.bind(*operands, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]
