"""Networks that choose their channels for every image: exact, at their budget, saved, and compared."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from marks import slow_but_the_first
from torch import nn

import depl0kit as dk
from depl0kit import plots
from depl0kit.channels import Channels
from depl0kit.channels.cost import plain_cost
from depl0kit.channels.tracing import probe_copy
from depl0kit.comparison.baselines import BASELINES, KINDS
from depl0kit.comparison.baselines.choice import best_channels
from depl0kit.comparison.baselines.dynamic import fbs, fixed, manidp
from depl0kit.comparison.baselines.manidp import Losses, cosines, openness
from depl0kit.comparison.dynamic import DynamicModel, load_dynamic, per_image, save_dynamic
from depl0kit.comparison.dynamic.measures import mean_gates
from depl0kit.comparison.dynamic.model import Choices
from depl0kit.comparison.dynamic.storage import KEY
from depl0kit.comparison.fronts import at_matched_cost
from depl0kit.comparison.sweeps import job
from depl0kit.comparison.table import to_table
from depl0kit.plots.methods import kind_notes, marker_colours, with_kind
from depl0kit.support.files import read_tensors, write_tensors

BRIEF = dk.TrainConfig(epochs=2, batch_size=16)
DYNAMIC = ["fbs", "manidp"]


def dynamic(name="small", size=8, kind="fbs", share=0.4, scope="inner") -> DynamicModel:
    """A network with random statistics of batch norms, and branches that tell images apart."""
    torch.manual_seed(0)
    model = probe_copy(dk.make_model(name, 1, 10, (size, size))).float().eval()
    net = DynamicModel(Channels(model, torch.zeros(1, 1, size, size), scope), kind).eval()
    net.set_share(share)
    for branch in net.branches:
        nn.init.normal_(branch.linear.weight, 0, 0.5)
        if kind == "manidp":
            branch.threshold.fill_(1.0)
    return net


CASES = [("small", 8, "inner"), ("lenet", 16, "inner"), ("resnet20", 16, "inner"), ("resnet20", 16, "all")]


@pytest.mark.parametrize("kind", DYNAMIC)
@pytest.mark.parametrize(("name", "size", "scope"), slow_but_the_first(CASES))
def test_each_image_computes_and_costs_what_its_own_cut_network_does(name, size, scope, kind):
    net = dynamic(name, size, kind, scope=scope)
    x = torch.randn(5, 1, size, size)
    with torch.no_grad():
        outputs, choices = net.forward_with_choices(x)
    macs, opened = net.macs_per_image(x), net.open_per_image(x)
    branches = sum(m.weight.numel() for m in net.branches.modules() if isinstance(m, nn.Linear))
    for i in range(len(x)):
        gates = [gate[i] for gate in choices.gates]
        assert opened[i].tolist() == [int((gate > 0).sum()) for gate in gates]
        small = net.channels.remove(gates)
        with torch.no_grad():
            torch.testing.assert_close(small(x[i : i + 1])[0], outputs[i], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(net(x[i : i + 1])[0], outputs[i], atol=1e-4, rtol=1e-4)  # alone
        assert macs[i] == plain_cost(small, x[:1]).macs + branches
    if kind == "manidp":
        assert len(set(macs.tolist())) > 1


def test_fbs_opens_the_same_number_of_channels_in_every_image_but_not_the_same_ones():
    net = dynamic(share=0.25)
    net.branches[-1].linear.bias.data.fill_(-100.0)  # what is dead everywhere is chosen all the same
    x = torch.randn(50, 1, 8, 8)
    for mode in (True, False):
        net.train(mode)
        gates = net.forward_with_choices(x)[1].gates
        for gate, size in zip(gates, net.channels.sizes, strict=True):
            assert ((gate > 0).sum(1) == size // 4).all()
        assert any(len(set(map(tuple, (gate > 0).tolist()))) > 5 for gate in gates)
    for gate, saliency in zip(gates, net.forward_with_choices(x)[1].saliency, strict=True):
        lowest_open = torch.where(gate > 0, saliency, torch.inf).amin(1)
        highest_closed = torch.where(gate > 0, -torch.inf, saliency).amax(1)
        assert (lowest_open >= highest_closed).all()
        assert torch.equal(gate[gate > 0], saliency[gate > 0])


def test_thresholds_follow_the_share_in_training_and_stand_still_in_eval_mode():
    net = dynamic(kind="manidp", share=0.3).train()
    x = torch.randn(64, 1, 8, 8)
    with torch.no_grad():
        for _ in range(200):
            net(x)
        thresholds = [branch.threshold.clone() for branch in net.branches]
        shares = net.eval().open_per_image(x).double().mean(0) / torch.tensor(net.channels.sizes)
    assert (shares - 0.3).abs().max() < 0.06
    assert all(torch.equal(b.threshold, t) for b, t in zip(net.branches, thresholds, strict=True))
    for branch in net.branches:
        branch.threshold.fill_(1e9)
    assert (net.open_per_image(x) == 1).all()  # the best channel of an image is open in any case


@pytest.mark.parametrize("kind", DYNAMIC)
def test_copies_are_whole_and_leave_no_hooks(kind):
    net, x = dynamic(kind=kind), torch.randn(4, 1, 8, 8)
    other = copy.deepcopy(net)
    assert torch.equal(other(x), net(x))
    with torch.no_grad():
        other.branches[0].linear.bias.sub_(5.0)
        other.model.features[0].weight.zero_()
    assert not torch.equal(other(x), net(x))
    plain = net.channels.plain_copy()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in plain.modules())
    with pytest.raises(ValueError, match="writes networks without gates"):
        dk.save_compact(net, "unwritten.safetensors")


@pytest.mark.parametrize("name", DYNAMIC)
@pytest.mark.parametrize("keep", slow_but_the_first([0.4, 0.15]))
def test_the_mean_macs_are_the_budget(digits, name, keep):
    model = make()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    net = BASELINES[name](model, digits, keep, BRIEF)
    kept = per_image(net, digits.train).macs.mean() / net.channels.dense_cost.macs
    assert keep - 0.02 < kept <= keep + 1e-9 and not net.training and net.listener is None
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items()) and model.training
    assert torch.equal(torch.get_rng_state(), state)
    again = BASELINES[name](model, digits, keep, BRIEF)
    assert all(torch.equal(t, again.state_dict()[k]) for k, t in net.state_dict().items())
    tuned = dk.fine_tune(net, digits, 1)  # weights and branches, by the same rule
    assert np.isfinite(tuned.val_loss).all()
    assert all(not torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
    kept = per_image(net, digits.train).macs.mean() / net.channels.dense_cost.macs
    assert abs(kept - keep) < (0.02 if name == "fbs" else 0.06)


@pytest.mark.parametrize("name", DYNAMIC)
def test_fixed_networks_keep_the_channels_that_are_open_most_often(digits, name):
    net = BASELINES[name](make(), digits, 0.4, BRIEF)
    small = fixed(net, digits, 0.4)
    assert type(small) is type(make()) and not small.training
    kept = plain_cost(small, digits.example).macs / net.channels.dense_cost.macs
    assert 0.38 < kept <= 0.4
    with torch.no_grad():
        gates = net.forward_with_choices(next(iter(digits.train.batches(1000)))[0])[1].gates
    opened, means = mean_gates(net, digits.train)
    for gate, share, mean in zip(gates, opened, means, strict=True):
        torch.testing.assert_close(share, (gate > 0).float().mean(0))
        torch.testing.assert_close(mean * share, gate.mean(0), atol=1e-5, rtol=1e-4)
    masks = best_channels(net.channels, opened, 0.4)
    least = min(float(o[m > 0].min()) for o, m in zip(opened, masks, strict=True) if m.sum() > 1)
    assert all(bool((o[m == 0] <= least).all()) for o, m in zip(opened, masks, strict=True))
    x = digits.example
    expected = net.channels.remove([mask * mean for mask, mean in zip(masks, means, strict=True)])
    torch.testing.assert_close(small(x), expected(x))


def test_the_losses_of_manidp_are_those_of_their_formulas():
    net = dynamic(kind="manidp")
    losses = Losses(net, classes=10, steps=2, ease=2.0, likeness=3.0)
    x, y = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 5])
    losses.read(x, y)
    logits = 4 * F.one_hot(torch.tensor([0, 1, 2, 0, 0, 0]), 10).float()
    choices = net.forward_with_choices(x)[1]
    losses.hear(choices, logits)
    found = losses.penalty(net)
    half, each = math.log(10) / 2, F.cross_entropy(logits, y, reduction="none")
    ease = torch.tensor([max(0.0, 1 - float(ce) / half) for ce in each])
    assert (ease[:3] > 0.8).all() and (ease[3:] == 0).all()
    price, unlike = 0.0, 0.0
    for i, branch in enumerate(net.branches):
        price += (ease * openness(choices.saliency[i], branch.threshold)).mean()
        for one in range(6):
            for other in range(6):
                m = F.cosine_similarity(choices.gates[i][one], choices.gates[i][other], 0)
                f = F.cosine_similarity(choices.pooled[i][one], choices.pooled[i][other], 0)
                unlike += (m - f) ** 2 / 36
    torch.testing.assert_close(found, 2 * price + 3 * unlike, atol=1e-4, rtol=1e-4)
    losses.penalty(net)  # ends the epoch: from now on half of its mean counts
    torch.testing.assert_close(losses._weights(each), (1 - each / (each.mean() / 2)).relu())


def test_hard_images_and_features_get_no_gradient():
    """Else the loss would fall by making easy images hard, and by making all images alike."""
    net = dynamic(kind="manidp")
    losses = Losses(net, 10, 5, ease=1.0, likeness=1.0)
    losses.read(torch.empty(0), torch.tensor([0, 1, 2]))
    saliency = [torch.rand(3, n).requires_grad_() for n in net.channels.sizes]
    pooled = [torch.rand(3, 7).requires_grad_() for _ in net.channels.sizes]
    logits = torch.randn(3, 10).requires_grad_()
    losses.hear(Choices(pooled, saliency, [s * (s > 0.3) for s in saliency]), logits)
    losses.penalty(net).backward()
    assert logits.grad is None and all(f.grad is None for f in pooled)
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in saliency)


def test_soft_shares_count_channels_above_the_threshold():
    scores = torch.tensor([[5.0, 5.0, -5.0, -5.0], [5.0, -5.0, -5.0, -5.0]])
    torch.testing.assert_close(openness(scores, torch.zeros(())), torch.tensor([0.5, 0.25]), atol=0.1, rtol=0)
    torch.testing.assert_close(cosines(scores)[0, 0], torch.tensor(1.0))


def test_bad_requests_are_refused_before_any_training(digits, monkeypatch):
    monkeypatch.setattr(dk.training.finetuning, "prepared", None)  # training would fail
    with pytest.raises(ValueError, match="cannot be reached: of this network's MACs at least"):
        fbs(make(), digits, 0.006, BRIEF)
    with pytest.raises(ValueError, match=r"the branches of manidp alone cost 0.01"):
        manidp(make(), digits, 0.005, BRIEF)
    with pytest.raises(ValueError, match=r"strength must be a number"):
        fbs(make(), digits, 0.5, BRIEF, strength=-1)
    with pytest.raises(ValueError, match=r"ease must be a number"):
        manidp(make(), digits, 0.5, BRIEF, ease=-1)


class Twice(nn.Module):
    """A layer that runs twice writes a group that is gated."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1)

    def forward(self, x):
        return (self.two(self.one(x).relu()) + self.two(self.one(x.flip(3)).relu())).mean((2, 3))


