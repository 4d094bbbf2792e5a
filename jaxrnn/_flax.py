"""What the wrappers for flax.linen and flax.nnx share. It imports no Flax."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from ._cells.affine import AffineParams
from ._cells.lstm import LSTMState
from ._core.cell import Cell, State
from ._core.checks import (
    check_array,
    check_array_like,
    check_bool,
    check_dtype,
    check_floating,
    check_function,
    check_shape,
    check_static,
    check_tree_like,
    describe,
    dtype_of,
    shown,
)
from ._core.numerics import is_floating
from ._layers.networks import GRU, LSTM, RNN

Network: TypeAlias = RNN | LSTM | GRU
Carry: TypeAlias = Any  # Flax's word for a state: (c, h) for an LSTM, else the cell's own
Initializer: TypeAlias = Callable[..., Any]  # (key, shape, dtype) -> array, or a box with one
Initializers: TypeAlias = dict[str, Any]  # by argument: one, None, or a PerGate
Promote: TypeAlias = Callable[..., Any]  # (arrays, *, dtype) -> arrays of one dtype

zeros: Initializer = jax.nn.initializers.zeros

ARGUMENTS = {  # what they are about, for each tensor
    "weight_ih": "kernel",
    "weight_hh": "recurrent_kernel",
    "bias_ih": "bias",
    "bias_hh": "bias",
}


def features_of(name: str, x: Any) -> int:
    """The size of x's last axis."""
    check_array(name, x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name} has shape {x.shape}, expected features on its last axis")
    return x.shape[-1]


def check_dtypes(dtype: DTypeLike | None, param_dtype: DTypeLike) -> None:
    """Both are floating-point types, or dtype is None."""
    check_floating("param_dtype", param_dtype)
    if dtype is not None:
        check_floating("dtype", dtype)


def check_deterministic(constructor: Any, call: Any) -> None:
    """What both say of `deterministic`: bools, or None."""
    for value in (constructor, call):
        if value is not None:
            check_bool("deterministic", value)


def check_given(constructor: Any, call: Any) -> None:
    """One of the two says whether dropout is off."""
    if constructor is None and call is None:
        raise ValueError("deterministic must be given to the constructor or in the call, got None in both")


def check_elementwise(**functions: Any) -> None:
    """Those that a cell's gates call, which are a part of it."""
    for name, function in functions.items():
        check_static(name, function, "a", "array")
        check_function(name, function, "a", "array")


def check_promote(promote_dtype: Any) -> None:
    """What takes the place of Flax's own, a part of a module."""
    given = "promote_dtype", promote_dtype, "arrays, *, dtype", "arrays"
    check_static(*given)
    check_function(*given)


def check_initializer(name: str, initializer: Any) -> None:
    """One of Flax's, or `jax.nn.initializers`."""
    check_function(name, initializer, "key, shape, dtype", "array")


