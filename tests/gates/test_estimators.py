"""Estimates of a gradient against the exact one: which are biased, and how much they vary."""

import numpy as np
import pytest
import torch

from depl0kit import HardConcrete
from depl0kit.gates.exact import ExactPosterior, collinear_regression, gates_in_series, gradient_estimates

PROB_OPEN = [0.5, 0.6, 0.8, 0.9]
DRAWS = 20_000


@pytest.fixture(scope="module")
def series():
    """f is linear in each gate."""
    return gradient_estimates(gates_in_series(3.0), PROB_OPEN, DRAWS)


@pytest.fixture(scope="module")
def collinear():
    """f is not: the gates multiply the columns of a regression."""
    return gradient_estimates(collinear_regression(0.9, pairs=2), PROB_OPEN, DRAWS)


def bias(found: tuple, name: str) -> np.ndarray:
    """In standard errors, of every gate."""
    exact, estimates = found
    error = estimates[name].std(0) / DRAWS**0.5
    return ((estimates[name].mean(0) - exact) / error).numpy()


@pytest.mark.parametrize("problem", ["series", "collinear"])
def test_the_exact_gradient_is_that_of_the_enumerated_loss(problem, request):
    target = {"series": gates_in_series(3.0), "collinear": collinear_regression(0.9, pairs=2)}[problem]
    logits = torch.tensor(PROB_OPEN, dtype=torch.float64).logit().requires_grad_()
    p = logits.sigmoid()
    log_q = target.masks @ p.log() + (1 - target.masks) @ (1 - p).log()
    loss = -(log_q.exp() * target.log_prob).sum()
    torch.testing.assert_close(
        request.getfixturevalue(problem)[0], torch.autograd.grad(loss, logits)[0], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", ["ARM", "REINFORCE"])
@pytest.mark.parametrize("problem", ["series", "collinear"])
def test_arm_and_reinforce_have_no_bias(problem, name, request):
    assert abs(bias(request.getfixturevalue(problem), name)).max() < 4


@pytest.mark.parametrize("problem", ["series", "collinear"])
def test_arm_varies_less_than_reinforce(problem, request):
    _, estimates = request.getfixturevalue(problem)
    assert bool((estimates["ARM"].var(0) < estimates["REINFORCE"].var(0) / 2).all())


def test_straight_through_is_biased_where_the_loss_is_not_linear_in_the_gates(series, collinear):
    assert abs(bias(series, "straight-through")).max() < 4
    assert abs(bias(collinear, "straight-through")).min() > 20


def test_hard_concrete_estimates_the_gradient_of_another_loss(series, collinear):
    for found in (series, collinear):
        assert abs(bias(found, "hard concrete")).max() > 20


def test_draws_of_hard_concrete_are_the_slope_of_its_own_loss(series):
    """By finite differences, with the same noise: its bias is not a mistake in the gradient."""
    target, step = gates_in_series(3.0), 1e-5
    noise = torch.rand(DRAWS, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hc, losses = HardConcrete(), []
    for sign in (-1, 1):
        log_alpha = torch.tensor(PROB_OPEN, dtype=torch.float64).logit() + 2 / 3 * np.log(0.1 / 1.1)
        log_alpha[2] += sign * step
        losses.append(-target.log_density_of(hc.sample(log_alpha, noise)).mean())
    slope = float(losses[1] - losses[0]) / (2 * step)
    assert float(series[1]["hard concrete"][:, 2].mean()) == pytest.approx(slope, rel=1e-3)


def test_the_seed_decides_the_draws():
    target = gates_in_series(1.0)
    first, again, other = (gradient_estimates(target, PROB_OPEN, 10, seed)[1] for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["ARM"], other["ARM"]) and first["ARM"].shape == (10, 4)


@pytest.mark.parametrize("wrong", [[0.5] * 3, [0.5, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 0.5]])
def test_a_wrong_prob_open_is_refused(wrong):
    with pytest.raises(
        ValueError, match=r"prob_open must be P\(open\) of each of the 4 gates, between 0 and 1"
    ):
        gradient_estimates(gates_in_series(1.0), wrong)


def test_a_function_without_a_derivative_is_refused():
    values = torch.arange(4.0)
    with pytest.raises(ValueError, match="must have a derivative in the gates"):
        gradient_estimates(ExactPosterior(2, lambda z: values), [0.5, 0.5])
