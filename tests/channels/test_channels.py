"""`Channels`: what can be removed, what it costs and its removal, without a posterior."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import depl0kit as dk

IMAGES = torch.zeros(2, 3, 16, 16)


def network() -> nn.Module:
    torch.manual_seed(0)
    return dk.make_model("resnet20", 3, 10, (16, 16))


@pytest.fixture(scope="module")
def channels() -> dk.Channels:
    return dk.Channels(network(), example=IMAGES, scope="all")


def masks(channels: dk.Channels, seed: int) -> list[torch.Tensor]:
    """Of every group another share of its channels, one at least."""
    rng = torch.Generator().manual_seed(seed)
    drawn = [torch.rand(size, generator=rng) < 0.2 + 0.6 * i / 20 for i, size in enumerate(channels.sizes)]
    return [mask.index_fill(0, torch.tensor(0), True) for mask in drawn]


def test_it_prints_as_the_table_of_groups(channels):
    assert repr(channels) == repr(channels.groups) and "stream" in repr(channels)
    assert channels._repr_html_().startswith("<table>")


def test_finding_the_groups_changes_nothing():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    channels = dk.Channels(model, example=IMAGES)
    assert channels.model is model and model.training
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("seed", range(3))
def test_cost_is_that_of_the_small_network_to_the_unit(channels, seed):
    gates = masks(channels, seed)
    small, flops = channels.remove(gates), FlopCounterMode(display=False)
    with flops, torch.no_grad():
        small(IMAGES)
    cost = channels.cost([int(mask.sum()) for mask in gates])
    assert cost.macs == flops.get_total_flops() // (2 * len(IMAGES)) < channels.dense_cost.macs
    assert cost.params == sum(p.numel() for p in small.parameters())


def test_masks_of_any_kind_make_the_same_network(channels):
    gates, x = masks(channels, 0), torch.randn(2, 3, 16, 16)
    outputs = [channels.remove([mask.to(kind) for mask in gates])(x) for kind in (torch.bool, int, float)]
    assert all(torch.equal(outputs[0], other) for other in outputs)


def test_gates_are_folded_into_the_weights(channels):
    net = dk.GatedModel(channels.model, example=IMAGES, scope="all").eval()
    gates = [mask * torch.rand(len(mask)).clamp(min=0.1) for mask in masks(channels, 1)]
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = net.forward_gated(x, gates)
        torch.testing.assert_close(channels.remove(gates)(x), expected, rtol=1e-4, atol=1e-5)


def test_removal_cuts_the_weights_of_now():
    model = network()
    channels = dk.Channels(model, example=IMAGES)
    with torch.no_grad():
        model.head.weight.zero_() if hasattr(model, "head") else list(model.parameters())[-2].zero_()
    small = channels.remove([torch.ones(size) for size in channels.sizes])
    assert torch.equal(list(small.parameters())[-2], list(model.parameters())[-2])
    assert small is not model


def test_round_to_keeps_more_channels_and_the_same_outputs(channels):
    gates, x = masks(channels, 2), torch.randn(2, 3, 16, 16)
    plain, rounded = channels.remove(gates), channels.remove(gates, round_to=8)
    assert sum(p.numel() for p in rounded.parameters()) > sum(p.numel() for p in plain.parameters())
    torch.testing.assert_close(rounded(x), plain(x), rtol=1e-4, atol=1e-5)


def test_gates_that_do_not_fit_are_refused(channels):
    good = masks(channels, 0)
    name, size = channels.groups.gated[0].name, channels.sizes[0]
    stream = next(i for i, may in enumerate(channels.may_close) if not may)
    for gates, words in [
        (good[1:], [f"list of {len(good)} tensors"]),
        (good[0], [f"list of {len(good)} tensors"]),
        ([good[0][1:], *good[1:]], [name, f"{size} numbers >= 0"]),
        ([-good[0].float(), *good[1:]], [name, "numbers >= 0"]),
        ([good[0] * torch.nan, *good[1:]], [name, "numbers >= 0"]),
        ([m * (i != stream) for i, m in enumerate(good)], ["keep one of them"]),
    ]:
        with pytest.raises(ValueError) as error:
            channels.remove(gates)
        assert all(word in str(error.value) for word in words), error.value


def test_a_network_in_which_nothing_can_go_still_has_its_table():
    channels = dk.Channels(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), example=torch.zeros(1, 3, 2, 2))
    assert channels.sizes == [] and channels.cost([]) == channels.dense_cost == (24, 26)
    with pytest.raises(ValueError, match="nothing to gate in Sequential"):
        channels.require_gated()


def test_a_posterior_is_made_for_the_groups_that_may_close(channels):
    net = dk.GatedModel(channels.model, example=IMAGES, scope="all")
    assert any(channels.may_close) and net.posterior.may_close == tuple(channels.may_close)
    kept = dk.GatedModel(channels.model, dk.MeanField(channels.sizes), IMAGES, scope="all")
    assert not any(kept.posterior.may_close)  # an object is used as it is
    wrong = dk.MeanField(channels.sizes, may_close=[True] * len(channels.sizes))
    with pytest.raises(ValueError, match="lets a group close that must keep a channel"):
        dk.GatedModel(channels.model, wrong, IMAGES, scope="all")
    with pytest.raises(ValueError, match="may_close must be a list of 2 booleans"):
        dk.MeanField([3, 4], may_close=[True])
