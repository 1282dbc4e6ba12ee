"""Baselines: what they keep, how they choose, and that they end in exact, smaller networks."""

import copy
from dataclasses import replace

import pytest
import torch
from marks import slow_but_the_first
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import depl0kit as dk
from depl0kit.channels.tracing import probe_copy
from depl0kit.comparison.baselines import BASELINES, whole
from depl0kit.comparison.baselines.choice import best_channels, in_proportion
from depl0kit.comparison.baselines.scores import bn_scales, l1_norms
from depl0kit.comparison.baselines.slimming import slimming, sum_of_scales

PRUNING = ["random", "small_dense", "l1_uniform", "l1_global", "slimming"]
PRUNING += ["halo", "taylor", "snip", "group_norm", "fpgm"]
FROZEN = dk.TrainConfig(epochs=1, lr=1e-12, weight_decay=0, batch_size=1024)  # scores of the weights given
BRIEF = dk.TrainConfig(epochs=1, batch_size=128)


@pytest.fixture(scope="module")
def data():
    return dk.load_data("digits")


def make(name="small", size=8):
    torch.manual_seed(0)
    return dk.make_model(name, 1, 10, (size, size))


def macs(model, x):
    model = copy.deepcopy(model).eval()
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(x)
    return flops.get_total_flops() // (2 * len(x))