def drawn(name: str, initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """What it gives, which may be in a box, if that is what was asked for."""
    value = initializer(key, shape, dtype)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    check_array_like(f"what {name} gives", unboxed(value), shape, dtype, "as it was asked for")
    return value


def initialized(
    params: dict[str, Array], cell: Cell, hidden_size: int, key: Array, given: Initializers
) -> dict[str, Any]:
    """The same parameters, but for the tensors that there are initializers for: each draws a tensor gate by gate.

    Of a gate that sees but the sum of both biases the second is zeros, so that the sum is what was drawn, as in Flax.
    """
    for argument, value in given.items():
        for name, initializer in value.items() if isinstance(value, PerGate) else [(argument, value)]:
            if initializer is not None:
                check_initializer(name, initializer)
    tensors: dict[str, Any] = dict(params)
    for tensor, tensor_key in zip(params, jax.random.split(key, len(params)), strict=True):
        argument = f"{about(tensor)}_init"
        if (value := given.get(argument)) is not None:
            gates = params[tensor].shape[0] // hidden_size
            is_zero = _sees_the_sum(cell, gates, hidden_size) if tensor.startswith("bias_hh") else (False,) * gates
            tensors[tensor] = _of_gates(argument, value, tensor_key, params[tensor], is_zero)
    return tensors


class PerGate(dict[str, Any]):
    """An initializer or None for each gate, by the names of their arguments."""


def about(tensor: str) -> str:
    """What of Flax's a tensor of a cell or a layer is: "kernel", "recurrent_kernel", "bias", or nothing."""
    return next((argument for name, argument in ARGUMENTS.items() if tensor.startswith(name)), "")


@functools.cache
def _sees_the_sum(cell: Cell, gates: int, hidden_size: int) -> tuple[bool, ...]:
    """Of each gate, whether its cell merges z and r to z + r alone."""
    if cell.affine is None:
        return (False,) * gates
    with jax.ensure_compile_time_eval():
        units = jnp.repeat(jnp.eye(gates), hidden_size, axis=1)
        merged = [jax.tree.leaves(cell.affine.merge(unit, -unit)) for unit in units]
        return tuple(not any(bool(a.any()) for a in arrays) for arrays in merged)


def _of_gates(argument: str, value: Any, key: Array, tensor: Array, is_zero: tuple[bool, ...]) -> Any:
    """(G*H, I, *kernel) or (G*H,), gate by gate from the (*kernel, I, H) or (H,) that Flax's own cells have."""
    gates, hidden_size = jnp.split(tensor, len(is_zero)), tensor.shape[0] // len(is_zero)
    named = list(value.items()) if isinstance(value, PerGate) else [(argument, value)] * len(gates)
    box: Any = None
    for index, ((name, initializer), gate_key) in enumerate(zip(named, jax.random.split(key, len(gates)), strict=True)):
        if initializer is not None:
            shape = (*tensor.shape[2:], *tensor.shape[1:2], hidden_size)
            value = drawn(name, initializer, gate_key, shape, tensor.dtype)
            array = jnp.moveaxis(unboxed(value), (-1, -2)[: tensor.ndim], (0, 1)[: tensor.ndim])
            gates[index] = jnp.zeros_like(array) if is_zero[index] else array
            box = box if unboxed(value) is value else value
    return _boxed_like(box, jnp.concatenate(gates))


def unboxed(value: Any) -> Any:
    """The array in linen's AxisMetadata or nnx's VariableMetadata, without a sharding constraint on a single gate."""
    if hasattr(value, "replace_boxed"):
        return value.value if hasattr(value, "names") else value.unbox()
    return value.raw_value if hasattr(value, "raw_value") else value


def _boxed_like(box: Any, array: Array) -> Any:
    """The array in such a box, with its axes' names in our order."""
    if hasattr(box, "replace_boxed"):
        boxed = box.replace_boxed(array)
        return dataclasses.replace(boxed, names=turned(box.names, array.ndim)) if hasattr(box, "names") else boxed
    if hasattr(box, "raw_value"):
        return dataclasses.replace(box, raw_value=array, metadata=turned_metadata(box.metadata, array.ndim))
    return array


def turned(names: Iterable[Any], ndim: int) -> tuple[Any, ...]:
    """Names of a kernel's axes (*kernel, I, H) for ours, (G*H, I, *kernel). Axes at the end may have none."""
    names = tuple(names)
    names = (*names, *[None] * (ndim - len(names)))
    return (*names[:-3:-1], *names[:-2])


def turned_metadata(metadata: Mapping[str, Any], ndim: int) -> dict[str, Any]:
    """Metadata of an nnx.Variable, with its axes' names in our order."""
    names = {key: metadata[key] for key in _SHARDING if metadata.get(key) is not None}
    return dict(metadata) | {key: turned(value, ndim) for key, value in names.items()}


_SHARDING = ("out_sharding", "sharding", "sharding_names")  # the last two are Flax's older words for it


def check_metadata(**given: Any) -> None:
    """Of nnx.Param, by the names of the arguments."""
    for name, metadata in given.items():
        if not isinstance(metadata, Mapping):
            raise TypeError(f"{name} must be a dict of an nnx.Param's metadata, got {shown(metadata)}")


def check_names(owner: str, shapes: Mapping[str, Any], found: Iterable[str]) -> None:
    """All parameters are there."""
    found = sorted(found)
    if missing := [name for name in shapes if name not in found]:
        raise ValueError(
            f"{owner} has no parameters {missing}, expected {list(shapes)}, got {found}: "
            "jaxrnn.interop reads those of Flax's own cells"
        )


def check_numbers(name: str, tree: Any, *, may_be_complex: bool = False) -> None:
    """Every leaf of the tree is an array of numbers, which can be promoted."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = name + jax.tree_util.keystr(path)
        check_array(where, leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(f"{where} must be an array of numbers, got {describe(leaf)}")
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating) and not may_be_complex:
            raise TypeError(f"{where} must be an array of real numbers, as a layer has them, got {describe(leaf)}")


def promoted(promote: Promote, dtype: DTypeLike | None, *trees: Any) -> tuple[Any, ...]:
    """The arrays of all trees in one dtype, Flax's way."""
    leaves, structure = jax.tree.flatten(trees)
    arrays = promote(tuple(leaves), dtype=dtype)
    if not isinstance(arrays, tuple | list) or len(arrays) != len(leaves):
        raise TypeError(f"promote_dtype must return {len(leaves)} arrays, as many as it got, got {describe(arrays)}")
    return jax.tree.unflatten(structure, arrays)


def batch_shape_of(input_shape: Any) -> tuple[int, ...]:
    """The batch axes of inputs of this shape (*batch, I)."""
    check_shape("input_shape", input_shape)
    if not input_shape:
        raise ValueError("input_shape is (), expected (*batch, features)")
    return tuple(input_shape[:-1])


def drops(net: Network) -> bool:
    """Whether the network has dropout at all, and so needs a key."""
    return net.dropout > 0 and net.num_layers > 1


def init_network(net: Network, key: Array, dtype: DTypeLike, given: Initializers) -> dict[str, Any]:
    """The parameters of `net.init`, but for the tensors that there are initializers for."""
    return initialized(net.init(key, dtype), net._cell, net.hidden_size, jax.random.fold_in(key, 0), given)


def run_network(
    net: Network,
    params: dict[str, Array],
    x: Any,
    h_0: Any,
    *,
    lengths: Any,
    dtype: DTypeLike | None,
    promote: Promote,
    return_carry: bool,
    **options: Any,
) -> Any:
    """`net.apply` of arrays in one dtype, with any batch axes; the output alone without `return_carry`."""
    check_bool("return_carry", return_carry)
    features_of("x", x)
    check_numbers("x", x)
    check_numbers("h_0", h_0)
    params, x, h_0 = promoted(promote, dtype, params, x, h_0)
    batch = x.shape[:-2] if net.batch_first else x.shape[1:-1]
    if len(batch) > 1:
        x = x.reshape(math.prod(batch), *x.shape[-2:]) if net.batch_first else x.reshape(len(x), -1, x.shape[-1])
        h_0 = jax.tree.map(lambda a: _with_one_batch_axis("h_0", a, batch), h_0)
        lengths = None if lengths is None else _with_one_batch_axis("lengths", lengths, batch)
    output, states = net.apply(params, x, h_0, lengths=lengths, **options)
    if len(batch) > 1:
        output = output.reshape(*batch, *output.shape[-2:]) if net.batch_first else _with_axes(output, batch)
        states = jax.tree.map(lambda a: _with_axes(a, batch), states)
    return (output, states) if return_carry else output


def _with_one_batch_axis(name: str, a: Any, batch: tuple[int, ...]) -> Any:
    """Initial states (layers*directions, *batch, ·), or lengths (*batch), with the batch in one axis."""
    shape = np.shape(a)
    expected = batch if name == "lengths" else (*shape[:1], *batch, *shape[1:][-1:])
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}, expected the batch axes {batch} of x")
    size = math.prod(batch)
    return np.reshape(a, size) if name == "lengths" else a.reshape(shape[0], size, shape[-1])


