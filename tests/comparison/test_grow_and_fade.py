"""Baselines in which channels come back, or go slowly: `grow_prune`, `chex`, `growing_reg`, `fade_out`."""

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from marks import slow_but_the_first
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import depl0kit as dk
from depl0kit.channels.channels import Channels
from depl0kit.comparison.baselines import (
    BASELINES,
    chex,
    fade_out,
    grow_prune,
    growing_reg,
    masked,
    whole,
)
from depl0kit.comparison.baselines.chex import regrown, regrown_share
from depl0kit.comparison.baselines.entries import Entries
from depl0kit.comparison.baselines.fade_out import Fading
from depl0kit.comparison.baselines.masked import Masked
from depl0kit.comparison.baselines.scores import l1_norms
from depl0kit.training.loop import sgd

NAMES = ["grow_prune", "chex", "growing_reg", "fade_out"]
BRIEF = dk.TrainConfig(epochs=2, batch_size=8)


def make(name="small", size=8):
    torch.manual_seed(0)
    return grouped() if name == "grouped" else dk.make_model(name, 1, 10, (size, size))


def grouped():
    """Depthwise, grouped and transposed convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 12, 3, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 32, 1), nn.GroupNorm(8, 32), nn.Conv2d(32, 32, 3, groups=8), nn.PReLU(32)),
        *(nn.ConvTranspose2d(32, 24, 2), nn.ReLU(), nn.ConvTranspose2d(24, 24, 2, groups=24), nn.ReLU()),
        *(nn.Conv2d(24, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)),
    )


def macs(model, x):
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(x)
    return flops.get_total_flops() // (2 * len(x))


# ---- what all of them must do


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", slow_but_the_first([0.3, 0.8]))
def test_every_method_fits_its_share(few, name, keep):
    model = make()
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    small = BASELINES[name](model, few, keep, BRIEF)
    assert keep - 0.02 < macs(small, few.example) / macs(copy.deepcopy(model).eval(), few.example) <= keep
    assert type(small) is type(model) and not small.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.modules())
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items()) and model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    again = BASELINES[name](model, few, keep, BRIEF)
    assert all(torch.equal(t, again.state_dict()[k]) for k, t in small.state_dict().items())


@pytest.mark.parametrize(
    ("method", "phases"), [(grow_prune, 8), (partial(chex, phases=5), 5)], ids=["grow_prune", "chex"]
)
def test_the_masks_of_every_phase_are_handed_out(few, method, phases):
    lives = []
    small = method(make(), few, 0.3, dk.TrainConfig(epochs=4, batch_size=8), on_phase=lives.append)
    assert len(lives) == phases + 1  # and the rest
    counts = [[int(mask.sum()) for mask in masks] for masks in lives]
    assert dk.Channels(small, few.example).sizes == counts[-1]
    assert all(set(mask.tolist()) <= {0.0, 1.0} for masks in lives for mask in masks)
    assert sum(counts[0]) > sum(counts[-1])  # more are open while some come back


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_one_step_and_no_momentum_will_do(few, name):
    config = dk.TrainConfig(epochs=1, batch_size=128, momentum=0)
    small = BASELINES[name](make(), few, 0.4, config)
    assert 0.38 < macs(small, few.example) / macs(make().eval(), few.example) <= 0.4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_they_learn(name):
    data = dk.load_data("digits")
    small = BASELINES[name](make(), replace(data, train=data.train.take(1000)), 0.3, dk.TrainConfig(epochs=3))
    assert dk.evaluate(small, data.val)[1] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_larger_images(name):
    data = dk.load_data("fashion_mnist")
    few = replace(data, train=data.train.take(64), val=data.val.take(8))
    small = BASELINES[name](make(size=28), few, 0.3, BRIEF)
    assert 0.28 < macs(small, few.example) / macs(make(size=28).eval(), few.example) <= 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["resnet20", "grouped"])
def test_residual_and_depthwise_networks(few, name, network):
    small = BASELINES[name](make(network), few, 0.4, BRIEF)
    assert 0.38 < macs(small, few.example) / macs(make(network).eval(), few.example) <= 0.4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("keep", "says"), [(1, "keep must lie between 0 and 1"), (1e-4, "keep=0.0001 cannot be reached")]
)
def test_bad_keep_is_refused_before_training(few, name, keep, says, monkeypatch):
    monkeypatch.setattr(whole, "fine_tune", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match=says):
        BASELINES[name](make(), few, keep, BRIEF)


@pytest.fixture
def before_cut(monkeypatch):
    """The `Channels` that were cut, whose networks still are as they were, and the masks."""
    found, remove = [], Channels.remove

    def spied(self, masks):
        found.append((self, masks))
        return remove(self, masks)

    monkeypatch.setattr(Channels, "remove", spied)
    return found


def outputs_of(net):
    x = torch.rand(8, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return copy.deepcopy(net).double().eval()(x)


@pytest.mark.parametrize("name", ["grow_prune", "chex", "fade_out"])
def test_the_cut_changes_nothing(few, name, before_cut):
    small = BASELINES[name](make(), few, 0.3, BRIEF)
    channels, _ = before_cut[0]
    torch.testing.assert_close(outputs_of(small), outputs_of(channels.model), rtol=0, atol=1e-12)


# ---- which entries belong to a channel


@pytest.mark.parametrize("network", slow_but_the_first(["grouped", "small", "resnet20", "lenet"]))
def test_entries_are_those_that_are_cut(network):
    size = 16 if network == "lenet" else 8
    channels = Channels(make(network, size=size), torch.zeros(2, 1, size, size))
    masks = [(torch.arange(n) % 3 > 0).float() for n in channels.sizes]
    small = channels.remove(masks)
    entries = Entries(channels, buffers=True)
    whole_net = channels.model.state_dict()
    gone = {id(t): int((1 - o).sum()) for t, o in zip(entries.tensors, entries.open(masks), strict=True)}
    tensors = dict(channels.model.named_parameters()) | dict(channels.model.named_buffers())
    left = {name: whole_net[name].numel() - gone.get(id(tensor), 0) for name, tensor in tensors.items()}
    assert left == {name: tensor.numel() for name, tensor in small.state_dict().items()}


def test_entries_written_and_read_are_apart(few):
    channels = Channels(make(), few.example)
    masks = [(torch.arange(n) % 2).float() for n in channels.sizes]
    names = {id(p): name for name, p in channels.model.named_parameters()}
    written, read = Entries(channels, read=False), Entries(channels, written=False)
    assert {names[id(t)] for t in read.tensors} == {f"{r}.weight" for g in channels.groups for r in g.readers}
    for tensor, is_open in zip(written.tensors, written.open(masks), strict=True):
        rows = is_open.flatten(1) if tensor.dim() > 1 else is_open[:, None]
        assert bool((rows == rows[:, :1]).all()) and rows[:, 0].tolist() == [0.0, 1.0] * (len(tensor) // 2)


# ---- closed channels


class Training:
    """A network whose channels close and open between steps of SGD with momentum and decay."""

    def __init__(self, few, regrow="last"):
        self.channels = Channels(make(), few.example)
        self.model = self.channels.model.train()
        self.masked = Masked(self.channels, regrow)
        self.optimiser = sgd(self.model.parameters(), dk.TrainConfig(lr=0.05, weight_decay=0.1))
        self.generator = torch.Generator().manual_seed(0)
        self.half = [(torch.arange(n) % 2).float() for n in self.channels.sizes]
        self.open = [torch.ones(n) for n in self.channels.sizes]
        self.masked.set(self.open)

    def steps(self, number):
        for _ in range(number):
            x, y = torch.rand(8, 1, 8, 8, generator=self.generator), torch.arange(8)
            nn.functional.cross_entropy(self.model(x), y).backward()
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.masked.hold(self.optimiser)

    def values(self, masks, **which):
        """Copies of the tensors with channels, and which of their entries `masks` close."""
        entries = Entries(self.channels, **which)
        closed = [is_open == 0 for is_open in entries.open(masks)]
        return [t.detach().clone() for t in entries.tensors], closed


def test_what_is_closed_stays_as_it_was_last_used(few):
    run = Training(few)
    run.steps(3)
    before, closed = run.values(run.half, buffers=True)
    run.masked.set(run.half)
    run.steps(3)
    run.masked.set([1 - mask for mask in run.half])  # the others close as these come back
    after, _ = run.values(run.half, buffers=True)
    for old, new, shut in zip(before, after, closed, strict=True):
        assert shut.any() and torch.equal(old[shut], new[shut])
        assert shut.all() or not torch.isclose(old[~shut], new[~shut], rtol=1e-6, atol=0).any(-1).all()


def test_channels_come_back_without_momentum(few):
    run = Training(few)
    run.steps(3)
    run.masked.set(run.half)
    run.steps(2)
    run.masked.set(run.open)
    run.optimiser.param_groups[0]["weight_decay"] = 0.0
    before, closed = run.values(run.half)
    for p in run.model.parameters():
        p.grad = torch.zeros_like(p)
    run.optimiser.step()  # nothing but momentum moves
    after, _ = run.values(run.half)
    for old, new, shut in zip(before, after, closed, strict=True):
        assert torch.equal(old[shut], new[shut])
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("regrow", ["last", "zero"])
def test_with_which_weights_channels_come_back(few, regrow):
    run = Training(few, regrow)
    run.steps(1)
    run.masked.set(run.half)
    (written, made), (read, shut) = run.values(run.half, read=False), run.values(run.half, written=False)
    run.steps(2)
    run.masked.set(run.open)
    written_now, read_now = run.values(run.half, read=False)[0], run.values(run.half, written=False)[0]
    # a filter has weights of its own that read other channels
    reading = {id(t): s for t, s in zip(Entries(run.channels, written=False).tensors, shut, strict=True)}
    for tensor, old, new, rows in zip(
        Entries(run.channels, read=False).tensors, written, written_now, made, strict=True
    ):
        own = rows & ~reading.get(id(tensor), torch.zeros_like(rows))
        assert torch.equal(old[own], new[own])
    for old, new, columns in zip(read, read_now, shut, strict=True):
        assert bool(old[columns].any())
        assert torch.equal(new[columns], old[columns] if regrow == "last" else torch.zeros_like(old[columns]))
    run.steps(1)  # no saddle: what is read with 0 gets a gradient
    moved = run.values(run.half, written=False)[0]
    assert all(bool((new[c] != now[c]).any()) for new, now, c in zip(moved, read_now, shut, strict=True))


def test_batch_norms_see_what_the_compact_network_sees(few):
    run = Training(few)
    run.masked.set(run.half)
    run.steps(2)
    small, x = run.channels.remove(run.half).double(), torch.rand(8, 1, 8, 8, dtype=torch.float64)
    net = copy.deepcopy(run.model).double()
    for mode in (True, False):
        torch.testing.assert_close(net.train(mode)(x), small.train(mode)(x), rtol=0, atol=1e-12)


def test_unknown_regrow(few):
    with pytest.raises(ValueError, match="unknown regrow 'kaiming': choose one of 'last', 'zero'"):
        grow_prune(make(), few, 0.3, BRIEF, regrow="kaiming")


# ---- which channels are open when


@pytest.fixture
def phases(monkeypatch):
    """Of each phase: after how many steps it began, the masks, and those of the best channels."""
    found, best, steps = [], [], []
    set_masks, hold, choose = Masked.set, Masked.hold, masked.best_channels
    monkeypatch.setattr(masked, "best_channels", lambda *args: best.append(choose(*args)) or best[-1])
    monkeypatch.setattr(Masked, "hold", lambda self, o: steps.append(1) or hold(self, o))
    monkeypatch.setattr(
        Masked, "set", lambda self, m: found.append((len(steps), m, best[-1])) or set_masks(self, m)
    )
    return found


@pytest.mark.parametrize(
    ("network", "rounds"), slow_but_the_first([("small", 2), ("small", 3), ("resnet20", 2)])
)
def test_each_partition_is_opened_as_often_as_rounds_says(few, phases, network, rounds):
    config = dk.TrainConfig(epochs=10, batch_size=8)  # 40 steps, 28 of them with growth
    grow_prune(make(network), few, 0.3, config, rounds=rounds)
    *growing, (last, final, best) = phases
    assert len(growing) == 4 * rounds and last == 28
    assert [begin for begin, _, _ in growing] == [math.ceil(i * 28 / (4 * rounds)) for i in range(4 * rounds)]
    assert all(torch.equal(one, other) for one, other in zip(final, best, strict=True))
    opened = []
    for _, masks, best in growing:
        whole_groups = [g for g, mask in enumerate(masks) if bool(mask.all())]
        assert all(
            torch.equal(m, b)
            for g, (m, b) in enumerate(zip(masks, best, strict=True))
            if g not in whole_groups
        )
        assert whole_groups == list(range(whole_groups[0], whole_groups[-1] + 1))
        opened.append(tuple(whole_groups))
    assert opened == opened[:4] * rounds
    assert [g for part in opened[:4] for g in part] == list(range(len(final)))


def test_chex_regrows_ever_fewer_channels(few, phases):
    config = dk.TrainConfig(epochs=10, batch_size=8)
    chex(make(), few, 0.2, config, share=0.3, phases=7)
    assert [begin for begin, _, _ in phases] == list(range(0, 29, 4))
    for i, (_, masks, best) in enumerate(phases):
        share = 0.3 * (1 + math.cos(math.pi * i / 7)) / 2
        assert share == pytest.approx(regrown_share(0.3, i / 7))
        for mask, kept in zip(masks, best, strict=True):
            assert bool((mask >= kept).all())
            assert int((mask - kept).sum()) == min(round(share * len(mask)), len(mask) - int(kept.sum()))
    assert share == 0 and i == 7


def test_what_chex_regrows_is_random_among_the_closed():
    mask = (torch.arange(40) < 10).float()
    times = sum(regrown(mask, 0.3, torch.Generator().manual_seed(seed)) for seed in range(300)) / 300
    assert bool((times[:10] == 1).all()) and times[10:].sum() == pytest.approx(12, abs=1e-4)
    assert times[10:].min() > 0.25 and times[10:].max() < 0.55  # 12 of 30, and five standard errors
    assert bool(regrown(mask, 0.9, torch.Generator()).all())


# ---- channels that go slowly


@pytest.mark.parametrize("epochs", slow_but_the_first([5, 20]))
def test_the_growing_factor_pushes_the_chosen_towards_0(few, before_cut, epochs):
    for strength in (100.0, 0.0):
        config = dk.TrainConfig(epochs=epochs, batch_size=8, lr=0.02)
        growing_reg(make(), few, 0.3, config, strength=strength)
    for (channels, masks), alike in zip(before_cut, (False, True), strict=True):
        for norms, mask in zip(l1_norms(channels), masks, strict=True):
            assert (norms[mask == 0].max() > 0.3) == alike and norms[mask > 0].min() > 0.3


class Sigmoids(nn.Sequential):
    """Channels that are 1/2 where nothing writes them, without batch norm."""

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 9, 3), nn.Sigmoid()),
            *(nn.Flatten(), nn.Linear(144, 12), nn.Sigmoid(), nn.Linear(12, 10)),
        )


@pytest.mark.parametrize("model", [make(), Sigmoids()], ids=["small", "sigmoids"])
@pytest.mark.parametrize("epochs", [1, 6])
def test_faded_channels_are_0_at_the_cut(few, before_cut, model, epochs):
    config = dk.TrainConfig(epochs=epochs, batch_size=8, lr=0.02)
    small = fade_out(model, few, 0.4, config)
    channels, masks = before_cut[0]
    entries = Entries(channels)
    for tensor, is_open in zip(entries.tensors, entries.open(masks), strict=True):
        assert not tensor[is_open == 0].any() and (tensor[is_open == 1] != 0).float().mean() > 0.9
    torch.testing.assert_close(outputs_of(small), outputs_of(channels.model), rtol=0, atol=1e-12)


def test_weights_fade_along_a_line(few):
    channels = Channels(make(), few.example)
    fading = Fading(channels, 0.3, steps=100, periods=4)  # of 10 steps, after 30
    entries = Entries(channels)
    first, after = [t.detach().clone() for t in entries.tensors], [torch.ones(n) for n in channels.sizes]
    for step in range(1, 101):
        fading.after_step(step, None)
        if step in (31, 41, 51, 61, 71):
            before, after = after, fading.masks
            assert (sum(map(torch.sum, after)) < sum(map(torch.sum, before))) == (step < 71)
            assert all(bool((new <= old).all()) for new, old in zip(after, before, strict=True))
        if step <= 30:
            assert all(map(torch.equal, entries.tensors, first))
            continue
        left = (-step % 10) / 10  # of what fades
        shares = zip(entries.open(before), entries.open(after), strict=True)
        for tensor, value, (alive, stays) in zip(entries.tensors, first, shares, strict=True):
            torch.testing.assert_close(tensor.detach(), value * (stays + (alive - stays) * left))
            assert step % 10 or not tensor[stays == 0].any()
    assert 0.28 < channels.cost([int(m.sum()) for m in fading.masks]).macs / channels.dense_cost.macs <= 0.3


@pytest.mark.parametrize(
    ("method", "wrong", "says"),
    [
        (grow_prune, {"rounds": 0}, "rounds must be a whole number of at least 1"),
        (chex, {"share": 1.5}, "share must be a number in"),
        (chex, {"phases": 0}, "phases must be a whole number of at least 1"),
        (growing_reg, {"strength": -1}, "strength must be a number in"),
        (fade_out, {"periods": 0}, "periods must be a whole number of at least 1"),
    ],
)
def test_bad_numbers(few, method, wrong, says):
    with pytest.raises(ValueError, match=says):
        method(make(), few, 0.3, BRIEF, **wrong)
