"""Compact networks in files: what is read is what was written, and nothing else is done."""

import copy
import json
import os
import pickle
from dataclasses import replace
from functools import cache

import pytest
import torch
from marks import slow_but_the_first
from safetensors import safe_open
from safetensors.torch import save_file
from structures import Encoder, Tokens, UNet, decoder, of_dimensions
from test_any_cnn import set_gates
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import depl0kit as dk
from depl0kit.networks import storage
from depl0kit.networks.factorised import LowRank, factorised, is_factorisable
from depl0kit.support.files import read_tensors, write_tensors


def shrunk(name, shape):
    """A compact network with random gates, and its input; in a ResNet the first branch is closed."""
    model, x = _shrunk(name, shape)
    return copy.deepcopy(model), x


@cache
def _shrunk(name, shape):
    torch.manual_seed(0)
    x = torch.randn(2, *shape)
    net = dk.GatedModel(dk.make_model(name, shape[0], 10, shape[1:]), example=x, scope="all").eval()
    with torch.no_grad():
        theta = torch.where(torch.rand_like(net.posterior.theta) < 0.5, -4.4, 1.0)
        for group, part in zip(net.groups.gated, theta.split(net.posterior.sizes), strict=True):
            if group.may_close and group is next(g for g in net.groups.gated if g.may_close):
                part.fill_(-4.4)
        net.posterior.theta.copy_(theta)
    return dk.compact(net), x


NETWORKS = [
    ("small", (1, 8, 8)),
    ("lenet", (1, 28, 28)),
    pytest.param("vgg16", (3, 32, 32), marks=pytest.mark.slow),
    ("resnet20", (3, 32, 32)),
    pytest.param("mobilenet_v2", (3, 64, 64), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_what_is_loaded_computes_the_same_bit_for_bit(name, shape, tmp_path):
    model, x = shrunk(name, shape)
    loaded = dk.load_compact(dk.save_compact(model, tmp_path / "net.safetensors"))
    assert not loaded.training
    assert repr(loaded) == repr(model)  # the same modules with the same widths
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


def test_a_closed_branch_is_in_the_file(tmp_path):
    model, _ = shrunk("resnet20", (3, 32, 32))
    assert any(isinstance(m, nn.ConstantPad3d) for m in model.modules())  # or the test shows nothing
    loaded = dk.load_compact(dk.save_compact(model, tmp_path / "net.safetensors"))
    assert sum(isinstance(m, nn.ConstantPad3d) for m in loaded.modules()) == 2


def put_in_two(model, rank=3):
    """Every layer that can become two does, with random weights of this rank, or less if it has less."""
    torch.manual_seed(2)
    for name, layer in [(n, m) for n, m in model.named_modules() if n and is_factorisable(m)]:
        rows, columns = layer.weight.flatten(1).shape
        r = min(rank, rows, columns)
        model.set_submodule(name, factorised(layer, torch.randn(rows, r), torch.randn(r, columns)))
    return model


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_layers_in_two_are_rebuilt(name, shape, tmp_path):
    """Of a compact network: widths are cut too, and a branch is closed."""
    model, x = shrunk(name, shape)
    model = put_in_two(model)
    path = dk.save_compact(model, tmp_path / "net.safetensors")
    ranks = json.loads(read_tensors(path)[1][storage.KEY])["factorised"]
    assert ranks == {n: m.rank for n, m in model.named_modules() if isinstance(m, LowRank)} and len(ranks) > 3
    loaded = dk.load_compact(path)
    assert repr(loaded) == repr(model)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["1-d", "3-d", "linear layers on tokens", "U-Net"])
def test_layers_in_two_of_ones_own_network_are_rebuilt(name, tmp_path):
    small, x, fresh = shrunk_structure(name)
    small = put_in_two(small.bfloat16())
    loaded = dk.load_compact(dk.save_compact(small, tmp_path / "net.safetensors"), fresh())
    assert repr(loaded) == repr(small) and {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        torch.testing.assert_close(loaded(x.bfloat16()), small(x.bfloat16()), rtol=0, atol=0)


def test_channels_between_two_layers_can_be_cut_and_closed(tmp_path):
    """A network whose layers are two is gated like any other, and what is left is saved."""
    torch.manual_seed(0)
    model = put_in_two(dk.make_model("resnet20", 3, 10, (32, 32)))
    net = dk.GatedModel(model, example=(x := torch.randn(2, 3, 32, 32)), scope="all").eval()
    inside = [g for g in net.groups.gated if g.may_close and g.name.endswith(".0")]
    assert inside
    with torch.no_grad():
        for group, part in zip(net.groups.gated, net.posterior.theta.split(net.posterior.sizes), strict=True):
            part.fill_(-4.4 if group is inside[0] else 1.0)[-1:] = -4.4
    small = dk.compact(net)
    loaded = dk.load_compact(dk.save_compact(small, tmp_path / "net.safetensors"))
    assert repr(loaded) == repr(small)
    assert {m.rank for m in loaded.modules() if isinstance(m, LowRank)} == {1, 2}
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), small(x), rtol=0, atol=0)


