"""The kernels as operations of JAX that all transformations know.

`run` is a sequence; `tangent` its derivative, linear in the tangents, run by XLA; `backward` the transpose of that,
compiled again; `short` a sequence of so few steps that its value alone is worth a kernel. Whatever else is asked of
them (derivatives of derivatives, another platform, an export) is that of the reference: the same sequence as a scan,
which gives the same numbers to rounding error.

Each array begins with an axis of independent problems, N long, or 1 long where all of them share it; what is not there
(a bias, a projection, c of a cell without one, the tangent of a constant, an unwanted result) has 0 entries on its last
axis. `vmap` over sequences alone puts them into the batch; over weights, or in a gradient, it makes them problems.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.interpreters import ad, batching, mlir

from ..._core.compat import Primitive, check_finite, is_lowered_for_export, like_varying, varying_axes
from . import library

__all__ = ["Operands", "Outputs", "Reference", "Spec", "run_sequence"]

_BLOCKS = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
_SAVED = {"lstm": 4, "gru": 4, "tanh": 0, "relu": 0}  # values of a step that the backward pass gets, each (B, H)


class Operands(NamedTuple):
    """What a sequence is run of, each with the axis of problems first."""

    x: Array  # (T, B, I)
    weight_ih: Array  # (G*H, I)
    weight_hh: Array  # (G*H, R)
    bias_ih: Array  # (G*H,) or (0,)
    bias_hh: Array  # (G*H,) or (0,)
    weight_hr: Array  # (R, H) or (R, 0)
    h_0: Array  # (B, R)
    c_0: Array  # (B, H), or (B, 0) of a cell without c
    active: Array  # (T, B) bool, or (T, 0) if all steps count


class Outputs(NamedTuple):
    """What comes out of it, each with the axis of problems first."""

    ys: Array  # (T, B, R)
    cs: Array  # (T, B, H) or (T, B, 0)
    h_T: Array  # noqa: N815  (B, R)
    c_T: Array  # noqa: N815  (B, H) or (B, 0)


class Reference(Protocol):
    """The same sequence of one problem by other means, from arrays without the axis of problems; hashable."""

    def __call__(self, operands: Operands) -> Outputs: ...


class Spec(NamedTuple):
    """What is run: static."""

    cell: str  # a key of `library.CELLS`
    reverse: bool
    gives_cs: bool  # all c, of an lstm
    reference: Reference


def run_sequence(spec: Spec, operands: Operands, *, is_short: bool) -> Outputs:
    """Run it in a kernel; one that is short by the reference if it is differentiated, or mapped by `vmap`."""
    if is_short:
        return Outputs(*_short.bind(*_alike(operands), spec=spec)[:4])
    return Outputs(*_run.bind(*_alike(operands), spec=spec, saves=False)[:4])


_FLOATS = 8  # of the operands; `active` is not differentiated
_STATES = (6, 7)  # h_0 and c_0 among them: a backward pass ends with their gradients


def _alike(arrays: Sequence[Array]) -> list[Array]:
    """The same, all of them varying over the same axes of a mesh under `shard_map`."""
    axes = frozenset().union(*map(varying_axes, arrays))
    return [lax.pcast(a, tuple(axes - varying_axes(a)), to="varying") if axes - varying_axes(a) else a for a in arrays]


def _problems(arrays: Sequence[Any]) -> int:
    return _count(a.shape[0] for a in arrays)


def _count(lengths: Iterable[int]) -> int:
    """Of problems, from the lengths of the arrays' axes: each that, or 1."""
    return next((length for length in lengths if length != 1), 1)


def _over_problems(function: Callable[..., Sequence[Array]], arrays: Sequence[Array], count: int) -> list[Array]:
    """`function` of each problem's arrays, which have no axis of problems there."""
    if count == 1:
        return [a[None] for a in function(*(a[0] for a in arrays))]
    axes = [None if a.shape[0] == 1 else 0 for a in arrays]
    return list(jax.vmap(function, axes)(*(a[0] if axis is None else a for a, axis in zip(arrays, axes, strict=True))))


# The numbers by the reference: of each primitive, and of what has no kernel.


def _reference_run(*operands: Array, spec: Spec, saves: bool) -> list[Array]:
    def run(*operands: Array) -> list[Array]:
        return list(spec.reference(Operands(*operands)))

    outputs = Outputs(*_over_problems(run, operands, _problems(operands)))
    like = _run_shapes(*operands, spec=spec, saves=saves)
    if not saves and not spec.gives_cs:
        outputs = outputs._replace(cs=outputs.cs[..., :0])
    return [*outputs, jnp.zeros(like[4], outputs.ys.dtype)]  # what is saved is for the kernel alone


