"""Channel groups, what they cost, gated forward passes, and removal: all must agree to the unit."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import slow_but_the_first
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import depl0kit as dk
from depl0kit.gates.posteriors import POSTERIORS


class FixedGates(dk.GatePosterior):
    """log_alphas set from outside: at +-1000 the gates are hard."""

    def __init__(self, sizes, log_alpha):
        super().__init__(sizes)
        self.register_buffer("fixed", log_alpha)

    def flat_log_alpha(self):
        return self.fixed


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """With batch norms as after a long training, so that a misplaced gate shows."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                for t in (m.weight, m.bias, m.running_mean):
                    t.normal_(generator=rng)
                m.running_var.uniform_(0.3, 2.0, generator=rng)
    return model


def tanh_net():
    """No batch norm, f(0) = 0 but not homogeneous, a flatten with several positions, a Linear with bias."""
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 5, 3, padding=1), nn.GELU()),
        *(nn.Flatten(), nn.Linear(5 * 9, 7), nn.Tanh(), nn.Linear(7, 3)),
    )


def mixed_net():
    """Batch norm of the images, conv bias before batch norm, two batch norms in a row, stride, dropout."""
    return nn.Sequential(
        nn.BatchNorm2d(2),
        *(nn.Conv2d(2, 8, 3, stride=2), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, (3, 1), bias=False), nn.MaxPool2d(1), nn.Dropout(0.3), nn.Flatten()),
        *(nn.Linear(6 * 3, 9), nn.BatchNorm1d(9), nn.SiLU(), nn.Linear(9, 4, bias=False)),
    )