def test_layers_that_run_twice_are_refused():
    with pytest.raises(ValueError, match="layer 'one' must run once a forward"):
        DynamicModel(Channels(Twice(), torch.zeros(1, 1, 8, 8)))


@pytest.mark.parametrize("kind", DYNAMIC)
def test_saved_networks_come_back_as_they_were(tmp_path, kind):
    net, x = dynamic(kind=kind), torch.randn(8, 1, 8, 8)
    path = save_dynamic(net, tmp_path / "net.safetensors")
    for again in (load_dynamic(path), load_dynamic(path, make())):
        torch.testing.assert_close(again(x), net(x))
        assert torch.equal(again.macs_per_image(x), net.macs_per_image(x)) and not again.training
        assert [b.share for b in again.branches] == [b.share for b in net.branches]


DAMAGED = [
    ({"kind": "other"}, "its field 'kind' is 'other'"),
    ({"format": 2}, "its field 'format' is 2"),
    ({"shares": [0.0, 1, 1, 1]}, "its field 'shares'"),
    ({"shares": [0.5]}, "holds another architecture"),
    ({"shares": "half"}, "expected shares to be a list"),
    ({"example": [1, 10**9, 8]}, "its field 'example'"),
    ({"kind": "manidp"}, "holds another architecture"),
    ({"made_by": None}, "make_model did not make"),
    ({"made_by": {"name": "vgg16"}}, "its field 'made_by'"),
]


