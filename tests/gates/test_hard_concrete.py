"""The distribution of one gate: samples, CDF, density, P(open) and gradients must agree."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from depl0kit import HardConcrete

SETTINGS = [
    (-2.0, 2 / 3, (-0.1, 1.1)),
    (0.0, 0.3, (-0.1, 1.1)),
    (1.0, 1.5, (-0.4, 1.2)),
    (3.0, 2 / 3, (-0.1, 1.1)),
]

temperatures = st.floats(1e-3, 1e2)
stretches = st.tuples(st.floats(-2, 0), st.floats(1, 3))
log_alphas = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8)
dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
# uniforms as a generator yields them: multiples of 2^-24 in [0, 1)
uniforms = st.integers(0, 2**24 - 1).map(lambda k: k / 2**24)


def draw(hc: HardConcrete, log_alpha: float, n: int = 40_000) -> np.ndarray:
    torch.manual_seed(0)
    return hc.sample(torch.full((n,), log_alpha, dtype=torch.float64)).numpy()


def scalar(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize(("log_alpha", "temperature", "stretch"), SETTINGS)
def test_samples_follow_the_cdf(log_alpha, temperature, stretch):
    hc = HardConcrete(temperature, stretch)
    z = draw(hc, log_alpha)
    zero, one = float(hc.cdf(0.0, scalar(log_alpha))), 1 - float(hc.cdf(1 - 1e-12, scalar(log_alpha)))
    # the two spikes, each a binomial count, and what lies between them
    assert stats.binomtest(int((z == 0).sum()), len(z), zero).pvalue > 1e-3
    assert stats.binomtest(int((z == 1).sum()), len(z), one).pvalue > 1e-3

    def cdf_between(x):
        return (hc.cdf(torch.as_tensor(x), scalar(log_alpha)).numpy() - zero) / (1 - zero - one)

    assert stats.kstest(z[(z > 0) & (z < 1)], cdf_between).pvalue > 1e-3


@pytest.mark.parametrize(("log_alpha", "temperature", "stretch"), SETTINGS)
def test_sample_histogram_follows_the_density(log_alpha, temperature, stretch):
    hc = HardConcrete(temperature, stretch)
    z = draw(hc, log_alpha)
    edges = np.linspace(0, 1, 11)
    counts, _ = np.histogram(z[(z > 0) & (z < 1)], edges)
    bins = itertools.pairwise(edges)
    mass = [integrate.quad(lambda x: float(hc.density(x, scalar(log_alpha))), a, b)[0] for a, b in bins]
    assert counts.sum() > 1000
    assert stats.chisquare(counts, np.array(mass) / sum(mass) * counts.sum()).pvalue > 1e-3
    # and its whole mass is what the spikes leave over
    spikes = ((z == 0) | (z == 1)).mean()
    assert sum(mass) == pytest.approx(1 - spikes, abs=0.012)


@pytest.mark.parametrize(("log_alpha", "temperature", "stretch"), SETTINGS)
def test_density_is_the_slope_of_the_cdf(log_alpha, temperature, stretch):
    hc, la = HardConcrete(temperature, stretch), scalar(log_alpha)
    z = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    slope = (hc.cdf(z + 1e-6, la) - hc.cdf(z - 1e-6, la)) / 2e-6
    torch.testing.assert_close(hc.density(z, la), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("log_alpha", "temperature", "stretch"), SETTINGS)
def test_prob_open_is_the_share_of_open_samples(log_alpha, temperature, stretch):
    hc = HardConcrete(temperature, stretch)
    z = draw(hc, log_alpha)
    p = float(hc.prob_open(scalar(log_alpha)))
    assert stats.binomtest(int((z > 0).sum()), len(z), p).pvalue > 1e-3


def test_prob_open_is_equation_12():
    x = torch.linspace(-5, 5, 11, dtype=torch.float64)
    by_hand = 1 / (1 + np.exp(-(x.numpy() - 2 / 3 * np.log(0.1 / 1.1))))
    np.testing.assert_allclose(HardConcrete().prob_open(x).numpy(), by_hand, rtol=1e-12)


@pytest.mark.parametrize("method", ["sample", "prob_open", "deterministic", "cdf", "density"])
@pytest.mark.parametrize(("log_alpha", "temperature", "stretch"), SETTINGS)
def test_gradients_equal_finite_differences(method, log_alpha, temperature, stretch):
    hc = HardConcrete(temperature, stretch)
    # 0.1: no point sits on the kink of the clamp
    x = (log_alpha + torch.linspace(-1.1, 1, 7, dtype=torch.float64)).requires_grad_()
    functions = {
        "sample": lambda x: hc.sample(x, torch.linspace(0.07, 0.91, 7, dtype=torch.float64)),
        "prob_open": hc.prob_open,
        "deterministic": hc.deterministic,
        "cdf": lambda x: hc.cdf(0.3, x),
        "density": lambda x: hc.density(0.3, x),
    }
    assert torch.autograd.gradcheck(functions[method], x, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(("log_alpha", "temperature", "stretch"), SETTINGS)
def test_median_rule_is_the_median(log_alpha, temperature, stretch):
    hc = HardConcrete(temperature, stretch, test_rule="median")
    median = float(hc.deterministic(scalar(log_alpha)))
    assert median == pytest.approx(np.median(draw(hc, log_alpha)), abs=0.02)
    assert median == float(hc.sample(scalar(log_alpha), scalar(0.5)))


@pytest.mark.parametrize(("rule", "lowest_open"), [("paper", 0.31), ("median", 0.5)])
def test_prob_open_at_which_a_test_gate_closes(rule, lowest_open):
    hc = HardConcrete(test_rule=rule)
    x = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    open_gates = hc.deterministic(x) > 0
    assert float(hc.prob_open(x[open_gates]).min()) == pytest.approx(lowest_open, abs=1e-3)
    assert bool((x[open_gates].min() >= x[~open_gates].max()).item())


def test_without_stretch_there_are_no_spikes():
    hc = HardConcrete(stretch=(0.0, 1.0))
    x = torch.tensor([-1.0, 0.0, 4.0])
    assert hc.prob_open(x).tolist() == [1.0, 1.0, 1.0]
    assert hc.cdf(0.0, x).tolist() == [0.0, 0.0, 0.0]
    z = draw(hc, 0.0)
    assert z.min() > 0 and z.max() < 1


def test_noise_is_drawn_per_entry_of_an_expanded_log_alpha():
    z = HardConcrete().sample(torch.zeros(3).expand(1000, 3))
    assert abs(np.corrcoef(z.T.numpy())[np.triu_indices(3, 1)]).max() < 0.15
    assert len(z[:, 0].unique()) > 100


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_samples_are_those_of_float32(dtype):
    x = torch.linspace(-4, 4, 33).to(dtype)
    u = torch.linspace(0.99, 0.01, 33)  # against x, so that most z lie between 0 and 1
    z = HardConcrete().sample(x, u)
    assert z.dtype == dtype and len(z.unique()) > 10
    assert torch.equal(z, HardConcrete().sample(x.float(), u).to(dtype))


def test_noise_of_exactly_zero_or_one_decides_nothing():
    """float32 uniforms do come out as 0; a gate that is certainly open stays open all the same."""
    x = torch.tensor([1000.0, -1000.0])
    for u in (0.0, 1.0):
        assert HardConcrete().sample(x, torch.full((2,), u)).tolist() == [1, 0]


@given(log_alphas, temperatures, stretches, dtypes, uniforms)
def test_samples_stay_in_range_with_finite_gradients(values, temperature, stretch, dtype, u):
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    z = HardConcrete(temperature, stretch).sample(x, torch.full(x.shape, u))
    z.sum().backward()
    assert z.shape == x.shape and z.dtype == dtype
    assert bool(((z >= 0) & (z <= 1)).all())
    assert bool(x.grad.isfinite().all()) and bool((x.grad >= 0).all())


@given(log_alphas, temperatures, stretches, dtypes)
def test_prob_open_is_one_minus_the_cdf_at_zero(values, temperature, stretch, dtype):
    hc = HardConcrete(temperature, stretch)
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    p = hc.prob_open(x)
    p.sum().backward()
    assert bool(((p >= 0) & (p <= 1)).all()) and bool(x.grad.isfinite().all())
    if dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(p, 1 - hc.cdf(0.0, x), atol=1e-4, rtol=1e-4)


@given(st.floats(-1e4, 1e4), temperatures, stretches)
def test_cdf_rises_from_the_lower_spike_to_one(log_alpha, temperature, stretch):
    hc, x = HardConcrete(temperature, stretch), scalar(log_alpha)
    z = torch.linspace(-0.5, 1.5, 201, dtype=torch.float64)
    cdf, density = hc.cdf(z, x), hc.density(z, x)
    assert bool((cdf.diff() >= 0).all())
    assert bool((cdf[z < 0] == 0).all()) and bool((cdf[z >= 1] == 1).all())
    assert bool((density >= 0).all()) and bool((density[(z <= 0) | (z >= 1)] == 0).all())
    assert bool(density.isfinite().all())


@given(log_alphas, temperatures, stretches, dtypes, st.sampled_from(["paper", "median"]))
def test_deterministic_gates_stay_in_range_and_keep_the_order(values, temperature, stretch, dtype, rule):
    x = torch.tensor(values, dtype=dtype).sort().values
    z = HardConcrete(temperature, stretch, rule).deterministic(x)
    assert bool(((z >= 0) & (z <= 1)).all()) and bool((z.diff() >= 0).all())


@given(st.lists(st.integers(0, 4), max_size=3))
def test_shapes_are_kept(shape):
    hc, x = HardConcrete(), torch.zeros(shape)
    for result in (hc.sample(x), hc.prob_open(x), hc.cdf(0.5, x), hc.density(0.5, x), hc.deterministic(x)):
        assert result.shape == x.shape
