"""Exact posteriors over few gates, and the best of each family against them."""

import itertools
import math

import numpy as np
import pytest
import torch

from depl0kit.gates.exact.fits import (
    FITS,
    Fit,
    compare_fits,
    fit_autoregressive,
    fit_generator,
    fit_mean_field,
)
from depl0kit.gates.exact.problems import (
    ExactPosterior,
    all_masks,
    collinear_data,
    collinear_regression,
    gates_in_series,
    spike_and_slab,
)

MASKS_OF_4 = list(itertools.product((0, 1), repeat=4))


@pytest.fixture(scope="module")
def collinear():
    return collinear_regression(0.99)


@pytest.fixture
def target():
    """Four gates whose density has no structure at all."""
    values = torch.randn(16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return ExactPosterior(4, lambda z: values)


def table(posterior, values):
    """What belongs to each mask, by mask."""
    return {tuple(m): v for m, v in zip(posterior.masks.int().tolist(), values.tolist(), strict=True)}


# ---- enumeration


def test_masks_are_all_numbers_in_binary():
    assert [tuple(m) for m in all_masks(4).int().tolist()] == MASKS_OF_4


def test_series_agrees_with_plain_python():
    p = gates_in_series(6.5, 1.5)
    weight = {z: math.exp(6.5 * math.prod(z) - 1.5 * sum(z)) for z in MASKS_OF_4}
    total = sum(weight.values())
    assert p.log_evidence == pytest.approx(math.log(total))
    assert table(p, p.prob) == pytest.approx({z: w / total for z, w in weight.items()})


def test_marginals_and_correlations_agree_with_plain_python(target):
    prob = table(target, target.prob)
    mean = [sum(p * z[i] for z, p in prob.items()) for i in range(4)]
    assert target.marginals().tolist() == pytest.approx(mean)
    found = target.correlation()
    for i, j in itertools.product(range(4), repeat=2):
        both = sum(p * (z[i] - mean[i]) * (z[j] - mean[j]) for z, p in prob.items())
        scale = math.sqrt(mean[i] * (1 - mean[i]) * mean[j] * (1 - mean[j]))
        assert float(found[i, j]) == pytest.approx(both / scale)


def test_pairs_and_numbers_of_open_gates_agree_with_plain_python(target):
    prob = table(target, target.prob)
    expected = [
        sum(p for z, p in prob.items() if (z[1], z[3]) == s) for s in itertools.product((0, 1), (0, 1))
    ]
    assert target.pair(1, 3).tolist() == pytest.approx(expected)
    counts = [sum(p for z, p in prob.items() if sum(z) == k) for k in range(5)]
    assert target.open_gates().tolist() == pytest.approx(counts)


def test_log_odds_compare_a_mask_with_its_neighbour(target):
    density, odds = table(target, target.log_density), table(target, target.log_odds)
    for z in MASKS_OF_4:
        for i in range(4):
            opened, closed = ((*z[:i], value, *z[i + 1 :]) for value in (1, 0))
            assert odds[z][i] == pytest.approx(density[opened] - density[closed])


def log_normal(y, covariance):
    _, log_det = np.linalg.slogdet(covariance)
    return -0.5 * (y @ np.linalg.solve(covariance, y) + log_det + len(y) * math.log(2 * math.pi))


def regression(rows=12):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4))
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    return x, x[:, 0] - 0.5 * x[:, 2] + rng.normal(size=rows)


def test_regression_with_known_noise_agrees_with_the_normal_distribution():
    x, y = regression()
    p = spike_and_slab(x, y, slab=2.0, prob_open=0.3, noise=0.7)
    for z, found in table(p, p.log_density).items():
        open_columns = x[:, np.array(z) == 1]
        covariance = 0.7 * (np.eye(12) + 2.0 * open_columns @ open_columns.T)
        prior = sum(z) * math.log(0.3) + (4 - sum(z)) * math.log(0.7)
        assert found == pytest.approx(log_normal(y, covariance) + prior)


