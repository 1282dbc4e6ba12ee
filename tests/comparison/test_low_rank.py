"""Layers of low rank: nearest in the scaled norm, or as functions, and as many MACs as planned."""

import copy
from dataclasses import replace

import pytest
import torch
from marks import slow_but_the_first
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import depl0kit as dk
from depl0kit.channels.cost import plain_cost
from depl0kit.channels.tracing import probe_copy
from depl0kit.comparison.baselines import BASELINES
from depl0kit.comparison.baselines.factors import by_function, by_svd, functional_error
from depl0kit.comparison.baselines.low_rank import best_ranks, low_rank
from depl0kit.comparison.baselines.spectra import Candidate, Spectrum, candidates, spectra
from depl0kit.comparison.sweeps.grid import Grid
from depl0kit.comparison.sweeps.job import run_job
from depl0kit.networks.factorised import LowRank, factorised, in_two

BRIEF = dk.TrainConfig(epochs=1, batch_size=128)
NETWORKS = slow_but_the_first(
    [("small", (1, 8, 8)), ("lenet", (1, 28, 28)), ("resnet20", (3, 16, 16)), ("vgg16", (3, 32, 32))]
)


def network(name, shape):
    """With statistics, scales and shifts drawn at random, and one image."""
    torch.manual_seed(0)
    return probe_copy(dk.make_model(name, shape[0], 10, shape[1:])), torch.randn(1, *shape)


def spectra_of(model, x):
    layers, _ = candidates(model, x)
    return spectra(model, x, [layer.name for layer in layers])


def random_spectrum(outputs, inputs, scale=None):
    weight = torch.randn(outputs, inputs, dtype=torch.float64)
    scale = torch.ones(outputs, dtype=torch.float64) if scale is None else scale
    _, values, right = torch.linalg.svd(scale[:, None] * weight, full_matrices=False)
    return Spectrum(weight, scale, values, right)


def macs(model, x):
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        copy.deepcopy(model).eval()(x)
    return flops.get_total_flops() // (2 * len(x))


def pairs(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, LowRank)}


def frozen(data, model, keep, **options):
    """The method on the weights of `model` as they are."""
    return low_rank(model, data, keep, BRIEF, trained=model, **options)


def images_as(x):
    """A data set of such images."""
    return dk.make_data((x.repeat(20, 1, 1, 1).clamp(0, 1), torch.arange(20) % 10))


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_no_factors_of_that_rank_are_nearer(rank):
    """Eckart and Young, in the norm that the next batch norm sees; a gamma may be 0 or negative."""
    torch.manual_seed(0)
    layer = random_spectrum(8, 18, torch.tensor([1, -2, 0.5, 0, 3, 1e-3, 1, 1]).double())

    def error(left, right):
        return (layer.scale[:, None] * (layer.weight - left @ right)).square().sum()

    left, right = by_svd(layer, rank)
    least = error(left, right)
    torch.testing.assert_close(least, layer.values[rank:].square().sum())
    torch.testing.assert_close(least, (1 - layer.energies[rank - 1]) * layer.values.square().sum())
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))
    for _ in range(20):
        other = torch.linalg.qr(torch.randn(18, rank).double())[0]  # with the best left factor for it
        assert error(layer.weight @ other, other.T) > least
        near = [factor + 0.1 * torch.randn_like(factor) for factor in (left, right)]
        assert error(*near) > least


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_rows_are_scaled_by_the_next_batch_norm(name, shape):
    model, x = network(name, shape)
    found = spectra_of(model, x)
    modules = dict(model.named_modules())
    order = list(modules)
    for layer, spectrum in found.items():
        assert torch.equal(spectrum.weight.float(), modules[layer].weight.flatten(1))
        if name == "lenet":
            assert bool((spectrum.scale == 1).all())
            continue
        sibling = layer.replace("conv", "bn") if name == "resnet20" else order[order.index(layer) + 1]
        norm = modules[sibling]
        expected = norm.weight / (norm.running_var + norm.eps).sqrt()
        torch.testing.assert_close(spectrum.scale.float(), expected.detach())


def test_a_batch_norm_of_tokens_scales_no_rows():
    model = probe_copy(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(5), nn.Flatten(), nn.Linear(40, 2)))
    found = spectra(model, torch.randn(1, 5, 6), ["0"])
    assert bool((found["0"].scale == 1).all())


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_at_full_rank_nothing_changes(name, shape):
    model, x = network(name, shape)
    before = model(x)
    for layer, spectrum in spectra_of(model, x).items():
        factors = by_svd(spectrum, len(spectrum.values))
        model.set_submodule(layer, factorised(model.get_submodule(layer), *factors))
    assert len(pairs(model)) == {"small": 3, "lenet": 2, "resnet20": 18, "vgg16": 12}[name]
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5 * before.abs().max().item())


