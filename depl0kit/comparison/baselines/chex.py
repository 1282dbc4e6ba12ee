"""CHEX: channel exploration (Hou et al. 2022)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...data.loading import Data
from ...support import checks
from ...training.config import TrainConfig
from .choice import structure
from .masked import grow_and_prune
from .whole import seeded

# The paper's share; its 90 phases are of 2 epochs each. On digits ("small", 6 epochs, three seeds, 15 % of
# MACs, validation) 5 to 40 phases do alike (means .963 to .974), and no regrowth is no worse (.983).
SHARE, PHASES = 0.3, 20


def chex(
    model: nn.Module,
    data: Data,
    keep: float,
    config: TrainConfig,
    share: float = SHARE,
    phases: int = PHASES,
    on_phase: Callable[[list[Tensor]], object] | None = None,
) -> nn.Module:
    """Sparse from the start; again and again the least channels close and random others come back, fewer each
    time ("CHEX: channel exploration for CNN model compression", Hou et al. 2022).

    They come back with the weights and batch-norm statistics that they had. Those that close have the
    smallest relative L1 norms, by one threshold that `keep` sets. The paper ranks by leverage scores within
    a layer, and by scales of batch norms between layers.

    Args:
        share: of every group's channels that come back at first, from 0 to 1.
        phases: how often, in the first 70 % of training; a whole number >= 1.
        on_phase: called with the masks of each phase, see `grow_and_prune`.
    """
    checks.number("share", share, 0, 1)
    checks.whole("phases", phases, 1)
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        generator = torch.Generator().manual_seed(config.seed)

        def grow(best: list[Tensor], phase: int) -> list[Tensor]:
            return [regrown(mask, regrown_share(share, phase / phases), generator) for mask in best]

        return grow_and_prune(channels, data, keep, config, phases, grow, on_phase=on_phase)


def regrown_share(first: float, progress: float) -> float:
    """Share of channels that come back: `first` at progress 0, along half a cosine to 0 at 1."""
    return first * (1 + math.cos(math.pi * progress)) / 2


def regrown(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """`mask` with more channels open: random ones, `share` of all, or as many as are closed."""
    closed = mask.numel() - int(mask.sum())
    order = torch.rand(len(mask), generator=generator) - mask  # those that are open come last
    return mask.index_fill(0, order.topk(min(closed, round(share * len(mask)))).indices, 1.0)
