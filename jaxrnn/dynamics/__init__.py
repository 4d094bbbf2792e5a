"""The dynamics of recurrent networks: what becomes of small changes of the state, on any step function.

    λ = lyapunov_spectrum(step, params, state, xs)

`jacobians` along a trajectory, their products and singular values; Lyapunov exponents, by `lyapunov` with standard
errors, dimension and entropy rate; `fixed_points` and their `continuation`; `memory_capacity` and `influence_decay`;
`spectral_radii` and `spectral_norms` of recurrent weights. A step is a `jr.Cell` or a function (params, state, x) ->
state with any pytree as state, driven by xs or, with `length=` in their place, by itself; an ensemble is `jax.vmap`.
"""

from .._reports.fixed_points import FixedPoints as FixedPoints
from ._fixed_points import Continued as Continued
from ._fixed_points import continuation as continuation
from ._fixed_points import fixed_points as fixed_points
from ._jacobians import Operators as Operators
from ._jacobians import condition_numbers as condition_numbers
from ._jacobians import jacobian_operators as jacobian_operators
from ._jacobians import jacobian_product_norms as jacobian_product_norms
from ._jacobians import jacobian_singular_values as jacobian_singular_values
from ._jacobians import jacobians as jacobians
from ._lyapunov import Lyapunov as Lyapunov
from ._lyapunov import entropy_rate as entropy_rate
from ._lyapunov import kaplan_yorke_dimension as kaplan_yorke_dimension
from ._lyapunov import lyapunov as lyapunov
from ._lyapunov import lyapunov_spectrum as lyapunov_spectrum
from ._memory import Decay as Decay
from ._memory import influence_decay as influence_decay
from ._memory import memory_capacity as memory_capacity
from ._recurrent import spectral_norms as spectral_norms
from ._recurrent import spectral_radii as spectral_radii
from ._system import Linearised as Linearised
from ._system import linearise as linearise

__all__ = [
    "Continued",
    "Decay",
    "FixedPoints",
    "Linearised",
    "Lyapunov",
    "Operators",
    "condition_numbers",
    "continuation",
    "entropy_rate",
    "fixed_points",
    "influence_decay",
    "jacobian_operators",
    "jacobian_product_norms",
    "jacobian_singular_values",
    "jacobians",
    "kaplan_yorke_dimension",
    "linearise",
    "lyapunov",
    "lyapunov_spectrum",
    "memory_capacity",
    "spectral_norms",
    "spectral_radii",
]