def _with_axes(a: Array, batch: tuple[int, ...]) -> Array:
    """The inverse, of (layers*directions or T, N, ·)."""
    return a.reshape(a.shape[0], *batch, a.shape[-1])


@dataclasses.dataclass(frozen=True)
class CellSpec:
    """A cell and its sizes: all that a Flax cell knows apart from its parameters.

    Parameters are a flat dict under the names of the cell's own NamedTuple, which are torch's.
    """

    cell: Cell
    in_features: int
    features: int
    bias: bool
    param_dtype: DTypeLike
    options: tuple[tuple[str, Any], ...] = ()  # of the cell's init

    def __post_init__(self) -> None:
        check_bool("bias", self.bias)

    def init(self, key: Array, given: Initializers) -> dict[str, Any]:
        """The cell's own initialisation, but for the tensors that have an initializer of Flax's."""
        return initialized(_tensors(self._init(key)), self.cell, self.features, jax.random.fold_in(key, 0), given)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each parameter's shape."""
        return {name: like.shape for name, like in _tensors(_params_like(self)).items()}

    def initialize_carry(
        self,
        batch_shape: tuple[int, ...],
        dtype: DTypeLike | None,
        carry_init: Initializer,
        keys: Iterator[Array] | None,
    ) -> Carry:
        """Each leaf (*batch, ·) from `carry_init`, in `dtype` or else the parameters'. Zeros draw no key."""
        check_initializer("carry_init", carry_init)
        dtype = jnp.dtype(self.param_dtype if dtype is None else dtype)
        like = _to_carry(_state_like(self, tuple(batch_shape), dtype))
        if carry_init is zeros:
            return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        if keys is None:
            raise ValueError(f"carry_init={shown(carry_init)} needs random numbers, but no rng was given")
        return jax.tree.map(lambda a: unboxed(drawn("carry_init", carry_init, next(keys), a.shape, a.dtype)), like)

    def step(
        self, params: dict[str, Array], carry: Carry, x: Any, dtype: DTypeLike | None, promote: Promote
    ) -> tuple[Carry, Array]:
        """The next carry and the output, all in `dtype`, or promoted; then a carry of real numbers keeps its dtype."""
        if features_of("inputs", x) != self.in_features:
            raise ValueError(
                f"inputs has shape {x.shape}, expected (*batch, {self.in_features}): in_features is {self.in_features}"
            )
        check_numbers("inputs", x, may_be_complex=True)
        check_numbers("carry", carry, may_be_complex=True)
        before = carry
        params, carry, x = promoted(promote, dtype, params, carry, x)
        check_dtype("inputs", x, dtype_of(params["weight_ih"]), "as the parameters")
        like = _state_like(self, x.shape[:-1], dtype_of(params["weight_ih"]))
        check_tree_like("carry", carry, _to_carry(like), f"for inputs of shape {x.shape}")
        state = self.cell.step(_params_like(self)._replace(**params), _to_state(carry, like), x)
        following, y = _to_carry(state), self.cell.output(state)
        return (jax.tree.map(_kept, following, before) if dtype is None else following), y

    def _init(self, key: Array) -> Any:
        options = dict(self.options) if self.bias else {"bias": False, **dict(self.options)}
        return self.cell.init(key, self.in_features, self.features, dtype=self.param_dtype, **options)