def _reference_short(*operands: Array, spec: Spec) -> list[Array]:
    return _reference_run(*operands, spec=spec, saves=False)


def _reference_tangent(*arrays: Array, spec: Spec) -> list[Array]:
    tangents, operands = arrays[:_FLOATS], arrays[_FLOATS : _FLOATS + 9]

    def tangent(*arrays: Any) -> list[Array]:
        tangents, operands = arrays[:_FLOATS], arrays[_FLOATS:]
        varied = [i for i, tangent in enumerate(tangents) if tangent.shape[-1]]
        run, primals = _function_of(varied, spec, operands)
        return list(jax.jvp(run, primals, tuple(tangents[i] for i in varied))[1])

    return _over_problems(tangent, (*tangents, *operands), _problems(arrays))


def _reference_backward(*arrays: Array, spec: Spec, wanted: tuple[int, ...]) -> list[Array]:
    cotangents, operands = arrays[:4], arrays[4:13]

    def backward(*arrays: Any) -> list[Array]:
        cotangents, operands = Outputs(*arrays[:4]), arrays[4:]
        run, primals = _function_of(wanted, spec, operands)
        gradients = dict(zip(wanted, jax.vjp(run, *primals)[1](cotangents), strict=True))
        return [gradients.get(i, a[..., :0]) for i, a in enumerate(operands[:_FLOATS])]

    return _over_problems(backward, (*cotangents, *operands), _problems(arrays))


def _function_of(indices: Sequence[int], spec: Spec, operands: Sequence[Array]) -> tuple[Callable[..., Outputs], tuple]:
    """The reference as a function of some of its operands, and these."""

    def run(*some: Array) -> Outputs:
        changed = dict(zip(indices, some, strict=True))
        outputs = spec.reference(Operands._make([changed.get(i, a) for i, a in enumerate(operands)]))
        return outputs if spec.gives_cs else outputs._replace(cs=outputs.cs[..., :0])

    return run, tuple(operands[i] for i in indices)


# Shapes.


def _run_shapes(*operands: Any, spec: Spec, saves: bool) -> list[tuple[int, ...]]:
    x, weight_ih, _, _, _, _, h_0, c_0, _ = operands
    problems, steps, batch = _problems(operands), *x.shape[1:3]
    hidden = weight_ih.shape[1] // _BLOCKS[spec.cell]
    cs = c_0.shape[-1] if spec.gives_cs or saves else 0
    saved = _SAVED[spec.cell] * hidden if saves else 0
    return [
        (problems, steps, batch, h_0.shape[-1]),
        (problems, steps, batch, cs),
        (problems, batch, h_0.shape[-1]),
        (problems, batch, c_0.shape[-1]),
        (problems, steps, batch, saved),
    ]


def _short_shapes(*operands: Any, spec: Spec) -> list[tuple[int, ...]]:
    return _run_shapes(*operands, spec=spec, saves=False)


def _tangent_shapes(*arrays: Any, spec: Spec) -> list[tuple[int, ...]]:
    shapes = _run_shapes(*arrays[_FLOATS : _FLOATS + 9], spec=spec, saves=False)[:4]
    return [(_problems(arrays), *shape[1:]) for shape in shapes]


def _backward_shapes(*arrays: Any, spec: Spec, wanted: tuple[int, ...]) -> list[tuple[int, ...]]:
    del spec
    shapes = [(_problems(arrays), *a.shape[1:]) for a in arrays[4 : 4 + _FLOATS]]
    return [shape if i in wanted else (*shape[:-1], 0) for i, shape in enumerate(shapes)]


# The primitives.


def _primitive(name: str, shapes: Callable[..., list], reference: Callable[..., list]) -> Primitive:
    primitive = Primitive(f"jaxrnn_{name}")
    primitive.multiple_results = True

    @primitive.def_abstract_eval
    def _(*avals: Any, **params: Any) -> list[Any]:
        return [like_varying(avals[0], shape) for shape in shapes(*avals, **params)]

    @functools.lru_cache
    def compiled(items: tuple) -> Callable[..., list]:
        return jax.jit(lambda *arrays: primitive.bind(*arrays, **dict(items)))

    @primitive.def_impl
    def _(*arrays: Array, **params: Any) -> list[Array]:
        with jax.disable_jit(False), jax.debug_nans(False), jax.debug_infs(False):  # all of which would come back here
            results = compiled(tuple(params.items()))(*arrays)
        check_finite(primitive, results)
        return results

    mlir.register_lowering(primitive, mlir.lower_fun(reference, multiple_results=True))
    return primitive