def widths(model):
    return [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("keep", [0.7, 0.2])
@pytest.mark.parametrize(
    ("name", "size"), slow_but_the_first([("small", 8), ("lenet", 16), ("resnet20", 16)])
)
def test_masks_keep_as_much_as_fits_and_the_cut_is_exact(name, size, keep):
    torch.manual_seed(1)
    x = torch.randn(3, 1, size, size)
    net = dk.GatedModel(probe_copy(make(name, size)), example=x).eval()
    scores = [torch.rand(g.channels) for g in net.groups.gated]
    masks = best_channels(net.channels, scores, keep)
    counts = [int(mask.sum()) for mask in masks]
    assert min(counts) >= 1 and all(set(mask.unique().tolist()) <= {0.0, 1.0} for mask in masks)
    assert net.channels.cost(counts).macs <= keep * net.dense_cost.macs
    closed = [(s.masked_fill(m > 0, -1).max(), g) for g, (s, m) in enumerate(zip(scores, masks, strict=True))]
    score, group = max(closed)  # the best of those that go would be one too many
    counts[group] += 1
    assert net.channels.cost(counts).macs > keep * net.dense_cost.macs
    for s, m in zip(scores, masks, strict=True):  # one threshold, but for the best of each group
        assert m.sum() == 1 or bool((s[m > 0] > score).all())
    small = net.channels.remove(masks)
    counts[group] -= 1
    with torch.no_grad():
        torch.testing.assert_close(small(x), net.forward_gated(x, masks), atol=1e-4, rtol=1e-4)
    assert macs(small, x) == net.channels.cost(counts).macs


@pytest.mark.parametrize("name", PRUNING)
def test_every_method_fits_its_share(few, name):
    model = make()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    small = BASELINES[name](model, few, 0.4, BRIEF)
    dense, kept = macs(model, few.example), macs(small, few.example)
    assert 0.97 * 0.4 < kept / dense <= 0.4
    assert type(small) is type(model) and not small.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.modules())
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items()) and model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    again = BASELINES[name](model, few, 0.4, BRIEF)
    for one, other in zip(small.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_dense_is_the_whole_network_trained(data):
    model = make()
    whole = BASELINES["dense"](model, data, 7, dk.TrainConfig(epochs=4))
    assert macs(whole, data.example) == macs(model, data.example) and not whole.training
    assert dk.evaluate(whole, data.val)[1] > 0.9 > dk.evaluate(model, data.val)[1]


@pytest.mark.parametrize("name", ["l1_uniform", "l1_global"])
@pytest.mark.parametrize("network", slow_but_the_first(["small", "resnet20"]))
def test_filters_of_zero_norm_go_first(few, name, network):
    model, generator = make(network), torch.Generator().manual_seed(2)
    groups = dk.GatedModel(model, example=few.example).groups.gated
    live = {g.name: torch.randperm(g.channels, generator=generator)[: g.channels // 2] for g in groups}
    with torch.no_grad():
        for group, channels in live.items():
            module = model.get_submodule(group)
            module.weight.mul_(
                torch.zeros(len(module.weight)).index_fill(0, channels, 1)[:, None, None, None]
            )
    net = dk.GatedModel(model, example=few.example)
    half = net.channels.cost([len(c) for c in live.values()]).macs / net.dense_cost.macs
    scores = l1_norms(net.channels)
    masks = best_channels(
        net.channels, in_proportion(scores) if name == "l1_uniform" else scores, half + 1e-9
    )
    for mask, channels in zip(masks, live.values(), strict=True):
        assert mask.nonzero().flatten().tolist() == channels.sort().values.tolist()
    small = BASELINES[name](model, few, half + 1e-9, FROZEN)
    for group, channels in live.items():
        assert small.get_submodule(group).out_channels == len(channels)
        assert bool((small.get_submodule(group).weight.flatten(1).abs().sum(1) > 1e-3).all())


def test_l1_norms_are_relative_to_their_layer(few):
    net = dk.GatedModel(make(), example=few.example)
    for group, scores in zip(net.groups.gated, l1_norms(net.channels), strict=True):
        norms = net.model.get_submodule(group.writers[0]).weight.abs().sum((1, 2, 3)).detach()
        torch.testing.assert_close(scores, norms / norms.mean())


def test_slimming_removes_channels_of_zero_scale(few):
    model, generator = make(), torch.Generator().manual_seed(2)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.0, generator=generator)
            norm.weight[torch.randperm(len(norm.weight), generator=generator)[: len(norm.weight) // 3]] = 0
            norm.weight *= torch.randn(len(norm.weight), generator=generator).sign()  # |gamma| counts
    net = dk.GatedModel(model, example=few.example)
    live = [int((norm.weight != 0).sum()) for norm in norms]
    for scores, norm in zip(bn_scales(net.channels), norms, strict=True):
        assert torch.equal(scores, norm.weight.detach().abs())
    keep = net.channels.cost(live).macs / net.dense_cost.macs
    small = BASELINES["slimming"](model, few, keep + 1e-9, FROZEN)
    assert widths(small) == live
    assert all(bool((m.weight.abs() > 0.4).all()) for m in small.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.slow
def test_slimming_trains_scales_towards_zero(data):
    config = dk.TrainConfig(epochs=2, batch_size=8)
    few = replace(data, train=data.train.take(256))

    def scales(strength):
        model = make()
        slim = slimming(model, few, 0.999, config, strength=strength)
        return sum_of_scales(slim).item()

    assert scales(0.05) < 0.8 * scales(0.0)


def test_slimming_leaves_what_no_batch_norm_scales(few):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)),
    )
    small = BASELINES["slimming"](model, few, 0.5, BRIEF)
    assert widths(small)[1] == 6 and widths(small)[0] < 8
    with pytest.raises(ValueError, match="cannot be reached"):
        BASELINES["slimming"](model, few, 0.05, BRIEF)


@pytest.mark.slow
def test_uniform_keeps_the_same_share_everywhere(few):
    for name in ("l1_uniform", "random", "small_dense"):
        kept = widths(BASELINES[name](make(), few, 0.3, FROZEN))
        shares = [n / d for n, d in zip(kept, (24, 24, 48, 48), strict=True)]
        assert max(shares) - min(shares) <= 1 / 24


@pytest.mark.slow
def test_random_draws_by_the_seed(few):
    model = make()

    def kept(seed):
        config = dk.TrainConfig(epochs=1, lr=1e-12, weight_decay=0, batch_size=1024, seed=seed)
        weight = BASELINES["random"](model, few, 0.3, config).features[0].weight
        return weight.detach().flatten(1)

    assert torch.equal(kept(1), kept(1))
    one, other = kept(1), kept(2)
    assert one.shape != other.shape or not torch.allclose(one, other, atol=1e-3)
    rows = make().features[0].weight.flatten(1)
    assert all((rows - row).abs().sum(1).min() < 1e-4 for row in one)  # filters of the network given


def test_small_dense_forgets_the_weights_it_is_given(few):
    model, other = make(), make()
    with torch.no_grad():
        for p in other.parameters():
            p.fill_(3.0)
        other.features[1].running_mean.fill_(9.0)
    one, two = (BASELINES["small_dense"](m, few, 0.3, BRIEF) for m in (model, other))
    assert all(torch.equal(t, two.state_dict()[k]) for k, t in one.state_dict().items())
    reseeded = BASELINES["small_dense"](model, few, 0.3, dk.TrainConfig(epochs=1, batch_size=128, seed=1))
    assert not torch.equal(one.features[0].weight, reseeded.features[0].weight)


def test_small_dense_longer_trains_for_the_macs_of_the_whole_network(few, monkeypatch):
    seen = []
    train = whole.train_weights
    monkeypatch.setattr(whole, "train_weights", lambda m, d, c: seen.append(c.epochs) or train(m, d, c))
    same = BASELINES["small_dense"](make(), few, 0.3, replace(BRIEF, epochs=7))
    longer = BASELINES["small_dense_longer"](make(), few, 0.3, replace(BRIEF, epochs=2))
    assert seen == [7, 7]  # 2 / 0.3, rounded
    assert all(torch.equal(t, longer.state_dict()[k]) for k, t in same.state_dict().items())
    with pytest.raises(ValueError, match="keep must lie between"):
        BASELINES["small_dense_longer"](make(), few, 0, BRIEF)


class Scaled(nn.Module):
    """A parameter that no reset_parameters draws."""

    def __init__(self):
        super().__init__()
        self.net, self.scale = make(), nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.net(x) * self.scale


def test_small_dense_refuses_weights_it_cannot_draw(few):
    with pytest.raises(ValueError, match="cannot draw the weights of the network anew: Scaled has"):
        BASELINES["small_dense"](Scaled(), few, 0.5, BRIEF)


def test_dropout_follows_the_seed_too(few):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))
    one, two = (BASELINES["l1_global"](model, few, 0.5, BRIEF) for _ in range(2))
    assert torch.equal(one[1].weight, two[1].weight)