def test_regression_integrates_the_noise_out():
    """Against a sum over a fine grid of noise variances, weighted by the inverse gamma prior."""
    x, y = regression()
    shape, rate = 2.5, 1.5
    log_s = np.linspace(-8, 8, 4001)  # of s^2; ds^2 = s^2 dlog_s
    log_prior = shape * math.log(rate) - math.lgamma(shape) - shape * log_s - rate * np.exp(-log_s)
    p = spike_and_slab(x, y, slab=2.0, shape=shape, rate=rate)
    for z, found in table(p, p.log_density).items():
        v = np.eye(12) + 2.0 * x[:, np.array(z) == 1] @ x[:, np.array(z) == 1].T
        each = np.array([log_normal(y, np.exp(s) * v) for s in log_s[::20]]) + log_prior[::20]
        integral = np.logaddexp.reduce(each) + math.log(20 * (log_s[1] - log_s[0]))
        assert found == pytest.approx(integral + 4 * math.log(0.5), abs=1e-6)


@pytest.mark.parametrize("r", [0.0, 0.5, 0.99, 1.0])
def test_collinear_data_have_exactly_the_correlation_asked_for(r):
    x, y = collinear_data(r, pairs=3)
    found = np.corrcoef(x.T.numpy())
    expected = np.kron(np.eye(3), [[0, r], [r, 0]]) + np.eye(6)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert float(x.mean(0).abs().max()) < 1e-12 and y.shape == (100,)


def test_the_seed_of_the_data_does_not_change_the_posterior():
    first, second = (collinear_regression(0.6, seed=seed) for seed in (0, 7))
    assert torch.allclose(first.prob, second.prob, atol=1e-12)


# ---- what each family reaches


def test_collinear_pairs_defeat_independence_and_not_a_chain(collinear):
    fits = {name: fit(collinear) for name, fit in FITS.items()}
    assert fits["mean_field"].kl > 0.5
    assert fits["autoregressive"].kl < 0.03
    assert fits["generator"].kl >= fits["mean_field"].kl - 1e-9  # its gates are independent too
    exact = collinear.correlation()[0, 1]
    assert exact < -0.6
    assert fits["autoregressive"].correlation()[0, 1] == pytest.approx(float(exact), abs=0.02)
    for name in ("mean_field", "generator"):
        assert fits[name].correlation()[0, 1] == pytest.approx(0, abs=1e-9)


def test_independence_is_no_loss_without_correlation():
    assert fit_mean_field(collinear_regression(0.0)).kl < 0.03


def test_mean_field_keeps_one_feature_of_every_pair(collinear):
    """At correlation 0.99 each of the 2^4 choices is an optimum of its own, and all are equally good."""
    fit = fit_mean_field(collinear, starts=128)
    assert fit.optima == 16
    assert fit.kls == pytest.approx([fit.kl] * 16, abs=1e-6)
    pairs = fit.marginals().view(4, 2)
    assert (pairs.max(1).values > 0.75).all() and (pairs.min(1).values < 0.25).all()


def test_a_mixture_of_the_optima_is_dependent_and_better(collinear):
    """Notebook 04 says so, with these numbers."""
    fit = fit_mean_field(collinear, starts=128)
    mixture = fit.solutions.exp().mean(0)
    assert float(mixture @ (mixture.log() - collinear.log_prob)) == pytest.approx(0.47, abs=0.01)
    assert collinear.correlation(mixture)[0, 1] < -0.5
    logits = torch.logit(mixture @ collinear.masks)  # independent gates with the same P(open)
    log_q = -torch.nn.functional.softplus(torch.where(collinear.masks > 0, -logits, logits)).sum(1)
    assert float(log_q.exp() @ (log_q - collinear.log_prob)) == pytest.approx(2.59, abs=0.01)
    assert fit.kl == pytest.approx(2.26, abs=0.01)


def fold_gains(price=1.5, gates=4):
    """Where optima of the series problem appear and vanish: extrema of g with logit m = g m^3 - price."""
    m = np.linspace(1e-3, 1 - 1e-6, 2_000_001)
    gain = (np.log(m / (1 - m)) + price) / m ** (gates - 1)
    turns = np.flatnonzero(np.diff(np.sign(np.diff(gain)))) + 1
    return sorted(gain[turns])


