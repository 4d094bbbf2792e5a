"""∂s_t/∂s_{t-1}: of an affine cell from its structure, of any other step row by row.

    s′ = gates(merge(z, r), s)        r = W_hh h + b        h = output(s)

Gates and output see each hidden unit by itself, so that their Jacobians are diagonal blocks, got from one
Jacobian-vector product for each block of r and leaf of s, and

    ∂s′/∂s = ∂gates/∂s + ∂gates/∂r · W_hh · ∂h/∂s

costs no product of matrices, in place of n vector-Jacobian products, each with W_hh. SnAp-1 of an LSTM is 1.1 (32
units) to 1.5 (128) times as fast with it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...._core.cell import Cell, Params, State
from ...._core.numerics import affine
from ..._leaves import is_real, ravel, unravel
from ..._problem import Problem
from .sparsity import jacobian_pattern, tangent_jaxpr


def transition(pull: Callable[[list[Array]], list[Array]], reals: list[Array]) -> Array:
    """(n, n), from the step's vector-Jacobian product."""
    flat = ravel(reals)
    return jax.vmap(lambda row: ravel(pull(unravel(row, reals))))(jnp.eye(flat.size, dtype=flat.dtype))


def affine_by_unit(problem: Problem, params: Params, state: State, x: Any) -> Cell | None:
    """The step, if it is an affine cell whose gates and output see each unit by itself; all that counts is shapes."""
    selected, cell = jax.eval_shape(lambda params: problem.select(params), params), problem.step
    if not isinstance(cell, Cell) or cell.affine is None or getattr(x, "ndim", None) != 1:
        return None
    if not all(map(is_real, jax.tree.leaves((selected, state, x)))):
        return None
    rows, hidden = selected.weight_hh.shape
    if rows % hidden or any(leaf.shape != (hidden,) for leaf in jax.tree.leaves(state)):
        return None
    r = jax.ShapeDtypeStruct((rows,), selected.weight_hh.dtype)

    def gates(r: Array, state: State, params: Params, x: Array) -> State:
        return _gates(cell, params, x)(r, state)

    if tangent_jaxpr(gates, (r, state), (selected, x)) is None:
        return None
    of_gates = jacobian_pattern(gates, (r, state), (selected, x))
    of_output = jacobian_pattern(cell.output, (state,))
    entries = of_gates.pattern.nonzero(), of_output.pattern.nonzero()
    return cell if all(np.all(row % hidden == column % hidden) for row, column in entries) else None


def _gates(cell: Cell, params: Params, x: Array) -> Callable[[Array, State], State]:
    """The next state from r and the state."""
    structure = cell.affine
    assert structure is not None

    def gates(r: Array, state: State) -> State:
        return structure.gates(params, *structure.merge(structure.project(params, x), r), state)

    return gates


def affine_transition(cell: Cell, params: Params, state: State, x: Array) -> Array:
    """(n, n), of such a cell."""
    h, output_tangents = _by_leaf(cell.output, state)
    r = affine(h, params.weight_hh, params.bias_hh)
    gates = _gates(cell, params, x)
    blocks = jnp.repeat(jnp.eye(len(r) // len(h), dtype=r.dtype), len(h), axis=1)  # (G, G H)
    by_r = jax.vmap(lambda tangent: jax.jvp(lambda r: gates(r, state), (r,), (tangent,))[1])(blocks)
    _, by_state = _by_leaf(lambda state: gates(r, state), state)
    weight = params.weight_hh.reshape(len(blocks), len(h), len(h))
    from_h = [jnp.einsum("gi,gij->ij", leaf, weight) for leaf in jax.tree.leaves(by_r)]
    direct = [jax.tree.leaves(tangent) for tangent in by_state]
    rows = [
        [jnp.diag(direct[column][row]) + from_h[row] * output_tangents[column][None] for column in range(len(direct))]
        for row in range(len(from_h))
    ]
    return jnp.block(rows)


def _by_leaf(function: Callable[[State], Any], state: State) -> tuple[Any, list[Any]]:
    """Its value, and its derivative along each leaf of the state, all units at once."""
    leaves, structure = jax.tree.flatten(state)
    value, push = jax.linearize(function, state)
    ones = (
        structure.unflatten([jnp.full_like(leaf, float(i == j)) for j, leaf in enumerate(leaves)])
        for i in range(len(leaves))
    )
    return value, [push(tangent) for tangent in ones]
