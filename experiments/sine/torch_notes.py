"""The same experiment in PyTorch, step by step: what `python -m experiments.sine` is measured against.

`python -m experiments.sine.torch_notes [--seed S] [--seeds N]` trains one seed after the other, each for 6,000 steps of
a Python loop around `nn.RNN`, and prints the seconds of training and the free-running error for k = 0, 1, 2. It needs
torch, and draws nothing.
"""

import argparse
import time

import numpy as np
import torch
from torch import nn

from .. import _run
from .data import POINTS, WAVES, wave_times
from .model import RNN_STD

STEPS = 6000


class Net(nn.Module):
    """nn.RNN with a linear read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size=1, hidden_size=16, num_layers=1, batch_first=True)
        for tensor in self.rnn.parameters():
            nn.init.normal_(tensor, mean=0.0, std=RNN_STD)
        self.linear = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (1, T, 1), h (1, 1, 16) -> prediction (1, T, 1), h."""
        output, h = self.rnn(x, h)
        return self.linear(output), h


def train(seed: int) -> tuple[Net, torch.Tensor, float]:
    """The trained network, the h that training left, and the seconds it took."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    net, h, loss_function = Net(), torch.zeros(1, 1, 16), nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    began = time.perf_counter()
    for _ in range(STEPS):
        wave = _wave(np.random.randint(WAVES))
        prediction, h = net(wave[:, :-1], h)
        h = h.detach()
        loss = loss_function(prediction, wave[:, 1:])
        net.zero_grad()
        loss.backward()
        optimizer.step()
    return net, h, time.perf_counter() - began


def free_running_mse(net: Net, h: torch.Tensor, k: int) -> float:
    """From the first point alone, each prediction the next input."""
    wave = _wave(k)
    x, predictions = wave[:, :1], []
    with torch.no_grad():
        for _ in range(POINTS - 1):
            x, h = net(x, h)
            predictions.append(x)
    return nn.functional.mse_loss(torch.cat(predictions, dim=1), wave[:, 1:]).item()


def _wave(k: int) -> torch.Tensor:
    return torch.tensor(np.sin(wave_times(k))).float().view(1, POINTS, 1)


def main() -> None:
    """Train each seed and print what it gave."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sine.torch_notes", description=__doc__)
    parser.add_argument("--seed", type=_run.natural, default=0, metavar="S", help="the first seed (default: 0)")
    parser.add_argument("--seeds", type=_run.positive, default=1, metavar="N", help="how many (default: 1)")
    arguments = parser.parse_args()
    errors = []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        net, h, seconds = train(seed)
        errors.append([free_running_mse(net, h, k) for k in range(WAVES)])
        by_wave = ", ".join(f"k={k} {error:.4f}" for k, error in enumerate(errors[-1]))
        print(f"seed {seed}: trained in {seconds:.2f} s; free-running MSE {by_wave}", flush=True)
    print(f"median free-running MSE over seeds and k: {np.median(errors):.4f}")


if __name__ == "__main__":
    main()