def test_files_of_earlier_versions_have_no_ranks(tmp_path):
    model, x = shrunk("small", (1, 8, 8))
    path = dk.save_compact(model, tmp_path / "net.safetensors")
    tensors, notes = read_tensors(path)
    header = json.loads(notes[storage.KEY])
    assert header.pop("factorised") == {} and header.keys() == {"format", "made_by", "widths", "stand_ins"}
    write_tensors(path, tensors, {storage.KEY: json.dumps(header)})
    with torch.no_grad():
        torch.testing.assert_close(dk.load_compact(path)(x), model(x), rtol=0, atol=0)


def own_network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 3)
    )


def test_a_network_of_ones_own_needs_a_fresh_one(tmp_path):
    x = torch.randn(2, 1, 6, 6)
    net = dk.GatedModel(own_network(), example=x).eval()
    with torch.no_grad():
        net.posterior.theta[1:4] = -4.4
    small = dk.compact(net)
    path = dk.save_compact(small, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match="pass model="):
        dk.load_compact(path)
    fresh = own_network()
    loaded = dk.load_compact(path, fresh)
    torch.testing.assert_close(loaded(x), small(x), rtol=0, atol=0)
    assert fresh[0].out_channels == 6  # it was copied
    with pytest.raises(ValueError, match="another architecture"):
        dk.load_compact(path, nn.Sequential(nn.Linear(3, 3)))