@pytest.mark.parametrize("keep", [0.7, 0.25])
@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_macs_are_the_planned_ones(name, shape, keep):
    model, x = network(name, shape)
    layers, total = candidates(model, x)
    least = total - sum(layer.macs - layer.rank_macs for layer in layers)
    planned = best_ranks(layers, spectra_of(model, x), keep * total - least)
    small = frozen(images_as(x), model, keep)
    assert {layer: pair.rank for layer, pair in pairs(small).items()} == planned
    saved = sum(x.macs - planned[x.name] * x.rank_macs for x in layers if x.name in planned)
    assert macs(small, x) == total - saved == plain_cost(small, x).macs
    assert total == macs(model, x) and keep - 0.02 < macs(small, x) / total <= keep
    assert not small.training and type(small) is type(model) and not pairs(model)


def by_threshold(layers, found, threshold):
    """Ranks as the definition of the threshold says."""
    energies = {x.name: found[x.name].energies for x in layers}
    ranks = {name: 1 + int((row[:-1] < threshold).sum()) for name, row in energies.items()}
    return {x.name: min(ranks[x.name], x.most + 1) for x in layers}


def test_one_threshold_sets_all_ranks():
    torch.manual_seed(0)
    sizes = {"a": (8, 18, 100), "b": (12, 30, 10), "c": (6, 40, 7), "d": (20, 20, 3)}
    layers = [Candidate(name, p * m * n, p * (m + n)) for name, (m, n, p) in sizes.items()]
    found = {name: random_spectrum(m, n) for name, (m, n, _) in sizes.items()}

    def price(ranks):
        whole = {x.name: x.macs if ranks.get(x.name, 99) > x.most else 0 for x in layers}
        return sum(whole[x.name] or ranks[x.name] * x.rank_macs for x in layers)

    least, most = sum(x.rank_macs for x in layers), sum(x.macs for x in layers)
    thresholds = sorted(e for s in found.values() for e in s.energies.tolist())
    for budget in torch.linspace(least, most, 40).tolist():
        ranks = best_ranks(layers, found, budget - least)
        best = max((t for t in thresholds if price(by_threshold(layers, found, t)) <= budget), default=0)
        assert price(ranks) <= budget
        for layer in layers:
            rank = ranks.get(layer.name, layer.most + 1)
            assert rank >= by_threshold(layers, found, best)[layer.name]
            if rank <= layer.most:  # the next one does not fit
                assert price(ranks | {layer.name: rank + 1}) > budget


OPTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": "same", "dilation": 2, "padding_mode": "circular"},
    {"padding": 2, "padding_mode": "reflect", "bias": False},
    {"padding": 1, "dtype": torch.float64},
]


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize("options", OPTIONS)
def test_two_layers_compute_what_one_did(kind, options):
    torch.manual_seed(0)
    layer = kind(3, 5, 3, **options).eval()
    x = torch.randn(2, 3, *[7] * (layer.weight.dim() - 2), dtype=layer.weight.dtype)
    spectrum = random_spectrum(*layer.weight.flatten(1).shape)
    matrix = layer.weight.detach().double().flatten(1)
    _, _, right = torch.linalg.svd(matrix, full_matrices=False)
    pair = factorised(layer, *by_svd(spectrum._replace(weight=matrix, right=right), 5))
    torch.testing.assert_close(pair(x), layer(x), rtol=1e-5, atol=1e-5)
    assert pair.rank == 5 and not pair.training and {p.dtype for p in pair.parameters()} == {x.dtype}
    assert pair[0].bias is None and pair[1].bias is layer.bias


@pytest.mark.parametrize(
    ("layer", "rank", "says"),
    [
        (nn.Conv2d(2, 5, 3), 0, "rank must be a whole number of at least 1 and at most 5, got 0"),
        (nn.Conv2d(2, 5, 3), 6, "rank must be a whole number of at least 1 and at most 5, got 6"),
        (nn.Linear(3, 9), 4, "at most 3, got 4"),
        (nn.Linear(3, 9), 2.5, "got 2.5"),
        (nn.Linear(3, 9), True, "got True"),
        (nn.Conv2d(4, 4, 3, groups=2), 1, "convolutions without groups can become two layers, got a Conv2d"),
        (nn.ConvTranspose2d(4, 4, 3), 1, "got a ConvTranspose2d"),
        (nn.BatchNorm2d(4), 1, "got a BatchNorm2d"),
    ],
)
def test_what_cannot_be_two_layers_is_refused(layer, rank, says):
    with pytest.raises(ValueError, match=says):
        in_two(layer, rank)


def test_the_functional_error_is_the_expectation():
    torch.manual_seed(0)
    one, other, x = (torch.randn(*shape).double() for shape in [(6, 10), (6, 10), (10, 400_000)])
    sampled = ((one @ x).relu() - (other @ x).relu()).square().sum(0).mean()
    torch.testing.assert_close(functional_error(one, other), sampled, rtol=0.01, atol=0)
    assert functional_error(one, one).abs() < 1e-9
    zero = torch.zeros_like(one, requires_grad=True)
    functional_error(one, zero).backward()
    assert bool(zero.grad.isfinite().all())


