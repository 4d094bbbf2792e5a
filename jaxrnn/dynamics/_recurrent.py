"""The recurrent matrices of a network's parameters: their spectral radius and norm."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._core.cell import Params
from .._core.checks import check_arrays
from .._core.numerics import widened

_NAME, _PROJECTION = "weight_hh", "weight_hr"


def spectral_radii(params: Params) -> dict[str, Array]:
    """The largest |eigenvalue| of each recurrent matrix, which powers of it grow by in the long run.

        ρ = max |λ(W_hh)|,  gate by gate; with a projection of W_hh W_hr

    Args:
      params: of a cell, a stack or a network, or a pytree with those in it; recurrent are the arrays whose name begins
        with weight_hh, (G*H, R).

    Returns:
      By their paths in params, (G,): one for each gate; of low precision as float32.

    Raises:
      ValueError: params hold no recurrent matrix, or one that is not of whole gates.
      TypeError: params have a leaf that is no array.

    >>> import jax.numpy as jnp, jaxrnn as jr
    >>> from jaxrnn import dynamics
    >>> params = jr.rnn.init(jax.random.key(0), 3, 2)._replace(weight_hh=jnp.array([[0., 2.], [-2., 0.]]))
    >>> {path: radii.round(3).tolist() for path, radii in dynamics.spectral_radii(params).items()}
    {'.weight_hh': [2.0]}
    """
    return _of_each(params, lambda matrices: jnp.max(jnp.abs(jnp.linalg.eigvals(matrices)), axis=-1))


def spectral_norms(params: Params) -> dict[str, Array]:
    """The largest singular value of each recurrent matrix, which bounds its growth in one step.

        |W_hh|₂,  gate by gate; with a projection of W_hh W_hr

    Args:
      params: see `spectral_radii`.

    Returns:
      By their paths in params, (G,): one for each gate.

    Raises:
      ValueError, TypeError: as `spectral_radii`.

    >>> import jax, jaxrnn as jr
    >>> from jaxrnn import dynamics
    >>> net = jr.GRU(3, 8, num_layers=2)
    >>> norms = dynamics.spectral_norms(net.init(jax.random.key(0)))
    >>> {path: norm.shape for path, norm in norms.items()}
    {"['weight_hh_l0']": (3,), "['weight_hh_l1']": (3,)}
    """
    return _of_each(params, lambda matrices: jnp.linalg.norm(matrices, 2, (-2, -1)))


def _of_each(params: Params, measure: Callable[[Array], Array]) -> dict[str, Array]:
    check_arrays("params", params)
    wide = widened(params)  # LAPACK has no low precision
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(wide)}
    found = {path: measure(_gates(path, leaves)) for path in leaves if _NAME in path.rpartition(".")[2]}
    if not found:
        raise ValueError(
            f"params hold no {_NAME}, whose spectrum is to be measured, but {', '.join(leaves) or 'nothing'}"
        )
    return found


def _gates(path: str, leaves: dict[str, Any]) -> Array:
    """(G, H, H)."""
    weight, projection = jnp.asarray(leaves[path]), leaves.get(path.replace(_NAME, _PROJECTION))
    units = weight.shape[-1] if projection is None else projection.shape[-1]
    if weight.ndim != 2 or len(weight) % units:
        raise ValueError(f"params{path} has shape {weight.shape}, expected (G*H, R) of G gates")
    gates = weight.reshape(-1, units, weight.shape[-1])
    return gates if projection is None else gates @ projection
