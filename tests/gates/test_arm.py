"""Gates of 0 and 1, and the gradient that training estimates for them."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import depl0kit as dk
from depl0kit.gates.bernoulli import Bernoulli
from depl0kit.gates.exact.problems import all_masks
from depl0kit.gates.posteriors import make_posterior
from depl0kit.training.loop import Batch

EXAMPLES = 4


@pytest.fixture
def q() -> Bernoulli:
    """P(open) 0.2, 0.4, 0.6, 0.8 in the first group, 0.1, 0.3 in the second."""
    return with_prob_open(Bernoulli([4, 2]), [0.2, 0.4, 0.6, 0.8, 0.1, 0.3])


def with_prob_open(q: dk.MeanField, prob_open: list[float]) -> dk.MeanField:
    bound, spike = math.log(100), 2 / 3 * math.log(0.1 / 1.1)
    with torch.no_grad():
        log_alpha = torch.tensor(prob_open).logit() + spike
        q.theta.copy_(bound * torch.atanh(log_alpha / bound))
    return q


# ---- the gates


def test_a_draw_is_whether_the_noise_is_below_prob_open(q):
    noise = torch.tensor([[0.19, 0.41, 0.59, 0.81, 0.0, 0.99], [0.21, 0.39, 0.61, 0.79, 0.11, 0.29]])
    gates, prob_open = q.draw(noise)
    assert gates.tolist() == [[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]
    assert not gates.requires_grad and prob_open.requires_grad
    torch.testing.assert_close(prob_open, q.flat_prob_open()[None])
    assert set(q.flat_sample(100).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("rule", ["paper", "median"])
def test_at_test_time_gates_are_open_above_one_half(q, rule):
    q.test_rule = rule
    assert [z.tolist() for z in q.deterministic()] == [[0, 0, 1, 1], [0, 1]]  # the second group keeps one
    closing = with_prob_open(
        Bernoulli([4, 2], may_close=[True, True], test_rule=rule), q.flat_prob_open().tolist()
    )
    assert [z.tolist() for z in closing.deterministic()] == [[0, 0, 1, 1], [0, 0]]


def test_by_the_rule_expected_the_likeliest_gates_are_one(q):
    q.test_rule = "expected"  # 2.0 gates are expected in the first group, 0.4 in the second
    assert [z.tolist() for z in q.deterministic()] == [[0, 0, 1, 1], [0, 1]]
    more = with_prob_open(Bernoulli([4], test_rule="expected"), [0.45, 0.4, 0.48, 0.49])
    assert more.flat_deterministic().tolist() == [0, 0, 1, 1]  # 1.82 are expected, though none is likely


def test_gates_have_no_temperature(q):
    before = q.flat_prob_open(), q.flat_deterministic()
    q.temperature = 0.1
    assert torch.equal(q.flat_prob_open(), before[0]) and torch.equal(q.flat_deterministic(), before[1])
    other = Bernoulli([4, 2], dk.HardConcrete(0.1, (-0.5, 1.5)))
    assert torch.equal(other.flat_prob_open(), Bernoulli([4, 2]).flat_prob_open())


# ---- the estimate


def toy(posterior: str | dk.GatePosterior, sampling: str = "example") -> tuple[dk.GatedModel, Batch]:
    """Three gates, without batch norm: the loss of an example depends on its own gates only."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    with torch.no_grad():
        model[2].weight.mul_(4)  # so that every gate matters
    net = dk.GatedModel(model, posterior, torch.zeros(1, 2), sampling=sampling).train()
    return net, Batch(net, "macs")


