"""Initialisations of recurrent weights and biases, of any parameters with torch's names."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._core.cell import Params
from .._core.checks import check_int, check_key, check_number, describe, dtype_of
from .._core.compat import is_concrete
from .._core.numerics import widened
from ._tensors import Gates, Tensors, map_cells, with_blocks

_FORGET = {3: 1, 4: 1}  # which block keeps the state, by how many there are: u of r, u, n; f of i, f, g, o
_INPUT = {4: 0}  # which lets the new in: i


def orthogonal(key: Array, params: Params, scale: float = 1.0) -> Params:
    """The parameters with recurrent weights that are random orthogonal matrices, gate by gate.

        W_hh = scale · Q,  QᵀQ = I

    Args:
      key: a random key.
      params: of a cell, a stack or a network, or a pytree with those in it. A cell's recurrent weights are weight_hh
        (G*H, R), of G gates; with a projection R < H, and a gate has orthonormal columns.
      scale: of every singular value.

    Returns:
      The parameters, all else in them as it was.

    Raises:
      ValueError: params hold no weight_hh, or one that is not of whole gates; scale is not finite.
      TypeError: params have a leaf that is no array, key is no key, scale no number.

    Source: Saxe et al. 2014, arXiv:1312.6120; for recurrent weights Henaff et al. 2016, arXiv:1602.06662.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> params = remedies.orthogonal(jax.random.key(0), jr.gru.init(jax.random.key(1), 3, 8))
    >>> update = params.weight_hh[8:16]
    >>> bool(jnp.allclose(update @ update.T, jnp.eye(8), atol=1e-5))
    True
    """
    check_key("key", key)
    _check_scale(scale)

    def change(gates: Gates) -> Tensors:
        wide = widened(gates.blocks)
        keys = jax.random.split(jax.random.fold_in(key, gates.number), len(wide))
        draw = functools.partial(jax.nn.initializers.orthogonal(scale), shape=wide.shape[1:], dtype=wide.dtype)
        return with_blocks(gates, jnp.stack([draw(key) for key in keys]))

    return map_cells(change, params)


def identity(params: Params, scale: float = 1.0) -> Params:
    """The parameters with the identity as recurrent weights, gate by gate, and biases of 0.

        W_hh = scale · I        b_ih = b_hh = 0

    With `jr.rnn_relu` that is the IRNN, which in the beginning adds its inputs up.

    Args:
      params: see `orthogonal`.
      scale: of the identity; below 1, such as 0.01, for shorter memories.

    Returns:
      The parameters, all else in them as it was.

    Raises:
      ValueError, TypeError: as `orthogonal`.

    Source: Le et al. 2015, arXiv:1504.00941.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> params = remedies.identity(jr.rnn_relu.init(jax.random.key(0), 3, 8))
    >>> jr.rnn_relu.step(params, jnp.full(8, 2.), jnp.zeros(3)).tolist() == [2.] * 8
    True
    """
    _check_scale(scale)

    def change(gates: Gates) -> Tensors:
        eye = scale * jnp.eye(*gates.blocks.shape[1:], dtype=gates.blocks.dtype)
        biases = {name: gates.tensors[name] for name in ("bias_ih", "bias_hh")}
        zeros = {name: jnp.zeros_like(bias) for name, bias in biases.items() if bias is not None}
        return with_blocks(gates, jnp.broadcast_to(eye, gates.blocks.shape)) | zeros

    return map_cells(change, params)


def scaled_spectral(params: Params, radius: float) -> Params:
    """The parameters with recurrent weights scaled to a spectral radius, gate by gate.

        W_hh ← radius · W_hh / ρ(W_hh)        ρ = max |λ|,  with a projection of W_hh W_hr

    Eigenvalues are LAPACK's, so on a device that has none of them, call it on the CPU.

    Args:
      params: see `orthogonal`.
      radius: above 0; echo state networks take one somewhat below 1.

    Returns:
      The parameters, all else in them as it was.

    Raises:
      ValueError: radius is not above 0, or all eigenvalues of a gate are 0, which no factor scales (inside `jax.jit`
        its weights become nan); as `orthogonal`.
      TypeError: as `orthogonal`.

    Source: Jaeger 2001, GMD report 148.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> params = remedies.scaled_spectral(jr.rnn.init(jax.random.key(0), 3, 8), 0.9)
    >>> round(float(jnp.max(jnp.abs(jnp.linalg.eigvals(params.weight_hh)))), 4)
    0.9
    """
    check_number("radius", radius, lambda radius: radius > 0, "above 0")

    def change(gates: Gates) -> Tensors:
        wide, projection = widened((gates.blocks, gates.tensors["weight_hr"]))
        recurrent = wide if projection is None else wide @ projection
        largest = jnp.max(jnp.abs(jnp.linalg.eigvals(recurrent)), axis=-1)
        if is_concrete(largest) and not np.all(largest):
            raise ValueError(f"weight_hh of {gates.where} has a gate of spectral radius 0: no factor makes it {radius}")
        return with_blocks(gates, wide * jax.lax.broadcast_in_dim(radius / largest, wide.shape, (0,)))

    return map_cells(change, params)


def chrono(
    key: Array, params: Params, max_length: int, *, forget: int | None = None, input: int | None = None
) -> Params:
    """The parameters with gate biases for dependencies of up to `max_length` steps.

        b_f = log U(1, T − 1)        b_i = −b_f        T = max_length

    A gate σ(b_f) forgets in about exp(b_f) steps: those times are spread over all that the data asks for. Of an LSTM f
    is the forget gate and i the input gate; of a GRU f is u, which keeps the state, and i is 1 − u by itself. The bias
    is in bias_ih, and 0 in bias_hh.

    Args:
      key: a random key.
      params: see `orthogonal`, with biases.
      max_length: T, the longest dependency, at least 2.
      forget: which block of H rows keeps the state; None for 1, in cells of 3 blocks (r, u, n) and 4 (i, f, g, o).
      input: which lets the new in, if that is a gate of its own; None for none, or 0 of 4 blocks if forget is None too.

    Returns:
      The parameters, all else in them as it was.

    Raises:
      ValueError: params hold no weight_hh or no biases, or forget is None and the blocks are neither 3 nor 4; a block
        that there is not; max_length is below 2.
      TypeError: params have a leaf that is no array, key is no key, max_length, forget or input no int.

    Source: Tallec and Ollivier 2018, arXiv:1804.11188.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> params = remedies.chrono(jax.random.key(0), jr.lstm.init(jax.random.key(1), 3, 8), 500)
    >>> i, f, g, o = (params.bias_ih + params.bias_hh).reshape(4, 8)
    >>> bool((f > 0).all() and (f < 6.22).all()), bool((i == -f).all())
    (True, True)
    """
    check_key("key", key)
    check_int("max_length", max_length, minimum=2)
    for name, block in (("forget", forget), ("input", input)):
        if block is not None:
            check_int(name, block, minimum=0)

    def change(gates: Gates) -> Tensors:
        count, size, _ = gates.blocks.shape
        times = jax.random.uniform(jax.random.fold_in(key, gates.number), (size,), jnp.float32, 1, max_length - 1)
        tensors = _with_bias(gates, _block("forget", forget, _FORGET, gates), jnp.log(times))
        entry = _INPUT.get(count) if input is None and forget is None else input
        if entry is None:
            return tensors
        entry = _block("input", entry, {}, gates)
        return _with_bias(gates._replace(tensors=gates.tensors | tensors), entry, -jnp.log(times))

    return map_cells(change, params)


def forget_gate_bias(params: Params, value: float = 1.0, *, forget: int | None = None) -> Params:
    """The parameters with one bias in the gate that keeps the state.

        b_f = value        σ(1) = 0.73: in the beginning a state is kept for some steps

    Args:
      params: see `orthogonal`, with biases.
      value: the bias; it is in bias_ih, and 0 in bias_hh.
      forget: which block of H rows; None for 1, in cells of 3 blocks (r, u, n) and 4 (i, f, g, o).

    Returns:
      The parameters, all else in them as it was.

    Raises:
      ValueError: params hold no weight_hh or no biases, or forget is None and the blocks are neither 3 nor 4; a block
        that there is not; value is not finite.
      TypeError: params have a leaf that is no array, value is no number, forget no int.

    Source: Gers et al. 2000, doi:10.1162/089976600300015015; Jozefowicz et al. 2015, ICML.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import remedies
    >>> params = remedies.forget_gate_bias(jr.lstm.init(jax.random.key(0), 3, 2), 1.0)
    >>> (params.bias_ih + params.bias_hh)[2:4].tolist()
    [1.0, 1.0]
    """
    check_number("value", value, lambda value: True, "that is finite")
    if forget is not None:
        check_int("forget", forget, minimum=0)

    def change(gates: Gates) -> Tensors:
        bias = jnp.full(gates.blocks.shape[1], value, jnp.float32)
        return _with_bias(gates, _block("forget", forget, _FORGET, gates), bias)

    return map_cells(change, params)


def _check_scale(scale: Any) -> None:
    check_number("scale", scale, lambda scale: True, "that is finite")


def _block(name: str, block: int | None, by_count: dict[int, int], gates: Gates) -> int:
    """The block of this name, the given one or the usual one of so many."""
    count = len(gates.blocks)
    if block is None:
        if count not in by_count:
            raise ValueError(f"{name} must be the block of a gate: weight_hh of {gates.where} has {count}, got None")
        return by_count[count]
    if block >= count:
        raise ValueError(f"{name} must be below {count}, the blocks in weight_hh of {gates.where}, got {block}")
    return int(block)


def _with_bias(gates: Gates, block: int, bias: Array) -> Tensors:
    """The biases, whose sum in this block is the given one (H,)."""
    before = {name: gates.tensors[name] for name in ("bias_ih", "bias_hh")}
    rows, size = gates.tensors["weight_hh"].shape[0], gates.blocks.shape[1]
    for name, given in before.items():
        if given is None or given.shape != (rows,):
            raise ValueError(f"{name} of {gates.where} is {describe(given)}, expected a bias of shape ({rows},)")
    at = slice(block * size, (block + 1) * size)
    bias_ih, bias_hh = map(jnp.asarray, before.values())
    return {"bias_ih": bias_ih.at[at].set(bias.astype(dtype_of(bias_ih))), "bias_hh": bias_hh.at[at].set(0)}
