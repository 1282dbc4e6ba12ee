"""Posteriors over few gates, computed exactly by a sum over all 2^n masks.

With n <= 12 gates nothing has to be sampled, so there is no noise of an estimator to hide what a family of
approximations cannot express. `fits` finds the best approximation in each family.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...support import checked, checks

MAX_GATES = 12  # 4096 masks are fast; 20 gates have a million masks


@checked
def all_masks(n: int) -> Tensor:
    """Every mask of n gates, [2^n, n] of 0. and 1.: row k is the number k in binary, first gate first."""
    if checks.whole("n, the number of gates,", n, 1) > MAX_GATES:
        raise ValueError(f"n must be at most {MAX_GATES} gates (2^n masks are enumerated), got {n}.")
    return (torch.arange(2**n)[:, None] >> torch.arange(n - 1, -1, -1) & 1).double()


class ExactPosterior:
    """p(z) of n binary gates, proportional to exp(log_density(z)), over all 2^n masks.

    Args:
        n: gates, 1 to 12.
        log_density: a function of all masks, float64 [2^n, n], that returns [2^n] finite numbers.

    Attributes:
        n, masks: the number of gates, and the masks in the order of `all_masks`.
        log_density: [2^n], not normalised.
        log_density_of: the function that was passed.
        log_evidence: log of sum(exp(log_density)); if `log_density` is log p(data, z), this is log p(data).
        log_prob, prob: [2^n], normalised.

    Raises:
        ValueError: n is out of range, or `log_density` returns a wrong shape or values that are not finite.

    Example:
        >>> one_of_two = ExactPosterior(2, lambda z: -5 * (z.sum(1) - 1) ** 2)
        >>> round(float(one_of_two.correlation()[0, 1]), 2)
        -0.99
    """

    @checked
    def __init__(self, n: int, log_density: Callable[[Tensor], Tensor]) -> None:
        self.n, self.masks, self.log_density_of = n, all_masks(n), log_density
        values = torch.as_tensor(log_density(self.masks.clone()), dtype=torch.float64).detach()
        if values.shape != (2**n,):
            raise ValueError(
                f"log_density must return one number per mask, shape [{2**n}], got {list(values.shape)}: "
                "sum over the gates with .sum(1)."
            )
        if not torch.isfinite(values).all():
            bad = self.masks[~torch.isfinite(values)][0].int().tolist()
            raise ValueError(
                f"log_density must be finite, got {float(values[~torch.isfinite(values)][0])} at mask {bad}: "
                "for an excluded mask return a large negative number, such as -50."
            )
        self.log_density = values
        self.log_evidence = float(values.logsumexp(0))
        self.log_prob = values - self.log_evidence
        self.prob = self.log_prob.exp()

    @cached_property
    def log_odds(self) -> Tensor:
        """log p(gate i open, rest) - log p(gate i closed, rest), [2^n, n]; the rest is that of each mask."""
        index = torch.arange(2**self.n)[:, None]
        bit = 1 << torch.arange(self.n - 1, -1, -1)
        return self.log_density[index | bit] - self.log_density[index & ~bit]

    def marginals(self, prob: Tensor | None = None) -> Tensor:
        """P(gate open), [n], under p or under other probabilities of the masks [2^n]."""
        return (self.prob if prob is None else prob) @ self.masks

    def correlation(self, prob: Tensor | None = None) -> Tensor:
        """Correlation of every pair of gates, [n, n] with unit diagonal; 0 for gates that never change."""
        prob = self.prob if prob is None else prob
        mean = self.marginals(prob)
        covariance = (self.masks * prob[:, None]).T @ self.masks - mean[:, None] * mean
        deviation = covariance.diag().clamp(min=0).sqrt()
        scale = deviation[:, None] * deviation
        unit = torch.where(scale > 1e-12, covariance / scale.clamp(min=1e-12), 0.0)
        return unit.fill_diagonal_(1.0)

    @checked
    def pair(self, i: int, j: int, prob: Tensor | None = None) -> Tensor:
        """P(both closed), P(only j open), P(only i open), P(both open) of gates i and j, [4]."""
        prob = self.prob if prob is None else prob
        state = (2 * self.masks[:, i] + self.masks[:, j]).long()
        return torch.zeros(4, dtype=prob.dtype).index_add(0, state, prob)

    def open_gates(self, prob: Tensor | None = None) -> Tensor:
        """P(k gates are open) for k = 0 ... n, [n + 1]; `prob` as in `marginals`."""
        prob = self.prob if prob is None else prob
        return torch.zeros(self.n + 1, dtype=prob.dtype).index_add(0, self.masks.sum(1).long(), prob)

    def __repr__(self) -> str:
        return f"ExactPosterior(n={self.n}, {2**self.n} masks, log evidence {self.log_evidence:.3f})"


@checked
def gates_in_series(gain: float, price: float = 1.5, n: int = 4) -> ExactPosterior:
    """Gates that have a gain only if all are open: p(z) proportional to exp(gain prod z - price sum z).

    Args:
        gain: of all gates together, any finite number.
        price: of every open gate, any finite number.
        n: gates, 1 to 12.
    """
    gain, price = checks.number("gain", gain), checks.number("price", price)
    return ExactPosterior(n, lambda z: gain * z.prod(1) - price * z.sum(1))


@checked
def spike_and_slab(
    x: np.ndarray,
    y: np.ndarray,
    slab: float = 1.0,
    prob_open: float = 0.5,
    noise: float | None = None,
    shape: float = 1.0,
    rate: float = 1.0,
) -> ExactPosterior:
    """Which columns of x explain y? The exact posterior over masks in a linear regression.

    The weights are integrated out.

    The model is y = x (z * w) + e, with z_j ~ Bernoulli(prob_open), w_j ~ N(0, slab s^2) where z_j = 1,
    and e ~ N(0, s^2) in each of the N rows, without an intercept. With X_z the open columns,

        p(y | z, s^2) = N(y; 0, s^2 V),     V = I + slab X_z X_z^T,     Q = y^T V^-1 y,

    and s^2 is either fixed or has the conjugate prior InverseGamma(shape, rate):

        log p(y | z) = -1/2 log|V| - Q / (2 s^2) - N/2 log(2 pi s^2)
        log p(y | z) = -1/2 log|V| - (shape + N/2) log(rate + Q/2) + terms without z.

    No term is left out: `log_evidence` is log p(y).

    Args:
        x: [N, n] with n of 1 to 12; an array or a tensor, as is y.
        y: [N].
        slab: variance of an open weight, in units of the noise variance s^2, > 0.
        prob_open: prior P(z_j = 1), between 0 and 1, both excluded.
        noise: the variance s^2 > 0 if it is known; None integrates it out.
        shape, rate: of the inverse gamma prior of s^2, > 0.

    Raises:
        ValueError: wrong shapes, values that are not finite, or a number outside its range.
    """
    x, y = _data(x, y)
    for name, value in (("slab", slab), ("shape", shape), ("rate", rate)):
        checks.number(name, value, 0, open_low=True)
    checks.share("prob_open", prob_open)
    if noise is not None:
        checks.number("noise", noise, 0, open_low=True)
    prior_log_odds, n = math.log(prob_open / (1 - prob_open)), x.shape[1]

    def log_joint(masks: Tensor) -> Tensor:
        log_det, square = _determinant_and_square(masks, x, y, slab)
        fit = _log_fit(square, len(x), noise, shape, rate)
        return fit - log_det / 2 + masks.sum(1) * prior_log_odds + n * math.log(1 - prob_open)

    return ExactPosterior(n, log_joint)


@checked
def collinear_data(
    correlation: float, pairs: int = 4, effect: float = 0.4, rows: int = 100, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Columns in near-duplicate pairs, and a response: x [rows, 2 pairs], y [rows].

    Columns 2i and 2i + 1 have the sample correlation `correlation`, up to rounding; columns of different
    pairs have none. Each pair's mean, scaled to variance 1, enters y with weight `effect`. The noise has
    sample variance 1 and is orthogonal to all columns. So the posterior is a smooth function of
    `correlation`. It does not depend on the seed, which only rotates the data.

    Args:
        correlation: in [0, 1].
        pairs: 1 to 6.
        effect: any finite number.
        rows: at least 2 pairs + 2.
        seed: a whole number >= 0.
    """
    r, effect = checks.number("correlation", correlation, 0, 1), checks.number("effect", effect)
    if checks.whole("pairs", pairs, 1) > MAX_GATES // 2:
        raise ValueError(f"pairs must be at most {MAX_GATES // 2}, {MAX_GATES} gates in all, got {pairs}.")
    rows = checks.whole("rows", rows, 2 * pairs + 2)
    rng = torch.Generator().manual_seed(checks.whole("seed", seed, 0))
    raw = torch.randn(rows, 2 * pairs + 1, generator=rng, dtype=torch.float64)
    basis = torch.linalg.qr(raw - raw.mean(0))[0] * math.sqrt(rows)  # orthogonal, mean 0, variance 1
    common, single, noise = basis[:, :pairs], basis[:, pairs:-1], basis[:, -1]
    mean, half = math.sqrt((1 + r) / 2) * common, math.sqrt((1 - r) / 2) * single
    x = torch.stack([mean + half, mean - half], 2).flatten(1)
    return x, effect * common.sum(1) + noise


