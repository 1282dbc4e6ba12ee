"""What is minimised: cross-entropy plus a price on the expected cost of the network.

    lambda mode:  cross-entropy + strength(epoch) * lambda * share
    budget mode:  cross-entropy + KAPPA * relu(share - target(progress))     budget_rule="hinge"
                  cross-entropy + mu * (share - budget)                      budget_rule="dual"

`share` is `GatedModel.expected_share`: expected cost over dense cost, in 0..1, so that a lambda means the
same for a small network and a large one. (The papers' lambda counts weights: lambda / dense parameters.)
"""

import torch
from torch import Tensor

# Plain dual ascent on a budget overshoots, and closed gates rarely reopen; a target that comes
# down slowly lets the network give up channels one by one.
TARGET_REACHED = 0.6  # share of training after which the target stands at the budget
KAPPA, KAPPA_SMALL = 50.0, 200.0  # steepness of the hinge; the second below SMALL_BUDGET
SMALL_BUDGET = 0.15
# Learning rate of the dual multiplier times the steps of the run. Gallego-Posada et al. take 7e-4 a step in
# about 78,000 steps on CIFAR-10: 55. A rate per run and not per step, as a price that suits a network must be
# reached in short runs too.
MU_RISE = 55.0


def strength(epoch: float, warmup: float, ramp: float) -> float:
    """Share of lambda in force at an epoch (or a part of one): 0 in the warm-up, then a linear ramp to 1.

    At full strength from the first step lambda closes mean-field gates before the weights behind
    them have learnt anything.
    """
    if epoch < warmup:
        return 0.0
    return min(1.0, (epoch - warmup) / ramp) if ramp else 1.0


def budget_target(progress: float, budget: float) -> float:
    """Allowed share at `progress` (0..1) through training: linear from 1 down to `budget`."""
    return 1 + (budget - 1) * min(1.0, progress / TARGET_REACHED)


def budget_penalty(share: Tensor, progress: float, budget: float) -> Tensor:
    """The ramped hinge: zero while the share is below the target of the moment."""
    kappa = KAPPA_SMALL if budget < SMALL_BUDGET else KAPPA
    return kappa * (share - budget_target(progress, budget)).relu()


def dual_penalty(share: Tensor, mu: Tensor, budget: float) -> Tensor:
    """The constraint share <= budget times its multiplier `mu`; the gradient in the share is mu."""
    return mu * (share - budget)


def next_mu(mu: Tensor, share: Tensor, budget: float, steps: int) -> Tensor:
    """The multiplier after a step of gradient ascent, in a run of so many steps.

    It is set to 0 as soon as the constraint holds, the dual restart of Gallego-Posada et al. (2022,
    "Controlled Sparsity via Constrained Optimization"). What was added up on the way would close more
    gates for as long as it takes to fall again.
    """
    above = (share.detach() - budget).to(mu.dtype)
    return torch.where(above > 0, mu + MU_RISE / steps * above, torch.zeros_like(mu))
