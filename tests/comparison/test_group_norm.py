"""Group norms: which weights count, and how hard those of small channels are pulled."""

import pytest
import torch
from grouped import Grouped
from marks import slow_but_the_first
from torch import nn

import depl0kit as dk
from depl0kit.comparison.baselines.group_norm import (
    group_norm,
    growing_decay,
    growing_factors,
    parts,
    relative_norms,
)
from depl0kit.comparison.baselines.scores import l1_norms


def make(name):
    torch.manual_seed(0)
    model = (
        Grouped()
        if name == "grouped"
        else dk.make_model(name, 1, 10, (16, 16) if name == "lenet" else (8, 8))
    )
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.uniform_(-1, 1)
            if key.endswith("bias"):
                p.zero_()  # a channel's constant is no weight
    return model


def energy(model):
    return sum(p.detach().square().sum() for p in model.parameters())


@pytest.mark.parametrize("name", slow_but_the_first(["grouped", "small", "lenet", "resnet20"]))
def test_a_norm_is_that_of_all_weights_that_go(name):
    model = make(name)
    channels = dk.Channels(model, torch.zeros(1, 1, *((16, 16) if name == "lenet" else (8, 8))))
    assert len(channels.sizes) >= 3
    for number, norms in enumerate(relative_norms(channels)):
        gone = []
        for channel in range(min(4, len(norms))):
            masks = [torch.ones(size) for size in channels.sizes]
            masks[number][channel] = 0
            gone.append(energy(model) - energy(channels.remove(masks)))
        gone = torch.stack(gone).sqrt()
        torch.testing.assert_close(norms[: len(gone)] / norms[0], gone / gone[0], rtol=1e-3, atol=0)
        assert norms.mean() == pytest.approx(1)


def test_readers_count_too(few):
    """Channels that nothing reads are small, however large their filters are."""
    model = make("small")
    channels = dk.Channels(model, few.example)
    before, l1 = relative_norms(channels)[0], l1_norms(channels)[0]
    with torch.no_grad():
        model.features[3].weight[:, 5] = 0
        model.features[1].weight[7] = 9
    assert torch.equal(l1_norms(channels)[0], l1)
    ratio = relative_norms(channels)[0] / before
    assert ratio.argmin() == 5 and ratio.argmax() == 7


def test_the_least_is_pulled_16_times_as_hard():
    factors = 1e-4 * growing_factors(torch.tensor([3.0, 1.0, 2.0]))
    torch.testing.assert_close(factors, torch.tensor([1e-4, 16e-4, 4e-4]))


@pytest.mark.parametrize("norms", [torch.zeros(3), torch.full((3,), 0.7), torch.ones(1)])
def test_of_equal_channels_none_is_pulled_harder(norms):
    assert torch.equal(growing_factors(norms), torch.ones_like(norms))


def test_the_pull_is_a_decay_of_all_weights_of_a_channel():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 10)),
    )
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-1, 1)
    weights = [model[0].weight.reshape(5, -1), model[1].weight[:, None], model[5].weight.reshape(10, 5, 4)]
    squares = sum(w.detach().square().sum(1) for w in weights[:2]) + weights[2].detach().square().sum((0, 2))
    factors = growing_factors(squares.sqrt())
    assert factors.min() == 1 and factors.max() == 16
    growing_decay(parts(dk.Channels(model, torch.zeros(1, 1, 8, 8)))).backward()
    torch.testing.assert_close(model[0].weight.grad, factors[:, None, None, None] * model[0].weight)
    torch.testing.assert_close(model[1].weight.grad, factors * model[1].weight)
    torch.testing.assert_close(model[5].weight.grad, factors.repeat_interleave(4) * model[5].weight)
    assert model[0].bias.grad is None and model[1].bias.grad is None and model[5].bias.grad is None


def test_weights_that_are_all_0_have_no_nan():
    model = make("small")
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    channels = dk.Channels(model, torch.zeros(1, 1, 8, 8))
    growing_decay(parts(channels)).backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters() if p.grad is not None)
    assert all(torch.equal(norms, torch.zeros_like(norms)) for norms in relative_norms(channels))


def test_bad_strength(few):
    with pytest.raises(ValueError, match=r"strength must be a number in \[0"):
        group_norm(make("small"), few, 0.5, dk.TrainConfig(epochs=1), strength=-1)


def test_it_lies_on_the_networks_device():
    channels = dk.Channels(make("grouped"), torch.zeros(1, 1, 8, 8))
    channels.model.to("meta")
    groups = parts(channels)
    growing_decay(groups).backward()
    assert {indices.device.type for group in groups for *_, indices in group} == {"meta"}
