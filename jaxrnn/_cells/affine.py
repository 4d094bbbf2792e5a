"""Cells made of two affine maps and elementwise gates: what rnn, lstm and gru share.

z_t = W_ih x_t + b_ih                          project: free of the state
r_t = W_hh h_{t-1} + b_hh                      the one matmul on the critical path
a_t = merge(z_t, r_t)                          linear: what the gates see of both
s_t = gates(params, *a_t, s_{t-1})             elementwise over hidden units
"""

import dataclasses
import inspect
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from .._core.cell import Affine, Cell, Gates, Merge, Methods, State, named, qualname, sums_in_float32, with_options
from .._core.checks import (
    check_array,
    check_array_like,
    check_bool,
    check_dtype,
    check_floating,
    check_function,
    check_int,
    check_key,
    check_shape,
    check_static,
    check_tree_like,
    describe,
    dtype_of,
    shown,
)
from .._core.numerics import affine, uniform
from .._scan.affine import run_affine


class AffineParams(NamedTuple):
    """Parameters of a cell with G gate blocks, under torch's names."""

    weight_ih: Array  # (G*H, I)
    weight_hh: Array  # (G*H, H)
    bias_ih: Array | None  # (G*H,)
    bias_hh: Array | None  # (G*H,)


def init_affine(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    blocks: int,
    recurrent_size: int | None = None,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> AffineParams:
    """All tensors from U(-1/sqrt(H), 1/sqrt(H)); `recurrent_size` is the width of h, H unless it is projected."""
    check_key("key", key)
    check_int("input_size", input_size)
    check_int("hidden_size", hidden_size)
    check_bool("bias", bias)
    check_floating("dtype", dtype)
    rows, bound = blocks * hidden_size, hidden_size**-0.5
    key_ih, key_hh, key_bias_ih, key_bias_hh = jax.random.split(key, 4)
    return AffineParams(
        weight_ih=uniform(key_ih, (rows, input_size), bound, dtype),
        weight_hh=uniform(key_hh, (rows, recurrent_size or hidden_size), bound, dtype),
        bias_ih=uniform(key_bias_ih, (rows,), bound, dtype) if bias else None,
        bias_hh=uniform(key_bias_hh, (rows,), bound, dtype) if bias else None,
    )


def state_leaf(params: Any, batch_shape: tuple[int, ...], width: int) -> Any:
    """Shape (*batch, width) and the parameters' dtype, for one array of a state."""
    return jax.ShapeDtypeStruct((*batch_shape, width), dtype_of(params.weight_hh))


def hidden_state(params: Any, batch_shape: tuple[int, ...]) -> Any:
    """The state of a cell that carries h alone: (*batch, H)."""
    return state_leaf(params, batch_shape, params.weight_hh.shape[1])


def zero_state(state_of: Callable[[Any, tuple[int, ...]], Any], params: Any, batch_shape: tuple[int, ...]) -> Any:
    """Zeros of the shapes that `state_of` gives, batch axes first."""
    check_shape("batch_shape", batch_shape)
    return jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), state_of(params, tuple(batch_shape)))


def same_state(state: Array) -> Array:
    """h, of a cell that carries h alone."""
    return state


def z_and_r(z: Array, r: Array) -> tuple[Array, Array]:
    """The merge of a cell whose gates see z and r as they are."""
    return z, r


def sum_of_z_and_r(z: Array, r: Array) -> tuple[Array]:
    """The merge of a cell whose gates see z + r alone."""
    return (z + r,)


