"""The report on a network's posterior says what its gates do, for every family."""

import importlib

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit.gates.diagnostics import posterior_report
from depl0kit.gates.posteriors import POSTERIORS

module = importlib.import_module("depl0kit.gates.diagnostics")  # the package has a function of that name
each = pytest.mark.parametrize("name", list(POSTERIORS))


def make_net(posterior="mean_field"):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    )
    return dk.GatedModel(model, posterior, example=torch.zeros(1, 1, 8, 8))


def set_probs(net, prob_open):
    """Give the gates of a mean-field posterior these P(open)."""
    spike = torch.logit(net.posterior.hard_concrete.prob_open(torch.zeros(())))
    bound = dk.gates.posterior.BOUND
    with torch.no_grad():
        net.posterior.theta.copy_(bound * torch.atanh((torch.logit(prob_open) - spike) / bound))


@each
def test_every_posterior_has_a_report_that_prints(name):
    net = make_net(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    report, again = posterior_report(net), posterior_report(net)
    assert report.summary.gates == 11 and list(report.groups.channels) == [6, 5]
    assert np.isfinite(report.summary.to_numpy()).all() and not report.groups.isna().any().any()
    assert "directions" in str(report) and "11 gates in 2 groups" in str(report)
    assert "<table" in report._repr_html_()
    pd.testing.assert_series_equal(report.summary, again.summary)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training and not any(p.grad is not None for p in net.parameters())


def test_torchs_random_state_is_left_alone():
    net, state = make_net("forward"), torch.get_rng_state()
    posterior_report(net)
    assert torch.equal(state, torch.get_rng_state())


def test_costs_undecided_share_and_entropy():
    net = make_net()
    probs = torch.tensor([0.5] * 3 + [0.95] * 3 + [0.06] * 5)
    set_probs(net, probs)
    report = posterior_report(net)
    expected, exact = net.expected_cost() / net.dense_cost, net.exact_cost() / net.dense_cost
    assert report.summary.expected_macs == pytest.approx(expected.macs.item())
    assert report.summary.expected_params == pytest.approx(expected.params.item())
    assert (report.summary.exact_macs, report.summary.exact_params) == pytest.approx(exact)
    assert list(report.groups.undecided) == [0.5, 0]
    assert report.summary.undecided == pytest.approx(3 / 11)
    bits = [-(p * np.log2(p) + (1 - p) * np.log2(1 - p)) for p in probs.double().numpy()]
    assert report.groups.entropy.tolist() == pytest.approx([np.mean(bits[:6]), np.mean(bits[6:])], abs=1e-5)
    assert report.summary.entropy == pytest.approx(np.mean(bits), abs=1e-5)


def test_independent_gates_correlate_as_much_as_shuffled_ones():
    net = make_net("forward")
    for p in net.posterior.parameters():
        nn.init.normal_(p, 0, 0.3)
    summary = posterior_report(net, draws=20_000).summary
    assert summary.largest_r < 2 * summary.largest_r_by_chance < 0.1


def test_gates_that_follow_others_are_found_out():
    """A chain whose second group repeats the first gate of the first."""
    net = make_net("autoregressive")
    first, second = net.posterior.generator
    with torch.no_grad():
        first.weight.zero_(), first.bias.fill_(-0.4)
        second.weight.zero_(), second.bias.fill_(-1.0)
        second.weight[:, 0] = 2.0
    report = posterior_report(net)
    assert report.summary.largest_r > 0.6 > 3 * report.summary.largest_r_by_chance
    assert np.abs(report.correlation[0, 6:]).min() > 0.5
    assert np.abs(report.correlation[1:6, 6:]).max() < 0.1


def test_directions_count_what_the_parameters_share():
    free = posterior_report(make_net())
    assert free.summary.directions == pytest.approx(11) and np.allclose(free.spectrum, 1)
    shared = posterior_report(make_net("forward"))
    assert 1 <= shared.summary.directions < 10
    coupling = make_net("forward").posterior.coupling().double().numpy()
    assert shared.summary.directions == pytest.approx(11**2 / (coupling**2).sum(), rel=1e-3)
    assert (np.diff(shared.spectrum) <= 1e-9).all() and shared.spectrum.sum() == pytest.approx(11)


def test_of_a_large_network_some_gates_are_looked_at(monkeypatch):
    monkeypatch.setattr(module, "MOST_GATES", 7)
    monkeypatch.setattr(module, "MOST_NUMBERS", 4 * 11)
    report = posterior_report(make_net())
    assert report.correlation.shape == (7, 7) and len(set(report.looked_at)) == 7
    assert report.summary.gates == 11 and report.summary.directions_at_most == 4
    assert report.summary.directions == pytest.approx(4)


class OneGate(nn.Module):
    """A residual branch of one channel, which may close."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)
        self.branch = nn.Sequential(nn.Conv2d(2, 1, 1), nn.ReLU(), nn.Conv2d(1, 2, 1, bias=False))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.branch(x)).mean((2, 3))


def test_one_gate_has_no_pair():
    net = dk.GatedModel(OneGate(), "forward", example=torch.zeros(1, 1, 4, 4))
    assert net.channels.sizes == [1]
    report = posterior_report(net)
    assert report.summary.largest_r == 0 and report.summary.directions == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((nn.Linear(2, 2),), "net must be a GatedModel .* got a Linear"),
        ((make_net(), 1), "draws must be a whole number of at least 2, got 1"),
        ((make_net(), 100, -1), "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_bad_input_is_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        posterior_report(*arguments)
