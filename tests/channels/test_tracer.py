"""Structures of all kinds: channels are removed exactly, at the predicted cost, or it is said why not."""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import structures as s
import torch
import torch.nn.functional as F
from structures import images
from test_any_cnn import Net, conv, network, set_gates
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, parametrizations
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import FrozenBatchNorm2d

import depl0kit as dk
from depl0kit.channels.masks import gates_set
from depl0kit.channels.tracing import in_slow_attention, probe_copy

TOLERANCE = 1e-10  # relative, in float64


def gated(build, x, scope="all"):
    """In float64 and with random scales, so that no error hides."""
    torch.manual_seed(0)
    return dk.GatedModel(probe_copy(build()).double(), example=x, scope=scope).eval()


def check_same(expected, got, tolerance=TOLERANCE):
    """Outputs of one structure and equal up to rounding."""
    assert type(expected) is type(got)
    pairs = list(zip(tree_leaves(expected), tree_leaves(got), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape and a.dtype == b.dtype
        assert float((a - b).detach().abs().max()) <= tolerance * float(a.detach().abs().max())


def measured(model, inputs):
    """What PyTorch counts; its fast path of attention is one operation, which it does not count."""
    with FlopCounterMode(display=False) as flops, torch.no_grad(), in_slow_attention():
        model(*inputs)
    return flops.get_total_flops() // (2 * len(inputs[0])), sum(p.numel() for p in model.parameters())


def check_exact(net, x):
    """With few, half, most and all gates closed: outputs, and cost to the unit."""
    inputs = x if isinstance(x, tuple) else (x,)
    for seed, closed in enumerate((0.2, 0.5, 0.8, 1.0)):
        set_gates(net, closed, seed)
        small = dk.compact(net)
        assert net.exact_cost() == measured(small, inputs)
        with torch.no_grad():
            check_same(net(*inputs), small(*inputs))
    return small


def names(groups):
    return [g.name for g in groups if g.gated]


def parameter(*shape):
    return nn.Parameter(torch.rand(shape))


def net_of(between, head=8, **modules):
    """Builds a `Net`; modules are given by functions, so that each network has its own."""
    return lambda: Net(between, head, **{name: build() for name, build in modules.items()})


SQUARE = images(2, 8, 8)
TOKENS = images(5, 4)
EXACT = {  # network, input, and the groups that have gates
    **{f"{d}-d": (lambda d=d: s.of_dimensions(d), images(2, *[8] * d), ["0", "7"]) for d in (1, 2, 3)},
    **{
        f"transposed {d}-d": (lambda d=d: s.decoder(d, 1), images(2, *[4] * d), ["0", "3", "6"])
        for d in (1, 2, 3)
    },
    **{
        f"transposed {d}-d in {g} groups": (
            lambda d=d, g=g: s.decoder(d, g),
            images(2, *[4] * d),
            ["0", "6"],
        )
        for d in (1, 2, 3)
        for g in (4, 8)
    },
    "size of the output": (s.OutputSize, images(2, 7, 8), ["down", "up"]),
    "linear layers on tokens": (s.Tokens, TOKENS, ["embed", "up"]),
    "U-Net": (s.UNet, SQUARE, ["in1", "in2", "low", "up2", "out2", "up1", "out1"]),
    **{
        f"pyramid, a {kind.__name__}": (
            lambda kind=kind: s.Pyramid(kind),
            images(2, 16, 16),
            ["c1", "c2", "c3", "lateral.0"],
        )
        for kind in (dict, list, tuple)
    },
    "two inputs": (s.TwoInputs, (images(3, 6, 6), images(5)), ["vector", "image", "hidden"]),
    "layer scale": (
        net_of(lambda m, x: x + m.g * m.a(x), a=lambda: conv(8, 8), g=lambda: parameter(8, 1, 1)),
        SQUARE,
        ["stem", "last"],
    ),
    "layer scale, channels last": (
        net_of(
            lambda m, x: x + (m.g * m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
            a=lambda: conv(8, 8),
            g=lambda: parameter(8),
        ),
        SQUARE,
        ["stem", "last"],
    ),
    "scale in a branch": (s.ScaledBranch, SQUARE, ["stem", "a", "c"]),
    "bias": (net_of(lambda m, x: x + m.g, g=lambda: parameter(1, 8, 1, 1)), SQUARE, ["stem", "last"]),
    "slope and bias in a view": (
        net_of(
            lambda m, x: x * m.a.view(1, -1, 1, 1) + m.b[:, None, None],
            a=lambda: parameter(8),
            b=lambda: parameter(8),
        ),
        SQUARE,
        ["stem", "last"],
    ),
    "table over space": (
        net_of(lambda m, x: x + m.g, g=lambda: parameter(1, 1, 8, 8)),
        SQUARE,
        ["stem", "last"],
    ),
    "frozen batch norm": (
        net_of(lambda m, x: m.a(x), a=lambda: FrozenBatchNorm2d(8)),
        SQUARE,
        ["stem", "last"],
    ),
    "one module at two places": (s.Twice, SQUARE, ["stem", "last"]),
    "selective kernel": (s.SelectiveKernel, SQUARE, ["stem", "a", "squeeze", "last"]),
    "one map for all channels": (
        net_of(lambda m, x: x * m.a(x).sigmoid(), a=lambda: conv(8, 1)),
        SQUARE,
        ["stem", "last"],
    ),
    "factors of channels and of places": (
        net_of(s.channel_and_space, a=lambda: conv(8, 8, 1), b=lambda: conv(8, 1)),
        SQUARE,
        ["stem", "last"],
    ),
    "halves of a chunk": (net_of(s.glu, 6, a=lambda: conv(8, 12)), SQUARE, ["stem", "a", "last"]),
    "GLU": (
        net_of(lambda m, x: F.glu(m.a(x), 1), 6, a=lambda: conv(8, 12)),
        SQUARE,
        ["stem", "a", "last"],
    ),
    "GLU over space": (net_of(lambda m, x: F.glu(x, 3)), SQUARE, ["stem", "last"]),
    "halves by x.shape": (
        net_of(lambda m, x: x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :], 4),
        SQUARE,
        ["stem", "last"],
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_structures_are_removed_exactly(name):
    build, x, expected = EXACT[name]
    net = gated(build, x)
    assert names(net.groups) == expected, net.groups
    check_exact(net, x)


REFUSED = {  # network, input, what is gated all the same, and of a group that is not the reason
    "layer norm": (
        net_of(s.layer_norm_last, a=lambda: nn.LayerNorm(8)),
        SQUARE,
        ["last"],
        ("stem", "norm is read by layer_norm in a, which mixes channels: put a convolution or linear"),
    ),
    "one group norm over all": (
        net_of(lambda m, x: m.a(x), a=lambda: nn.GroupNorm(1, 8)),
        SQUARE,
        ["last"],
        ("stem", "its 8 channels go together, and one must stay: a batch norm"),
    ),
    **{
        f"ConvNeXt, scale {scale}": (
            lambda scale=scale: s.ConvNeXtBlock(scale),
            SQUARE,
            ["up", "last"],
            ("stem", "depthwise is read by layer_norm in layer_norm, which mixes channels"),
        )
        for scale in ((8, 1, 1), (8,))
    },
    "attention": (
        s.Encoder,
        TOKENS,
        ["block.linear1"],
        ("embed", "embed is read by addmm in block.self_attn, which mixes channels"),
    ),
    "norm before attention": (
        lambda: s.Encoder(norm_first=True, activation="gelu"),
        TOKENS,
        ["block.linear1"],
        ("embed", "embed is read by layer_norm in block.norm1, which mixes channels"),
    ),
    "two layers of attention": (
        lambda: s.Encoder(2),
        TOKENS,
        ["block.layers.0.linear1", "block.layers.1.linear1"],
        ("embed", "embed is read by addmm in block.layers.0.self_attn"),
    ),
    "recurrent layer": (
        lambda: nn.Sequential(
            nn.Linear(4, 6), nn.GRU(6, 5, batch_first=True), First(), nn.Linear(5, 7), nn.Linear(7, 2)
        ),
        TOKENS,
        ["3"],
        ("0", "0 is read by addmm in 1, which mixes channels"),
    ),
    **{
        function: (
            net_of(
                lambda m, x: m.a(x),
                a=lambda function=function: getattr(parametrizations, function)(conv(8, 8)),
            ),
            SQUARE,
            ["last"],
            ("a", "the weight of a is computed from other tensors: use a plain layer"),
        )
        for function in ("weight_norm", "spectral_norm")
    },
    "standardised weights": (
        net_of(lambda m, x: m.a(x), a=lambda: s.Standardised(8, 8, 3, padding=1)),
        SQUARE,
        ["last"],
        ("stem", "the weight of a is computed from other tensors: use a plain layer"),
    ),
    "a convolution that returns more": (
        net_of(lambda m, x: m.a(x), 16, a=lambda: s.Dense(8, 8, 3, padding=1)),
        SQUARE,
        ["last"],
        ("stem", "a (Dense) returns other channels than its weight writes: use a plain layer"),
    ),
    "a convolution that returns a tuple": (
        net_of(lambda m, x: sum(m.a(x)), a=lambda: s.Both(8, 8, 3, padding=1)),
        SQUARE,
        ["last"],
        ("stem", "norm is read by a, which returns no tensor: use a plain layer"),
    ),
    "positional table": (
        net_of(lambda m, x: x + m.table, table=lambda: parameter(1, 8, 8, 8)),
        SQUARE,
        ["last"],
        ("stem", "norm meets table, of shape (1, 8, 8, 8), outside of layers by add: a parameter or buffer"),
    ),
    "padded shortcut": (
        s.OptionA,
        SQUARE,
        ["stem", "c1", "c3"],
        ("c4", "it meets padding by add: padded channels have no gate, let a convolution widen it"),
    ),
    "layers that share a parameter": (
        s.Tied,
        SQUARE,
        ["last"],
        ("c", "a.weight and b.weight are one tensor: give each layer its own"),
    ),
    "a weight outside of its layer": (
        s.Autoencoder,
        images(4),
        ["last"],
        ("stem", "(addmm: mat1 and mat2"),
    ),
    "slice by a number": (
        net_of(lambda m, x: m.a(x[:, :4]), a=lambda: conv(4, 8)),
        SQUARE,
        ["a", "last"],
        ("stem[0:4]", "its code may hold widths of its own (slice), let it read them from x.shape"),
    ),
    "halves by a number": (
        net_of(lambda m, x: x[:, :4] * x[:, 4:].sigmoid(), 4),
        SQUARE,
        ["last"],
        ("stem", "its code may hold widths of its own (slice), let it read them from x.shape"),
    ),
    "split by numbers": (
        net_of(s.fixed_split, 4),
        SQUARE,
        ["last"],
        ("stem", "its code may hold widths of its own (split_with_sizes), let it read them"),
    ),
    "one channel for all": (
        net_of(lambda m, x: x * m.a(x).sigmoid(), a=lambda: conv(8, 1)),
        SQUARE,
        ["stem", "last"],
        ("a", "a is spread over all channels by mul"),
    ),
}


class First(nn.Module):
    """Of a recurrent layer's outputs those of the last step."""

    def forward(self, outputs):
        return outputs[0][:, -1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_removed_says_why_and_the_rest_is_gated(name):
    build, x, expected, (refused, reason) = REFUSED[name]
    net = gated(build, x)
    assert names(net.groups) == expected, net.groups
    assert reason in next(g.refusal for g in net.groups if g.name == refused), net.groups
    check_exact(net, x)


def test_half_a_mask_would_not_have_shown_the_slice():
    """Of 8 channels 4 stay, the first ones: a slice by a number agrees by accident."""
    torch.manual_seed(0)
    model = probe_copy(net_of(lambda m, x: m.a(x[:, :4]), a=lambda: conv(4, 8))()).double()
    small = copy.deepcopy(model)
    small.stem.weight = nn.Parameter(model.stem.weight[:4])
    small.stem.bias = nn.Parameter(model.stem.bias[:4])
    small.norm = nn.BatchNorm2d(4).double().eval()
    small.norm.load_state_dict({k: v[:4] if v.dim() else v for k, v in model.norm.state_dict().items()})
    check_same(model(SQUARE), small(SQUARE))


def test_a_positional_table_along_channels_alone_is_named_with_what_to_change():
    net = gated(net_of(lambda m, x: x + m.t, t=lambda: parameter(1, 8, 8, 8)), SQUARE)
    assert "that varies along channels alone can be cut with them" in net.groups[0].refusal


def test_dictionaries_of_anything_are_outputs():
    class Anything(nn.Sequential):
        def forward(self, x):
            return {"out": super().forward(x), "sizes": [x.shape[0], None]}

    net = gated(lambda: Anything(conv(2, 6), nn.ReLU(), conv(6, 3)), SQUARE)
    set_gates(net, 0.5, 0)
    out, small = net(SQUARE), dk.compact(net)(SQUARE)
    assert out["sizes"] == small["sizes"] == [2, None]
    check_same(out["out"], small["out"])


@dataclass
class Answer:
    out: torch.Tensor
    features: torch.Tensor


class Mapped(OrderedDict):
    """As the outputs of Hugging Face's models: PyTorch sees no tensors in a dict of a class of its own."""


class Returning(nn.Module):
    """Its features, which its head reads, are an output."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.first, self.second, self.head = kind, conv(2, 6), conv(6, 5), conv(5, 3)

    def forward(self, x):
        features = self.second(self.first(x).relu())
        return self.kind(out=self.head(features), features=features)


@pytest.mark.parametrize("kind", [Answer, Mapped, dict, lambda **outputs: Answer([outputs], (None, 3))])
def test_channels_of_every_output_stay_whatever_holds_it(kind):
    net = gated(lambda: Returning(kind), SQUARE)
    assert names(net.groups) == ["first"]
    assert next(g.refusal for g in net.groups if g.name == "second") == "it is the network's output"


def test_outputs_in_which_nobody_finds_a_tensor_are_refused():
    with pytest.raises(ValueError, match="returns an object of type SimpleNamespace, in which its outputs"):
        gated(lambda: Returning(SimpleNamespace), SQUARE)


def test_a_branch_with_a_scale_of_its_own_keeps_a_channel():
    """No standard module stands in for a parameter; the other branch may close."""
    net = gated(s.ScaledBranch, SQUARE)
    assert [g.name for g in net.groups if g.may_close] == ["c"]
    set_gates(net, 1.0, 0)
    assert [n == 0 for n in net.open_channels()] == [False, False, True]


# --- after removal ---------------------------------------------------------------------------------

ANY_SIZE = ["2-d transposed", "U-Net", "pyramid, a dict", "selective kernel", "one module at two places"]
BUILD = {name: (build, x) for name, (build, x, *_) in (EXACT | REFUSED).items()}
BUILD["2-d transposed"] = BUILD["transposed 2-d in 4 groups"]


@pytest.mark.parametrize("name", ANY_SIZE)
def test_other_batches_other_images_and_a_second_call(name):
    build, x = BUILD[name]
    net = gated(build, x)
    set_gates(net, 0.5, 3)
    small = dk.compact(net)
    for other in (x[:1], images(*x.shape[1:2], 16, 24), torch.cat([x, -x, x]), x, x):
        with torch.no_grad():
            check_same(net(other), small(other))


@pytest.mark.parametrize("name", [*ANY_SIZE, "1-d", "3-d", "padded shortcut", "layer scale", "bias"])
def test_training_mode_computes_and_moves_the_same(name):
    """Statistics of the batch, too, are those of each channel alone."""
    build, x = BUILD[name]
    net = gated(build, x)
    set_gates(net, 0.5, 3)
    small, gates = dk.compact(net), net.posterior.deterministic()
    for part in (net.model, small):
        part.train()
    for _ in range(2):
        with gates_set(net._gates, gates):
            check_same(net.model(x), got := small(x))
    for part in (net.model, small):
        part.eval()
    with torch.no_grad():
        check_same(net(x), small(x))  # with the statistics that have moved
    sum(t.square().mean() for t in tree_leaves(got)).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in small.parameters())


@pytest.mark.parametrize("scope", ["inner", "all"])
@pytest.mark.parametrize("layers", [0, 2])
def test_attention_blocks_skip_no_gate_without_gradients(layers, scope):
    """There PyTorch has a fast path past the hooks of layers, which the compact network may take."""
    assert torch.backends.mha.get_fastpath_enabled()
    net = gated(lambda: s.Encoder(layers), TOKENS, scope)
    set_gates(net, 0.5, 0)
    small = dk.compact(net)
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with context:
            check_same(net(TOKENS), small(TOKENS))
    with torch.no_grad():
        assert not torch.allclose(net(TOKENS), net.model(TOKENS))  # the gates do something
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", ["1-d", "transposed 2-d", "resnet20"])
def test_batch_norms_of_a_compact_network_can_be_fused(name):
    build, x = BUILD.get(name, (lambda: network("resnet20")[0], images(3, 32, 32)))
    net = gated(build, x)
    set_gates(net, 0.5, 0)
    small = dk.compact(net)
    with torch.no_grad():
        expected = small(x)
        fused = _fused(small)
        assert fused
        check_same(expected, small(x))


def _fused(model):
    """Fuse every convolution with the batch norm behind it, which becomes an identity; returns how many."""
    convolutions = [(name, m) for name, m in model.named_modules() if hasattr(m, "output_padding")]
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    count = 0
    for name, module in convolutions:
        parent, _, last = name.rpartition(".")
        behind = {"conv": "bn", "conv1": "bn1", "conv2": "bn2"}.get(last) or str(int(last) + 1)
        behind = f"{parent}.{behind}".lstrip(".")
        if behind in norms:
            model.set_submodule(name, fuse_conv_bn_eval(module, norms[behind], module.transposed))
            model.set_submodule(behind, nn.Identity())
            count += 1
    return count


# --- a module like any other -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet():
    net = gated(s.UNet, SQUARE)
    set_gates(net, 0.5, 0)
    return net


def test_copies_and_saved_states_compute_the_same(unet, tmp_path):
    torch.save(unet.state_dict(), tmp_path / "net.pt")
    other = gated(s.UNet, SQUARE)
    other.load_state_dict(torch.load(tmp_path / "net.pt"))
    twin = copy.deepcopy(unet)
    with torch.no_grad():
        expected = unet(SQUARE)
        for net in (other, twin):
            assert torch.equal(net(SQUARE), expected)
            check_same(dk.compact(net)(SQUARE), expected)
        set_gates(twin, 0.5, 1)
        check_same(dk.compact(twin)(SQUARE), twin(SQUARE))
        assert torch.equal(unet(SQUARE), expected)  # a copy has its own gates


@pytest.mark.slow
def test_compiled_before_and_after(unet):
    with torch.no_grad():
        expected = unet(SQUARE)
        compiled = torch.compile(unet, backend="eager", fullgraph=True)
        check_same(expected, compiled(SQUARE))
        check_same(expected, torch.compile(dk.compact(compiled), backend="eager", fullgraph=True)(SQUARE))
    torch.manual_seed(0)
    before = dk.GatedModel(torch.compile(s.UNet(), backend="eager"), example=SQUARE.float(), scope="all")
    assert names(before.groups) == names(unet.groups)


@pytest.mark.slow
def test_two_compiled_inputs_and_outputs_in_a_dict():
    for name in ("two inputs", "pyramid, a dict"):
        build, x = BUILD[name]
        net, inputs = gated(build, x), x if isinstance(x, tuple) else (x,)
        set_gates(net, 0.5, 0)
        with torch.no_grad():
            check_same(net(*inputs), torch.compile(net, backend="eager")(*inputs))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision(unet, precision):
    net = copy.deepcopy(unet).to(precision)
    small, x = dk.compact(net), SQUARE.to(precision)
    assert {p.dtype for p in small.parameters()} == {precision}
    bound = {torch.float16: 0.01, torch.bfloat16: 0.1, torch.float32: 1e-5}.get(precision, TOLERANCE)
    with torch.no_grad():
        check_same(net(x), small(x), bound)


def test_channels_last(unet):
    last = torch.channels_last
    net, x = copy.deepcopy(unet).to(memory_format=last), SQUARE.contiguous(memory_format=last)
    with torch.no_grad():
        check_same(unet(SQUARE), net(x))
        check_same(unet(SQUARE), dk.compact(net)(x))


def test_autocast(unet):
    net, x = copy.deepcopy(unet).float(), SQUARE.float()
    with torch.no_grad():
        expected = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            out, small = net(x), dk.compact(net)(x)
    assert out.dtype == small.dtype == torch.bfloat16
    check_same(expected, out.float(), 0.1)
    check_same(expected, small.float(), 0.1)


def test_parallel_networks_with_several_outputs_are_unwrapped():
    build, x = BUILD["pyramid, a dict"]
    torch.manual_seed(0)
    net = dk.GatedModel(nn.DataParallel(build().double()), example=x, scope="all").eval()
    assert type(net.model) is s.Pyramid
    set_gates(net, 0.5, 0)
    with torch.no_grad():
        check_same(net(x), dk.compact(nn.DataParallel(net))(x))


@pytest.mark.parametrize("name", ["2-d", "transposed 3-d", "two inputs", "bias", "halves of a chunk"])
def test_rounding_without_a_posterior(name):
    """`Channels` alone takes any masks."""
    build, x = BUILD[name]
    torch.manual_seed(0)
    channels = dk.Channels(probe_copy(build()).double(), example=x, scope="all")
    generator = torch.Generator().manual_seed(0)
    masks = [torch.randperm(size, generator=generator) < max(1, size // 3) for size in channels.sizes]
    plain, rounded = (channels.remove(masks, round_to=multiple) for multiple in (1, 8))
    inputs = x if isinstance(x, tuple) else (x,)
    with torch.no_grad():
        check_same(plain(*inputs), rounded(*inputs))
    kept = [min(size, -(-int(mask.sum()) // 8) * 8) for mask, size in zip(masks, channels.sizes, strict=True)]
    assert measured(rounded, inputs) == channels.cost(kept)
    assert measured(plain, inputs) == channels.cost([int(mask.sum()) for mask in masks])


def test_a_network_that_training_left_in_channels_last_has_the_same_groups():
    for name, size in (("small", 8), ("lenet", 16)):
        model, x = dk.make_model(name, 1, 10, (size, size)), torch.zeros(2, 1, size, size)
        fresh = dk.Channels(model, x).groups.gated
        laid = dk.Channels(model.to(memory_format=torch.channels_last), x).groups.gated
        assert [g.name for g in laid] == [g.name for g in fresh]


@pytest.mark.parametrize("width", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("halves", ["chunk", "floor"])
def test_halves_of_the_channels_that_are_left_are_refused(width, halves):
    """With equally many channels left in both halves, or one more in one of them, such code is right."""

    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = nn.Conv2d(3, 2 * width, 1)
            self.one, self.two = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 4, 1)

        def forward(self, x):
            x = self.both(x)
            half = x.shape[1] // 2
            one, two = x.chunk(2, 1) if halves == "chunk" else (x[:, :half], x[:, half:])
            return (self.one(one) + self.two(two)).mean((2, 3))

    groups = {g.name: g for g in dk.Channels(Halves(), torch.zeros(2, 3, 6, 6), scope="all").groups}
    names = [f"both[0:{width}]", f"both[{width}:{2 * width}]"]
    # chunk cuts 2 + 1 channels as they are: where both of the first half stay, one of the second may go
    for name in names[:1] if (halves, width) == ("chunk", 2) else names:
        assert not groups[name].gated and "breaks the network" in groups[name].refusal