class Loose(nn.Module):
    """Parameters and buffers along channels outside of layers, one of them no part of the state_dict."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 6, 3), FrozenBatchNorm2d(6)
        self.scale, self.slope = nn.Parameter(torch.rand(8, 1, 1)), nn.Parameter(torch.rand(1, 1, 6))
        self.register_buffer("mean", torch.rand(1, 8, 1, 1), persistent=False)
        self.still, self.head = nn.LayerNorm(3), nn.Linear(6, 3)

    def forward(self, x):
        x = self.norm(self.second((self.first(x) - self.mean).relu() * self.scale)).flatten(2).mean(2)
        return self.still(self.head(x[:, None] * self.slope))


STRUCTURES = {
    **{f"{d}-d": (lambda d=d: of_dimensions(d), (2, *[8] * d)) for d in (1, 2, 3)},
    **{f"transposed {d}-d": (lambda d=d: decoder(d, 4), (2, *[4] * d)) for d in (1, 2, 3)},
    "linear layers on tokens": (Tokens, (5, 4)),
    "a block of attention": (Encoder, (5, 4)),
    "U-Net": (UNet, (2, 8, 8)),
    "tensors outside of layers": (Loose, (2, 8, 8)),
}


def shrunk_structure(name):
    """A compact network, its input, and a function that makes a new one with all channels."""
    build, shape = STRUCTURES[name]

    def fresh():
        torch.manual_seed(0)
        return build()

    net = dk.GatedModel(fresh(), example=(x := torch.randn(2, *shape)), scope="all").eval()
    set_gates(net, 0.6, 0)
    with torch.no_grad():
        for p in net.model.parameters():
            p.add_(0.1 * torch.randn_like(p))  # as training does
    return dk.compact(net), x, fresh


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", STRUCTURES)
def test_whatever_compact_returns_is_saved(name, precision, tmp_path):
    small, x, fresh = shrunk_structure(name)
    small, x = small.to(precision), x.to(precision)
    loaded = dk.load_compact(dk.save_compact(small, tmp_path / "net.safetensors"), fresh())
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in fresh().parameters())
    assert repr(loaded) == repr(small) and {p.dtype for p in loaded.parameters()} == {precision}
    assert {name: t.shape for name, t in loaded.named_buffers()} == {
        name: t.shape for name, t in small.named_buffers()
    }
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), small(x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(9, 1, 1), (3, 2, 1), (3, 1), (0, 1, 1)])
def test_a_tensor_outside_of_layers_can_only_be_shorter(shape, tmp_path):
    small, _, fresh = shrunk_structure("tensors outside of layers")
    assert small.mean.shape[1] == len(small.scale) < 8 and small.slope.shape[2] < 6
    small.scale = nn.Parameter(torch.rand(shape))
    path = dk.save_compact(small, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="another architecture than Loose"):
        dk.load_compact(path, fresh())


def test_half_precision_and_frozen_statistics_survive(tmp_path):
    model, _ = shrunk("small", (1, 8, 8))
    model.half()
    loaded = dk.load_compact(dk.save_compact(model, tmp_path / "half.safetensors"))
    own, there = model.state_dict(), loaded.state_dict()
    assert all(there[k].dtype == t.dtype and torch.equal(there[k], t) for k, t in own.items())


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    model, _ = shrunk("small", (1, 8, 8))
    path = dk.save_compact(model, tmp_path / "net.safetensors")
    before = path.read_bytes()
    with torch.no_grad():
        model.classifier.weight.zero_()

    def crash(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space left"):
        dk.save_compact(model, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]  # and nothing lies about


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_damaged_file_is_named(cut, tmp_path):
    path = dk.save_compact(shrunk("small", (1, 8, 8))[0], tmp_path / "net.safetensors")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"net\.safetensors is damaged or not a file of save_compact"):
        dk.load_compact(path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["DEPL0KIT_TEST_TRAP"],)


def test_pickles_are_never_executed(tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    monkeypatch.setenv("DEPL0KIT_TEST_TRAP", str(trap))
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match="damaged"):
        dk.load_compact(path)
    torch.save({"x": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="must hold a state_dict"):
        dk.make_model("small", weights=tmp_path / "evil.pth")
    assert not trap.exists()


def rewrite(path, **changes):
    """The same file with changed entries of its JSON."""
    tensors, notes = read_tensors(path)
    write_tensors(path, tensors, {storage.KEY: json.dumps(json.loads(notes[storage.KEY]) | changes)})


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        dk.load_compact(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a file of save_compact"):
        dk.load_compact(path)
    dk.save_compact(shrunk("small", (1, 8, 8))[0], path)
    rewrite(path, format=2)
    with pytest.raises(ValueError, match="has format 2, this version reads 1"):
        dk.load_compact(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": {"classifier": {"forward": 3}}},
        {"stand_ins": {"classifier": [["Linear", 3, 3]]}},
        {"stand_ins": {"classifier": [["AvgPool2d", 2]]}},
        {"stand_ins": {"classifier": [[]]}},
        {"stand_ins": {"classifier": []}},
        {"widths": {"nowhere": {"in_features": 3}}},
        {"factorised": {"nowhere": 3}},
        {"factorised": {"features": 3}},
        {"factorised": {"features.1": 3}},
        {"factorised": {"features.3": 0}},
        {"factorised": {"features.3": 10**6}},
        {"factorised": {"features.3": 3}},
    ],
)
def test_json_can_set_nothing_but_widths_ranks_and_stand_ins(changes, tmp_path):
    path = dk.save_compact(shrunk("small", (1, 8, 8))[0], tmp_path / "net.safetensors")
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=r"another architecture|its field '(stand_ins|factorised)' is"):
        dk.load_compact(path)


@pytest.mark.parametrize("rank", [0, -1, True, 2.0, "2", [2], None, 2**31])
def test_what_is_no_rank_is_named(rank, tmp_path):
    path = dk.save_compact(put_in_two(shrunk("small", (1, 8, 8))[0]), tmp_path / "net.safetensors")
    rewrite(path, factorised={"features.3": rank})
    with pytest.raises(ValueError, match="its field 'factorised' is"):
        dk.load_compact(path)


def test_a_rank_above_that_of_the_layer_is_refused(tmp_path):
    path = dk.save_compact(put_in_two(shrunk("small", (1, 8, 8))[0]), tmp_path / "net.safetensors")
    rewrite(path, factorised={"features.3": 25})
    with pytest.raises(ValueError, match=r"another architecture than ConvNet: rank must be .* at most 24"):
        dk.load_compact(path)


@pytest.mark.parametrize(
    "wrap",
    slow_but_the_first([nn.DataParallel, torch.compile, lambda m: nn.DataParallel(torch.compile(m))]),
)
def test_of_a_wrapped_network_the_one_inside_is_saved(wrap, tmp_path):
    model, x = shrunk("small", (1, 8, 8))
    loaded = dk.load_compact(dk.save_compact(wrap(model), tmp_path / "net.safetensors"))
    assert repr(loaded) == repr(model)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


def test_bfloat16_is_read_as_it_was_written(tmp_path):
    model, x = shrunk("resnet20", (3, 32, 32))
    model.bfloat16()
    loaded = dk.load_compact(dk.save_compact(model, tmp_path / "net.safetensors"))
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        assert torch.equal(loaded(x.bfloat16()), model(x.bfloat16()))


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.complex64, torch.int64]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensors_of_every_type_have_a_checksum(dtype, shape, tmp_path):
    path, tensor = tmp_path / "x.safetensors", torch.ones(shape).to(dtype)
    write_tensors(path, {"x": tensor})
    got = read_tensors(path)[0]["x"]
    assert got.dtype == dtype and got.shape == shape and torch.equal(got.cfloat(), tensor.cfloat())


def test_the_checksum_of_old_files_is_still_right(tmp_path):
    """Of values and description as they were: crc32 of one file of an earlier version."""
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}, {"note": "x"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"note": "x", "crc32": "4db6ee98"}


def test_a_gated_network_is_not_saved(tmp_path):
    net = dk.GatedModel(dk.make_model("small", 1), example=torch.zeros(1, 1, 8, 8))
    for given in (net, nn.DataParallel(net), nn.Sequential(net)):
        with pytest.raises(ValueError, match=r"without gates, got a GatedModel: pass compact\(net\)"):
            dk.save_compact(given, tmp_path / "net.safetensors")
    assert os.listdir(tmp_path) == []


class WithNotes(nn.Linear):
    def get_extra_state(self):
        return "some text"


def test_a_state_that_is_no_tensor_is_named(tmp_path):
    with pytest.raises(ValueError, match="'_extra_state' of WithNotes is not a tensor"):
        dk.save_compact(WithNotes(2, 2), tmp_path / "net.safetensors")


class Casting(nn.Module):
    """A network in bfloat16 that reads float32."""

    def __init__(self):
        super().__init__()
        self.net = dk.make_model("small", 1).bfloat16()

    def forward(self, x):
        return self.net(x.bfloat16())


@pytest.mark.slow
def test_runs_keep_networks_in_bfloat16(tmp_path):
    data = dk.load_data("digits")
    data = replace(data, **{part: getattr(data, part).take(64) for part in ("train", "val", "test")})

    def fresh():
        torch.manual_seed(0)
        return dk.GatedModel(Casting(), example=data.example)

    net = fresh()
    dk.train(net, data, dk.TrainConfig(epochs=2), progress=False, out=tmp_path / "run")
    run = dk.load_run(tmp_path / "run", fresh())
    assert run.status == "finished" and run.net.model.net.classifier.weight.dtype == torch.bfloat16
    assert all(torch.equal(t, run.net.state_dict()[key]) for key, t in net.state_dict().items())