_run = _primitive("run", _run_shapes, _reference_run)
_short = _primitive("short", _short_shapes, _reference_short)
_tangent = _primitive("tangent", _tangent_shapes, _reference_tangent)
_backward = _primitive("backward", _backward_shapes, _reference_backward)


def _compiled_on_cpu(primitive: Primitive, target: str, reference: Callable[..., list]) -> None:
    """Lower it to a kernel; an export, which may be run where there are none, gets the reference."""
    by_xla, in_kernel = mlir.lower_fun(reference, multiple_results=True), jax.ffi.ffi_lowering(target)

    def lower(context: mlir.LoweringRuleContext, *arrays: Any, **params: Any) -> Any:
        if is_lowered_for_export(context):
            return by_xla(context, *arrays, **params)
        spec = params["spec"]
        return in_kernel(context, *arrays, cell=np.int32(library.CELLS[spec.cell]), reverse=spec.reverse)

    mlir.register_lowering(primitive, lower, platform="cpu")


_compiled_on_cpu(_run, library.FORWARD, _reference_run)
_compiled_on_cpu(_short, library.FORWARD, _reference_short)
_compiled_on_cpu(_backward, library.BACKWARD, _reference_backward)


# Derivatives.


def _run_jvp(primals: Sequence[Array], tangents: Sequence[Any], *, spec: Spec, saves: bool) -> tuple[list, list]:
    *outputs, saved = _run.bind(*primals, spec=spec, saves=True)
    given = [p[..., :0] if isinstance(t, ad.Zero) else t for t, p in zip(tangents, primals[:_FLOATS], strict=False)]
    tangents_out = _tangent.bind(*given, *primals, outputs[0], outputs[1], saved, spec=spec)
    if not saves and not spec.gives_cs:
        outputs[1] = outputs[1][..., :0]
    if saves and not spec.gives_cs:
        tangents_out[1] = _no_tangent(outputs[1])
    # What was saved has no tangent: derivatives of `tangent` and `backward` are those by the operands.
    empty = saved if saves else saved[..., :0]
    return [*outputs, empty], [*tangents_out, _no_tangent(empty)]


def _short_jvp(primals: Sequence[Array], tangents: Sequence[Any], *, spec: Spec) -> tuple[list, list]:
    *floats, active = primals

    def run(*floats: Array) -> list[Array]:
        return _reference_short(*floats, active, spec=spec)

    dense = [_dense(tangent, primal) for tangent, primal in zip(tangents, floats, strict=False)]
    return jax.jvp(run, tuple(floats), tuple(dense))


def _dense(tangent: Any, primal: Array) -> Array:
    return jnp.zeros_like(primal) if isinstance(tangent, ad.Zero) else tangent


def _no_tangent(primal: Array) -> ad.Zero:
    return ad.Zero(jax.typeof(primal).to_tangent_aval())


def _jvp_of_reference(primitive: Primitive, reference: Callable[..., list], kept: int) -> Callable[..., Any]:
    """Differentiates by all arrays but the last `kept`, which are functions of them, and `active` before those."""

    def rule(primals: Sequence[Array], tangents: Sequence[Any], **params: Any) -> tuple[list, list]:
        floats = len(primals) - kept - 1

        def run(*some: Array) -> list[Array]:
            return reference(*some, *primals[floats:], **params)

        dense = [_dense(t, p) for t, p in zip(tangents[:floats], primals[:floats], strict=True)]
        tangents_out = jax.jvp(run, tuple(primals[:floats]), tuple(dense))[1]
        return primitive.bind(*primals, **params), tangents_out

    return rule


def _transpose_tangent(cotangents: Sequence[Any], *arrays: Any, spec: Spec) -> list[Any]:
    linear, rest = arrays[:_FLOATS], arrays[_FLOATS:]
    unknown = [i for i, a in enumerate(linear) if ad.is_undefined_primal(a)]
    wanted = tuple(sorted({*(i for i in unknown if linear[i].aval.shape[-1]), *_STATES}))
    dense = [ad.instantiate_zeros(c) for c in cotangents]
    results = _backward.bind(*dense, *rest, spec=spec, wanted=wanted)
    return [_shared(r, a) if ad.is_undefined_primal(a) else None for r, a in zip(results, linear, strict=True)] + [
        None
    ] * len(rest)


