"""Scores by gradients of gates: Taylor's, of a trained network, and SNIP's, before training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import depl0kit as dk
from depl0kit.comparison.baselines import sensitivity
from depl0kit.comparison.baselines.scores import l1_norms
from depl0kit.comparison.baselines.sensitivity import gate_gradients, snip, taylor

FROZEN = dk.TrainConfig(epochs=1, lr=1e-12, weight_decay=0, batch_size=1024)  # scores of the weights given
BRIEF = dk.TrainConfig(epochs=1, batch_size=16)


def make(name="small", size=8):
    torch.manual_seed(0)
    return dk.make_model(name, 1, 10, (size, size))


def batch(data):
    """All training images, as one batch."""
    return next(iter(data.train.batches(len(data.train))))


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_finite_differences_of_the_loss(few, training):
    """Of each image's own loss where no image depends on others, else of the sum of all."""
    net = dk.GatedModel(make(), example=few.example)
    found = gate_gradients(net.channels, few, FROZEN, training)
    assert [g.shape for g in found] == [(len(few.train), size) for size in net.channels.sizes]
    x, y = batch(few)
    net.double(), net.model.train(training)

    def losses(group, channel, value):
        gates = [torch.ones(size, dtype=torch.float64) for size in net.channels.sizes]
        gates[group][channel] = value
        with torch.no_grad():
            return F.cross_entropy(net.forward_gated(x.double(), gates), y, reduction="none")

    step = 1e-6
    for group, gradients in enumerate(found):
        channel = gradients.square().sum(0).argmax()
        slopes = (losses(group, channel, 1 + step) - losses(group, channel, 1 - step)) / (2 * step)
        assert slopes.abs().max() > 1e-4
        torch.testing.assert_close(gradients[:, channel].double().sum(), slopes.sum(), rtol=1e-3, atol=1e-6)
        if not training:  # the images come in a random order
            score = gradients[:, channel].double().square().mean()
            torch.testing.assert_close(score, slopes.square().mean(), rtol=1e-3, atol=0)


def test_the_signs_of_images_do_not_cancel(few, monkeypatch):
    """The square is that of an image's slope, not that of the mean, which may be 0."""
    slopes, modes = torch.tensor([[1.0, 0.1], [-1.0, 0.1]]), []

    def gradients(*_, training):
        modes.append(training)
        return [slopes]

    monkeypatch.setattr(sensitivity, "gate_gradients", gradients)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 10))
    kept = taylor(model, few, 0.6, FROZEN)[1].weight
    torch.testing.assert_close(kept, model[1].weight[:1])
    assert not any(modes)  # in training mode an image would move the loss of others
    kept = snip(model, few, 0.6, FROZEN)[1].weight
    torch.testing.assert_close(kept, model[1].weight[1:])
    assert modes[-1]


def test_channels_that_change_nothing_go_first(few):
    """However large their filters are."""
    model, dead = make(), [2, 3, 11]
    with torch.no_grad():
        model.features[0].weight[dead] *= 10
        model.features[3].weight[:, dead] = 0
    channels = dk.Channels(model, few.example)
    assert l1_norms(channels)[0][dead].min() > l1_norms(channels)[0].median()
    cost = channels.cost([21, *channels.sizes[1:]])
    small = taylor(model, few, cost.macs / channels.dense_cost.macs + 1e-9, FROZEN)
    alive = [i for i in range(24) if i not in dead]
    torch.testing.assert_close(small.features[0].weight, model.features[0].weight[alive])


def test_snip_looks_at_the_data(few):
    model, images = make(), few.train

    def kept(labels):
        data = replace(few, train=replace(images, labels=labels))
        return snip(model, data, 0.3, FROZEN).features[0].weight.detach()

    assert torch.equal(kept(images.labels), kept(images.labels.clone()))
    one, other = kept(images.labels), kept(9 - images.labels)
    assert one.shape != other.shape or not torch.allclose(one, other)


def test_snip_trains_the_small_network_alone(few, monkeypatch):
    model, trained = make(), []

    def train(net, data, config):
        trained.append((net, dk.Channels(net, few.example).dense_cost.macs, config.epochs))

    monkeypatch.setattr(sensitivity, "train_weights", train)
    small = snip(model, few, 0.3, BRIEF)
    dense = dk.Channels(model, few.example).dense_cost.macs
    assert len(trained) == 1 and trained[0][0] is small
    assert 0.28 * dense < trained[0][1] <= 0.3 * dense and trained[0][2] == BRIEF.epochs
    rows = model.features[0].weight.detach().flatten(1)  # what it is given is what it trains
    assert all((rows - row).abs().sum(1).min() == 0 for row in small.features[0].weight.flatten(1))


def test_before_training_batch_norms_use_the_batch(few):
    """Their statistics are still those they were made with; what is frozen in eval mode keeps to them."""
    model = make()
    channels = dk.Channels(model, few.example)
    apart = [
        (one - other).abs().max() / other.abs().max()
        for one, other in zip(
            *(gate_gradients(channels, few, FROZEN, mode) for mode in (True, False)), strict=True
        )
    ]
    assert min(apart) > 0.1
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for one, other in zip(
        *(gate_gradients(channels, few, FROZEN, mode) for mode in (True, False)), strict=True
    ):
        assert torch.equal(one, other)


def test_the_network_stays_as_it_is(few):
    model = make().train()
    model.features[1].eval()
    modes = [m.training for m in model.modules()]
    gate_gradients(dk.Channels(model, few.example), few, BRIEF, True)
    assert [m.training for m in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_network_that_does_not_suit_the_data_is_refused_in_words(few):
    with pytest.raises(ValueError, match=r"labels of data\.train must lie in 0..4"):
        taylor(make(), replace(few, classes=few.classes[:5]), 0.5, BRIEF)
