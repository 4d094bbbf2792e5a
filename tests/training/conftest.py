"""A finished run, and copies of it to damage."""

import pathlib
import shutil

import pytest

from jaxrnn import training

from .runs import EVERY, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    run(training.RunFolder(path, {"cell": "gru"}, every=EVERY), steps=100)
    return path


@pytest.fixture
def copy(finished, tmp_path):
    return pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