@pytest.mark.slow
@pytest.mark.parametrize("scope_net", ["mobilenet_v2", "resnext50_32x4d", "shufflenet_v2_x0_5"])
def test_scores_of_grouped_and_shuffled_networks(scope_net):
    x = torch.randn(1, 3, 48, 48)
    net = dk.GatedModel(probe_copy(dk.make_model(scope_net, 3, 10)), example=x)

    for scores in (l1_norms(net.channels), bn_scales(net.channels)):
        assert [len(s) for s in scores] == [g.channels for g in net.groups.gated]
        assert all(bool(s.isfinite().all()) and s.std() > 0 for s in scores)
        small = net.channels.remove(best_channels(net.channels, scores, 0.6))
        assert macs(small, x) <= 0.6 * net.dense_cost.macs


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (0, "keep must lie between 0 and 1, both excluded, got 0"),
        (1, "keep must lie between 0 and 1, both excluded, got 1"),
        (1.5, "keep must be a number in"),
        ("half", "keep must be a number in"),
        (1e-4, r"keep=0.0001 cannot be reached: of this network's MACs at least 0\.00\d+ stay"),
    ],
)
def test_bad_keep(few, name, keep, says):
    with pytest.raises(ValueError, match=says):
        BASELINES[name](make(), few, keep, BRIEF)


def test_slimming_needs_batch_norms(few):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    with pytest.raises(ValueError, match=r"scales of batch norms, and Sequential has no batch norm"):
        BASELINES["slimming"](model, few, 0.5, BRIEF)


def test_a_loss_that_is_not_finite_is_reported(few):
    with pytest.raises(ValueError, match="loss became"):
        BASELINES["dense"](make(), few, 0.5, dk.TrainConfig(epochs=1, lr=1e30))
