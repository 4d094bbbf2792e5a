"""`python -m experiments.gradients sparse`: the task, the network, what the command leaves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr
from experiments import _run
from experiments.gradients import sparse
from experiments.gradients.__main__ import main
from experiments.gradients.sparse_copy import Network, copies

TINY = [
    "sparse",
    "--hidden",
    "5",
    "--sparsity",
    "0.7",
    "--longest",
    "2",
    "--batch",
    "2",
    "--trained",
    "2",
    "--updates",
    "3",
]


def test_copies_say_what_was_heard():
    lengths = [1, 3, 4]
    xs, ys = copies(jax.random.key(0), jnp.array(lengths), 4)
    assert xs.shape == (3, 8, 3)
    for x, bit, weight, length in zip(xs, ys["bit"], ys["weight"], lengths, strict=True):
        heard = np.asarray(x[:length, 1])
        np.testing.assert_array_equal(x[:length, 0], 1 - heard)
        np.testing.assert_array_equal(bit[length : 2 * length], heard == 1)
        np.testing.assert_allclose(weight, np.repeat([0, 1 / length, 0], [length, length, 8 - 2 * length]))
        np.testing.assert_array_equal(x[:, 2], weight > 0)
        assert not x[2 * length :].any()


def test_the_sparse_cell_is_a_gru_with_zeros():
    network = Network(6, 0.8, seed=3)
    params = network.init(jax.random.key(0))["cell"]
    dense = np.zeros((18, 6), np.float32)
    dense[network.places] = params.weight_hh
    assert 0 < params.weight_hh.size < 0.4 * dense.size
    h, x = jnp.linspace(-1, 1, 6), jnp.array([0.0, 1, 1])
    expected = jr.gru.step(params._replace(weight_hh=jnp.asarray(dense)), h, x)
    np.testing.assert_array_equal(network.cell.step(params, h, x), expected)


@pytest.mark.slow
def test_sparse_leaves_its_files(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert main([*TINY, *out]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"sparse.png", "sparse.json"}
    results = json.loads((tmp_path / "sparse.json").read_text())
    assert (
        results["numbers"]["snap 1"]["kept"] < results["numbers"]["snap 2"]["kept"] < results["numbers"]["snap 2"]["of"]
    )
    errors = {name: found["total"]["relative_error"] for name, found in results["quality"]["algorithms"].items()}
    assert errors["rtrl"] < 1e-5 < errors["snap 1"]
    first = {round(found["losses"][0], 5) for found in results["learning"].values()}
    assert len(first) == 1  # equal parameters and data
    assert all(len(found["bits_by_length"]) == 2 for found in results["learning"].values())
    printed = capsys.readouterr().out
    assert "snap 2" in printed
    assert main([*TINY, *out]) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.slow
def test_sparse_interrupted_leaves_what_is_there(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sparse, "_train", interrupted)
    assert main([*TINY, "--out", str(tmp_path)]) == _run.STATUS["interrupted"]
    results = json.loads((tmp_path / "sparse.json").read_text())
    assert results["learning"] == {}
    assert results["quality"] is None
    assert results["numbers"]["snap 1"]["kept"] > 0
    assert (tmp_path / "sparse.png").read_bytes().startswith(b"\x89PNG")


def test_no_weight_left_is_an_error(tmp_path, capsys):
    assert main(["sparse", "--hidden", "1", "--sparsity", "0.99", "--out", str(tmp_path)]) == 2
    assert "with --sparsity 0.99 no recurrent weight is left" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "-0.1", "x"])
def test_a_sparsity_that_is_none(value, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["sparse", "--sparsity", value])
    assert exit_.value.code == 2
    assert f"expected a number from 0 to below 1, got '{value}'" in capsys.readouterr().err