def _transpose_backward(cotangents: Sequence[Any], *arrays: Any, spec: Spec, wanted: tuple[int, ...]) -> list[Any]:
    linear, rest = arrays[:4], arrays[4:]
    dense = [ad.instantiate_zeros(c) for c in cotangents]  # 0 entries long on the last axis of those not wanted
    results = _tangent.bind(*dense, *rest, spec=spec)
    return [_shared(r, a) if ad.is_undefined_primal(a) else None for r, a in zip(results, linear, strict=True)] + [
        None
    ] * len(rest)


def _shared(cotangent: Array, operand: Any) -> Array:
    """Summed over the problems that share the operand."""
    shape = operand.aval.shape
    if cotangent.shape[0] != shape[0]:
        cotangent = jnp.sum(cotangent, 0, keepdims=True)
    return cotangent


ad.primitive_jvps[_run] = _run_jvp
ad.primitive_jvps[_short] = _short_jvp
ad.primitive_jvps[_tangent] = _jvp_of_reference(_tangent, _reference_tangent, 3)
ad.primitive_jvps[_backward] = _jvp_of_reference(_backward, _reference_backward, 3)
ad.primitive_transposes[_tangent] = _transpose_tangent
ad.primitive_transposes[_backward] = _transpose_backward


# `vmap`.


def _batch_problems(primitive: Primitive) -> Callable[..., Any]:
    """The mapped axis becomes one of problems."""

    def rule(arrays: Sequence[Array], axes: Sequence[int | None], **params: Any) -> tuple[list[Array], list[int]]:
        size = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)
        count = _count(a.shape[1 if axis == 0 else 0] for a, axis in zip(arrays, axes, strict=True))

        def merge(a: Array, axis: int | None) -> Array:
            if axis is None:
                if a.shape[0] == 1:
                    return a
                a = jnp.broadcast_to(a[None], (size, *a.shape))
            else:
                a = jnp.moveaxis(a, axis, 0)
                a = jnp.broadcast_to(a, (size, count, *a.shape[2:]))
            return a.reshape(size * count, *a.shape[2:])

        outputs = primitive.bind(*map(merge, arrays, axes), **params)
        return [a.reshape(size, count, *a.shape[1:]) for a in outputs], [0] * len(outputs)

    return rule


_ROWS = (2, 1, 1, 2)  # the axis of the batch of x, h_0, c_0 and active
_batch_run = _batch_problems(_run)


def _batch_rows(operands: Sequence[Array], axes: Sequence[int | None], **params: Any) -> tuple[list, list]:
    """The mapped axis becomes a part of the batch, where the weights are not mapped."""
    if any(axis is not None for axis in axes[1:6]):
        return _batch_run(operands, axes, **params)
    size = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)

    def merge(a: Array, axis: int | None, row: int) -> Array:
        a = (
            jnp.moveaxis(a, axis, row)
            if axis is not None
            else jnp.broadcast_to(jnp.expand_dims(a, row), (*a.shape[:row], size, *a.shape[row:]))
        )
        return a.reshape(*a.shape[:row], a.shape[row] * a.shape[row + 1], *a.shape[row + 2 :])

    x, h_0, c_0, active = (merge(operands[i], axes[i], row) for i, row in zip((0, 6, 7, 8), _ROWS, strict=True))
    outputs = _run.bind(x, *operands[1:6], h_0, c_0, active, **params)
    rows, batch = (2, 2, 1, 1, 2), operands[0].shape[3 if axes[0] is not None and axes[0] <= 2 else 2]
    split = [a.reshape(*a.shape[:row], size, batch, *a.shape[row + 1 :]) for a, row in zip(outputs, rows, strict=True)]
    return split, list(rows)


def _batch_short(operands: Sequence[Array], axes: Sequence[int | None], *, spec: Spec) -> tuple[list, list]:
    outputs = jax.vmap(functools.partial(_reference_short, spec=spec), tuple(axes))(*operands)
    return outputs, [0] * len(outputs)


batching.primitive_batchers[_short] = _batch_short
batching.primitive_batchers[_run] = _batch_rows
batching.primitive_batchers[_tangent] = _batch_problems(_tangent)
batching.primitive_batchers[_backward] = _batch_problems(_backward)
