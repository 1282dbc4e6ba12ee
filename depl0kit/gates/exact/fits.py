"""The best approximation of an exact posterior p in each family of distributions q.

All of them minimise KL(q || p), by sums over all masks instead of samples. So families differ only in what
they can express, apart from local optima: there is no noise of an estimator.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...support import checked, checks
from ..dependency import Dependency
from ..posterior import BOUND
from .problems import ExactPosterior

SWEEPS, SETTLED = 1000, 1e-7  # coordinate ascent ends when no P(open) changes by more than this
NEVER_CERTAIN = 1e-12  # P(open) stays this far from 0 and 1, so that its logarithm is finite
ONE_OPTIMUM = 0.02  # two fits closer than this in total variation count as one optimum
HIDDEN = 4  # hidden units per gate of the autoregressive family


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """The best q that was found in a family.

    Attributes:
        family: "mean_field", "generator" or "autoregressive".
        target: p.
        solutions: log q of every distinct optimum that was found, [K, 2^n], best first.
    """

    family: str
    target: ExactPosterior
    solutions: Tensor

    @cached_property
    def prob(self) -> Tensor:
        """The best q, [2^n]."""
        return self.solutions[0].exp()

    @cached_property
    def kls(self) -> list[float]:
        """KL(q || p) of every distinct optimum, in nats, lowest first; never below 0."""
        return [max(kl, 0.0) for kl in _kl(self.solutions, self.target).tolist()]

    @property
    def kl(self) -> float:
        """KL(q || p) of the best q, in nats."""
        return self.kls[0]

    @property
    def elbo(self) -> float:
        """Lower bound of `target.log_evidence`; the difference is `kl`."""
        return self.target.log_evidence - self.kl

    @property
    def optima(self) -> int:
        """How many distinct optima were found, at most one per start."""
        return len(self.solutions)

    def marginals(self) -> Tensor:
        """P(gate open) under the best q, [n]."""
        return self.target.marginals(self.prob)

    def correlation(self) -> Tensor:
        """Correlation of every pair of gates under the best q, [n, n]."""
        return self.target.correlation(self.prob)

    def __repr__(self) -> str:
        return f"Fit({self.family}: KL {self.kl:.4f} nats, {self.optima} distinct optima)"


@checked
def fit_mean_field(
    target: ExactPosterior, starts: int = 64, seed: int = 0, start: Sequence[float] | Tensor | None = None
) -> Fit:
    """The best independent gates, by coordinate ascent: logit q_i = E_q[log p(open, rest) / p(closed, rest)].

    Every step is the exact optimum of its coordinate, so KL never rises.

    Args:
        starts: starting points, a whole number >= 1: all gates closed, all open, and random ones.
        seed: of the random starts, a whole number >= 0.
        start: P(open) of every gate, [n] in [0, 1], as the only starting point.
    """
    shape = checks.whole("starts", starts, 1), target.n
    mu = torch.rand(shape, generator=_rng(seed), dtype=torch.float64)
    mu[:2] = torch.tensor([[0.01], [0.99]], dtype=torch.float64)[: len(mu)]  # random starts may miss these
    if start is not None:
        mu = torch.as_tensor(start, dtype=torch.float64)[None].clone()
        if mu.shape != (1, target.n) or not ((mu >= 0) & (mu <= 1)).all():
            raise ValueError(
                f"start must be P(open) of each of the {target.n} gates, in [0, 1], "
                f"got {checks.plain(start)!r}."
            )
    for _ in range(SWEEPS):
        before, mu = mu, _sweep(mu, target)
        if (mu - before).abs().max() < SETTLED:
            break
    return _best("mean_field", target, _log_independent(mu, target))


@checked
def fit_generator(
    target: ExactPosterior,
    sizes: Sequence[int] | None = None,
    direction: str = "forward",
    starts: int = 2,
    seed: int = 0,
    iterations: int = 100,
) -> Fit:
    """The best gates that the generator of Dep-L0 can express: those of `Dependency`, given its weights.

    They are independent, and P(open) = P(z > 0) of the hard-concrete gate, which the bound on log_alpha
    keeps between 0.047 and 0.998. So no generator is better than the best mean field.

    Args:
        sizes: gates per group, n in all; groups of one gate if None.
        direction: "forward" or "backward".
        starts: starting points, a whole number >= 1: small random weights, and biases that set all P(open)
            to about 1/3 and 2/3 (for two starts).
        seed: of the weights, a whole number >= 0.
        iterations: of L-BFGS for each start, a whole number >= 1.

    Raises:
        ValueError: sizes that are not positive or do not add up to n, or an unknown direction.
    """
    sizes = tuple(sizes) if sizes is not None else (1,) * target.n
    if sum(sizes) != target.n:
        raise ValueError(
            f"sizes must add up to the {target.n} gates of the target, got {checks.plain(list(sizes))}."
        )
    rng, solutions = _rng(seed), []
    for start in range(checks.whole("starts", starts, 1)):
        posterior = _small_generator(sizes, direction, (start + 1) / (starts + 1), rng)

        def log_q(posterior: Dependency = posterior) -> Tensor:
            return _log_independent(posterior.flat_prob_open()[None], target)[0]

        # short first steps: after a long one, tanh saturates and its gradient vanishes
        solutions.append(_minimise(log_q, list(posterior.parameters()), target, iterations, step=0.1))
    return _best("generator", target, torch.stack(solutions))


@checked
def fit_autoregressive(target: ExactPosterior, starts: int = 2, seed: int = 0, iterations: int = 60) -> Fit:
    """The best chain in which every gate depends on all gates before it.

    logit q(z_i = 1 | z_1 ... z_{i-1}) is affine in the earlier gates, plus a small hidden layer of tanh
    units over them. (A table of all 2^(i-1) masks of the earlier gates could express any p.)

    Args:
        starts: random initial weights, a whole number >= 1.
        seed: of the weights, a whole number >= 0.
        iterations: of L-BFGS for each start, a whole number >= 1.
    """
    rng, n, solutions = _rng(seed), target.n, []
    for _ in range(checks.whole("starts", starts, 1)):
        shapes = (n, n + 1), (n, HIDDEN, n + 1), (n, HIDDEN)
        weights = [0.5 * torch.randn(s, generator=rng, dtype=torch.float64) for s in shapes]
        for weight in weights:
            weight.requires_grad_()
        solutions.append(_minimise(partial(_log_chain, weights, target), weights, target, iterations))
    return _best("autoregressive", target, torch.stack(solutions))


FITS: dict[str, Callable[..., Fit]] = {
    "mean_field": fit_mean_field,
    "generator": fit_generator,
    "autoregressive": fit_autoregressive,
}


@checked
def compare_fits(target: ExactPosterior, seed: int = 0) -> pd.DataFrame:
    """A row per family: KL(q || p), ELBO, distinct optima found, largest |correlation| of two gates.

    The first row is p itself.
    """
    rows = {"exact": (0.0, target.log_evidence, 1, _largest_r(target.correlation()))}
    for family, fit in FITS.items():
        best = fit(target, seed=seed)
        rows[family] = best.kl, best.elbo, best.optima, _largest_r(best.correlation())
    columns = ["kl", "elbo", "optima", "largest_r"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("posterior")


def _largest_r(correlation: Tensor) -> float:
    return float(correlation.tril(-1).abs().max())


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(checks.whole("seed", seed, 0))


def _small_generator(
    sizes: Sequence[int], direction: str, prob_open: float, rng: torch.Generator
) -> Dependency:
    """A generator with small random weights that gives every gate a P(open) of about `prob_open`."""
    with torch.random.fork_rng(devices=[]):  # a layer draws its first weights from the global random state
        posterior = Dependency(sizes, direction).double()
    at_zero = float(posterior.hard_concrete.prob_open(torch.zeros((), dtype=torch.float64)))
    level = math.log(prob_open / (1 - prob_open)) - math.log(at_zero / (1 - at_zero))
    bias = math.atanh(max(-0.95, min(level / BOUND, 0.95)))
    for step, linear in enumerate(posterior.generator):
        nn.init.normal_(linear.weight, 0, 0.05 if step else 0.0, generator=rng)
        nn.init.normal_(linear.bias, bias, 0.2, generator=rng)
    return posterior


def _log_independent(mu: Tensor, target: ExactPosterior) -> Tensor:
    """log q of all masks, [S, 2^n], for independent gates with P(open) = mu, [S, n]."""
    mu = mu.clamp(NEVER_CERTAIN, 1 - NEVER_CERTAIN)
    return mu.log() @ target.masks.T + (1 - mu).log() @ (1 - target.masks).T


def _log_chain(weights: list[Tensor], target: ExactPosterior) -> Tensor:
    """log q of all masks, [2^n], for the chain of `fit_autoregressive`."""
    linear, first, second = weights
    inputs = F.pad(target.masks, (0, 1), value=1.0)  # the last is for the bias
    earlier = F.pad(torch.ones(target.n, target.n, dtype=torch.float64).tril(-1), (0, 1), value=1.0)
    hidden = torch.tanh(inputs @ (first * earlier[:, None]).flatten(0, 1).T).unflatten(1, second.shape)
    logits = inputs @ (linear * earlier).T + (hidden * second).sum(2)
    return -F.softplus(torch.where(target.masks > 0, -logits, logits)).sum(1)


def _sweep(mu: Tensor, target: ExactPosterior) -> Tensor:
    """One step of coordinate ascent for each gate in turn, from P(open) = mu, [S, n]."""
    q = _log_independent(mu, target).exp().T.contiguous()  # [2^n, S]: slices of whole rows
    mu = mu.clamp(NEVER_CERTAIN, 1 - NEVER_CERTAIN)
    for gate in range(target.n):
        new = torch.sigmoid(target.log_odds[:, gate] @ q).clamp(NEVER_CERTAIN, 1 - NEVER_CERTAIN)
        change = torch.stack([(1 - new) / (1 - mu[:, gate]), new / mu[:, gate]])
        # an update is much faster than computing q of all masks again
        q = (q.view(2**gate, 2, -1, q.shape[1]) * change[:, None]).view(q.shape)
        mu[:, gate] = new
    return mu


def _kl(log_q: Tensor, target: ExactPosterior) -> Tensor:
    """KL(q || p) for log q, [..., 2^n]."""
    return (log_q.exp() * (log_q - target.log_prob)).sum(-1)


def _minimise(
    log_q: Callable[[], Tensor],
    parameters: list[Tensor],
    target: ExactPosterior,
    iterations: int,
    step: float = 1.0,
) -> Tensor:
    """log q at a local minimum of KL(q || p), from these parameters on, which are changed."""
    checks.whole("iterations", iterations, 1)
    optimiser = torch.optim.LBFGS(
        parameters, step, iterations, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = _kl(log_q(), target)
        value.backward()
        return value

    optimiser.step(loss)
    return log_q().detach()


def _best(family: str, target: ExactPosterior, log_q: Tensor) -> Fit:
    """The distinct solutions among the fits [S, 2^n], best first."""
    kept: list[Tensor] = []
    for candidate in log_q[_kl(log_q, target).argsort()]:
        if all((candidate.exp() - other.exp()).abs().sum() / 2 > ONE_OPTIMUM for other in kept):
            kept.append(candidate)
    return Fit(family, target, torch.stack(kept))