def exact_gradient(net: dk.GatedModel, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of the expected cross-entropy in theta, by a sum over all masks."""
    p, masks = net.posterior.flat_prob_open().double(), all_masks(3)
    q = torch.where(masks > 0, p, 1 - p).prod(1)
    losses = [F.cross_entropy(net.forward_gated(x, [mask.float()]), y).detach() for mask in masks]
    return torch.autograd.grad((q * torch.stack(losses)).sum(), net.posterior.theta)[0]


def test_per_example_the_gradient_is_that_of_the_expected_loss():
    net, batch = toy(with_prob_open(Bernoulli([3]), [0.3, 0.6, 0.9]))
    x, y = torch.randn(EXAMPLES, 2), torch.tensor([0, 1, 1, 0])
    exact, copies = exact_gradient(net, x, y), 20_000
    noise = torch.rand(EXAMPLES * copies, 3)
    loss, _ = batch(x.repeat(copies, 1), y.repeat(copies), noise)
    (found,) = torch.autograd.grad(loss, net.posterior.theta)
    assert exact.abs().min() > 0.005
    torch.testing.assert_close(found, exact, atol=0.0025, rtol=0)  # about four standard errors


def test_per_batch_the_gradient_is_that_of_the_expected_loss():
    net, batch = toy(with_prob_open(Bernoulli([3]), [0.3, 0.6, 0.9]), "batch")
    x, y = torch.randn(EXAMPLES, 2), torch.tensor([0, 1, 1, 0])
    exact = exact_gradient(net, x, y)
    draws = torch.rand(1500, 3, generator=torch.Generator().manual_seed(0))
    found = [torch.autograd.grad(batch(x, y, noise)[0], net.posterior.theta)[0] for noise in draws]
    error = torch.stack(found).std(0) / len(found) ** 0.5
    assert bool(((torch.stack(found).mean(0) - exact).abs() < 4 * error).all())
    assert bool((exact.abs() > 4 * error).any())


def test_the_loss_and_the_gradient_of_the_weights_are_those_of_the_draws():
    net, batch = toy("arm")
    x, y, noise = torch.randn(EXAMPLES, 2), torch.tensor([0, 1, 1, 0]), torch.rand(EXAMPLES, 3)
    with_prob_open(net.posterior, [0.5] * 3)
    loss, share = batch(x, y, noise)
    plain = F.cross_entropy(net.forward_with_prob_open(x, noise)[0], y)
    assert torch.equal(loss, plain) and torch.equal(share, net.expected_share("macs"))
    weights = list(net.model.parameters())
    for found, expected in zip(
        *(torch.autograd.grad(value, weights) for value in (loss, plain)), strict=True
    ):
        assert torch.equal(found, expected)


class Mean(nn.Module):
    """Keeps the mean of its inputs, and changes its buffer by itself, as no module of torch does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return x


@pytest.fixture
def net() -> dk.GatedModel:
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(6), nn.BatchNorm2d(5, momentum=None)
    convolutions = nn.Conv2d(1, 6, 3), norms[0], nn.ReLU(), nn.Conv2d(6, 5, 3), norms[1], nn.ReLU()
    model = nn.Sequential(Mean(), *convolutions, nn.Flatten(), nn.Linear(5 * 16, 3))
    net = dk.GatedModel(model, "arm", torch.zeros(1, 1, 8, 8)).train()
    with_prob_open(net.posterior, [0.5] * 11)
    return net


def test_the_opposite_pass_sees_the_statistics_of_the_batch_and_keeps_none(net):
    x, noise = torch.randn(8, 1, 8, 8) + 2, torch.rand(8, 11)
    gates = net.posterior.split((1 - noise < net.posterior.flat_prob_open()).float())
    expected = copy.deepcopy(net).forward_gated(x, gates)  # which would keep them
    before = copy.deepcopy(net.state_dict())
    found = net.forward_opposite(x, noise)
    assert torch.equal(found, expected) and not found.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net.model[2].eval()  # a frozen batch norm stays frozen
    assert not torch.equal(net.forward_opposite(x, noise), expected)


def test_a_step_keeps_the_statistics_of_its_draws(net):
    x, y, noise = torch.randn(8, 1, 8, 8), torch.arange(8) % 3, torch.rand(8, 11)
    plain = copy.deepcopy(net)
    Batch(net, "macs")(x, y, noise)
    plain.forward_with_prob_open(x, noise)
    pairs = zip(net.buffers(), plain.buffers(), strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs)


def test_half_precision_gives_the_same_gradient_up_to_rounding(net):
    x, y, noise = torch.randn(64, 1, 8, 8), torch.arange(64) % 3, torch.rand(64, 11)
    found = []
    for half in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss, _ = Batch(net, "macs")(x, y, noise)
        loss.backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
        found.append((net.posterior.theta.grad, net.model[4].weight.grad))
    for whole, rounded in zip(*found, strict=True):
        assert float((rounded - whole).norm() / whole.norm()) < 0.1


def test_the_loop_of_the_docstring_moves_gates_that_are_needed_and_others():
    """A step of one's own loop, as `arm_term` shows it: of two inputs the first decides the class."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity(), nn.Linear(2, 2, bias=False))
    net = dk.GatedModel(model, with_prob_open(Bernoulli([2]), [0.5, 0.5]), torch.zeros(1, 2)).train()
    with torch.no_grad():
        model = net.model
        model[0].weight.copy_(torch.eye(2))
        model[2].weight.copy_(torch.tensor([[3.0, 1.0], [-3.0, -1.0]]))
    x = torch.randn(2000, 2)
    y, lam = (x[:, 0] < 0).long(), 0.1
    text = Bernoulli.arm_term.__doc__.split("labels y:\n\n")[1]
    exec(
        "\n".join(line.strip() for line in text.splitlines()),
        {"net": net, "F": F, "x": x, "y": y, "lam": lam},
    )
    assert net.posterior.theta.grad[0] < -0.05 < 0 < net.posterior.theta.grad[1]


def test_paper_start_is_near_one():
    torch.manual_seed(0)
    prob_open = Bernoulli([200], init="paper").flat_prob_open().detach()
    assert 0 < float(prob_open.std()) < 1e-3 and float(prob_open.mean()) == pytest.approx(0.99, abs=1e-3)
    assert type(make_posterior(Bernoulli([3]).describe(), [3])) is Bernoulli
