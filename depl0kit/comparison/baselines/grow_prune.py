"""Scheduled grow-and-prune (Ma et al. 2022), of channels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...data.loading import Data
from ...support import checks
from ...training.config import TrainConfig
from .choice import structure
from .masked import grow_and_prune
from .whole import seeded

PARTITIONS = 4  # as for the paper's ResNet-50
ROUNDS = 2  # 1, 2 and 4 do alike on digits ("small", 6 epochs, two or three seeds, 15 % of MACs, validation)


def grow_prune(
    model: nn.Module,
    data: Data,
    keep: float,
    config: TrainConfig,
    rounds: int = ROUNDS,
    regrow: str = "last",
    on_phase: Callable[[list[Tensor]], object] | None = None,
) -> nn.Module:
    """Sparse from the start, while one part of the network after the other is whole for some time, so that
    channels that were closed too early can come back ("Effective model sparsification by scheduled
    grow-and-prune methods", Ma et al. 2022, there for single weights).

    The groups form up to 4 partitions, in the order of the network. In a phase all channels of one partition
    are open; of the others, and in the last 30 % of training of all, those with the largest relative L1 norm,
    by one threshold that `keep` sets. The paper restarts the learning rate in every phase, here it rises and
    falls once.

    Args:
        rounds: how often each partition is opened, a whole number >= 1.
        regrow: weights of channels that come back: "last", those that they had, or "zero" where they
            are read, as in the paper.
        on_phase: called with the masks of each phase, see `grow_and_prune`.
    """
    checks.whole("rounds", rounds, 1)
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        groups = len(channels.sizes)
        partitions = min(PARTITIONS, groups)

        def grow(best: list[Tensor], phase: int) -> list[Tensor]:
            opened = phase % partitions
            parts = (group * partitions // groups for group in range(groups))
            return [
                torch.ones_like(mask) if p == opened else mask for p, mask in zip(parts, best, strict=True)
            ]

        return grow_and_prune(channels, data, keep, config, partitions * rounds, grow, regrow, on_phase)
