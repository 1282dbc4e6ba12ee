"""The learning rates of one step: what `TrainConfig` says, at a time that is counted in epochs.

Pure functions of the progress of a run, so that a resumed run needs no state of them.
"""

import math

from .config import TrainConfig

RISE = 0.3  # share of training during which one_cycle rises
HOLD = 0.7  # share of training during which the gates' rate stands


def one_cycle(progress: float) -> float:
    """Share of the full rate: a linear rise for the first RISE of training, then half a cosine down to 0."""
    if progress < RISE:
        return progress / RISE
    return 0.5 + 0.5 * math.cos(math.pi * (progress - RISE) / (1 - RISE))


def hold_then_fall(progress: float) -> float:
    """1 for the first HOLD of training, then a linear fall to 0, so that the gates come to rest."""
    return max(0.0, min(1.0, (1 - progress) / (1 - HOLD)))


def weight_rate(config: TrainConfig, start: float, middle: float) -> float:
    """Learning rate of the weights in a step, at the times, in epochs, of its start and its middle."""
    if config.schedule == "one_cycle":
        return config.lr * one_cycle(middle / config.all_epochs)
    return config.lr * config.decay ** sum(start >= milestone for milestone in config.milestones)


def rates(
    config: TrainConfig, gate_lr: float, start: float, middle: float, until_stop: bool
) -> tuple[float, float]:
    """Learning rates of the weights and of the gates, whose full value is `gate_lr`, in a step.

    In a run that lasts until it is stopped, or that for this reason lasted longer than planned, both stay as
    they are at the end of the ramp.
    """
    held = until_stop or start >= config.all_epochs
    end = config.warmup_epochs + config.ramp_epochs if held else math.inf
    start, middle = min(start, end), min(middle, end)
    falls = config.gate_schedule == "hold_then_fall"
    share = hold_then_fall(middle / config.epochs) if falls else 1.0
    return weight_rate(config, start, middle), gate_lr * share
