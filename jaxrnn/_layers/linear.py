"""torch.nn.Linear."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from .._core.checks import check_array, check_bool, check_dtype, check_floating, check_int, check_key, check_params
from .._core.numerics import affine, uniform


@dataclasses.dataclass(frozen=True)
class Linear:
    """An affine map of the last axis, as torch.nn.Linear.

        y = W x + b

    Args:
      in_features: I, features of x.
      out_features: O, features of y.
      bias: whether there is a b.

    Raises:
      ValueError: a size is not positive.
      TypeError: a size is not an int, bias is not a bool.

    >>> import jax, jax.numpy as jnp, jaxrnn as jr
    >>> linear = jr.Linear(16, 1)
    >>> params = linear.init(jax.random.key(0))
    >>> {name: value.shape for name, value in params.items()}
    {'weight': (1, 16), 'bias': (1,)}
    >>> linear.apply(params, jnp.ones((49, 1, 16))).shape
    (49, 1, 1)
    """

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        check_int("in_features", self.in_features)
        check_int("out_features", self.out_features)
        check_bool("bias", self.bias)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> dict[str, Array]:
        """{"weight": (O, I), "bias": (O,)}, both from U(-1/sqrt(I), 1/sqrt(I)), torch's default."""
        check_key("key", key)
        check_floating("dtype", dtype)
        key_weight, key_bias = jax.random.split(key)
        bound = self.in_features**-0.5
        params = {"weight": uniform(key_weight, (self.out_features, self.in_features), bound, dtype)}
        if self.bias:
            params["bias"] = uniform(key_bias, (self.out_features,), bound, dtype)
        return params

    def apply(self, params: dict[str, Array], x: Array) -> Array:
        """y (*batch, O) of x (*batch, I).

        Raises:
          ValueError: wrong names or shapes of params, wrong number of features, mixed dtypes.
          TypeError: x or a parameter is not an array.
        """
        shapes = {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}
        dtype = check_params(params, shapes if self.bias else {"weight": shapes["weight"]}, self)
        check_array("x", x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x has shape {x.shape}, expected (*batch, {self.in_features}), in_features")
        check_dtype("x", x, dtype, "as weight")
        return affine(x, params["weight"], params.get("bias"))