@checked
def collinear_regression(correlation: float, **data: Any) -> ExactPosterior:
    """`spike_and_slab` of `collinear_data(correlation, **data)` with P(open) = 0.25 in the prior."""
    return spike_and_slab(*collinear_data(correlation, **data), prob_open=0.25)


def _data(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    """x and y in float64."""
    x, y = torch.as_tensor(x, dtype=torch.float64), torch.as_tensor(y, dtype=torch.float64)
    if x.dim() != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x must be [N, n] and y [N], got {list(x.shape)} and {list(y.shape)}.")
    if not 1 <= x.shape[1] <= MAX_GATES:
        raise ValueError(f"x must have 1 to {MAX_GATES} columns, got {x.shape[1]}: pass fewer columns.")
    for name, values in (("x", x), ("y", y)):
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite entries: leave those rows out.")
    return x, y


def _log_fit(square: Tensor, rows: int, noise: float | None, shape: float, rate: float) -> Tensor:
    """log p(y | z) + 1/2 log|V| in `spike_and_slab`, [2^n], from Q = `square`."""
    if noise is not None:
        return -square / (2 * noise) - rows / 2 * math.log(2 * math.pi * noise)
    after = shape + rows / 2  # the shape of the posterior of s^2
    constant = shape * math.log(rate) + math.lgamma(after) - math.lgamma(shape)
    return constant - rows / 2 * math.log(2 * math.pi) - after * torch.log(rate + square / 2)


def _determinant_and_square(masks: Tensor, x: Tensor, y: Tensor, slab: float) -> tuple[Tensor, Tensor]:
    """log|V| and y^T V^-1 y of every mask, [2^n] each, from matrices of n x n (Woodbury's identity)."""
    gram = masks[:, :, None] * (x.T @ x) * masks[:, None, :]
    root = torch.linalg.cholesky(torch.eye(x.shape[1], dtype=x.dtype) + slab * gram)
    log_det = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)
    cross = masks * (x.T @ y)
    solved = torch.cholesky_solve(cross[:, :, None], root)[:, :, 0]
    return log_det, y @ y - slab * (cross * solved).sum(1)
