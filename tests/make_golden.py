"""Store torch's float64 results for the table of cases: `python -m tests.make_golden` (needs torch)."""

import pathlib

import numpy as np

from .cases import TABLE
from .oracles import torch_network

GOLDEN = pathlib.Path(__file__).parent / "golden" / "networks.npz"


def main() -> None:
    """Write the file: `CASE/NAME` for every output and gradient of every case."""
    arrays = {}
    for case in TABLE:
        for name, array in torch_network(case, case.inputs(), "float64").items():
            arrays[f"{case}/{name}"] = array
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {len(TABLE)} cases, {len(arrays)} arrays, {GOLDEN.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
