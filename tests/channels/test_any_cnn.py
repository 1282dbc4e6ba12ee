"""Groups, cost and removal on networks of all kinds: outputs equal, cost to the unit."""

import copy
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from marks import slow_but_the_first
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import depl0kit as dk
from depl0kit.channels.groups import Group, Groups, find_groups
from depl0kit.channels.proof import random_inputs, refuse_inexact
from depl0kit.channels.tracing import in_slow_attention, probe_copy, trace

CLOSED, OPEN = -4.4, 0.5  # theta of a gate that is shut at test time, and around which others lie

FAST = ["small", "lenet", "resnet20"]
SLOW = [  # a network of each family; tests/proofs/test_zoo.py has all
    *("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"),
    *("vgg16", "resnet56", "resnet18", "resnext50_32x4d", "mobilenet_v2", "mnasnet0_5", "efficientnet_b0"),
    *("regnet_y_400mf", "densenet121", "googlenet", "inception_v3", "convnext_tiny"),
]
SIZES = {"small": 8, "lenet": 28, "vgg16": 32, "resnet20": 32, "resnet56": 32}
ZOO = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def example_of(name):
    torch.manual_seed(0)
    return torch.randn(2, 1 if name in ("small", "lenet") else 3, *[SIZES.get(name, 80)] * 2)


def network(name):
    """With random scales and statistics, so that no error hides behind a batch norm that does nothing."""
    x = example_of(name)
    torch.manual_seed(0)
    return probe_copy(dk.make_model(name, x.shape[1], 10, x.shape[2:])), x


def set_gates(net, closed, seed):
    generator = torch.Generator().manual_seed(seed)
    theta = OPEN + torch.randn(net.posterior.theta.shape, generator=generator)
    shut = torch.rand(theta.shape, generator=generator) < closed
    with torch.no_grad():
        net.posterior.theta.copy_(torch.where(shut, CLOSED, theta))


def measured(model, x):
    # PyTorch's fast path for attention is one operation, which its counter does not know
    with FlopCounterMode(display=False) as flops, torch.no_grad(), in_slow_attention():
        model(x)
    return flops.get_total_flops() // (2 * len(x)), sum(p.numel() for p in model.parameters())


def check_removal(net, x, tolerance=1e-5):
    """Outputs equal, cost to the unit, widths as in the table; returns the compact network."""
    small = dk.compact(net.eval())
    with torch.no_grad():
        expected, got = net(x), small(x)
    assert float((got - expected).abs().max()) <= tolerance * float(expected.abs().max())
    assert net.exact_cost() == measured(small, x[:1])
    for group, n in zip(net.groups.gated, net.open_channels(), strict=True):
        for reader in group.readers:
            row = small.get_submodule(reader)
            if not isinstance(row, nn.Conv2d | nn.Linear):
                continue  # in a closed branch
            width = getattr(row, "in_channels", None) or row.in_features
            dense = net.model.get_submodule(reader).weight.shape[1]
            outside = dense - group.members[reader, "in"].size
            assert width >= n * group.spread((reader, "in"))
            assert outside or width == n * group.spread((reader, "in"))
    return small


@pytest.mark.parametrize("scope", ["inner", "all"])
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name, scope):
    check_network(*network(name), scope)


def check_network(model, x, scope):
    """With few, half and most of the gates closed, two times each; returns the gated network."""
    net = dk.GatedModel(model, example=x, scope=scope)
    with torch.no_grad():
        dense = model(x)
    for closed, seed in itertools.product((0.1, 0.5, 0.9), (0, 1)):
        set_gates(net, closed, seed)
        small = check_removal(net, x)
        assert net.exact_cost().macs < net.dense_cost.macs
        assert not torch.allclose(small(x), dense, rtol=1e-3)  # the gates do something
    assert not [m for m in small.modules() if type(m).__module__.startswith("depl0kit.gat")]
    assert not [m for m in small.modules() if m._forward_hooks or m._forward_pre_hooks]
    copied = copy.deepcopy(small)
    copied.load_state_dict(small.state_dict())
    return net