def affine_cell(
    gates: Gates,
    blocks: int,
    *,
    merge: Merge = z_and_r,
    init: Callable[..., Any] | None = None,
    state: Callable[[Any, tuple[int, ...]], Any] = hidden_state,
    output: Callable[[State], Array] = same_state,
    check: Callable[[Any], None] | None = None,
    slope: float | None = None,
) -> Cell:
    """A cell from its gate equations: two affine maps feed `blocks` blocks of H pre-activations.

        z = W_ih x + b_ih        r = W_hh h + b_hh        s′ = gates(params, z, r, s)

    Args:
      gates: `(params, z, r, state) -> state`, z and r (*batch, blocks*H), elementwise over hidden units; with a merge
        `(params, *merge(z, r), state) -> state`.
      blocks: how many blocks of H rows the weights have (rnn 1, gru 3, lstm 4).
      merge: `(z, r) -> tuple of arrays`, linear in z and r together, each array (*batch, ·). `jr.unroll` keeps these
        for the backward pass, so the fewer the better: `lambda z, r: (z + r,)` where the gates need no more. Default:
        both.
      init: `(key, input_size, hidden_size, *, bias=True, dtype=jnp.float32, ...) -> params`, a NamedTuple with at
        least weight_ih, weight_hh, bias_ih and bias_hh. Default: those four, U(-1/sqrt(H), 1/sqrt(H)) as in torch.
      state: `(params, batch_shape) -> pytree of jax.ShapeDtypeStruct`, what the cell carries. Default: h (*batch, H).
      output: `state -> h`, what goes into the recurrent matmul and out of the cell. Default: the state itself.
      check: `params -> None`, raises a ValueError for tensors that do not fit each other. Default: that the four do,
        weight_hh being (blocks*H, H).
      slope: a bound of |∂gates/∂r| where gates see z + r alone, see `jr.Affine`.

    Returns:
      A `jr.Cell`, equal for equal arguments, whose `affine` is the record of these parts, whose `run` uses them, and
      whose `step` checks its arguments.

    Raises:
      ValueError: blocks is not positive; from `jr.unroll`, merge is not linear.
      TypeError: blocks is no int, slope no number, one of the others no function of these arguments.

    Example: the minimal gated unit (Zhou et al. 2016, arXiv:1603.09420), in its reset-after form.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> def gates(params, z, r, h):
    ...     f = jax.nn.sigmoid(z[..., : h.shape[-1]] + r[..., : h.shape[-1]])
    ...     n = jnp.tanh(z[..., h.shape[-1] :] + f * r[..., h.shape[-1] :])
    ...     return h + f * (n - h)
    >>> mgu = jr.affine_cell(gates, blocks=2)
    >>> params = mgu.init(jax.random.key(0), 3, 8)
    >>> params.weight_ih.shape
    (16, 3)
    >>> mgu.step(params, mgu.initial_state(params, (4,)), jnp.ones((4, 3))).shape
    (4, 8)
    """
    check_int("blocks", blocks)
    _check_functions(gates=gates, merge=merge, init=init, state=state, output=output, check=check)
    if slope is not None and (isinstance(slope, bool) or not isinstance(slope, numbers.Real)):
        raise TypeError(f"slope must be a number or None, got {shown(slope)} of type {type(slope).__name__}")
    cell = _cell(_Methods(Affine(project, merge, gates, slope), int(blocks), state, output, check, None), init)
    name = qualname(gates)
    equations = _EQUATIONS.format(gates=name, blocks=blocks)
    return named(cell, f"jaxrnn.affine_cell({name}, blocks={blocks})", f"{equations}\n{inspect.getdoc(gates) or ''}")


def kernel_cell(
    kernel: str,
    gates: Gates,
    blocks: int,
    merge: Merge,
    *,
    init: Callable[..., Any] | None = None,
    state: Callable[[Any, tuple[int, ...]], Any] = hidden_state,
    output: Callable[[State], Array] = same_state,
    check: Callable[[Any], None] | None = None,
    slope: float | None = None,
) -> Cell:
    """An `affine_cell` whose sequences may be run in the compiled kernel that has the numbers of these gates."""
    return _cell(_Methods(Affine(project, merge, gates, slope), blocks, state, output, check, kernel), init)


def with_functions(
    cell: Cell,
    gates: Callable[..., Any],
    blocks: int,
    gate_fn: Callable[..., Any],
    activation_fn: Callable[..., Any],
    text: str | None,
    **parts: Any,
) -> Cell:
    """The cell with gate_fn in place of σ and activation_fn in place of tanh, which its gates take by these names."""
    if gate_fn is jax.nn.sigmoid and activation_fn is jnp.tanh:
        return cell
    gates = with_options(gates, gate_fn=gate_fn, activation_fn=activation_fn)
    name = f"{cell}, gate_fn={qualname(gate_fn)}, activation_fn={qualname(activation_fn)}"
    return named(affine_cell(gates, blocks, **parts), name, text)


_FUNCTIONS = {
    "gates": ("params, z, r, state", "state"),
    "merge": ("z, r", "tuple of arrays"),
    "init": ("key, input_size, hidden_size", "params"),
    "state": ("params, batch_shape", "jax.ShapeDtypeStructs"),
    "output": ("state", "h"),
    "check": ("params", "None"),
}


def _check_functions(**given: Any) -> None:
    """The functions that `affine_cell` is given; init and check may be None."""
    for name, value in given.items():
        if value is not None or name not in ("init", "check"):
            check_static(name, value, *_FUNCTIONS[name])
            if name != "gates" or given["merge"] is z_and_r:  # another merge says how many arguments the gates have
                check_function(name, value, *_FUNCTIONS[name])


_EQUATIONS = """A cell of two affine maps and the gates `{gates}`.

    z = W_ih x + b_ih        r = W_hh h + b_hh        s′ = {gates}(params, *merge(z, r), s)

Parameters: weight_ih ({blocks}*H, I), weight_hh ({blocks}*H, H), bias_ih ({blocks}*H,), bias_hh ({blocks}*H,), and
what an init of its own adds. State and output: h (*batch, H), unless it has those of its own.
"""


def project(params: Any, x: Array, /) -> Array:
    """W_ih x + b_ih: x (*batch, I) -> (*batch, G*H)."""
    return affine(x, params.weight_ih, params.bias_ih)


