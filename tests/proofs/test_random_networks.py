"""Random small CNNs, with branches of all kinds: what is gated is removed exactly, the rest is left alone."""

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_any_cnn import check_removal, set_gates
from torch import Tensor, nn

import depl0kit as dk
from depl0kit.channels.tracing import probe_copy

ACTIVATIONS = [
    nn.ReLU,
    nn.SiLU,
    nn.Hardswish,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.PReLU,
    nn.Identity,
]
NORMS = [
    nn.BatchNorm2d,
    lambda width: nn.BatchNorm2d(width, affine=False),
    lambda width: nn.InstanceNorm2d(width, affine=True),
    nn.InstanceNorm2d,
    lambda width: nn.GroupNorm(width, width),
    lambda width: nn.GroupNorm(1, width),
    lambda width: nn.Identity(),
]
POOLS = [lambda: nn.MaxPool2d(3, 1, 1), lambda: nn.AvgPool2d(3, 1, 1), lambda: nn.Dropout(0.5)]
WIDTHS = st.integers(1, 6)


class Sum(nn.Module):
    """Adds what its branches give."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return sum(branch(x) for branch in self.branches)


class Join(Sum):
    """Puts the channels of its branches side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Scale(Sum):
    """Squeeze and excitation: multiplies x by what its branch makes of the means."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x.mean((2, 3), keepdim=True)).sigmoid()


# ---- how they are drawn


@st.composite
def layer(draw, width: int, out: int, stride: int = 1) -> nn.Sequential:
    """A convolution with a norm and an activation, after it or before it."""
    groups = draw(st.sampled_from([g for g in (1, 1, 2, width) if width % g == out % g == 0]))
    size, bias = draw(st.sampled_from([1, 3])), draw(st.booleans())
    conv = nn.Conv2d(width, out, size, stride, size // 2, groups=groups, bias=bias)
    norm, activation = draw(st.sampled_from(NORMS)), draw(st.sampled_from(ACTIVATIONS))()
    if draw(st.booleans()):
        return nn.Sequential(conv, norm(out), activation)
    return nn.Sequential(norm(width), activation, conv)


@st.composite
def body(draw, width: int, out: int, stride: int = 1) -> nn.Sequential:
    """One layer or two."""
    if draw(st.booleans()):
        return draw(layer(width, out, stride))
    middle = draw(WIDTHS)
    return nn.Sequential(draw(layer(width, middle, stride)), draw(layer(middle, out)))


@st.composite
def residual(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    out = width if draw(st.booleans()) else draw(WIDTHS)
    plain = out == width and stride == 1
    shortcut = (
        nn.Identity() if plain else nn.Sequential(nn.Conv2d(width, out, 1, stride), nn.BatchNorm2d(out))
    )
    return Sum(draw(body(width, out, stride)), shortcut), out


@st.composite
def joined(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    outs = draw(st.lists(WIDTHS, min_size=1, max_size=3))
    branches = [draw(body(width, out, stride)) for out in outs]
    if stride == 1 and draw(st.booleans()):  # as in a DenseNet
        branches, outs = [nn.Identity(), *branches], [width, *outs]
    return Join(*branches), sum(outs)


@st.composite
def scaled(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    out, middle = draw(WIDTHS), draw(WIDTHS)
    squeeze = nn.Sequential(nn.Conv2d(out, middle, 1), nn.ReLU(), nn.Conv2d(middle, out, 1))
    return nn.Sequential(draw(body(width, out, stride)), Scale(squeeze)), out


@st.composite
def plain(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    out = draw(WIDTHS)
    return nn.Sequential(draw(body(width, out, stride)), draw(st.sampled_from(POOLS))()), out


@st.composite
def networks(draw) -> nn.Module:
    width, blocks = 2, []
    for _ in range(draw(st.integers(1, 4))):
        kind, stride = (
            draw(st.sampled_from([residual, joined, scaled, plain])),
            draw(st.sampled_from([1, 1, 2])),
        )
        block, width = draw(kind(width, stride))
        blocks.append(block)
    side = draw(st.sampled_from([1, 2]))
    head = [nn.AdaptiveAvgPool2d(side), nn.Flatten()]
    width *= side**2
    if draw(st.booleans()):
        head, width = [*head, nn.Linear(width, 5), draw(st.sampled_from(ACTIVATIONS))()], 5
    return nn.Sequential(*blocks, *head, nn.Linear(width, 3))


# ---- what holds for all of them


def check(model: nn.Module, scope: str, seed: int, closed: float) -> Counter:
    """Returns what was seen: networks, with gates or without, and groups, removed or refused."""
    torch.manual_seed(seed)
    model = probe_copy(model).double()  # rounding hides nothing, and is not taken for an error
    x = torch.randn(2, 2, 18, 18, dtype=torch.float64)  # after four halvings 2 x 2
    try:
        net = dk.GatedModel(model, example=x, scope=scope)
    except ValueError as error:
        assert "nothing to gate" in str(error)
        return Counter(networks=1, without=1)
    refused = [g for g in net.groups if not g.gated]
    assert all(g.refusal for g in refused)
    set_gates(net, closed, seed)
    check_removal(net, x, tolerance=1e-9)
    open_ = sum(net.open_channels())
    channels = sum(g.channels for g in net.groups.gated)
    return Counter(networks=1, groups=len(net.groups.gated), refused=len(refused), removed=channels - open_)


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(40, marks=pytest.mark.slow),
        pytest.param(500, marks=[pytest.mark.proofs, pytest.mark.timeout(3600)]),
    ],
)
def test_random_networks_are_compacted_exactly_or_left_alone(examples, proved):
    seen = Counter()

    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    @given(networks(), st.sampled_from(["inner", "all"]), st.integers(0, 1000), st.floats(0, 1))
    def holds(model: nn.Module, scope: str, seed: int, closed: float) -> None:
        seen.update(check(model, scope, seed, closed))

    holds()
    assert seen["networks"] >= examples and seen["removed"] > seen["networks"]
    proved(
        f"random networks: {seen['networks']}, {seen['without']} of them with nothing to gate; "
        f"{seen['removed']} channels of {seen['groups']} groups removed exactly, {seen['refused']} refused"
    )