@pytest.mark.parametrize(("outputs", "inputs", "rank"), [(24, 90, 2), (48, 90, 5), (64, 288, 8)])
def test_functions_are_matched_better_than_by_singular_values(outputs, inputs, rank):
    torch.manual_seed(0)
    scale = torch.randn(outputs).double()
    scale[0] = 0
    layer = random_spectrum(outputs, inputs, scale)
    x = torch.randn(inputs, 20_000, dtype=torch.float64)  # the method has seen none of them

    def error(left, right):
        exact, near = (scale[:, None] * matrix @ x for matrix in (layer.weight, left @ right))
        return (exact.relu() - near.relu()).square().sum(0).mean()

    assert error(*by_function(layer, rank)) < 0.99 * error(*by_svd(layer, rank))


def test_a_function_is_matched_at_full_rank_too():
    torch.manual_seed(0)
    layer = random_spectrum(6, 20)
    left, right = by_function(layer, 6)
    torch.testing.assert_close(left @ right, layer.weight, rtol=0, atol=1e-3)


@pytest.mark.parametrize("init", ["svd", "function"])
def test_the_same_seed_gives_the_same_network(few, init):
    model = dk.make_model("small", 1, 10, (8, 8))
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    one, other = (low_rank(model, few, 0.4, BRIEF, init=init) for _ in range(2))
    shared = low_rank(model, few, 0.4, BRIEF, BASELINES["dense"](model, few, 1, BRIEF), init)
    for net in (other, shared):
        for p, q in zip(one.parameters(), net.parameters(), strict=True):
            assert torch.equal(p, q)
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items()) and model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in one.modules())


def test_the_choice_of_factors_matters(few):
    model, _ = network("small", (1, 8, 8))
    one, other = (frozen(few, model, 0.2, init=init) for init in ("svd", "function"))
    assert repr(one) == repr(other)
    assert not torch.allclose(one.features[3][0].weight, other.features[3][0].weight, atol=1e-3)


@pytest.mark.parametrize("data", slow_but_the_first(["digits", "fashion_mnist"]))
def test_the_share_is_met_after_training(data):
    data = dk.load_data(data)
    data = replace(data, train=data.train.take(64), val=data.val.take(8))
    model = dk.make_model("small", 1, 10, data.image_size)
    small = low_rank(model, data, 0.4, BRIEF)
    assert 0.38 < macs(small, data.example) / macs(model, data.example) <= 0.4


class Tied(nn.Module):
    """Layers that share a weight, one inside of attention, grouped ones, and one of kernel size 1."""

    def __init__(self):
        super().__init__()
        self.first, self.grouped = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3, groups=4)
        self.point, self.plain = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.one, self.other = nn.Linear(16, 16), nn.Linear(16, 16)
        self.other.weight = self.one.weight
        self.wide, self.head = nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = self.plain(self.point(self.grouped(self.first(x)))).flatten(2).transpose(1, 2)
        x = self.attention(x, x, x)[0].mean(1)
        return self.head(self.wide(self.other(self.one(x).relu())))


def test_only_layers_with_a_weight_of_their_own_become_two(few):
    torch.manual_seed(0)
    model = Tied().eval()
    assert [layer.name for layer in candidates(model, few.example[:1])[0]] == ["plain", "wide"]
    small = frozen(few, model, 0.8)
    assert "plain" in pairs(small)
    small(few.example)


@pytest.mark.parametrize(
    ("keep", "options", "says"),
    [
        (0, {}, "keep must lie between 0 and 1"),
        (1, {}, "keep must lie between 0 and 1"),
        (0.01, {}, r"keep=0\.01 cannot be reached: of this network's MACs at least 0\.049 stay, with rank 1"),
        (0.5, {"init": "SVD"}, "unknown init 'SVD': choose one of"),
    ],
)
def test_bad_input_is_refused_before_training(few, keep, options, says, monkeypatch):
    monkeypatch.setitem(low_rank.__globals__, "train_weights", None)
    with pytest.raises(ValueError, match=says):
        low_rank(dk.make_model("small", 1, 10, (8, 8)), few, keep, BRIEF, **options)


def test_a_network_without_such_layers_is_refused(few):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(288, 10))
    with pytest.raises(ValueError, match="no layer of Sequential can become two of low rank: it needs"):
        low_rank(model, few, 0.5, BRIEF)


def test_a_row_of_a_sweep_has_the_widths_of_the_dense_network(tmp_path):
    train = dk.TrainConfig(epochs=1, fine_tune_epochs=1, batch_size=128)
    grid = Grid(methods=("low_rank",), budget=(0.5,), seeds=(0,), train=train, train_images=64)
    (job,) = [job for job in grid.jobs() if job.stage != "tune"]
    row = run_job(job, tmp_path / job.name)
    assert row["error"] == "" and row["kind"] == "factorised"
    assert row["open"] == row["channels"] == [24, 24, 48, 48]
    assert 0.48 < row["kept_macs"] <= 0.5
    loaded = dk.load_compact(tmp_path / job.name / "compact.safetensors")
    assert plain_cost(loaded, torch.zeros(1, 1, 8, 8)).macs == row["macs"] and len(pairs(loaded)) == 3
