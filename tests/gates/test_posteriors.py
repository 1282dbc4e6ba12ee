"""Posteriors over all gates: the recurrence, what is dependent and what is not, and where they start."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depl0kit import Autoregressive, Dependency, GatePosterior, HardConcrete, MeanField
from depl0kit.gates.posterior import BOUND, LAST_CHANNEL, START
from depl0kit.gates.posteriors import POSTERIORS, make_posterior

SIZES = [5, 3, 6]
FAMILIES = list(POSTERIORS)


def scattered(posterior: GatePosterior, scale: float = 0.3, seed: int = 1) -> GatePosterior:
    """Far from the start: weights that matter, log_alphas around zero."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in posterior.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=rng))
    return posterior


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def recurrence(posterior: Dependency, feed) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(log_alphas, h) per group in the network's order, by hand; `feed` makes h from (group, log_alpha)."""
    weights = {k: v.detach().double().numpy() for k, v in posterior.state_dict().items()}
    order = [0, 1, 2] if posterior.direction == "forward" else [2, 1, 0]
    log_alphas, hs, h = [None] * 3, [None] * 3, np.ones(64)
    for step, group in enumerate(order):
        w, b = weights[f"generator.{step}.weight"], weights[f"generator.{step}.bias"]
        log_alphas[group] = math.log(100) * np.tanh(w @ h + b)
        h = hs[group] = feed(group, log_alphas[group])
    return log_alphas, hs


def assert_groups_equal(actual: list[torch.Tensor], expected: list[np.ndarray], atol: float = 1e-5) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), e, atol=atol)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_dependency_is_the_papers_recurrence(direction):
    q = scattered(Dependency(SIZES, direction))
    log_alphas, _ = recurrence(q, lambda group, log_alpha: log_alpha)
    assert_groups_equal(q.log_alpha(), log_alphas)
    assert_groups_equal(q.prob_open(), [sigmoid(a - 2 / 3 * math.log(0.1 / 1.1)) for a in log_alphas])
    assert_groups_equal(q.deterministic(), [np.clip(1.2 * sigmoid(a) - 0.1, 0, 1) for a in log_alphas])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_autoregressive_gates_are_the_recurrence_over_sampled_gates(direction):
    q = scattered(Autoregressive(SIZES, direction), 0.5)
    torch.manual_seed(7)
    z = q.sample()
    torch.manual_seed(7)
    noise = [u.numpy() for u in torch.empty(1, sum(SIZES)).uniform_()[0].double().split(SIZES)]

    def gate(group, log_alpha):
        s = sigmoid((np.log(noise[group]) - np.log1p(-noise[group]) + log_alpha) * 1.5)
        return np.clip(1.2 * s - 0.1, 0, 1)

    assert_groups_equal(z, recurrence(q, gate)[1], atol=1e-4)
    # at test time the chain reads its own test-time gates
    log_alphas, gates = recurrence(q, lambda group, a: np.clip(1.2 * sigmoid(a) - 0.1, 0, 1))
    assert_groups_equal(q.log_alpha(), log_alphas)
    assert_groups_equal(q.deterministic(), gates)


def pair_correlations(q: GatePosterior, n: int = 20_000) -> np.ndarray:
    """Correlations of the gates of different groups."""
    torch.manual_seed(0)
    r = np.corrcoef(q.flat_sample(n).detach().numpy().T)
    group = np.repeat(range(len(SIZES)), SIZES)
    return r[group[:, None] < group[None]]


@pytest.mark.parametrize("name", ["mean_field", "forward", "backward", "arm"])
def test_gates_are_uncorrelated_at_fixed_parameters(name):
    # the largest of 63 sampled correlations; their deviation is 1/sqrt(20000) = 0.007
    assert abs(pair_correlations(scattered(make_posterior(name, SIZES)))).max() < 0.03


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_autoregressive_gates_are_correlated(direction):
    q = scattered(Autoregressive(SIZES, direction), 1.5)
    assert abs(pair_correlations(q)).max() > 0.3


@pytest.mark.parametrize("name", FAMILIES)
def test_prob_open_is_the_share_of_open_samples(name, monkeypatch):
    monkeypatch.setattr("depl0kit.gates.autoregressive.CHAINS", 4096)  # P(open) is a mean over chains
    q = scattered(make_posterior(name, SIZES), 1.0)
    torch.manual_seed(3)
    share = (q.flat_sample(20_000) > 0).float().mean(0)
    torch.testing.assert_close(share, q.flat_prob_open(), atol=0.02, rtol=0)


