"""Learning rates over a run, as shares (0..1) of their full value.

Pure functions of the progress of a run, so that a resumed run needs no state of them.
"""

import math
from collections.abc import Sequence

SCHEDULES = ("one_cycle", "steps", "constant")
GATE_SCHEDULES = ("hold_then_fall", "constant")
RISE = 0.3  # share of training during which one_cycle rises
HOLD = 0.7  # share of training during which the gates' rate stands


def one_cycle(progress: float) -> float:
    """Linear rise for the first RISE of training, then half a cosine down to 0."""
    if progress < RISE:
        return progress / RISE
    return 0.5 + 0.5 * math.cos(math.pi * (progress - RISE) / (1 - RISE))


def steps(epoch: float, milestones: Sequence[float], decay: float) -> float:
    """1, times `decay` from each of the `milestones` (epochs) on."""
    return decay ** sum(epoch >= milestone for milestone in milestones)


def hold_then_fall(progress: float) -> float:
    """1 for the first HOLD of training, then a linear fall to 0, so that the gates come to rest."""
    return max(0.0, min(1.0, (1 - progress) / (1 - HOLD)))