def _kept(following: Array, before: Any) -> Array:
    """In the dtype that it had before, so that a scan can carry it."""
    return following.astype(dtype_of(before)) if is_floating(following) and is_floating(before) else following


@functools.cache
def _params_like(spec: CellSpec) -> Any:
    """The cell's NamedTuple of parameters, with shapes for arrays."""
    return jax.eval_shape(spec._init, jax.random.key(0))


@functools.cache
def _state_like(spec: CellSpec, batch_shape: tuple[int, ...], dtype: Any) -> State:
    """The cell's state, with shapes for arrays."""
    state = jax.eval_shape(lambda params: spec.cell.initial_state(params, batch_shape), _params_like(spec))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype if is_floating(a) else a.dtype), state)


def _tensors(params: Any) -> dict[str, Any]:
    if not all(hasattr(params, name) for name in AffineParams._fields):
        fields = ", ".join(AffineParams._fields)
        raise TypeError(f"cell must have parameters with the fields {fields}, got {describe(params)}")
    return {name: a for name, a in params._asdict().items() if a is not None}


def _to_carry(state: State) -> Carry:
    return (state.c, state.h) if isinstance(state, LSTMState) else state


def _to_state(carry: Carry, like: State) -> State:
    return LSTMState(h=carry[1], c=carry[0]) if isinstance(like, LSTMState) else carry
