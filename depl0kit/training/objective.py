"""What is minimised: cross-entropy plus a price on the expected cost of the network.

    lambda mode:  cross-entropy + strength(epoch) * lambda * share
    budget mode:  cross-entropy + KAPPA * relu(share - target(progress))

`share` is `GatedModel.expected_share`: expected cost over dense cost, in 0..1, so that a lambda means the
same for a small network and a large one. (The papers' lambda counts weights: lambda / dense parameters.)
"""

from torch import Tensor

# Plain dual ascent on a budget overshoots, and closed gates rarely reopen; a target that comes
# down slowly lets the network give up channels one by one.
TARGET_REACHED = 0.6  # share of training after which the target stands at the budget
KAPPA, KAPPA_SMALL = 50.0, 200.0  # steepness of the hinge; the second below SMALL_BUDGET
SMALL_BUDGET = 0.15


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