class Functional(nn.Module):
    """Functions and methods in place of modules, and one ReLU used three times."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 5, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc1, self.fc2 = nn.Linear(5 * 4, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = nn.functional.max_pool2d(torch.relu(self.conv3(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc2(self.relu(self.fc1(x)))


class GlobalMean(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(torch.tanh(self.conv(x)).mean(dim=(2, 3)))


NETS = {
    "small": (lambda: dk.make_model("small", 1), (1, 8, 8)),
    "lenet": (lambda: dk.make_model("lenet", 1, image_size=(20, 20)), (1, 20, 20)),
    "vgg16": (lambda: dk.make_model("vgg16"), (3, 32, 32)),
    "tanh": (tanh_net, (2, 8, 8)),
    "mixed": (mixed_net, (2, 8, 8)),
    "functional": (Functional, (2, 8, 8)),
    "mean": (GlobalMean, (2, 8, 8)),
}
CASES = [
    *(
        (name, seed, closed)
        for name in NETS
        if name != "vgg16"
        for seed, closed in enumerate((0.0, 0.3, 0.9))
    ),
    *(pytest.param("vgg16", seed, closed, marks=pytest.mark.slow) for seed, closed in enumerate((0.5, 0.95))),
]


def dense(name: str, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(seed)
    build, shape = NETS[name]
    return shaken(build(), seed), torch.randn(3, *shape)


def pruned(name: str, seed: int, closed: float, hard: bool = False) -> tuple[dk.GatedModel, torch.Tensor]:
    """A network with this share of its gates closed; the others open, or fractional unless `hard`."""
    model, x = dense(name, seed)
    sizes = [g.channels for g in dk.GatedModel(model, example=x).groups.gated]
    scores = torch.rand(sum(sizes))
    for part in scores.split(sizes):
        part[torch.randint(len(part), ())] = 1.0  # one stays open, or there is no network to compare with
    level = torch.full((sum(sizes),), 1e3) if hard else 6 * torch.rand(sum(sizes)) - 1.5
    log_alpha = torch.where(scores < closed, -1e3, level)
    return dk.GatedModel(model, FixedGates(sizes, log_alpha), example=x).eval(), x


def measured(model: nn.Module, x: torch.Tensor) -> dk.Cost:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x[:1])
    return dk.Cost(counter.get_total_flops() // 2, sum(p.numel() for p in model.parameters()))


@pytest.mark.parametrize(("name", "seed", "closed"), CASES)
def test_compact_computes_the_same_at_the_predicted_cost(name, seed, closed):
    net, x = pruned(name, seed, closed)
    small = dk.compact(net)
    with torch.no_grad():
        torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-5)
    assert net.exact_cost() == measured(small, x)
    assert net.dense_cost == measured(net.model, x)
    gates = net.posterior.flat_deterministic()
    assert bool(((gates > 0) & (gates < 1)).any()) and bool((gates == 0).any()) == (closed > 0)


@pytest.mark.parametrize(("name", "seed", "closed"), CASES)
def test_expected_cost_of_hard_gates_is_the_exact_cost(name, seed, closed):
    net, x = pruned(name, seed, closed, hard=True)
    expected = net.expected_cost()
    exact = net.exact_cost()
    assert (expected.macs.item(), expected.params.item()) == exact == measured(dk.compact(net), x)


@pytest.mark.parametrize("name", slow_but_the_first(NETS))
def test_a_closed_channel_is_zero_at_its_readers(name):
    net, x = pruned(name, 0, 0.5)
    for group, gate in zip(net.groups.gated, net.posterior.deterministic(), strict=True):
        (reader,) = group.readers
        layer, seen = net.model.get_submodule(reader), []
        handle = layer.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            net(x)
        handle.remove()
        channels = seen[0][:, group.members[reader, "in"]]
        assert channels.numel() == seen[0].numel()
        assert bool((channels[:, gate == 0] == 0).all())
        assert bool((channels[:, gate > 0] != 0).any())


def test_groups_of_the_models():
    small = dk.GatedModel(dk.make_model("small", 1), example=torch.zeros(1, 1, 8, 8)).groups
    assert [g.channels for g in small.gated] == [24, 24, 48, 48]
    assert [g.name for g in small if not g.gated] == ["classifier"]
    lenet = dk.GatedModel(dk.make_model("lenet", 1, image_size=(28, 28)), example=torch.zeros(1, 1, 28, 28))
    assert [g.channels for g in lenet.groups.gated] == [20, 50, 500]
    assert [g.spread((g.readers[0], "in")) for g in lenet.groups.gated] == [1, 16, 1]
    vgg = dk.GatedModel(dk.make_model("vgg16"), example=torch.zeros(1, 3, 32, 32))
    assert len(vgg.groups.gated) == 13 and vgg.dense_cost.macs == 313_201_664  # the 313 M of the literature


def test_groups_print_as_a_table():
    text = str(dk.GatedModel(dk.make_model("small", 1), example=torch.zeros(1, 1, 8, 8)).groups)
    header, *rows = text.splitlines()
    assert header.split() == ["group", "channels", "written", "by", "read", "by", "MACs", "gate"]
    assert rows[0].split() == ["features.0", "24", "features.0", "features.3", "41.0%", "yes"]
    assert rows[-2].endswith("none (1)") and rows[-1] == "(1) it is the network's output"


def test_channel_table():
    net, _ = pruned("small", 0, 0.5, hard=True)
    table = net.channel_table()
    assert table.group.tolist() == [g.name for g in net.groups.gated]
    assert table.channels.tolist() == [24, 24, 48, 48]
    assert table.open.tolist() == table.expected_open.tolist() == net.open_channels()
    assert table.sparsity.tolist() == [1 - k / n for k, n in zip(table.open, table.channels, strict=True)]


# --- expected cost ---------------------------------------------------------------------------------


def tiny(posterior: str) -> dk.GatedModel:
    """3 + 2 gates; costs written out below."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4, 3)),
    )
    net = dk.GatedModel(model, posterior, example=torch.zeros(1, 1, 6, 6))
    with torch.no_grad():
        for p in net.posterior.parameters():
            p.copy_(torch.randn(p.shape))
    return net


def cost_by_hand(a, b):
    """Of `tiny` with a and b open channels: images of 6, 4 and 2 pixels a side."""
    macs = 9 * 16 * a + 9 * 4 * a * b + 3 * 4 * b
    params = 9 * a + a + 2 * a + 9 * a * b + b + 3 * 4 * b + 3
    return macs, params


@pytest.mark.parametrize("posterior", ["mean_field", "forward", "backward"])
def test_expected_cost_is_the_mean_over_all_masks(posterior):
    net = tiny(posterior)
    p = net.posterior.flat_prob_open().detach().double()
    assert float(p.min()) < 0.8 and float(p.max()) > 0.2  # far from a certain mask
    mean = torch.zeros(2, dtype=torch.float64)
    for mask in itertools.product((0, 1), repeat=5):
        z = torch.tensor(mask)
        mean += torch.where(z == 1, p, 1 - p).prod() * torch.tensor(
            cost_by_hand(sum(mask[:3]), sum(mask[3:]))
        )
        assert net.channels.cost([sum(mask[:3]), sum(mask[3:])]) == cost_by_hand(sum(mask[:3]), sum(mask[3:]))
    torch.testing.assert_close(torch.stack(net.expected_cost()), mean, rtol=1e-6, atol=0)