@dataclasses.dataclass(frozen=True)
class _Methods(Methods):
    """What tells one affine cell from another; the methods are the cell's functions."""

    affine: Affine
    blocks: int
    state: Callable[[Any, tuple[int, ...]], Any]
    output: Callable[[State], Array]
    check: Callable[[Any], None] | None
    kernel: str | None  # a key of `jaxrnn._scan.native.library.CELLS`

    def init(
        self, key: Array, input_size: int, hidden_size: int, *, bias: bool = True, dtype: DTypeLike = jnp.float32
    ) -> AffineParams:
        """Parameters under torch's names, each tensor from U(-1/sqrt(H), 1/sqrt(H)).

        Returns weight_ih (G*H, I), weight_hh (G*H, H), bias_ih and bias_hh (G*H,), or None for bias=False.
        """
        return init_affine(key, input_size, hidden_size, blocks=self.blocks, bias=bias, dtype=dtype)

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first step: zeros, batch axes first."""
        self._check(params)
        return zero_state(self.state, params, batch_shape)

    def step(self, params: Any, state: State, x: Array) -> State:
        """The next state: x (*batch, I), and a state with the same batch axes."""
        self._check(params)
        check_step(params, state, x, self.state)
        z = self.affine.project(params, x)
        r = affine(self.output(state), params.weight_hh, params.bias_hh)
        return self.affine.gates(params, *self.affine.merge(z, r), state)

    @sums_in_float32
    def run(
        self,
        params: Any,
        state: State,
        xs: Array,
        active: Array | None,
        /,
        *,
        reverse: bool,
        return_states: bool,
    ) -> tuple[State, Any]:
        """A whole sequence in chunks of time, see `jaxrnn._scan.affine`."""
        parts = self.kernel, self.affine, self.output, self.step
        return run_affine(*parts, params, state, xs, active, reverse=reverse, return_states=return_states)

    def _check(self, params: Any) -> None:
        if self.check is None:
            check_affine_params(params, self.blocks)
        else:
            self.check(params)


def check_step(params: Any, state: Any, x: Any, state_of: Callable[[Any, tuple[int, ...]], Any]) -> None:
    """x (*batch, I), or (*batch, *places, I) for kernels over places, fits the parameters, and the state both."""
    check_array("x", x)
    input_size, places = params.weight_ih.shape[1], params.weight_ih.ndim - 2
    if x.ndim <= places or x.shape[-1] != input_size:
        axes = ", ".join(["*batch", *(f"size {place + 1}" for place in range(places))])
        raise ValueError(f"x has shape {x.shape}, expected ({axes}, {input_size}): input_size is {input_size}")
    check_dtype("x", x, dtype_of(params.weight_ih), "as weight_ih")
    check_tree_like("state", state, state_of(params, x.shape[:-1]), f"for x of shape {x.shape}")


def _cell(methods: _Methods, init: Callable[..., Any] | None) -> Cell:
    """The cell of these functions, and of an init of its own if it has one."""
    initial, step, run = methods.initial_state, methods.step, methods.run
    return Cell(init or methods.init, initial, step, methods.output, methods.affine, run)


def check_affine_params(
    params: Any,
    blocks: int,
    recurrent: Callable[[int], tuple[int, ...]] | None = None,
    *,
    is_convolution: bool = False,
) -> None:
    """The four tensors fit each other and the number of gate blocks; the last two as in `check_weights`."""
    if not all(hasattr(params, name) for name in AffineParams._fields):
        raise TypeError(f"params must have the fields {', '.join(AffineParams._fields)}, got {describe(params)}")
    check_weights(params, blocks, recurrent, is_convolution=is_convolution)
    rows, reason = params.weight_ih.shape[0], f"for weight_ih of shape {params.weight_ih.shape}"
    for name in ("bias_ih", "bias_hh"):
        if (bias := getattr(params, name)) is not None:
            check_array_like(name, bias, (rows,), dtype_of(params.weight_ih), reason)


def check_weights(
    params: Any,
    blocks: int,
    recurrent: Callable[[int], tuple[int, ...]] | None = None,
    *,
    is_convolution: bool = False,
) -> None:
    """weight_ih (G*H, I) and weight_hh fit each other; the latter's shape is recurrent(H), by default (G*H, H).

    Those of a convolution have the kernel's sizes after these axes.
    """
    check_array("weight_ih", params.weight_ih)
    dtype, shape = dtype_of(params.weight_ih), params.weight_ih.shape
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        check_floating("weight_ih", dtype)
    kernel_size = shape[2:] if is_convolution else ()
    if len(shape) != 2 + len(kernel_size) or shape[0] % blocks:
        more = ", *kernel_size" if is_convolution else ""
        raise ValueError(f"weight_ih has shape {shape}, expected ({blocks}*hidden_size, input_size{more})")
    check_array("weight_hh", params.weight_hh)
    expected = (shape[0], shape[0] // blocks) if recurrent is None else recurrent(shape[0] // blocks)
    reason = f"for weight_ih of shape {shape}"
    check_array_like("weight_hh", params.weight_hh, (*expected, *kernel_size), dtype, reason)