def test_all_families_start_from_the_same_prob_open():
    starts = [make_posterior(name, SIZES).flat_log_alpha() for name in FAMILIES]
    for log_alpha in starts:
        torch.testing.assert_close(log_alpha, torch.full((sum(SIZES),), START), atol=1e-4, rtol=0)
    probs = [make_posterior(name, SIZES).flat_prob_open() for name in FAMILIES]
    for p in probs:
        torch.testing.assert_close(p, probs[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_paper_start_is_that_of_the_reference():
    torch.manual_seed(0)
    sizes = [64, 64, 128, 128]
    mean_field = MeanField(sizes, init="paper")
    assert float(mean_field.flat_prob_open().mean()) == pytest.approx(0.99, abs=1e-3)
    assert 0.005 < float(mean_field.flat_log_alpha().std()) < 0.02
    for direction in ("forward", "backward"):
        p = Dependency(sizes, direction, init="paper").flat_prob_open()
        assert float(p.mean()) == pytest.approx(0.92, abs=0.04)
        assert float((p < 0.5).float().mean()) == pytest.approx(0.07, abs=0.04)


@pytest.mark.parametrize("name", FAMILIES)
def test_log_alphas_are_bounded(name):
    q = make_posterior(name, SIZES)
    for shift in (-1e3, 1e3):
        with torch.no_grad():
            for p in q.parameters():
                p.fill_(shift)
        assert bool((q.flat_log_alpha().abs() <= BOUND + 1e-5).all())
        assert bool(q.flat_prob_open().isfinite().all())


@pytest.mark.parametrize("name", FAMILIES)
def test_last_channel_stays_open(name):
    q = make_posterior(name, SIZES)
    with torch.no_grad():
        for parameter_name, p in q.named_parameters():
            p.fill_(-30.0 if "bias" in parameter_name or "theta" in parameter_name else 0.0)
    for z in q.deterministic():
        assert sorted(z.tolist()) == [0.0] * (len(z) - 1) + [1.0 if name == "arm" else LAST_CHANNEL]


def test_last_channel_is_the_most_likely_one():
    q = MeanField([4, 2])
    with torch.no_grad():
        q.theta.copy_(torch.tensor([-9.0, -5.0, -8.0, -7.0, 2.0, -9.0]))
    first, second = q.deterministic()
    assert first.tolist() == [0, LAST_CHANNEL, 0, 0]
    assert second[0] > 0.8 and second[1] == 0  # a group with an open channel is left alone


@torch.no_grad()
def test_the_next_group_reads_the_channel_that_stays_open():
    q = Autoregressive([3, 2])
    for linear, weight, bias in zip(q.generator, (0.0, 2.0), (-30.0, 0.0), strict=True):
        linear.weight.fill_(weight)
        linear.bias.fill_(bias)
    expected = torch.full((2,), BOUND * math.tanh(2.0 * LAST_CHANNEL))
    torch.testing.assert_close(q.log_alpha()[1], expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_state_dict_restores_the_gates(name):
    q = scattered(make_posterior(name, SIZES))
    fresh = make_posterior(name, SIZES)
    fresh.load_state_dict(copy.deepcopy(q.state_dict()))
    assert torch.equal(fresh.flat_log_alpha(), q.flat_log_alpha())
    assert torch.equal(fresh.flat_deterministic(), q.flat_deterministic())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(name, dtype):
    q = scattered(make_posterior(name, SIZES))
    results = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype, enabled=enabled):
            results.append([q.flat_log_alpha(), q.flat_prob_open(), q.flat_sample(4), q.prob_open_draws()])
    for plain, cast in zip(*results, strict=True):
        assert torch.equal(plain, cast)


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_are_views_of_one_tensor(name):
    q = make_posterior(name, SIZES)
    for parts in (q.log_alpha(), q.prob_open(), q.sample(), q.deterministic()):
        assert [p.shape for p in parts] == [(n,) for n in SIZES]
        assert len({p.untyped_storage().data_ptr() for p in parts}) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_differ_per_example(name):
    torch.manual_seed(0)  # of where the gates lie
    z = torch.cat(scattered(make_posterior(name, SIZES)).sample(200), -1)
    assert z.shape == (200, sum(SIZES))
    assert bool((z.std(0) > 0.005).all())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("batch", [None, 3])
def test_the_random_state_decides_the_draws(name, batch):
    q = scattered(make_posterior(name, SIZES))
    before = torch.get_rng_state()
    first, again, other = (q.flat_sample(batch, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_group_reaches_the_parameters(name):
    q = scattered(make_posterior(name, SIZES))
    torch.manual_seed(0)
    (q.flat_sample(8).sum() + q.prob_open_draws().sum()).backward()
    assert all(bool(p.grad.abs().sum() > 0) and bool(p.grad.isfinite().all()) for p in q.parameters())


@pytest.mark.parametrize("name", ["mean_field", "forward", "backward", "arm"])
def test_gradients_equal_finite_differences(name):
    q = scattered(make_posterior(name, [2, 3])).double()
    direction = torch.linspace(-1, 2, 5, dtype=torch.float64)
    (q.flat_prob_open() @ direction).backward()
    for p in q.parameters():
        entry = (0,) * p.dim()
        values = []
        for step in (-1e-6, 1e-6):
            with torch.no_grad():
                p[entry] += step
                values.append(float(q.flat_prob_open() @ direction))
                p[entry] -= step
        assert float(p.grad[entry]) == pytest.approx((values[1] - values[0]) / 2e-6, rel=1e-5, abs=1e-9)


def test_mean_field_gates_are_not_coupled():
    torch.testing.assert_close(scattered(MeanField(SIZES)).coupling(), torch.eye(sum(SIZES)))


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_dependent_gates_are_coupled_by_the_weights_before_them(direction):
    q = scattered(Dependency(SIZES, direction))
    coupling = q.coupling().detach()
    torch.testing.assert_close(coupling.diagonal(), torch.ones(sum(SIZES)))
    torch.testing.assert_close(coupling, coupling.T)
    blocks = coupling.split(SIZES)
    first, last = (0, 2) if direction == "forward" else (2, 0)
    within_first = blocks[first].split(SIZES, -1)[first]
    torch.testing.assert_close(within_first, torch.eye(SIZES[first]))  # each gate has a row of W_1 to itself
    assert float((blocks[last].split(SIZES, -1)[last] - torch.eye(SIZES[last])).abs().max()) > 0.1
    assert float(blocks[first].split(SIZES, -1)[last].abs().max()) > 0.1


def test_coupling_is_what_gradient_steps_do():
    q = scattered(Dependency(SIZES)).double()
    start = copy.deepcopy(q.state_dict())

    def moved(gate: int) -> torch.Tensor:
        """How far all gates move by a small gradient step for one."""
        q.load_state_dict(start)
        before = q.flat_log_alpha()
        gradients = torch.autograd.grad(before[gate], list(q.parameters()), materialize_grads=True)
        with torch.no_grad():
            for p, g in zip(q.parameters(), gradients, strict=True):
                p += 1e-9 * g
            return q.flat_log_alpha() - before

    coupling = q.coupling().detach()
    a, b = 7, 8  # two gates of the second group
    by_a, by_b = moved(a), moved(b)
    relative = (by_a[b] / by_a[a]) * (by_b[a] / by_b[b])  # step lengths cancel
    assert float(relative) == pytest.approx(float(coupling[a, b]) ** 2, rel=1e-3)


def test_gradient_of_autoregressive_samples_reaches_back_along_the_chain():
    q = scattered(Autoregressive(SIZES), 0.5)
    torch.manual_seed(0)
    q.sample(64)[2].sum().backward()
    assert float(q.generator[0].bias.grad.abs().sum()) > 0


def test_prob_open_of_autoregressive_gates_leaves_the_random_state_alone():
    q = scattered(Autoregressive(SIZES))
    before = torch.get_rng_state()
    assert torch.equal(q.flat_prob_open(), q.flat_prob_open())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", FAMILIES)
def test_temperature_may_be_changed(name):
    q = scattered(make_posterior(name, SIZES, HardConcrete(2 / 3, (-0.2, 1.3), "median")))
    q.temperature = 0.1
    assert q.temperature == 0.1
    assert q.hard_concrete == HardConcrete(0.1, (-0.2, 1.3), "median")
    assert float(((q.flat_sample(100) > 0) & (q.flat_sample(100) < 1)).float().mean()) < 0.3


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from(FAMILIES), st.integers(1, 3))
def test_any_sizes(sizes, name, batch):
    q = make_posterior(name, sizes)
    assert [z.shape for z in q.sample()] == [(n,) for n in sizes]
    assert [z.shape for z in q.sample(batch)] == [(batch, n) for n in sizes]
    assert [z.shape for z in q.prob_open()] == [(n,) for n in sizes]
    assert q.prob_open_draws().shape[1] == sum(sizes)
    assert all(bool((z > 0).any()) for z in q.deterministic())


def test_mean_field_gates_learn_faster_in_runs_too_short_for_their_usual_rate():
    q = MeanField([3])
    assert (q.default_lr(), q.default_lr(budget=0.3)) == (0.1, 0.3)
    assert (q.default_lr(steps=200), q.default_lr(0.3, steps=200)) == (0.1, 0.3)
    assert (q.default_lr(steps=100), q.default_lr(0.3, steps=100)) == (0.2, 0.6)
    assert (q.default_lr(steps=10), q.default_lr(0.3, steps=10)) == (0.2, 0.6)  # faster, networks only guess
    for other in (Dependency([3, 2]), Autoregressive([3, 2])):
        assert other.default_lr(0.3, steps=10) == other.default_lr(0.3)