def test_expected_cost_of_autoregressive_gates_is_the_mean_over_chains(monkeypatch):
    monkeypatch.setattr("depl0kit.gates.autoregressive.CHAINS", 20_000)
    net = tiny("autoregressive")
    with torch.no_grad():  # the second group opens where the first has most gates open
        net.posterior.generator[0].weight.zero_()
        net.posterior.generator[0].bias.fill_(-0.35)
        net.posterior.generator[1].weight.fill_(4.0)
        net.posterior.generator[1].bias.fill_(-5.0)
    first, second = (z.gt(0).sum(-1).double() for z in net.posterior.sample(20_000))
    macs, params = (c.mean() for c in cost_by_hand(first, second))
    expected = net.expected_cost()
    torch.testing.assert_close(expected.macs, macs, rtol=0.01, atol=0)
    torch.testing.assert_close(expected.params, params, rtol=0.01, atol=0)
    # what independent gates with the same P(open) would cost is something else
    independent = cost_by_hand(first.mean(), second.mean())[0]
    assert abs(independent - macs) > 0.02 * macs


def test_gradient_of_expected_cost_is_that_of_the_masks():
    net = tiny("mean_field")
    torch.autograd.backward(net.expected_cost().macs)
    theta, grad = net.posterior.theta, net.posterior.theta.grad
    for i in range(len(theta)):
        values = []
        for step in (-1e-2, 1e-2):
            with torch.no_grad():
                theta[i] += step
                values.append(float(net.expected_cost().macs))
                theta[i] -= step
        assert float(grad[i]) == pytest.approx((values[1] - values[0]) / 2e-2, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_expected_cost_before_any_forward_pulls_every_gate_down(posterior):
    net = dk.GatedModel(dk.make_model("small", 1), posterior, example=torch.zeros(1, 1, 8, 8))
    share = net.expected_cost() / net.dense_cost
    share.macs.backward()
    assert 0.95 < float(share.macs.detach()) <= 1
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.posterior.parameters())
    if posterior == "mean_field":
        assert bool((net.posterior.theta.grad > 0).all())


@pytest.mark.parametrize(("name", "side"), slow_but_the_first([("small", 100), ("vgg16", 32)]))
def test_half_precision_does_not_touch_the_cost(name, side):
    net = dk.GatedModel(dk.make_model(name), example=torch.zeros(1, 3, side, side))
    dense_cost = net.dense_cost
    ones = torch.ones(sum(net.posterior.sizes))
    with torch.autocast("cpu", torch.bfloat16):
        assert tuple(c.item() for c in net.channels.cost_model(ones)) == dense_cost
    assert tuple(c.item() for c in net.half().channels.cost_model(ones)) == dense_cost


# --- the gated network -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small", "functional", "tanh"])
def test_open_gates_leave_the_network_as_it_is(name):
    model, x = dense(name)
    net, x = pruned(name, 0, 0.0, hard=True)
    with torch.no_grad():
        torch.testing.assert_close(net(x), dense(name)[0].eval()(x))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gated = dk.GatedModel(model, example=x).train()
    gated(x).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_training_draws_gates_and_evaluation_does_not():
    model, x = dense("small")
    net = dk.GatedModel(model, example=x)
    with torch.no_grad():
        net.posterior.theta.zero_()
        frozen = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        net.train()
        for m in frozen:
            m.eval()  # only the gates are random
        assert not torch.allclose(net(x), net(x))
        same = x[:1].expand(3, -1, -1, -1)
        out = net(same)
        assert not torch.allclose(out[0], out[1])  # a draw per example
        net.sampling = "batch"
        out = net(same)
        torch.testing.assert_close(out[0], out[1])
        net.eval()
        assert torch.equal(net(x), net(x))


def test_gates_get_a_gradient_through_the_network():
    model, x = dense("small")
    net = dk.GatedModel(model, example=x)
    with torch.no_grad():
        net.posterior.theta.zero_()
    net(x).square().sum().backward()
    assert float((net.posterior.theta.grad != 0).float().mean()) > 0.5


def gates_of(net):
    """The gates that act in the network, by its forward pre-hooks."""
    return {hook.__self__ for module in net.model.modules() for hook in module._forward_pre_hooks.values()}


