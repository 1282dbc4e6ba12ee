"""The test-time rule "expected": as many open gates as are expected, and what they are worth."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_posteriors import FAMILIES, SIZES, scattered
from torch import nn

import depl0kit as dk
from depl0kit.gates.posteriors import make_posterior

SHAPES = [(2 / 3, (-0.1, 1.1)), (0.2, (-0.3, 1.2)), (2.0, (-0.1, 1.1))]


def mean_field(log_alpha: list[float], may_close: bool = False, rule: str = "expected") -> dk.MeanField:
    """One group with these log_alphas."""
    q = dk.MeanField([len(log_alpha)], may_close=[may_close], test_rule=rule)
    with torch.no_grad():
        bound = math.log(100)
        q.theta.copy_(bound * torch.atanh(torch.tensor(log_alpha) / bound))
    return q


def rounded(x: float) -> int:
    return math.floor(x + 0.5)


@pytest.mark.parametrize(("temperature", "stretch"), SHAPES)
@pytest.mark.parametrize("log_alpha", [-4.0, -2.0, 0.0, 3.0])
def test_mean_if_open_is_the_mean_of_open_draws(log_alpha, temperature, stretch):
    hc, rng = dk.HardConcrete(temperature, stretch), torch.Generator().manual_seed(0)
    noise = torch.rand(2_000_000, generator=rng, dtype=torch.float64)
    z = hc.sample(torch.tensor(log_alpha, dtype=torch.float64), noise)
    opened = z[z > 0]
    error = 5 * float(opened.std()) / len(opened) ** 0.5
    mean = float(hc.mean_if_open(torch.tensor(log_alpha, dtype=torch.float64)))
    assert mean == pytest.approx(float(opened.mean()), abs=error)
    # and to many digits: the mean of z over even noise in the open part, z > 0 exactly where u > 1 - P(open)
    p = float(hc.prob_open(torch.tensor(log_alpha, dtype=torch.float64)))
    even = 1 - p + p * (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    exact = float(hc.sample(torch.tensor(log_alpha, dtype=torch.float64), even).mean())
    assert mean == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("stretch", [(0.0, 1.1), (-0.1, 1.0), (0.0, 1.0)])
def test_mean_if_open_without_a_spike(stretch):
    hc, even = dk.HardConcrete(2 / 3, stretch), (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    for log_alpha in torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64):
        p = hc.prob_open(log_alpha)
        exact = float(hc.sample(log_alpha, 1 - p + p * even).mean())
        assert float(hc.mean_if_open(log_alpha)) == pytest.approx(exact, abs=5e-4)


def test_mean_if_open_stays_a_mean_where_gates_are_hardly_ever_open():
    mean = dk.HardConcrete().mean_if_open(torch.tensor([-200.0, -50.0, 50.0, 200.0]))
    assert bool(((mean > 0) & (mean <= 1 + 1e-6)).all())
    torch.testing.assert_close(mean[2:], torch.ones(2))


@given(st.sampled_from(FAMILIES), st.integers(0, 10**6), st.floats(0.05, 1.0), st.booleans())
def test_as_many_gates_are_open_as_are_expected(name, seed, scale, may_close):
    q = scattered(make_posterior(name, SIZES, may_close=[may_close] * 3), scale, seed)
    q.test_rule = "expected"
    for gates, prob_open in zip(q.deterministic(), q.prob_open(), strict=True):
        wanted = max(rounded(float(prob_open.detach().sum())), 0 if may_close else 1)
        assert int((gates > 0).sum()) == wanted
        assert bool((gates >= 0).all() and (gates <= 1 + 1e-6).all())
        if 0 < wanted < len(gates):
            assert prob_open[gates > 0].min() >= prob_open[gates == 0].max()


def test_open_gates_have_the_papers_value_or_the_mean_where_that_is_zero():
    # P(open) 0.97, 0.20, 0.23, 0.27: 1.67 are expected, so the likeliest that the papers' rule closes stays
    q = mean_field([2.0, -3.0, -2.8, -2.6])
    hc, (gates,) = dk.HardConcrete(), q.deterministic()
    first, last = hc.deterministic(torch.tensor(2.0)), hc.mean_if_open(torch.tensor(-2.6))
    assert gates.tolist() == pytest.approx([float(first), 0, 0, float(last)], abs=1e-6)


def test_of_equal_gates_the_first_stay_open():
    (gates,) = mean_field([-1.6] * 7).deterministic()  # P(open) = 0.5: 3.5 expected, or a little less
    (prob_open,) = mean_field([-1.6] * 7).prob_open()
    count = rounded(float(prob_open.detach().sum()))
    assert (gates > 0).tolist() == [True] * count + [False] * (7 - count)


def test_only_a_group_that_may_close_does():
    for may_close, left in ((True, 0), (False, 1)):
        (gates,) = mean_field([-4.4, -4.3, -4.5], may_close).deterministic()
        assert int((gates > 0).sum()) == left and bool((gates[[0, 2]] == 0).all())


def test_the_choice_has_no_gradient_and_the_values_have_the_papers():
    q, paper = mean_field([2.0, 1.0, -1.5, -3.0]), mean_field([2.0, 1.0, -1.5, -3.0], rule="paper")
    for one in (q, paper):
        one.flat_deterministic().sum().backward()
    stays = q.flat_deterministic() > 0
    assert stays.tolist() == [True, True, True, False]  # 2.8 are expected
    assert torch.equal(q.theta.grad[stays], paper.theta.grad[stays]) and q.theta.grad[3] == 0
    with torch.no_grad():
        assert torch.equal(q.flat_deterministic(), q.flat_deterministic().detach())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_rule_has_one_name_and_comes_back_from_a_description(name):
    q = scattered(make_posterior(name, SIZES))
    paper, about = q.flat_deterministic(), q.describe()
    assert q.test_rule == "paper" and "test_rule" not in about  # as earlier versions wrote it
    for rule in ("median", "expected", "paper"):
        q.test_rule = rule
        again = make_posterior(q.describe(), SIZES)
        again.load_state_dict(q.state_dict())
        assert again.test_rule == q.test_rule == rule and again.describe() == q.describe()
        assert torch.equal(again.flat_deterministic(), q.flat_deterministic())
        assert type(q)(SIZES, test_rule=rule).test_rule == rule
    assert torch.equal(q.flat_deterministic(), paper) and q.describe() == about
    assert about["hard_concrete"] == asdict(dk.HardConcrete())


def network(posterior: str = "mean_field") -> dk.GatedModel:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 10, 3), nn.ReLU(), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(160, 10))
    return dk.GatedModel(model, posterior, torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("posterior", FAMILIES)
def test_compact_computes_what_the_gated_network_does(posterior):
    net = network(posterior).eval()
    scattered(net.posterior, 0.2)
    net.posterior.test_rule = "expected"
    x, small = torch.randn(3, 1, 8, 8), dk.compact(net)
    with torch.no_grad():
        torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-4)
    widths = [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert widths == net.open_channels()
    assert net.exact_cost() == dk.Channels(small, x).dense_cost


def test_exact_macs_of_undecided_gates_are_closer_to_the_expected_ones():
    net, rng, bound = network(), np.random.default_rng(0), math.log(100)
    gaps: dict[str, list[float]] = {"paper": [], "expected": []}
    for _ in range(50):
        log_alpha = torch.tensor(rng.uniform(-3, 0.5, 22), dtype=torch.float32)
        with torch.no_grad():
            net.posterior.theta.copy_(bound * torch.atanh(log_alpha / bound))
            expected = float(net.expected_cost().macs)
            counts = [float(p.sum()) for p in net.posterior.prob_open()]
            off = {}
            for rule, found in gaps.items():
                net.posterior.test_rule = rule
                found.append(abs(net.exact_cost().macs - expected) / net.dense_cost.macs)
                pairs = zip(net.open_channels(), counts, strict=True)
                off[rule] = [abs(n - count) for n, count in pairs]
        assert max(off["expected"]) <= 0.5 + 1e-4
        assert all(a <= b + 1e-4 for a, b in zip(off["expected"], off["paper"], strict=True))
    assert max(gaps["expected"]) < 0.1  # half a channel of 12 and of 10, at most
    assert np.mean(gaps["expected"]) < np.mean(gaps["paper"]) / 2
