"""Methods that score channels by norms or gradients, on networks with all kinds of layers."""

import pytest
import torch
from grouped import Grouped
from torch import nn

import depl0kit as dk
from depl0kit.channels.tracing import probe_copy
from depl0kit.comparison.baselines import BASELINES, KINDS
from depl0kit.comparison.baselines.choice import best_channels
from depl0kit.comparison.baselines.group_norm import relative_norms as group_norms
from depl0kit.comparison.baselines.halo import relative_norms as halo_norms
from depl0kit.comparison.baselines.scores import median_distances

METHODS = ["halo", "taylor", "snip", "group_norm", "fpgm"]
BRIEF = dk.TrainConfig(epochs=1, batch_size=16)


def perceptron():
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU()),
        *(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 10)),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [Grouped, perceptron])
def test_every_method_cuts_every_kind_of_layer(few, make, method):
    torch.manual_seed(0)
    channels = dk.Channels(model := make(), few.example)
    small = BASELINES[method](model, few, 0.6, BRIEF)
    kept = dk.Channels(small, few.example).dense_cost.macs / channels.dense_cost.macs
    assert 0.4 < kept <= 0.6 and KINDS[method] == "static"
    assert dk.evaluate(small, few.val)[0] < 10  # finite, and no layer is broken


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnext50_32x4d", "shufflenet_v2_x0_5", "densenet121"])
def test_norms_of_grouped_shuffled_and_joined_networks(name):
    channels = dk.Channels(probe_copy(dk.make_model(name, 3, 10)), torch.randn(1, 3, 48, 48))
    for score in (halo_norms, group_norms, median_distances):
        scores = score(channels)
        assert [len(s) for s in scores] == channels.sizes
        assert all(bool(s.isfinite().all()) and s.std() > 0 for s in scores)
        counts = [int(mask.sum()) for mask in best_channels(channels, scores, 0.6)]
        assert channels.cost(counts).macs <= 0.6 * channels.dense_cost.macs
