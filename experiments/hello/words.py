"""A word to read and a word to spell, as indices into the characters of both."""

from typing import NamedTuple

import numpy as np

from .._run import UserError, shown


class Words(NamedTuple):
    """Two equally long words."""

    source: str
    target: str

    @property
    def vocabulary(self) -> str:
        """The characters of both words, sorted, each once."""
        return "".join(sorted({*self.source, *self.target}))

    @property
    def source_ids(self) -> np.ndarray:
        """(T,) int32."""
        return self._ids(self.source)

    @property
    def target_ids(self) -> np.ndarray:
        """(T,) int32."""
        return self._ids(self.target)

    def spell(self, ids: np.ndarray) -> str:
        """The word of indices (T,)."""
        return "".join(self.vocabulary[index] for index in ids)

    def _ids(self, word: str) -> np.ndarray:
        return np.array([self.vocabulary.index(character) for character in word], np.int32)


def check_words(source: str, target: str) -> Words:
    """The words, if there is something to learn from them.

    Raises:
      UserError: a word is empty, or the words differ in length.
    """
    for option, word in (("--source", source), ("--target", target)):
        if not word:
            raise UserError(f"{option} is empty; it must be a word of at least one character")
    if len(source) != len(target):
        raise UserError(
            f"--source and --target must be equally long, got {len(source)} and {len(target)} characters "
            f"({shown(source)}, {shown(target)})"
        )
    return Words(source, target)