def test_two_optima_of_gates_in_series_in_a_gain_interval():
    low, high = fold_gains()
    assert (low, high) == (pytest.approx(5.06, abs=0.01), pytest.approx(25.83, abs=0.01))
    for gain in (low + 0.05, 6, 6.5, 7, 12, high - 0.2):
        assert fit_mean_field(gates_in_series(gain)).optima == 2, gain
    for gain in (0, low - 0.05, high + 0.2):
        assert fit_mean_field(gates_in_series(gain)).optima == 1, gain


@pytest.mark.slow
def test_the_best_mean_field_jumps_where_the_exact_posterior_moves_smoothly():
    gains = (6.0, 6.5, 7.0, 8.0)
    exact = [float(gates_in_series(g).prob[-1]) for g in gains]
    assert exact == pytest.approx([0.31, 0.42, 0.55, 0.77], abs=0.005)
    best = [float(fit_mean_field(gates_in_series(g)).prob[-1]) for g in gains]
    assert max(best[:2]) < 0.002 and min(best[2:]) > 0.98
    chain = [float(fit_autoregressive(gates_in_series(g)).prob[-1]) for g in gains]
    assert chain == pytest.approx(exact, abs=0.03)


def test_a_warm_start_stays_on_its_branch():
    """Hysteresis: the same gain, reached from below and from above."""
    ends = []
    for first, *others in ([4, 8, 12], [30, 20, 12]):
        fit = fit_mean_field(gates_in_series(first))
        for gain in others:
            fit = fit_mean_field(gates_in_series(gain), start=fit.marginals())
        ends.append(float(fit.prob[-1]))
    assert ends[0] < 0.01 and ends[1] > 0.99


def test_kl_is_that_of_plain_python(target):
    fit = fit_mean_field(target)
    p, q = table(target, target.prob), table(target, fit.prob)
    assert sum(q.values()) == pytest.approx(1)
    assert fit.kl == pytest.approx(sum(q[z] * math.log(q[z] / p[z]) for z in MASKS_OF_4))
    assert fit.elbo == pytest.approx(target.log_evidence - fit.kl)


@pytest.mark.parametrize("family", list(FITS))
def test_kl_is_never_below_zero(family):
    """Independent gates are matched exactly, and rounding may say -1e-16, which is printed as -0.000."""
    target = gates_in_series(0.0)
    assert all(0 <= kl < 1e-3 for kl in FITS[family](target).kls)
    rounding = Fit(family, target, target.log_prob[None] - 1e-9)  # a q that seems better than p itself
    assert rounding.kls == [0.0] and math.copysign(1, rounding.kl) == 1


