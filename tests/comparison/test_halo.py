"""HALO: what is learnt, what it shrinks, and norms as batch norms scale them."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit.comparison.baselines.folding import FoldedNorms
from depl0kit.comparison.baselines.halo import FLOOR, PSI, XI, Shrinkage, closed_form, halo
from depl0kit.comparison.baselines.whole import train_weights


def plain(channels=4):
    """Filters that no batch norm scales, of norms 1, 2, ..."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * channels, 10))
    with torch.no_grad():
        weight = model[0].weight
        weight *= ((torch.arange(channels) + 1) / sizes(weight))[:, None, None, None]
    return model


def sizes(weight):
    """Of the filters."""
    return weight.detach().flatten(1).norm(dim=1)


def shrinkage(model, few, xi=XI, psi=PSI):
    return Shrinkage(dk.Channels(model, few.example), xi, psi)


def test_the_closed_form_is_the_least(few):
    n, xi, psi = torch.tensor([0.0, 1e-3, 1.0, 8.0]), 0.02, 0.3
    least = closed_form(n, xi, psi)

    def price(factor):
        lambdas = factor * least[1:]
        return xi * n[1:] / lambdas**2 + psi * lambdas

    assert least[0] == 0 and bool(least[1:].diff().gt(0).all())
    assert bool((price(1) < torch.minimum(price(0.9), price(1.1))).all())
    torch.testing.assert_close(price(1), 1.5 * (2 * xi * psi**2 * n[1:]) ** (1 / 3))


def test_the_pull_falls_with_the_norm(few):
    """As that of a penalty of power 1/3: n^(-2/3). That of plain L1 is the same for all."""
    model = plain(8)
    shrinkage(model, few).penalty(model).backward()
    pulls = sizes(model[0].weight.grad)
    torch.testing.assert_close(pulls / pulls[0], (torch.arange(8) + 1.0) ** (-2 / 3))


def test_small_channels_lose_more_than_large_ones(few):
    model = plain()
    before = sizes(model[0].weight)
    halo = shrinkage(model, few, xi=1e-3, psi=1.0)
    optimiser = torch.optim.SGD([*model.parameters(), halo.lambdas], 0.01)
    for _ in range(200):
        optimiser.zero_grad()
        halo.penalty(model).backward()
        optimiser.step()
        halo.clamp()
    lost = before - sizes(model[0].weight)
    assert bool((lost > 0.01).all()) and bool((lost[:-1] > 1.1 * lost[1:]).all())


@pytest.fixture(scope="module")
def trained():
    """The network and its penalty, before and after a short run."""
    data = dk.load_data("digits")
    data = replace(data, train=data.train.take(512))
    torch.manual_seed(0)
    channels = dk.Channels(dk.make_model("small", 1, 10, (8, 8)), data.example)
    halo = Shrinkage(channels, XI, PSI)
    first = halo.lambdas.detach().clone()
    train_weights(channels.model, data, dk.TrainConfig(epochs=6), **halo.hooks())
    return halo, first


def test_lambdas_follow_the_norms(trained):
    halo, first = trained
    lambdas = halo.lambdas.detach()
    least = closed_form(torch.cat(halo.norms()).detach(), XI, PSI)
    free = lambdas > 1.01 * FLOOR

    def error(lambdas):
        return (lambdas / least - 1)[free].abs().mean()

    assert free.float().mean() > 0.9 and error(lambdas) < 0.05 < 0.15 < error(first)


def test_lambdas_stay_above_the_floor(few):
    model = plain()
    with torch.no_grad():
        model[0].weight[0] = 0
        model[0].bias.fill_(-1)  # a channel that is dead from the start
    halo = shrinkage(model, few, xi=1e-3, psi=1.0)
    train_weights(model, few, dk.TrainConfig(epochs=30, batch_size=8), **halo.hooks())
    lambdas = halo.lambdas.detach()
    assert lambdas.isfinite().all() and lambdas.min() == lambdas[0] == torch.tensor(FLOOR)
    assert model[0].weight[0].abs().max() == 0


# ---- norms as batch norms scale them


def test_the_norm_is_that_of_the_function(few):
    """Of two networks that compute the same, the channels are equally large."""
    torch.manual_seed(0)
    model = dk.make_model("small", 1, 10, (8, 8))
    for _ in range(20):
        model.train()(torch.randn(64, 1, 8, 8))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.features[0].weight *= 10
        other.features[1].running_mean *= 10
        other.features[1].running_var *= 100
        other.features[4].weight *= -2  # this is another function
    one, two = (FoldedNorms(dk.Channels(net, few.example))() for net in (model, other))
    torch.testing.assert_close(one[0], two[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(2 * one[1], two[1])
    norm = model.features[1]
    weight = model.features[0].weight / (norm.running_var + norm.eps).sqrt()[:, None, None, None]
    torch.testing.assert_close(one[0], sizes(weight))  # gamma is 1


class Mixed(nn.Module):
    """Layers that write a stream: one with a batch norm, a depthwise one after it, and one without any."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.depthwise, self.its_norm = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.other, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 4, 3)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        inside = self.its_norm(self.depthwise(self.norm(self.first(x)).relu()))
        return self.head(self.last((inside + self.other(x)).relu()).relu().mean((2, 3)))


def test_each_filter_is_scaled_by_the_batch_norm_after_it(few):
    torch.manual_seed(0)
    model = Mixed()
    with torch.no_grad():
        for norm in (model.norm, model.its_norm):
            norm.weight.copy_(torch.randn(6))
            norm.running_var.uniform_(0.5, 2)
    channels = dk.Channels(model, few.example, scope="all")
    assert channels.sizes == [6, 4]
    stream, inner = FoldedNorms(channels)()
    scale = model.norm.weight.abs() / (model.norm.running_var + model.norm.eps).sqrt()
    first, other = (sizes(conv.weight) for conv in (model.first, model.other))
    torch.testing.assert_close(stream, (first * scale + other) / 2)
    torch.testing.assert_close(inner, sizes(model.last.weight))


def test_it_lies_on_the_networks_device(few):
    channels = dk.Channels(Mixed(), few.example, scope="all")
    channels.model.to("meta")
    halo = Shrinkage(channels, XI, PSI)
    halo.penalty(channels.model).backward()
    indices = [i for group in halo.norms._groups for writer in group for i in (writer.outputs, writer.scaled)]
    assert {i.device.type for i in (halo.lambdas.grad, *indices) if i is not None} == {"meta"}


@pytest.mark.parametrize("name", ["xi", "psi"])
@pytest.mark.parametrize("value", [0, -1, "much"])
def test_bad_strengths(few, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number in"):
        halo(plain(), few, 0.5, dk.TrainConfig(epochs=1), **{name: value})