@pytest.mark.slow
def test_what_is_gated_in_the_families():
    def gated(name, scope):
        model, x = network(name)
        groups = dk.GatedModel(model, example=x, scope=scope).groups
        return {g.name for g in groups.gated}, groups

    inner, groups = gated("resnet20", "inner")
    assert inner == {f"blocks.{i}.conv1" for i in range(9)}
    streams = [g for g in groups if g.stream]
    assert [g.channels for g in streams] == [16, 32, 64]
    assert streams[0].writers == ("conv", *(f"blocks.{i}.conv2" for i in range(3)))
    assert streams[0].readers == (*(f"blocks.{i}.conv1" for i in range(4)), "blocks.3.shortcut.0")
    everything, _ = gated("resnet20", "all")
    assert everything == inner | {g.name for g in streams}
    shuffled, groups = gated("shufflenet_v2_x0_5", "all")
    refused = [g.refusal for g in groups if not g.gated]
    assert shuffled and len(refused) > 1 and all(refused)


# --- structures, one by one ------------------------------------------------------------------------


def conv(i, o, k=3, **kwargs):
    return nn.Conv2d(i, o, k, padding=k // 2, **kwargs)


class Net(nn.Module):
    """A stem, something between, and a head; `between` gets the modules and the stem's output."""

    def __init__(self, between, head=8, **modules):
        super().__init__()
        self.stem, self.norm = conv(2, 8), nn.BatchNorm2d(8)
        for name, module in modules.items():
            setattr(self, name, module)
        self.between, self.last, self.head = between, conv(head, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.between(self, self.norm(self.stem(x)).relu())
        return self.head(self.last(x).relu().mean((2, 3)))


def pad_channels(x):
    return F.pad(x, (0, 0, 0, 0, 0, 4))


def norm_of_all(x):
    return x / (1 + x.abs().mean(1, keepdim=True))


def complains_of_fewer_channels(m, x):
    if x.shape[1] != 8:
        raise AssertionError  # without a word
    return x


EXACT = {
    "identity": lambda: Net(lambda m, x: (x + m.a(x)).relu(), a=conv(8, 8)),
    "concatenation": lambda: Net(lambda m, x: torch.cat([x, m.a(x), x], 1), 20, a=conv(8, 4)),
    "depthwise": lambda: Net(lambda m, x: m.a(x), a=conv(8, 8, groups=8)),
    "grouped": lambda: Net(lambda m, x: m.b(m.a(x)), a=conv(8, 8, groups=2), b=nn.BatchNorm2d(8)),
    "multiplier": lambda: Net(lambda m, x: m.a(x), 16, a=conv(8, 16, groups=8)),
    "group norm": lambda: Net(lambda m, x: m.a(x), a=nn.GroupNorm(4, 8)),
    "instance norm": lambda: Net(lambda m, x: m.a(x), a=nn.InstanceNorm2d(8, affine=True)),
    "prelu": lambda: Net(lambda m, x: m.a(x), a=nn.PReLU(8)),
    "one slope": lambda: Net(lambda m, x: m.a(x), a=nn.PReLU()),
    "one slope at two places": lambda: Net(
        lambda m, x: m.a(m.b(m.a(x))), 5, a=nn.PReLU(), b=conv(8, 5), c=nn.PReLU()
    ),
    "shared norm without parameters": lambda: Net(
        lambda m, x: m.a(m.b(m.a(x))), a=nn.InstanceNorm2d(8), b=conv(8, 8)
    ),
    "shared statistics of the batch": lambda: Net(
        lambda m, x: m.a(m.b(m.a(x))),
        a=nn.BatchNorm2d(8, affine=False, track_running_stats=False),
        b=conv(8, 8),
    ),
    "softplus": lambda: Net(lambda m, x: F.softplus(x)),
    "sigmoid": lambda: Net(lambda m, x: x.sigmoid()),
    "norm without scale": lambda: Net(lambda m, x: m.a(x), a=nn.BatchNorm2d(8, affine=False)),
    "norm after concatenation": lambda: Net(
        lambda m, x: m.b(torch.cat([x, m.a(x)], 1)), 12, a=conv(8, 4), b=nn.BatchNorm2d(12)
    ),
    "squeeze and excitation": lambda: Net(
        lambda m, x: x * m.b(m.a(x.mean((2, 3), keepdim=True)).relu()).sigmoid(),
        a=conv(8, 2, 1),
        b=conv(2, 8, 1),
    ),
    "linear squeeze and excitation": lambda: Net(
        lambda m, x: x * m.b(m.a(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None],
        a=nn.Linear(8, 2),
        b=nn.Linear(2, 8),
    ),
    "parameter": lambda: Net(lambda m, x: x * m.a, a=nn.Parameter(torch.rand(8, 1, 1))),
    "max and average pooling": lambda: Net(lambda m, x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)),
}
REFUSED = {  # and a word of the reason why the stem is not gated
    "layer norm": (
        lambda: Net(lambda m, x: m.a(x), a=nn.LayerNorm([8, 6, 6])),
        "norm is read by layer_norm in a, which mixes channels",
    ),
    "mean over channels": (lambda: Net(lambda m, x: norm_of_all(x)), "norm is read by mean"),
    "softmax": (lambda: Net(lambda m, x: x.softmax(1)), "norm is read by softmax"),
    "local response norm": (
        lambda: Net(lambda m, x: m.a(x), a=nn.LocalResponseNorm(3, 1.0)),
        "norm is read by avg_pool",
    ),
    "weight norm": (
        lambda: Net(lambda m, x: m.a(x), a=nn.utils.parametrizations.weight_norm(conv(8, 8))),
        "the weight of a is computed from other tensors",
    ),
    "pixel shuffle": (lambda: Net(lambda m, x: F.pixel_shuffle(x, 2), 2), ""),
    "shuffle": (
        lambda: Net(lambda m, x: x.view(-1, 2, 4, 6, 6).transpose(1, 2).reshape(-1, 8, 6, 6)),
        "removal breaks",
    ),
    "fixed sizes": (lambda: Net(lambda m, x: x.reshape(-1, 8, 36).sin().reshape(-1, 8, 6, 6)), ""),
    "silent failure": (
        lambda: Net(complains_of_fewer_channels),
        "removal breaks the network (AssertionError)",
    ),
    "own convolution": (
        lambda: Net(lambda m, x: F.conv2d(x, m.a), a=nn.Parameter(torch.rand(8, 8, 1, 1))),
        "norm is read by convolution, which mixes channels",
    ),
}


def gated(build, scope="all"):
    torch.manual_seed(0)
    model = probe_copy(build())
    x = torch.randn(3, 2, 6, 6)
    return dk.GatedModel(model, example=x, scope=scope), x


@pytest.mark.parametrize("name", EXACT)
def test_structures_that_are_removed_exactly(name):
    net, x = gated(EXACT[name])
    stem = next(g for g in net.groups if "stem" in g.writers)
    assert stem.gated, net.groups
    for closed, seed in itertools.product((0.3, 0.8), range(3)):
        set_gates(net, closed, seed)
        check_removal(net, x)


def test_a_shortcut_padded_with_zeros_ties_the_channels_that_it_has():
    net, x = gated(lambda: Net(lambda m, x: pad_channels(x) + m.a(x), 12, a=conv(8, 12)))
    stem, padded = net.groups[0], net.groups[1]
    assert stem.gated and stem.stream and stem.channels == 8
    assert padded.channels == 4 and "it meets padding" in padded.refusal
    set_gates(net, 0.5, 0)
    check_removal(net, x)


@pytest.mark.parametrize("name", REFUSED)
def test_structures_that_cannot_be_removed_stay_and_the_rest_works(name):
    build, reason = REFUSED[name]
    net, x = gated(build)
    stem = next(g for g in net.groups if "stem" in g.writers)
    assert not stem.gated and reason in stem.refusal, net.groups
    assert "last" in [g.name for g in net.groups.gated]  # behind it all is well
    set_gates(net, 0.5, 0)
    check_removal(net, x)


def halves(x):
    """Code with a width of its own: of fewer channels the second half begins elsewhere, without an error."""
    return torch.cat([x[:, :4].sin(), x[:, 4:].cos()], 1)


PRECISIONS = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_trial_needs_no_example_and_no_biases(precision):
    """A wrong channel must show although all that the user passes is zero."""
    torch.manual_seed(0)
    net = dk.GatedModel(WithoutBiases(halves).to(precision), example=torch.zeros(1, 2, 6, 6, dtype=precision))
    assert [g.name for g in net.groups.gated] == ["second"]
    assert "not removed exactly" in net.groups[0].refusal
    x = torch.randn(3, 2, 6, 6, dtype=precision)
    set_gates(net.eval(), 0.5, 0)
    with torch.no_grad():
        out, small = net(x), dk.compact(net)(x)
    assert out.dtype == small.dtype == precision
    bound = 1e-5 if precision == torch.float32 else 0.03
    assert float((out - small).abs().max()) <= bound * float(out.abs().max())


MIXING = {  # what one channel becomes depends on the others, but of zeros it is zero
    "avg_pool": nn.LocalResponseNorm(3, 1.0),
    "softmax": nn.Softmax(1),
    "amax": lambda x: x - x.amax(1, keepdim=True),
    "sum": lambda x: x * x.sum(1, keepdim=True),
    "mean": lambda x: x * (x.square().mean(1, keepdim=True) + 1e-5).rsqrt(),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_channels_is_refused_in_any_precision(name, precision):
    if name == "avg_pool" and precision != torch.float32:
        pytest.skip("the CPU has it in float32 only")
    model = WithoutBiases(MIXING[name]).to(precision)
    net = dk.GatedModel(model, example=torch.zeros(1, 2, 6, 6, dtype=precision))
    assert [g.name for g in net.groups.gated] == ["second"]
    assert f"first is read by {name}" in net.groups[0].refusal


class WithoutBiases(nn.Module):
    """Without a single bias, so that zeros stay zeros."""

    def __init__(self, mix):
        super().__init__()
        self.first, self.second, self.third = (conv(i, o, bias=False) for i, o in ((2, 8), (8, 6), (6, 3)))
        self.mix = mix

    def forward(self, x):
        return self.third(self.second(self.mix(self.first(x))).relu()).mean((2, 3))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_gradients_in_half_precision(precision):
    """Gates are float32, as Adam needs them; the network keeps its own precision."""
    model, x = network("resnet20")
    net = dk.GatedModel(model.to(precision), "forward", example=x.to(precision), scope="all")
    net.train()(x.to(precision)).float().square().sum().backward()
    assert net.model.conv.weight.grad.dtype == precision
    moved = [p.grad for p in net.posterior.parameters() if p.grad is not None]
    assert moved and all(g.dtype == torch.float32 and bool(g.isfinite().all()) for g in moved)


def test_a_forward_that_asks_for_a_precision_is_tried_in_float64_all_the_same():
    def casting(m, x):
        x = m.a(x.float() + torch.ones(1)).half()
        return x.to(torch.bfloat16).type_as(m.a.weight)

    net, _ = gated(lambda: Net(casting, a=conv(8, 8)))
    assert [g.name for g in net.groups.gated] == ["stem", "a", "last"]
    mixing, _ = gated(lambda: Net(lambda m, x: casting(m, x.float().softmax(1).half().float()), a=conv(8, 8)))
    assert [g.name for g in mixing.groups.gated] == ["a", "last"]


def test_autocast_does_not_reach_the_trial():
    """What a forward does in half precision, or that it fails there, says nothing about its channels."""

    def not_in_bfloat16(m, x):
        x = m.a(x)
        if x.dtype == torch.bfloat16:
            raise RuntimeError
        return x

    build = {"a": lambda: Net(not_in_bfloat16, a=conv(8, 8)), "softmax": REFUSED["softmax"][0]}
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            build["a"]()(torch.zeros(1, 2, 6, 6))  # or the test shows nothing
        nets = {name: gated(network)[0] for name, network in build.items()}
    assert [g.name for g in nets["a"].groups.gated] == ["stem", "a", "last"]
    assert "norm is read by softmax" in nets["softmax"].groups[0].refusal


def test_networks_of_positive_images_are_tried_on_such():
    net, x = gated(lambda: Positive())
    assert [g.name for g in net.groups.gated] == ["stem", "last"]
    set_gates(net, 0.5, 0)
    check_removal(net, x.abs() + 0.1)


class Positive(Net):
    def __init__(self):
        super().__init__(lambda m, x: x)

    def forward(self, x):
        return super().forward(x.log())


def test_halves_of_a_layer_are_two_groups():
    net, x = gated(lambda: Net(lambda m, x: x[:, :4] * m.a(x[:, 4:]).sigmoid(), 4, a=conv(4, 4)))
    for group in net.groups:
        assert group.gated or group.refusal
    set_gates(net, 0.5, 0)
    check_removal(net, x)


# ---- groups as a table


def test_a_terminal_shows_groups_in_100_columns():
    """Of ResNet-20 with both names of writers and readers it would take 138."""
    net = dk.GatedModel(dk.make_model("resnet20"), example=example_of("resnet20"), scope="all")
    head, first, *_, last, note = str(net.groups).splitlines()
    assert max(map(len, str(net.groups).splitlines())) <= 100
    assert head.split() == ["group", "channels", "writers", "read", "by", "MACs", "gate"]
    assert first.split() == ["conv", "16", "4", "blocks.0.conv1", "+4", "39.0%", "stream"]
    assert last.endswith("none (1)") and note == "(1) it is the network's output"


def test_a_notebook_shows_groups_as_a_table_with_escaped_names():
    many = Group("stem", 8, ("stem", "a", "b"), ("<b>x</b>", "y", "z"), macs_share=0.25, may_close=True)
    table = Groups([many, Group("last", 10, ("last",), refusal="it's out")])._repr_html_()
    rows = [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in table.split("</tr>")]
    assert rows[0] == ["group", "channels", "written by", "read by", "MACs", "gate"]
    assert rows[1] == [
        *("stem", "8", "stem, a +1", "&lt;b&gt;x&lt;/b&gt;, y +1"),
        *("25.0%", "yes, may close"),
    ]
    assert rows[2] == ["last", "10", "last", "-", "0.0%", "none (1)"]
    assert table.endswith("</table><div>(1) it&#x27;s out</div>")
    assert "style" not in table and "color" not in table  # as the notebook's theme has it


def test_what_several_groups_ask_to_change_stands_once_below_the_table():
    same = [Group(name, 8, refusal=f"{name} is read by softmax: put a layer between") for name in "ab"]
    *_, last, both = str(Groups([*same, Group("c", 8, refusal="a stream: scope='all'")])).splitlines()
    assert last == "(3) a stream: scope='all'" and both == "For (1), (2): put a layer between"


def test_channels_of_a_grouped_convolution_go_together():
    net, _ = gated(EXACT["grouped"])
    group = net.groups.gated[0]
    assert group.channels == 2 and group.spread(("a", "in")) == 4
    assert group.readers == ("last",)  # the grouped convolution itself needs no gate


def traced(name):
    """What the trial gets: a probe, its groups, layers and cost, and an input."""
    torch.manual_seed(0)
    probe = probe_copy(EXACT[name]()).double()
    inputs = random_inputs(probe, [torch.zeros(1, 2, 6, 6)])
    layers, macs = trace(probe, inputs)
    total = dk.Cost(macs, sum(p.numel() for p in probe.parameters()))
    return probe, find_groups(probe, inputs, layers, "all"), layers, total, inputs


def test_a_wrong_map_is_found_out():
    """The tracer's maps are not trusted: with one of them shuffled, its group loses its gates."""
    probe, groups, *rest = traced("depthwise")
    right = refuse_inexact(probe, groups, *rest)
    assert [g.gated for g in right] == [g.gated for g in groups]
    slot = (groups[0].readers[0], "in")
    groups[0].members[slot] = np.roll(groups[0].members[slot], 1, axis=0)
    wrong = refuse_inexact(probe, groups, *rest)
    assert "its channels are not removed exactly" in wrong[0].refusal
    assert [g.gated for g in wrong[1:]] == [g.gated for g in groups[1:]]


def test_wrong_costs_are_found_out():
    probe, groups, layers, total, inputs = traced("identity")
    layers[0] = replace(layers[0], pair_macs=2 * layers[0].pair_macs)
    reasons = {g.refusal for g in refuse_inexact(probe, groups, layers, total, inputs)}
    assert any("cost cannot be told" in reason for reason in reasons)


def test_the_trial_leaves_the_probe_as_it_was():
    probe, groups, *rest = traced("squeeze and excitation")
    modules, tensors = list(probe.modules()), probe.state_dict(keep_vars=True)
    values = {key: t.detach().clone() for key, t in tensors.items()}
    widths = [repr(m) for m in modules]
    refuse_inexact(probe, groups, *rest)
    assert list(probe.modules()) == modules and [repr(m) for m in modules] == widths
    after = probe.state_dict(keep_vars=True)
    assert all(after[key] is t and torch.equal(t, values[key]) for key, t in tensors.items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in modules)


# --- closed branches -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", slow_but_the_first(["resnet20", "mobilenet_v2", "resnet18"]))
@pytest.mark.parametrize("scope", slow_but_the_first(["all", "inner"]))
def test_closed_branches_cost_nothing(name, scope):
    model, x = network(name)
    net = dk.GatedModel(model, example=x, scope=scope)
    closable = [g.may_close for g in net.groups.gated]
    assert any(closable)
    set_gates(net, 0.3, 0)
    with torch.no_grad():
        for part, closes in zip(net.posterior.split(net.posterior.theta), closable, strict=True):
            if closes:
                part.fill_(CLOSED)
    assert [n == 0 for n in net.open_channels()] == closable
    small = check_removal(net, x)
    inside = {g.name for g in net.groups.gated if g.may_close}
    assert not [n for n, m in small.named_modules() if n in inside and isinstance(m, nn.Conv2d)]
    small.train()(x).sum().backward()  # it can be fine-tuned
    other = torch.randn(1, 3, 2 * x.shape[2], x.shape[3])  # and reads images of other sizes
    with torch.no_grad():
        torch.testing.assert_close(dk.compact(net)(other), net(other), rtol=1e-4, atol=1e-4)


def test_other_groups_keep_a_channel():
    net, _ = gated(EXACT["squeeze and excitation"])
    set_gates(net, 1.0, 0)
    assert net.open_channels() == [1] * len(net.groups.gated)


# --- cost ------------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """A stream that one layer reads and writes, and a grouped convolution behind another group."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(1, 3), conv(3, 3), conv(3, 4)
        self.d, self.head = conv(4, 4, groups=2), nn.Linear(4, 2)

    def forward(self, x):
        x = self.a(x)
        x = self.c((x + self.b(x)).relu())
        return self.head(self.d(x).relu().mean((2, 3)))


def test_expected_cost_is_the_mean_over_all_masks():
    torch.manual_seed(0)
    net = dk.GatedModel(Mixed(), example=torch.zeros(1, 1, 5, 5), scope="all")
    assert {g.stream for g in net.groups.gated} == {True, False}
    with torch.no_grad():
        net.posterior.theta.normal_()
    p = net.posterior.flat_prob_open().detach().double()
    mean = torch.zeros(2, dtype=torch.float64)
    for mask in itertools.product((0, 1), repeat=len(p)):
        z = torch.tensor(mask)
        n = [int(part.sum()) for part in z.split(net.posterior.sizes)]
        mean += torch.where(z == 1, p, 1 - p).prod() * torch.tensor(net.channels.cost(n))
    torch.testing.assert_close(torch.stack(net.expected_cost()).detach(), mean, rtol=1e-6, atol=0)


def test_share_of_macs_is_what_goes_with_the_group():
    net, _ = gated(lambda: Net(lambda m, x: m.a(x), 4, a=conv(8, 4)))
    full = [g.channels for g in net.groups.gated]
    for i, group in enumerate(net.groups.gated):
        without = net.channels.cost([0 if j == i else n for j, n in enumerate(full)])
        assert group.macs_share == pytest.approx(1 - without.macs / net.dense_cost.macs)


def test_rounding_keeps_more_channels_and_the_outputs():
    model, x = network("small")
    net = dk.GatedModel(model, example=x).eval()
    set_gates(net, 0.6, 0)
    small = dk.compact(net, round_to=8)
    widths = [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert all(w % 8 == 0 and w >= n for w, n in zip(widths, net.open_channels(), strict=True))
    assert min(w - n for w, n in zip(widths, net.open_channels(), strict=True)) < 8
    assert measured(small, x) == net.channels.cost(widths)
    with torch.no_grad():
        torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="round_to must be a whole number of at least 1, got 0"):
        dk.compact(net, round_to=0)


# --- a module like any other -----------------------------------------------------------------------


def resnet(posterior="mean_field", **kwargs):
    model, x = network("resnet20")
    return dk.GatedModel(model, posterior, example=x, **kwargs), x


def test_eval_is_deterministic_and_train_is_not():
    net, x = resnet(scope="all")
    with torch.no_grad():
        net.posterior.theta.zero_()
        assert torch.equal(net.eval()(x), net(x))
        assert not torch.equal(net.train()(x), net(x))


def test_a_frozen_model_is_gated_and_stays_frozen():
    model, x = network("resnet20")
    model.requires_grad_(False).eval()
    net = dk.GatedModel(model, example=x)
    assert len(net.groups.gated) == 9
    assert not any(p.requires_grad for p in net.model.parameters())
    assert not net.model.training and not any(p.requires_grad for p in dk.compact(net).parameters())


def test_modes_of_all_parts_are_kept():
    model, x = network("resnet20")
    model.train().bn.eval()  # somebody froze its statistics
    net = dk.GatedModel(model, example=x)
    assert net.model.training and not net.model.bn.training and net.model.blocks.training


def test_memory_format_and_precision_are_kept():
    model, x = network("resnet20")
    net = dk.GatedModel(model.to(torch.float64, memory_format=torch.channels_last), example=x.double()).eval()
    set_gates(net, 0.5, 0)
    small = dk.compact(net)
    convolutions = [m.weight for m in small.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in convolutions)
    with torch.no_grad():
        torch.testing.assert_close(small(x.double()), net(x.double()))


@pytest.mark.slow
def test_compile_follows_the_gates():
    net, x = resnet(scope="all")
    set_gates(net.eval(), 0.5, 0)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))
        set_gates(net, 0.5, 1)  # the graph reads the gates, it does not remember them
        torch.testing.assert_close(compiled(x), net(x))
    training = torch.compile(net.train(), backend="aot_eager", fullgraph=True)
    training(x).sum().backward()
    assert float(net.posterior.theta.grad.abs().sum()) > 0


def test_autocast():
    net, x = resnet(scope="all")
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x)
    assert out.dtype == torch.bfloat16 and bool(out.isfinite().all())
    out.float().sum().backward()
    assert net.posterior.theta.grad.dtype == torch.float32


