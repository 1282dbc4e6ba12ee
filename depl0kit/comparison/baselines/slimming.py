"""Network slimming (Liu et al. 2017): batch norms are taught to switch channels off."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...channels.channels import Channels
from ...data.loading import Data
from ...support import checks
from ...training.config import TrainConfig
from .pruning import prune
from .scores import bn_scales

# The paper's 1e-4 to 1e-5 are for 160 epochs; in short runs they move nothing. On digits ("small", 15 epochs,
# three seeds, validation) 1e-4 to 0.01 choose alike, 0.05 does best and 0.1 keeps the network from learning;
# on Fashion-MNIST (6000 images, one seed, 30 % of MACs) 0.01 gave .82, 0.02 .79. What harms neither:
STRENGTH = 0.01


def slimming(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, strength: float = STRENGTH
) -> nn.Module:
    """The channels with the largest |gamma| of their batch norm, by one threshold over all groups, after a
    run in which the loss has `strength` (>= 0) times the sum of all |gamma|.

    Channels that no batch norm scales stay. Where several do, as in a depthwise block, the mean counts.

    Raises:
        ValueError: no batch norm scales a channel that can be removed.
    """

    checks.number("strength", strength, 0)
    penalty = {"penalty": lambda net: strength * sum_of_scales(net)}
    return prune(model, data, keep, config, scales, lambda channels: penalty)


def scales(channels: Channels) -> list[Tensor]:
    """|gamma| per channel."""
    scores = bn_scales(channels)
    if all(bool(score.isinf().all()) for score in scores):
        raise ValueError(
            f"slimming ranks channels by scales of batch norms, and {type(channels.model).__name__} has no "
            "batch norm on channels that can be removed: choose another method, or add batch norms."
        )
    return scores


def sum_of_scales(net: nn.Module) -> Tensor:
    """Sum of |gamma| over all batch norms, with gradient."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.affine]
    return torch.stack([norm.weight.abs().sum() for norm in norms]).sum()