def test_coordinate_ascent_finds_what_a_grid_finds():
    """Two gates, every P(open) of both on a fine grid."""
    p = ExactPosterior(2, lambda z: 2 * z[:, 0] * z[:, 1] - z[:, 0] - 0.4 * z[:, 1])
    grid = torch.linspace(0.005, 0.995, 397, dtype=torch.float64)
    a, b = (m.flatten() for m in torch.meshgrid(grid, grid, indexing="ij"))
    log_q = torch.stack([(1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b], 1).log()
    kls = (log_q.exp() * (log_q - p.log_prob)).sum(1)
    assert fit_mean_field(p).kl == pytest.approx(float(kls.min()), abs=1e-4)


def test_independent_targets_are_matched_by_all():
    logits = torch.tensor([-1.0, 0.5, 2.0, 0.0], dtype=torch.float64)
    p = ExactPosterior(4, lambda z: z @ logits)
    for fit in (f(p) for f in FITS.values()):
        assert fit.kl == pytest.approx(0, abs=1e-4)
        assert fit.marginals().tolist() == pytest.approx(torch.sigmoid(logits).tolist(), abs=0.01)


@pytest.mark.parametrize("n", [1, 12])
def test_smallest_and_largest_number_of_gates(n):
    p = gates_in_series(5.0, n=n)
    assert fit_mean_field(p, starts=4).prob.sum() == pytest.approx(1)
    assert fit_autoregressive(p, starts=1, iterations=5).kl >= -1e-12
    assert fit_generator(p, starts=1, iterations=5).kl >= -1e-12


@pytest.mark.parametrize("family", list(FITS))
def test_reproducible_by_seed_and_leaves_torchs_random_state_alone(family, collinear):
    state = torch.get_rng_state()
    short = {} if family == "mean_field" else {"iterations": 10}
    first, again = (FITS[family](collinear, starts=3, seed=5, **short) for _ in range(2))
    assert torch.equal(first.solutions, again.solutions)
    assert torch.equal(state, torch.get_rng_state())
    other = FITS[family](collinear, starts=3, seed=6, **short)
    assert not (first.optima == other.optima and torch.equal(first.solutions, other.solutions))


def test_generator_in_groups_and_backward(collinear):
    fit = fit_generator(collinear, sizes=(2, 2, 2, 2), direction="backward")
    assert fit.kl == pytest.approx(fit_mean_field(collinear).kl, abs=0.02)


@pytest.mark.slow
def test_comparison_has_a_row_per_family():
    found = compare_fits(gates_in_series(6.5))
    assert list(found.index) == ["exact", "mean_field", "generator", "autoregressive"]
    assert found.kl["exact"] == 0 and found.optima["mean_field"] == 2
    assert np.allclose(found.elbo, found.elbo["exact"] - found.kl)
    assert found.largest_r["generator"] < 1e-9 < found.largest_r["exact"]


# ---- bad input


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: all_masks(0), "n, the number of gates, must be a whole number of at least 1, got 0"),
        (lambda: all_masks(13), "at most 12 gates .* got 13"),
        (lambda: ExactPosterior(2, lambda z: z), r"shape \[4\], got \[4, 2\]: sum over the gates"),
        (lambda: ExactPosterior(2, lambda z: z.sum(1).log()), r"got -inf at mask \[0, 0\]: .* such as -50"),
        (lambda: gates_in_series(math.nan), "gain must be a finite number"),
        (lambda: gates_in_series(1.0, "2"), "price must be a finite number"),
        (lambda: collinear_data(1.2), r"correlation must be a number in \[0, 1\], got 1.2"),
        (lambda: collinear_data(0.5, pairs=7), "pairs must be at most 6"),
        (lambda: collinear_data(0.5, rows=9), "rows must be a whole number of at least 10, got 9"),
        (lambda: spike_and_slab(torch.zeros(3), torch.zeros(3)), r"x must be \[N, n\] and y \[N\]"),
        (lambda: spike_and_slab(torch.zeros(3, 2), torch.zeros(4)), r"got \[3, 2\] and \[4\]"),
        (lambda: spike_and_slab(torch.zeros(3, 13), torch.zeros(3)), "1 to 12 columns, got 13"),
        (lambda: spike_and_slab(torch.full((3, 2), math.inf), torch.zeros(3)), "x must be finite"),
        (lambda: spike_and_slab(*collinear_data(0), slab=0), r"slab must be a number in \(0"),
        (lambda: spike_and_slab(*collinear_data(0), prob_open=1), "prob_open must lie between 0 and 1"),
        (lambda: spike_and_slab(*collinear_data(0), noise=-1), "noise must be a number in"),
        (lambda: fit_mean_field(gates_in_series(1), starts=0), "starts must be a whole number"),
        (lambda: fit_mean_field(gates_in_series(1), seed=-1), "seed must be a whole number"),
        (lambda: fit_mean_field(gates_in_series(1), start=[0.5]), "start must be P.open. of each of the 4"),
        (lambda: fit_mean_field(gates_in_series(1), start=[0.5, 2, 0, 0]), r"in \[0, 1\]"),
        (lambda: fit_generator(gates_in_series(1), sizes=(2, 3)), r"add up to the 4 gates .* got \[2, 3\]"),
        (lambda: fit_generator(gates_in_series(1), direction="up"), "unknown direction 'up'"),
        (lambda: fit_autoregressive(gates_in_series(1), iterations=0), "iterations must be a whole number"),
    ],
)
def test_bad_input_is_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