def _train_in_two_processes(rank, folder, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", world_size=2, rank=rank)
    net, x = resnet("forward", scope="all")
    parallel = nn.parallel.DistributedDataParallel(net)
    optimiser = torch.optim.SGD(net.parameters(), 0.01)
    for _ in range(2):
        loss = parallel(x + rank).square().mean() + net.expected_cost().macs / net.dense_cost.macs
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    results[rank] = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_distributed_data_parallel_keeps_replicas_equal(tmp_path):
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_train_in_two_processes, (str(tmp_path), results), 2)
        first, second = results[0], results[1]
    net, _ = resnet("forward", scope="all")
    before = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first[-100:], before[-100:])  # and the generator has moved


@pytest.mark.slow
def test_compact_networks_compile_and_export(tmp_path):
    net, x = resnet(scope="all")
    set_gates(net.eval(), 0.5, 0)
    small = dk.compact(net)
    with torch.no_grad():
        expected = small(x)
        torch.testing.assert_close(torch.compile(small, backend="eager", fullgraph=True)(x), expected)
        exported = torch.export.export(small, (x,))
        torch.testing.assert_close(exported.module()(x), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compact_networks_run_as_onnx(tmp_path):
    import onnxruntime

    net, x = resnet(scope="all")
    set_gates(net.eval(), 0.5, 0)
    with torch.no_grad():  # a closed branch too
        first = next(i for i, g in enumerate(net.groups.gated) if g.may_close)
        net.posterior.split(net.posterior.theta)[first].fill_(CLOSED)
    small, path = dk.compact(net), tmp_path / "net.onnx"
    torch.onnx.export(small, (x,), path, dynamo=True, verbose=False)
    (got,) = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(
        got, small(x).detach().numpy(), rtol=1e-4, atol=1e-5 * float(np.abs(got).max())
    )
