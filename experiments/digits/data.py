"""Scikit-learn's 8x8 digits as sequences, with a part held out."""

from typing import NamedTuple

import numpy as np
from jax import Array
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

CLASSES = 10
FORMS = {"rows": (8, 8), "pixels": (64, 1)}  # steps and features a step
TEST_FRACTION = 0.2
SPLIT_SEED = 0  # of the split alone: every run of every seed holds out the same images


class Examples(NamedTuple):
    """Sequences with their digits."""

    xs: Array | np.ndarray  # (N, T, I) float32 in [0, 1]
    labels: Array | np.ndarray  # (N,) int32


class Split(NamedTuple):
    """What to train on, and what is only ever measured on."""

    train: Examples
    test: Examples


def load(form: str) -> Split:
    """The 1,797 images, a fifth of each digit held out, as `form` reads them: from the top, each row from the left."""
    images, labels = load_digits(return_X_y=True)
    xs = (images / 16).astype(np.float32).reshape(-1, *FORMS[form])
    labels = labels.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=SPLIT_SEED
    )
    return Split(Examples(xs[train], labels[train]), Examples(xs[test], labels[test]))