def test_a_gated_input_that_is_kept_by_its_factors_gives_the_same_gradients(monkeypatch):
    model, x = dense("small")
    net = dk.GatedModel(model, example=x)
    gates = [torch.rand(len(x), g.channels).requires_grad_() for g in net.groups.gated]
    inputs = [*gates, *net.model.parameters()]

    def gradients():
        return torch.autograd.grad(net.forward_gated(x, gates).square().sum(), inputs)

    def same(tensor):
        return tensor

    asked = []
    monkeypatch.setattr("depl0kit.channels.masks.LARGE", 0)
    monkeypatch.setattr("depl0kit.channels.masks.saved_tensors_hooks", counted(asked))
    got = gradients()
    assert asked.count("product") == len(net._gates)  # each was left out, and none was kept in full
    monkeypatch.setattr(
        "depl0kit.channels.masks._factors_kept",
        lambda *_: torch.autograd.graph.saved_tensors_hooks(same, same),
    )
    assert all(torch.equal(a, b) for a, b in zip(got, gradients(), strict=True))


def counted(asked):
    """Autograd's hooks that also note what was to be kept."""

    def hooks(keep, give):
        def noted(tensor):
            kept = keep(tensor)
            asked.append("product" if kept is None else "other")
            return kept

        return torch.autograd.graph.saved_tensors_hooks(noted, give)

    return hooks


@pytest.mark.parametrize(
    ("large", "words"), [(0, "changed in place"), (10**9, "modified by an inplace operation")]
)  # the product is left out, and we tell; or it is kept, and autograd tells
def test_an_input_that_is_changed_after_it_was_gated_is_refused_in_the_backward_pass(
    monkeypatch, large, words
):
    monkeypatch.setattr("depl0kit.channels.masks.LARGE", large)

    class Careless(nn.Sequential):
        def forward(self, x):
            hidden = self[0](x)
            out = self[1](hidden)
            hidden.mul_(2)
            return out

    net = dk.GatedModel(Careless(nn.Linear(4, 8), nn.Linear(8, 2)), example=torch.zeros(1, 4))
    with pytest.raises(RuntimeError, match=words):
        net(torch.randn(3, 4)).sum().backward()


def test_what_fails_in_a_gated_layer_leaves_autograd_as_it_was(monkeypatch):
    monkeypatch.setattr("depl0kit.channels.masks.LARGE", 0)
    model, x = dense("small")
    net = dk.GatedModel(model, example=x)
    with pytest.raises(RuntimeError):
        net(x[:, :, :1, :1].expand(-1, 5, -1, -1))
    reader = net.model.get_submodule(net.groups.gated[0].readers[0])
    reader.forward = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        net(x)
    assert not any(gate._keeping for gate in net._gates)


def test_a_deepcopy_has_gates_of_its_own():
    model, x = dense("small")
    net = dk.GatedModel(model, example=x).eval()
    twin = copy.deepcopy(net)
    with torch.no_grad():
        expected = net(x)
        twin.posterior.theta[:60] = -20.0
        assert not torch.allclose(twin(x), expected)
        assert torch.equal(net(x), expected)
        gates = [z.clone() for z in twin.posterior.deterministic()]
        assert gates_of(twin) and not gates_of(twin) & gates_of(net)
        assert all(gate.value is None for gate in gates_of(twin))
        torch.testing.assert_close(net.forward_gated(x, gates), twin(x))
        torch.testing.assert_close(dk.compact(twin)(x), twin(x), atol=1e-5, rtol=1e-5)


def test_gates_are_taken_off_after_an_error():
    model, x = dense("small")
    net = dk.GatedModel(model, example=x)
    with pytest.raises(RuntimeError):
        net(torch.zeros(2, 5, 8, 8))
    assert len(gates_of(net)) == len(net.groups.gated)
    assert all(gate.value is None for gate in gates_of(net))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_state_dict_holds_network_and_gates(posterior):
    model, x = dense("small")
    net = dk.GatedModel(model, posterior, example=x).eval()
    with torch.no_grad():
        for p in net.posterior.parameters():
            p.normal_()
    keys = {f"model.{k}" for k in model.state_dict()} | {f"posterior.{k}" for k in net.posterior.state_dict()}
    assert set(net.state_dict()) == keys
    other = dk.GatedModel(dense("small", 5)[0], posterior, example=x).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(posterior, dtype):
    model, x = dense("small")
    net = dk.GatedModel(model, posterior, example=x).eval()
    with torch.no_grad():
        plain = net(x)
        with torch.autocast("cpu", dtype):
            half = net(x)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), plain, atol=0.1 * float(plain.abs().max()), rtol=0.1)
    with torch.autocast("cpu", dtype):
        loss = net.train()(x).float().square().mean() + net.expected_cost().macs / net.dense_cost.macs
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.posterior.parameters())


# --- the compact network ---------------------------------------------------------------------------


