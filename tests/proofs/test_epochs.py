"""How long a run is, is free: the price comes with the learning rate, whatever the number of epochs."""

from functools import cache

import pytest
import torch

import depl0kit as dk

SEEDS = (0, 1)
SLACK = 0.015  # of test accuracy, below the best


@cache
def accuracy(epochs: int) -> float:
    """On the test images of digits, the mean of the seeds."""
    return sum(_accuracy(epochs, seed) for seed in SEEDS) / len(SEEDS)


def _accuracy(epochs: int, seed: int) -> float:
    data = dk.load_data("digits")
    torch.manual_seed(seed)
    net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=data.example)
    dk.train(net, data, dk.TrainConfig(lam=16, epochs=epochs, seed=seed), progress=False)
    return dk.evaluate(net, data.test)[1]


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param((10, 50, 100), marks=pytest.mark.slow),
        pytest.param((10, 50, 200, 1000), marks=[pytest.mark.proofs, pytest.mark.timeout(3600)]),
    ],
    ids=lambda lengths: f"up to {lengths[-1]}",
)
def test_any_number_of_epochs_ends_with_a_good_network(lengths, proved):
    reached = {epochs: accuracy(epochs) for epochs in lengths}
    shown = ", ".join(f"{epochs}: {100 * a:.1f} %" for epochs, a in reached.items())
    assert min(reached.values()) >= max(reached.values()) - SLACK, shown
    proved(f"epochs: test accuracy on digits at lambda 16, mean of {len(SEEDS)} seeds, after {shown}")
