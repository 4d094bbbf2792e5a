"""What the tests of several experiments need."""

import contextlib
import os

import numpy as np
import pytest


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """Words at random: 12,000 characters of a small language."""
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "ate", "it.\n", "naïve", "dog;"]
    drawn = np.random.RandomState(0).choice(words, 3000)
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(drawn)[:12_000], encoding="utf-8")
    return path


@pytest.fixture
def unprivileged(tmp_path):
    """A context in which the modes of files count, for root too, and the test's own folder is read-only."""

    @contextlib.contextmanager
    def drop():
        tmp_path.chmod(0o555)
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            yield
        finally:
            os.seteuid(user)
            tmp_path.chmod(0o755)

    return drop
