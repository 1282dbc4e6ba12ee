"""Fading channels out (OTOv2, Chen et al. 2023; HESSO, Chen et al. 2024)."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...channels.channels import Channels
from ...data.loading import Data
from ...support import checks
from ...training.config import TrainConfig
from ...training.loop import steps_per_epoch
from .choice import best_channels, structure
from .entries import Entries
from .scores import l1_norms
from .whole import seeded, train_weights

BEGIN, FADING = 0.3, 0.4  # shares of the steps: before the first period, and in all periods
# 1 to 30 do alike on digits ("small", 6 epochs, three seeds, 15 % of MACs, validation: .97 to .98)
PERIODS = 10


def fade_out(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, periods: int = PERIODS
) -> nn.Module:
    """In each of several periods choose some more channels, and fade them out until they are exactly 0, so
    that the cut changes nothing (OTOv2, Chen et al. 2023, and HESSO, Chen et al. 2024).

    How many of each group stay is decided once, before the first period, by one threshold on relative L1
    norms that `keep` sets. In each period as many go as in every other, those with the smallest norms then.
    Of its T steps, step t = 0 .. T-1 multiplies their weights by (T - t - 1) / (T - t): they shrink along a
    line. The papers fade what writes a channel; here also what reads it, so that the cut is exact for every
    activation, also where f(0) is not 0. The last 30 % of training is for what stays.

    Args:
        periods: a whole number >= 1; no more than the steps of the 40 % of training in which channels fade.
    """
    checks.whole("periods", periods, 1)
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        best_channels(channels, l1_norms(channels), keep)  # refuses what cannot be reached
        fading = Fading(channels, keep, config.epochs * steps_per_epoch(data, config), periods)
        train_weights(channels.model, data, config, after_step=fading.after_step)
        return channels.remove(fading.masks)


class Fading:
    """Channels that fade out in periods of equal length.

    Attributes:
        masks: 0 for channels that fade or are 0, per gated group [channels], on the CPU.
    """

    def __init__(self, channels: Channels, keep: float, steps: int, periods: int) -> None:
        self.channels, self.keep = channels, keep
        self.masks = [torch.ones(size) for size in channels.sizes]
        self.begin = int(BEGIN * steps)
        self._ends: list[int] = []  # how many channels stay of each group
        self.periods = min(periods, max(1, int(FADING * steps)))
        self.length = max(1, int(FADING * steps) // self.periods)
        self._entries = Entries(channels)
        # of all weights: 0 for entries that have faded out, and 1 for those that are fading
        self._alive: list[Tensor] = []
        self._fading: list[Tensor] = []

    @torch.no_grad()
    def after_step(self, step: int, _: Optimizer) -> None:
        period, t = divmod(step - 1 - self.begin, self.length)
        if period < 0:
            return
        if t == 0 and period <= self.periods:
            self._turn(period)
        weights = self._entries.tensors
        torch._foreach_mul_(weights, self._alive)
        torch._foreach_addcmul_(weights, weights, self._fading, value=-1 / (self.length - t))

    def _turn(self, period: int) -> None:
        """End a period, and begin the next one, if it is not the last."""
        self._alive = self._entries.open(self.masks)
        if period < self.periods:
            scores = l1_norms(self.channels)
            if period == 0:
                self._ends = [int(mask.sum()) for mask in best_channels(self.channels, scores, self.keep)]
            done = (period + 1) / self.periods
            self.masks = [
                _best(score, mask, len(mask) - round(done * (len(mask) - end)))
                for score, mask, end in zip(scores, self.masks, self._ends, strict=True)
            ]
        self._fading = [a - b for a, b in zip(self._alive, self._entries.open(self.masks), strict=True)]


def _best(score: Tensor, mask: Tensor, number: int) -> Tensor:
    """The mask of the best channels among those that are open."""
    order = score.masked_fill(mask == 0, -torch.inf)
    return torch.zeros_like(mask).index_fill(0, order.topk(number).indices, 1.0)
