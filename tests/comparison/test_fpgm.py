"""Geometric medians: filters that others can stand in for go first, small ones need not."""

import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit.comparison.baselines.pruning import fpgm
from depl0kit.comparison.baselines.scores import l1_norms, median_distances

FROZEN = dk.TrainConfig(epochs=1, lr=1e-12, weight_decay=0, batch_size=1024)  # scores of the weights given
CENTRE, COPY, ODD = 2, 4, 5


@pytest.fixture
def model():
    """A large filter between others, a copy of it, and a small one far from all."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))
    with torch.no_grad():
        weight = model[0].weight
        weight.copy_(3 + torch.randn(weight.shape))
        weight[CENTRE] = weight[:4].mean(0)
        weight[COPY] = weight[CENTRE]
        weight[ODD] = -0.1
    return model


def test_what_is_near_to_others_goes_first(few, model):
    channels = dk.Channels(model, few.example)
    order = median_distances(channels)[0].argsort()
    assert set(order[:2].tolist()) == {CENTRE, COPY} and order[-1] == ODD
    assert l1_norms(channels)[0].argmin() == ODD  # by size it would go
    share = channels.cost([4]).macs / channels.dense_cost.macs
    small = fpgm(model, few, share + 1e-9, FROZEN)
    torch.testing.assert_close(small[0].weight, model[0].weight[[0, 1, 3, ODD]])


def test_scores_are_sums_of_distances(few, model):
    points = model[0].weight.detach().flatten(1)
    sums = torch.stack([(points - point).norm(dim=1).sum() for point in points])
    scores = median_distances(dk.Channels(model, few.example))[0]
    torch.testing.assert_close(scores, sums / sums.mean())
    assert scores[CENTRE] == scores[COPY]
    with torch.no_grad():
        model[0].weight += 7  # where the layer lies does not matter
    torch.testing.assert_close(median_distances(dk.Channels(model, few.example))[0], scores)


def test_every_group_keeps_the_same_share(few):
    torch.manual_seed(0)
    small = fpgm(dk.make_model("small", 1, 10, (8, 8)), few, 0.3, FROZEN)
    kept = [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)]
    shares = [n / d for n, d in zip(kept, (24, 24, 48, 48), strict=True)]
    assert max(shares) - min(shares) <= 1 / 24
