"""The learning rates of one step: what `TrainConfig` says, at a time that is counted in epochs."""

import math

from . import schedules
from .config import TrainConfig


def weight_rate(config: TrainConfig, start: float, middle: float) -> float:
    """Learning rate of the weights in a step.

    Args:
        start, middle: epochs from the beginning of the run to the start and to the middle of the step.

    Example:
        >>> weight_rate(TrainConfig(epochs=10, lr=0.05), 3.0, 3.0)
        0.05
    """
    if config.schedule == "one_cycle":
        return config.lr * schedules.one_cycle(middle / config.all_epochs)
    return config.lr * schedules.steps(start, config.milestones, config.decay)


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
    share = schedules.hold_then_fall(middle / config.epochs) if falls else 1.0
    return weight_rate(config, start, middle), gate_lr * share
