"""What a report is about: a trained network, and the sequences on which it is looked at."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn as jr
from jaxrnn import gradients


class Subject(NamedTuple):
    """A trained network and its data.

    Fields:
      name: of the network.
      about: what it is, for a person.
      step: a `jr.Cell`, or a function (params, state, x) -> state.
      params: all of them.
      select: params -> those that the step reads.
      state: the first state, the same for all sequences, without a batch axis.
      data: what the sequences are, for a person.
      xs: inputs, (N, T, ...) per leaf.
      ys: targets, the same; None without a loss.
      loss: `(params, state, y) -> scalar` at one time; None if there is none.
      x: the input under which fixed points are sought, and what it is; None to take the mean of xs.
      history: the rows of its training: step, loss, grad_norm.
    """

    name: str
    about: str
    step: Any
    params: Any
    select: Callable[[Any], Any]
    state: Any
    data: str
    xs: Any
    ys: Any = None
    loss: Callable[[Any, Any, Any], Array] | None = None
    x: tuple[Any, str] | None = None
    history: tuple[dict[str, Any], ...] = ()

    @property
    def selected(self) -> Any:
        """The parameters that the step reads."""
        return self.select(self.params)

    @property
    def problem(self) -> gradients.Problem | None:
        """As `jaxrnn.gradients` has it, if there is a loss."""
        return None if self.loss is None else gradients.Problem(self.step, self.loss, self.select)

    @property
    def sequences(self) -> int:
        """N."""
        return jax.tree.leaves(self.xs)[0].shape[0]

    @property
    def steps(self) -> int:
        """T."""
        return jax.tree.leaves(self.xs)[0].shape[1]

    @property
    def size(self) -> int:
        """n, the real numbers in the state."""
        return sum(a.size for a in gradients.reals(self.state))

    def sequence(self, index: int) -> tuple[Any, Any]:
        """The inputs and the targets of one, (T, ...) per leaf."""
        return jax.tree.map(lambda a: a[index], (self.xs, self.ys))

    def states(self) -> Any:
        """Along each sequence, (N, T, ...) per leaf."""
        return _states(self.step, self.selected, self.state, self.xs)


def _states(step: Any, params: Any, state: Any, xs: Any) -> Any:
    advance = step.step if isinstance(step, jr.Cell) else step

    @jax.jit
    def along(params: Any, state: Any, xs: Any) -> Any:
        def one(state: Any, x: Any) -> tuple[Any, Any]:
            state = advance(params, state, x)
            return state, state

        return jax.vmap(lambda xs: jax.lax.scan(one, state, xs)[1])(xs)

    return along(params, state, xs)


def check_finite(subject: Subject) -> None:
    """All numbers of a subject.

    Raises:
      ValueError: some are not finite, which is told with their place.
      TypeError: something is no array.
    """
    parts = {"params": subject.params, "state": subject.state, "xs": subject.xs, "ys": subject.ys}
    for path, leaf in jax.tree_util.tree_leaves_with_path(parts):
        values = jnp.asarray(leaf)
        if jnp.issubdtype(values.dtype, jnp.inexact) and not jnp.isfinite(values).all():
            place = path[0].key + jax.tree_util.keystr(path[1:])
            raise ValueError(
                f"{place} has {int(jnp.sum(~jnp.isfinite(values))):,} of {values.size:,} numbers not finite"
            )
