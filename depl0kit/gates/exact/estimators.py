"""Four ways to estimate one gradient from draws of the gates, beside the exact gradient (lesson 09)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...support import checked, checks
from ..bernoulli import arm_gradients
from ..hard_concrete import HardConcrete
from .problems import ExactPosterior


@checked
def gradient_estimates(
    target: ExactPosterior,
    prob_open: Sequence[float],
    draws: int = 1000,
    seed: int = 0,
    hard_concrete: HardConcrete | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The exact gradient of E_q[f(z)] in the logits of P(open), and what each draw of the gates estimates.

    f(z) = -log p(z), and q has independent gates; with its entropy subtracted E_q[f] is KL(q || p). In f' the
    gates are real numbers, as the activations are that the gates of a network multiply. All estimators see
    the same noise u, uniform in (0, 1):

        ARM                (f([1 - u < p]) - f(z)) (u - 1/2),     z = [u < p]     (Yin & Zhou 2019)
        REINFORCE          f(z) (z - p)                                           (Williams 1992)
        straight-through   f'(z) p (1 - p)                                        (Bengio et al. 2013)
        hard concrete      f'(h) dh / d log_alpha,                h(u) with P(h > 0) = p

    The first two are unbiased. The third is if f is linear in each gate, as in `gates_in_series`. The last is
    the gradient of another loss, that of gates which may lie between 0 and 1.

    Args:
        target: p.
        prob_open: P(open) of each gate under q, [n], between 0 and 1, both excluded.
        draws: estimates of each kind, a whole number >= 1; ARM takes two values of f for each.
        seed: of the noise, a whole number >= 0.
        hard_concrete: of the last estimator; `HardConcrete()` if None.

    Returns:
        The exact gradient [n], and name -> estimates [draws, n].

    Raises:
        ValueError: `prob_open` has another length or an entry outside its range, or the function that
            `target` was made of has no derivative.
    """
    p = _probabilities(prob_open, target.n)
    rng = torch.Generator().manual_seed(checks.whole("seed", seed, 0))
    u = torch.rand(checks.whole("draws", draws, 1), target.n, generator=rng, dtype=torch.float64)
    z, opposite = (u < p).double(), (1 - u < p).double()
    estimates = {
        "ARM": arm_gradients(u, _loss(target, z), _loss(target, opposite)),
        "REINFORCE": _loss(target, z)[:, None] * (z - p),
        "straight-through": _slope(target, z) * p * (1 - p),
        "hard concrete": _pathwise(target, p, u, hard_concrete or HardConcrete()),
    }
    q = torch.where(target.masks > 0, p, 1 - p).prod(1)
    return -p * (1 - p) * (q @ target.log_odds), estimates


def _probabilities(prob_open: Sequence[float], n: int) -> Tensor:
    p = torch.tensor(list(prob_open), dtype=torch.float64)
    if p.shape != (n,) or not ((p > 0) & (p < 1)).all():
        raise ValueError(
            f"prob_open must be P(open) of each of the {n} gates, between 0 and 1 (both excluded), "
            f"got {checks.plain(p)!r}."
        )
    return p


def _loss(target: ExactPosterior, masks: Tensor) -> Tensor:
    """f of masks [draws, n], [draws]; row k of `target.masks` is the number k in binary."""
    powers = 2 ** torch.arange(target.n - 1, -1, -1)
    return -target.log_prob[(masks.long() * powers).sum(1)]


def _slope(target: ExactPosterior, gates: Tensor) -> Tensor:
    """f' at gates of any real values, [draws, n]."""
    gates = gates.detach().requires_grad_()
    values = torch.as_tensor(target.log_density_of(gates))
    if not values.requires_grad:
        raise ValueError(
            "the log_density of target must have a derivative in the gates: compute it from z with torch's "
            "functions, as gates_in_series does."
        )
    return -torch.autograd.grad(values.sum(), gates)[0]


def _pathwise(target: ExactPosterior, p: Tensor, u: Tensor, hc: HardConcrete) -> Tensor:
    """Gradient in log_alpha through hard-concrete gates of P(open) = p, [draws, n]."""
    log_alpha = (p.logit() - hc.prob_open(torch.zeros_like(p)).logit()).expand_as(u).requires_grad_()
    gates = hc.sample(log_alpha, u)
    return torch.autograd.grad(gates, log_alpha, _slope(target, gates))[0]
