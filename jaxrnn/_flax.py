"""What the wrappers for flax.linen and flax.nnx share. It imports no Flax."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from ._cells.affine import AffineParams
from ._cells.lstm import LSTMState
from ._cells.rnn import rnn, rnn_relu
from ._core.cell import Cell, State
from ._core.checks import (
    check_array,
    check_array_like,
    check_bool,
    check_dtype,
    check_floating,
    check_function,
    check_shape,
    check_tree_like,
    describe,
    dtype_of,
    shown,
)
from ._core.numerics import cast, is_floating
from ._layers.networks import GRU, LSTM, RNN

Network: TypeAlias = RNN | LSTM | GRU
Carry: TypeAlias = Any  # Flax's word for a state: (c, h) for an LSTM, else the cell's own
Initializer: TypeAlias = Callable[..., Any]  # (key, shape, dtype) -> array

zeros: Initializer = jax.nn.initializers.zeros

_INITIALIZED = {  # by which argument
    "weight_ih": "kernel_init",
    "weight_hh": "recurrent_kernel_init",
    "bias_ih": "bias_init",
    "bias_hh": "bias_init",
}
_ELMAN_CELLS = ((jnp.tanh, rnn), (jax.lax.tanh, rnn), (jax.nn.relu, rnn_relu))


def elman_cell(activation_fn: Callable[..., Any]) -> Cell:
    """`jr.rnn` or `jr.rnn_relu`, by its activation."""
    for function, cell in _ELMAN_CELLS:
        if activation_fn is function:
            return cell
    raise ValueError(f"activation_fn must be jnp.tanh or jax.nn.relu, got {shown(activation_fn)}")


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


def check_initializer(name: str, initializer: Any) -> None:
    """One of Flax's, or `jax.nn.initializers`."""
    check_function(name, initializer, "key, shape, dtype", "array")


def drawn(name: str, initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """What it gives, if that is what was asked for."""
    array = initializer(key, shape, dtype)
    check_array_like(f"what {name} gives", array, shape, jax.dtypes.canonicalize_dtype(dtype), "as it was asked for")
    return array


def batch_shape_of(input_shape: Any) -> tuple[int, ...]:
    """The batch axes of inputs of this shape (*batch, I)."""
    check_shape("input_shape", input_shape)
    if not input_shape:
        raise ValueError("input_shape is (), expected (*batch, features)")
    return tuple(input_shape[:-1])


def drops(net: Network) -> bool:
    """Whether the network has dropout at all, and so needs a key."""
    return net.dropout > 0 and net.num_layers > 1


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

    def __post_init__(self) -> None:
        check_bool("bias", self.bias)

    def init(
        self,
        key: Array,
        kernel_init: Initializer | None,
        recurrent_kernel_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> dict[str, Array]:
        """The cell's own initialisation, but for the tensors that have an initializer of Flax's."""
        key, *keys = jax.random.split(key, 5)
        params = _tensors(self._init(key))
        given = {"kernel_init": kernel_init, "recurrent_kernel_init": recurrent_kernel_init, "bias_init": bias_init}
        for argument, initializer in given.items():
            if initializer is not None:
                check_initializer(argument, initializer)
        for (tensor, argument), key in zip(_INITIALIZED.items(), keys, strict=True):
            initializer = given[argument]
            if initializer is not None and tensor in params:
                draw = functools.partial(drawn, argument, initializer)
                params[tensor] = self._init_gates(draw, key, params[tensor].shape)
        return params

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
        return jax.tree.map(lambda a: drawn("carry_init", carry_init, next(keys), a.shape, a.dtype), like)

    def step(self, params: dict[str, Array], carry: Carry, x: Array, dtype: DTypeLike | None) -> tuple[Carry, Array]:
        """The next carry and the output, in `dtype`, or in the arguments' own for None."""
        if dtype is not None:
            params, carry, x = cast((params, carry, x), dtype)
        if features_of("inputs", x) != self.in_features:
            raise ValueError(
                f"inputs has shape {x.shape}, expected (*batch, {self.in_features}): in_features is {self.in_features}"
            )
        check_dtype("inputs", x, dtype_of(params["weight_ih"]), "as the parameters")
        like = _state_like(self, x.shape[:-1], dtype_of(params["weight_ih"]))
        check_tree_like("carry", carry, _to_carry(like), f"for inputs of shape {x.shape}")
        state = self.cell.step(_params_like(self)._replace(**params), _to_state(carry, like), x)
        return _to_carry(state), self.cell.output(state)

    def _init(self, key: Array) -> Any:
        options = {} if self.bias else {"bias": False}
        return self.cell.init(key, self.in_features, self.features, dtype=self.param_dtype, **options)

    def _init_gates(self, initializer: Initializer, key: Array, shape: tuple[int, ...]) -> Array:
        """(G*H, I) or (G*H,), gate by gate from the (I, H) or (H,) that Flax's own cells have."""
        keys = jax.random.split(key, shape[0] // self.features)
        return jnp.concatenate([initializer(key, (*shape[1:], self.features), self.param_dtype).T for key in keys])


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