def test_compact_leaves_no_trace_of_gates():
    net, x = pruned("small", 0, 0.5)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    small = dk.compact(net)
    for m in small.modules():
        assert not (m._forward_hooks or m._forward_pre_hooks or m._backward_hooks)
        assert (
            not type(m).__module__.startswith("depl0kit") or m is small
        )  # ConvNet itself is the user's model
    assert not small.training
    assert list(small.state_dict()) == list(dense("small")[0].state_dict())
    assert all(p.requires_grad for p in small.parameters())
    # the gated network continues as before
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(net(x), small(x), atol=1e-5, rtol=1e-5)


def test_compact_knows_its_own_widths():
    net, _ = pruned("lenet", 1, 0.5)
    small, widths = dk.compact(net), net.open_channels()
    convs = [m for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convs] == widths[:2] == [len(m.weight) for m in convs]
    assert convs[1].in_channels == widths[0] == convs[1].weight.shape[1]
    assert (small.fc1.in_features, small.fc1.out_features) == (widths[1] * 4, widths[2])
    assert small.fc2.in_features == widths[2]


def test_compact_keeps_frozen_parameters_and_the_users_hooks():
    model, x = dense("small")
    model.features[0].weight.requires_grad_(False)
    calls = []
    model.features[2].register_forward_hook(lambda *args: calls.append(1))
    small = dk.compact(dk.GatedModel(model, example=x))
    assert not small.features[0].weight.requires_grad and small.features[3].weight.requires_grad
    calls.clear()
    small(x)
    assert calls == [1]


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_network_with_all_gates_shut_keeps_one_channel_per_group(posterior):
    model, x = dense("small")
    net = dk.GatedModel(model, posterior, example=x).eval()
    with torch.no_grad():
        for name, p in net.posterior.named_parameters():
            p.fill_(0.0 if "weight" in name else -30.0)
        assert net.open_channels() == [1, 1, 1, 1]
        small = dk.compact(net)
        torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-5)
    assert net.exact_cost() == measured(small, x)


def test_compact_can_be_trained_and_saved(tmp_path):
    net, x = pruned("small", 0, 0.7)
    small = dk.compact(net).train()
    small(x).sum().backward()
    assert all(p.grad is not None for p in small.parameters())
    torch.save(small.state_dict(), tmp_path / "small.pt")
    again = dk.compact(net)
    again.load_state_dict(torch.load(tmp_path / "small.pt"))


ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.GELU, nn.ReLU6, nn.Hardswish]
ACTIVATIONS += [nn.Softplus, nn.Sigmoid, nn.PReLU]  # cannot follow a gate
POOLS = [
    lambda: nn.MaxPool2d(2, ceil_mode=True),
    lambda: nn.AvgPool2d(2, padding=1),
    lambda: nn.MaxPool2d(3, 1, 1),
]
PARTS = [*ACTIVATIONS, *POOLS, nn.Identity, nn.Dropout]


@st.composite
def chains(draw):
    """Any chain: what stands between two layers, in what order, with and without batch norm and bias."""
    width, layers = 2, []
    for _ in range(draw(st.integers(1, 3))):
        out = draw(st.integers(1, 5))
        layers.append(
            nn.Conv2d(width, out, draw(st.sampled_from([1, 3])), padding=1, bias=draw(st.booleans()))
        )
        for part in draw(st.lists(st.sampled_from(["norm", *PARTS]), max_size=4)):
            layers.append(nn.BatchNorm2d(out) if part == "norm" else part())
        width = out
    layers += [nn.AdaptiveAvgPool2d(draw(st.sampled_from([1, 2]))), nn.Flatten()]
    positions = layers[-2].output_size ** 2
    if draw(st.booleans()):
        layers += [nn.Linear(width * positions, 4), draw(st.sampled_from(ACTIVATIONS))()]
        width, positions = 4, 1
    return nn.Sequential(*layers, nn.Linear(width * positions, 3))


@settings(max_examples=settings.default.max_examples * 3 // 5)
@given(chains(), st.integers(0, 1000), st.floats(0, 1))
def test_any_chain_is_compacted_exactly_or_left_alone(model, seed, closed):
    torch.manual_seed(seed)
    x = torch.randn(2, 2, 8, 8)
    try:
        net = dk.GatedModel(shaken(model, seed), example=x).eval()
    except ValueError as error:
        assert "nothing to gate" in str(error)
        return
    with torch.no_grad():
        theta = net.posterior.theta
        theta.copy_(torch.where(torch.rand(len(theta)) < closed, -30.0, torch.randn(len(theta))))
        small = dk.compact(net)
        torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-5)
    assert net.exact_cost() == measured(small, x)