@pytest.mark.parametrize(("change", "says"), DAMAGED)
def test_wrong_files_are_refused(tmp_path, change, says):
    path = save_dynamic(dynamic(), tmp_path / "net.safetensors")
    tensors, notes = read_tensors(path)
    write_tensors(path, tensors, {KEY: json.dumps(json.loads(notes[KEY]) | change)})
    with pytest.raises(ValueError, match=says):
        load_dynamic(path)


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = save_dynamic(dynamic(), tmp_path / "net.safetensors")
    content = bytearray(path.read_bytes())
    for damage in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), b""):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match="damaged or not a file of save_dynamic"):
            load_dynamic(path)
    dk.save_compact(make(), path)
    with pytest.raises(ValueError, match="not a file of save_dynamic"):
        load_dynamic(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_dynamic(tmp_path / "none.safetensors")


@pytest.mark.parametrize("method", slow_but_the_first(["manidp", "fbs", "fbs_static", "manidp_static"]))
def test_rows_of_a_sweep_have_means_over_the_test_images(digits, method, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "load_data", lambda _: digits)
    job._data.cache_clear()
    grid = dk.Grid(methods=(method,), budget=(0.4,), train=dk.TrainConfig(epochs=1, fine_tune_epochs=1))
    row = job.run_job(grid.jobs()[0], tmp_path)
    job._data.cache_clear()
    assert row["error"] == "" and row["kind"] == KINDS[method] and row["latency_1_ms"] > 0
    found = to_table([row]).iloc[0]
    if KINDS[method] == "static":
        net = dk.load_compact(tmp_path / "compact.safetensors")
        assert row["macs"] == plain_cost(net, digits.example).macs <= 0.4 * row["macs"] / row["kept_macs"]
        return
    net = load_dynamic(tmp_path / "dynamic.safetensors")
    table = per_image(net, digits.test)
    assert found.macs == round(table.macs.mean())
    assert found.kept_macs == pytest.approx(table.macs.mean() / net.channels.dense_cost.macs)
    assert found.params == sum(p.numel() for p in net.parameters()) > net.channels.dense_cost.params
    assert found.kept_params > 1 and list(found.channels) == net.channels.sizes
    assert np.abs(np.array(found.open) - np.mean(table.open.tolist(), 0)).max() <= 0.5
    assert found.test_accuracy == pytest.approx(table.correct.mean())
    x, y = next(iter(digits.test.batches(1000)))
    torch.testing.assert_close(
        torch.tensor(table.loss), F.cross_entropy(net(x), y, reduction="none").detach()
    )
    assert table.macs.tolist() == net.macs_per_image(x).tolist()


def test_kinds_are_never_in_one_front():
    row = {"stage": "report", "data": "digits", "model": "small", "method": "halved", "error": ""}
    runs = [
        row | {"run": f"{kind}-{kept}-{seed}", "kind": kind, "seed": seed, "kept_macs": kept, "macs": 1}
        | {"test_accuracy": accuracy, "val_accuracy": accuracy, "lam": np.nan, "budget": kept}
        for kind, better in (("static", 0.0), ("dynamic", 0.1))
        for kept, accuracy in ((0.2, 0.5 + better), (0.4, 0.7 + better))
        for seed in (0, 1)
    ]  # fmt: skip
    table = pd.DataFrame(runs)
    assert set(dk.pareto_front(table).kind) == {"static", "dynamic"}
    matched = at_matched_cost(table, [0.2])
    assert sorted(matched.accuracy.tolist()) == pytest.approx([0.5, 0.5, 0.6, 0.6])
    assert dict(zip(matched.kind, matched.accuracy, strict=True)) == pytest.approx(
        {"static": 0.5, "dynamic": 0.6}
    )
    old = dk.pareto_front(table[table.kind == "static"].drop(columns="kind"))
    assert set(old.kind) == {"static"}  # of a version that knew no others


@pytest.mark.parametrize(("kind", "hollow"), [("static", False), ("dynamic", True), ("factorised", True)])
def test_other_kinds_have_hollow_markers_and_a_note(kind, hollow):
    faces, edges = marker_colours(["fbs"], [kind])
    assert (faces == ["white"]) is hollow and (edges[0] == plots.look("fbs")[1]) is hollow
    assert with_kind("FBS", kind) == (f"FBS ({kind})" if hollow else "FBS")
    assert (kind in kind_notes([kind])) is hollow


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_easy_images_take_fewer_macs_than_hard_ones_where_they_pay_for_them():
    data, gaps = dk.load_data("digits"), []
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        net = manidp(dk.make_model("small", 1, 10, (8, 8)), data, 0.3, dk.TrainConfig(epochs=15, seed=seed))
        assert dk.evaluate(net, data.val)[1] > 0.9
        macs = per_image(net, data.train).sort_values("loss").macs / net.channels.dense_cost.macs
        third = len(macs) // 3
        gaps.append(macs[-third:].mean() - macs[:third].mean())
    assert min(gaps) > 0 and np.mean(gaps) > 0.01


def test_kinds_of_the_methods():
    assert {name for name, kind in KINDS.items() if kind == "dynamic"} == set(DYNAMIC)
    assert set(KINDS) == set(BASELINES)


def make(name="small", size=8):
    torch.manual_seed(0)
    return dk.make_model(name, 1, 10, (size, size))


@pytest.fixture(scope="module")
def digits():
    data = dk.load_data("digits")
    return replace(data, train=data.train.take(200), val=data.val.take(20), test=data.test.take(20))
