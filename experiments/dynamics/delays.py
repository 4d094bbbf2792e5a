"""Three tasks that ask what was heard some steps ago: delayed copy, delayed XOR, and copy memory.

Sources: Engelken 2023, arXiv:2312.17306, for the first two; Hochreiter and Schmidhuber 1997, "Long short-term memory",
as in Arjovsky et al. 2016, arXiv:1511.06464, and Tallec and Ollivier 2018, arXiv:1804.11188, for the third.
"""

import dataclasses
from typing import ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

SYMBOLS, HEARD = 8, 10  # of copy memory: how many there are, and how many a sequence has
BLANK, GO = SYMBOLS, SYMBOLS + 1


@dataclasses.dataclass(frozen=True)
class Delayed:
    """Random bits x; the target is x_{t-d}, or x_{t-d/2} xor x_{t-d}, from step d on."""

    delay: int  # d
    is_xor: bool = False

    features: ClassVar[int] = 1
    classes: ClassVar[int] = 2

    @property
    def name(self) -> str:
        """Of the task."""
        return "xor" if self.is_xor else "delayed"

    @property
    def steps(self) -> int:
        """Of a sequence: after the delay, twice as many."""
        return 3 * self.delay

    @property
    def learnt_from(self) -> int:
        """The first step whose loss counts."""
        return self.delay

    @property
    def asked_from(self) -> int:
        """The first step whose answer may be wrong."""
        return self.delay

    def sample(self, key: Array, batch: int) -> tuple[Array, Array]:
        """Inputs (T, N, features) and labels (T, N)."""
        bits = jax.random.bernoulli(key, shape=(self.steps, batch))
        labels = jnp.roll(bits, self.delay, axis=0)
        if self.is_xor:
            labels ^= jnp.roll(bits, self.delay // 2, axis=0)
        return bits[..., None].astype(jnp.float32), labels.astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class CopyMemory:
    """Ten symbols of eight, T - 1 blanks, a sign to go and ten blanks: blanks all the time, then the ten symbols."""

    delay: int  # T, from the last symbol to the sign

    name: ClassVar[str] = "copy"
    features: ClassVar[int] = SYMBOLS + 2
    classes: ClassVar[int] = SYMBOLS + 1

    @property
    def steps(self) -> int:
        """Of a sequence."""
        return self.delay + 2 * HEARD

    @property
    def learnt_from(self) -> int:
        """The first step whose loss counts."""
        return 0

    @property
    def asked_from(self) -> int:
        """The first step whose answer may be wrong: blanks are no feat."""
        return self.delay + HEARD

    def sample(self, key: Array, batch: int) -> tuple[Array, Array]:
        """Inputs (T, N, features), one-hot, and labels (T, N)."""
        symbols = jax.random.randint(key, (HEARD, batch), 0, SYMBOLS)
        blanks = jnp.full((self.delay + HEARD, batch), BLANK)
        inputs = jnp.concatenate([symbols, blanks]).at[self.delay + HEARD - 1].set(GO)
        return jax.nn.one_hot(inputs, self.features), jnp.concatenate([blanks, symbols])


Task: TypeAlias = Delayed | CopyMemory
