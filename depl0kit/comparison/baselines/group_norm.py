"""Group norms (Fang et al. 2023, "DepGraph"): a channel is as large as all weights that go with it."""

from typing import Any

import torch
from torch import Tensor, nn

from ...channels.channels import Channels
from ...channels.groups import Group
from ...channels.layers import input_dim, is_grouped
from ...data.loading import Data
from ...support import checks
from ...support.device import values_of
from ...training.config import TrainConfig
from .pruning import prune
from .scores import filters, relative

# The paper's is 1e-4. On digits ("small", 15 epochs, 20 % of MACs, three seeds, validation) 0, 1e-4, 1e-3,
# 3e-3 and 0.01 gave .981, .985, .986, .989 and .992 after fine-tuning, and .22, .24, .18, .16 and .71
# before it; on Fashion-MNIST (1200 images, 6 epochs, one seed, 30 %) 1e-4, 3e-3 and 0.01 gave .669, .675
# and .683.
STRENGTH = 0.01
GROWTH = 4  # the least channel of a group is pulled 2^4 times as hard as its largest

# a layer, the side on which channels lie, and their indices there [channels, spread]
Part = tuple[nn.Module, str, Tensor]


def group_norm(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, strength: float = STRENGTH
) -> nn.Module:
    """The channels with the largest norm over all layers of their group, relative to the group's mean, by one
    threshold, after a run in which the weights of small channels decay together.

    Args:
        strength: decay of the weights of each group's largest channel, >= 0: so many times a weight is added
            to its gradient; 16 times as many for its least channel.
    """
    checks.number("strength", strength, 0)

    def hooks(channels: Channels) -> dict[str, Any]:
        groups = parts(channels)
        return {"penalty": lambda net: strength * growing_decay(groups)}

    return prune(model, data, keep, config, relative_norms, hooks)


def relative_norms(channels: Channels) -> list[Tensor]:
    """The norm of all weights of a channel, over the mean of its group."""
    return [relative(values_of(_squares(group)).sqrt()) for group in parts(channels)]


def growing_decay(groups: list[list[Part]]) -> Tensor:
    """Sum of factor x w^2 / 2 over the weights of all channels: its gradient is factor x w."""
    squares = [_squares(group) for group in groups]
    return torch.cat([growing_factors(s.detach().sqrt()) * s for s in squares]).sum() / 2


def growing_factors(norms: Tensor) -> Tensor:
    """2^(4 (largest - n) / (largest - least)) of the norms n of a group, [channels]: 1 to 16, and 1 where all
    are alike."""
    below = norms.max() - norms
    return 2 ** (GROWTH * below / below.max().clamp(min=torch.finfo(norms.dtype).tiny))


def parts(channels: Channels) -> list[list[Part]]:
    """Per gated group the weights that go with its channels: of layers that write, scale or read them."""
    return [_of_group(group, channels.model) for group in channels.groups.gated]


def _of_group(group: Group, model: nn.Module) -> list[Part]:
    device, found = next(model.parameters()).device, []
    for (name, side), members in group.members.items():
        module = model.get_submodule(name) if side in ("in", "out") else None  # else a loose parameter
        twice = side == "in" and is_grouped(module)  # its weights belong to its outputs
        if getattr(module, "weight", None) is not None and not twice:
            found.append((module, side, torch.from_numpy(members).to(device)))
    return found


def _squares(group: list[Part]) -> Tensor:
    """Sum of the squares of all weights of each channel, [channels]."""
    return sum(_rows(module, side).square().sum(1)[indices].sum(1) for module, side, indices in group)


def _rows(module: nn.Module, side: str) -> Tensor:
    """The weights of each input or output of a layer, [width, weights]."""
    return filters(module) if side == "out" else module.weight.movedim(input_dim(module), 0).flatten(1)
