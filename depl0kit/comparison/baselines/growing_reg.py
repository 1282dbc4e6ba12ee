"""Growing regularisation (Wang et al. 2021)."""

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...data.loading import Data
from ...support import checks
from ...training.config import TrainConfig
from ...training.loop import steps_per_epoch
from .choice import best_channels, structure
from .entries import Entries
from .scores import l1_norms
from .whole import seeded, train_weights

CHOSEN, GROWN = 0.3, 0.8  # shares of the steps after which channels are chosen, and their factor is highest
# Accuracy right after the cut, "small", 15 % of MACs, validation: on digits (6 epochs, means of three seeds)
# 0, 10, 30, 100, 300 gave .16, .43, .95, .98, .98; on Fashion-MNIST (3000 images, 4 epochs, one seed) 30,
# 100, 300 gave .66, .72, .72.
STRENGTH = 100.0


def growing_reg(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, strength: float = STRENGTH
) -> nn.Module:
    """Choose the channels to go by their relative L1 norm first, push them towards 0 by an L2 factor that
    grows step by step, and cut (GReg-1 of "Neural pruning via growing regularization", Wang et al. 2021).

    The paper raises the factor by 1e-4 every 5 to 10 steps, up to 1, for tens of thousands of steps
    with a pretrained network. Here it begins when 30 % of the steps are done, and its highest value, reached
    at 80 %, is `strength` / (lr * all steps): so the weights of a channel shrink alike in a short run and in
    a long one. The paper pushes filters alone; batch norm would undo that, so its scale and shift go along.

    Args:
        strength: number >= 0.
    """
    checks.number("strength", strength, 0)
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        masks = best_channels(channels, l1_norms(channels), keep)  # refuses what cannot be reached
        entries = Entries(channels, read=False)
        steps = config.epochs * steps_per_epoch(data, config)
        chosen: list[Tensor] = []

        @torch.no_grad()
        def after_step(step: int, optimiser: Optimizer) -> None:
            nonlocal masks, chosen
            if step < CHOSEN * steps:
                return
            if not chosen:
                masks = best_channels(channels, l1_norms(channels), keep)
                chosen = [1 - kept for kept in entries.open(masks)]
            growth = min(1.0, (step / steps - CHOSEN) / (GROWN - CHOSEN))
            rate = optimiser.param_groups[0]["lr"] / config.lr
            shrink = math.expm1(-strength * growth * rate / steps)  # exp: never below 0
            torch._foreach_addcmul_(entries.tensors, entries.tensors, chosen, value=shrink)

        train_weights(channels.model, data, config, after_step=after_step)
        return channels.remove(masks)
