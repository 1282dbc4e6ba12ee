"""Random small CNNs, with branches of all kinds: what is gated is removed exactly, the rest is left alone."""

from collections import Counter
from collections.abc import Callable
from math import prod

import pytest
import torch
import torch.nn.functional as F
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
POOLS = [
    lambda: nn.MaxPool2d(3, 1, 1),
    lambda: nn.AvgPool2d(3, 1, 1),
    lambda: nn.Dropout(0.5),
    lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.LPPool2d(2, 2)),
    lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.MaxPool2d(2)),
]
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


class Product(Sum):
    """Gates the first branch by the others."""

    def forward(self, x: Tensor) -> Tensor:
        return gated([branch(x) for branch in self.branches])


class Parts(Sum):
    """Gives every branch its part of the channels: equal ones, or such of fixed sizes."""

    def __init__(self, sizes: list[int], join: Callable, *branches: nn.Module) -> None:
        super().__init__(*branches)
        self.sizes, self.join = sizes, join

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.sizes, 1) if self.sizes else x.chunk(len(self.branches), 1)
        return self.join([branch(part) for branch, part in zip(self.branches, parts, strict=False)])


class Apply(nn.Module):
    """A function without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Tokens(Sum):
    """Gives its branches the positions as rows and the channels as columns, as in a transformer."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.flatten(2).transpose(1, 2))
        return y.transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


def gated(parts: list[Tensor]) -> Tensor:
    return parts[0] * prod(part.sigmoid() for part in parts[1:])


def beside(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, 1)


def shuffled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def moves(width: int) -> list[Callable[[Tensor], Tensor]]:
    """Functions that move channels or positions, and leave the shape as it is; some hold the width."""
    some = [
        lambda x: x.flip(1),
        lambda x: x.roll(1, 1),
        lambda x: x.flatten(2).unflatten(2, x.shape[2:]),
        lambda x: x.reshape(len(x), width, -1).reshape(len(x), width, *x.shape[2:]),
        lambda x: x[:, torch.arange(width).flip(0)],
        lambda x: torch.cat([x[:, width // 2 :], x[:, : width // 2]], 1),
        lambda x: torch.cat([x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2]], 1),
        lambda x: torch.stack(list(x.unbind(1)), 1),
        lambda x: x.softmax(2) * x.amax((2, 3), keepdim=True),
        lambda x: x - x.mean(1, keepdim=True),
    ]
    return some if width % 2 else [*some, shuffled, nn.ChannelShuffle(2)]


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
def multiplied(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    out = draw(WIDTHS)
    return Product(*(draw(body(width, out, stride)) for _ in range(draw(st.integers(2, 3))))), out


@st.composite
def divided(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    """Parts of the channels on ways of their own, that are joined, added or multiplied."""
    sizes = draw(st.lists(WIDTHS, min_size=2, max_size=3))
    join, out = draw(st.sampled_from([beside, sum, gated])), draw(WIDTHS)
    equal = draw(st.booleans())
    sizes = [sizes[0]] * len(sizes) if equal else sizes
    branches = [
        nn.Identity() if join is beside and draw(st.booleans()) else draw(body(size, out)) for size in sizes
    ]
    outs = [
        size if isinstance(branch, nn.Identity) else out for size, branch in zip(sizes, branches, strict=True)
    ]
    parts = Parts([] if equal else sizes, join, *branches)
    return nn.Sequential(draw(body(width, sum(sizes), stride)), parts), sum(outs) if join is beside else out


@st.composite
def halved(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    """One half of the channels gates or meets the other, without layers in between."""
    out, join = draw(WIDTHS), draw(st.sampled_from([sum, gated]))
    sizes = draw(st.sampled_from([[], [out, out]]))
    parts = Parts(sizes, join, nn.Identity(), nn.Identity())
    return nn.Sequential(draw(body(width, 2 * out, stride)), parts), out


@st.composite
def moved(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    out = draw(WIDTHS)
    move = Apply(draw(st.sampled_from(moves(out))))
    block = nn.Sequential(draw(body(width, out, stride)), move)
    return (Sum(block, draw(body(width, out, stride))) if draw(st.booleans()) else block), out


@st.composite
def enlarged(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    """Larger images in between, by a transposed convolution or a pixel shuffle."""
    out, groups = draw(WIDTHS), draw(st.sampled_from([1, 2]))
    if draw(st.booleans()):
        groups = groups if width % groups == out % groups == 0 else 1
        larger = nn.ConvTranspose2d(width, out, 2, 2, groups=groups, bias=draw(st.booleans()))
    else:
        larger = nn.Sequential(nn.Conv2d(width, 4 * out, 1), nn.PixelShuffle(2))
    if draw(st.booleans()):
        return nn.Sequential(larger, draw(layer(out, out)), nn.AvgPool2d(2), nn.AvgPool2d(1, stride)), out
    return nn.Sequential(larger, nn.PixelUnshuffle(2), nn.MaxPool2d(1, stride)), 4 * out


@st.composite
def tokens(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    """As in a transformer without attention."""
    hidden, norm = draw(WIDTHS), draw(st.sampled_from([nn.LayerNorm, lambda _: nn.Identity()]))
    mlp = nn.Sequential(norm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
    return nn.Sequential(Tokens(nn.Identity(), mlp), nn.MaxPool2d(1, stride)), width


@st.composite
def padded(draw, width: int, stride: int) -> tuple[nn.Module, int]:
    """A shortcut without weights, whose missing channels are zero."""
    more = draw(st.integers(1, 3))
    pad = Apply(lambda x: F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, more)))
    return Sum(draw(body(width, width + more, stride)), pad), width + more


KINDS = [residual, joined, scaled, plain, multiplied, divided, halved, moved, enlarged, tokens, padded]


@st.composite
def networks(draw) -> nn.Module:
    width, blocks = 2, []
    for _ in range(draw(st.integers(1, 4))):
        kind, stride = (
            draw(st.sampled_from(KINDS)),
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
    check_use(net, check_removal(net, x, tolerance=1e-9), x)
    open_ = sum(net.open_channels())
    channels = sum(g.channels for g in net.groups.gated)
    return Counter(networks=1, groups=len(net.groups.gated), refused=len(refused), removed=channels - open_)


def check_use(net: dk.GatedModel, small: nn.Module, x: Tensor) -> None:
    """The compact network does what the gated one does with other batches, again, and can be trained."""
    with torch.no_grad():
        for images in (x[:1], torch.cat([x, -x, x[:1]])):
            expected = net(images)
            for _ in range(2):
                assert float((small(images) - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
    small.train()(torch.cat([x, -x])).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in small.parameters())


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
