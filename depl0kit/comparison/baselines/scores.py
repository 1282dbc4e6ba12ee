"""Scores of channels, per gated group [channels]: the larger, the more worth keeping."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...channels.channels import Channels
from ...channels.groups import Group
from ...channels.layers import is_grouped, is_transposed
from ...support.device import values_of


def random_scores(channels: Channels) -> list[Tensor]:
    """Numbers in 0..1, drawn from torch's generator for each writer."""
    return _of_writers(channels, lambda module: torch.rand(len(filters(module))))


def l1_norms(channels: Channels) -> list[Tensor]:
    """L1 norm of the filters that write each channel, over the mean of their layer.

    Of several writers the mean counts. Relative, as the plain norm grows with the number of a filter's
    weights: one threshold on it would close the first layer of a network, whose filters have the fewest.
    """

    return _of_writers(channels, lambda module: relative(values_of(filters(module)).abs().sum(1)))


def median_distances(channels: Channels) -> list[Tensor]:
    """Sum of the distances from each filter to the other filters of its layer, over the mean of the layer.

    A filter near the geometric median of its layer, the point where this sum is least, can be replaced by the
    others. Of several writers the mean counts.
    """

    def distances(module: nn.Module) -> Tensor:
        points = values_of(filters(module))
        # by products of matrices, the distance of two equal filters would not be 0
        apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        return relative(apart.sum(1))

    return _of_writers(channels, distances)


def relative(scores: Tensor) -> Tensor:
    """Scores over their mean; 0 where all are 0."""
    return scores / scores.mean().clamp(min=torch.finfo(scores.dtype).tiny)


def _of_writers(channels: Channels, score: Callable[[nn.Module], Tensor]) -> list[Tensor]:
    """The mean of `score` over the layers that write a channel, and over its outputs there."""
    return [_of_group(group, channels.model, score) for group in channels.groups.gated]


def _of_group(group: Group, model: nn.Module, score: Callable[[nn.Module], Tensor]) -> Tensor:
    scores = [
        score(module)[torch.from_numpy(group.members[name, "out"])].mean(1)
        for name, module in makers(group, model).items()
    ]
    return torch.stack(scores).mean(0)


def makers(group: Group, model: nn.Module) -> dict[str, nn.Module]:
    """The layers whose filters make a group's channels, by name."""
    writers = {name: model.get_submodule(name) for name in group.writers}
    # a depthwise convolution passes channels on, it does not make them
    plain = {name: module for name, module in writers.items() if not is_grouped(module)}
    return plain or writers


def filters(module: nn.Module) -> Tensor:
    """The weights of each output, [outputs, weights], with gradient."""
    weight = module.weight
    if is_transposed(module):  # [inputs, outputs of a block, ...]
        blocks = weight.reshape(module.groups, -1, *weight.shape[1:]).transpose(1, 2)
        return blocks.reshape(module.out_channels, -1)
    return weight.reshape(len(weight), -1)


def bn_scales(channels: Channels) -> list[Tensor]:
    """|gamma| of the batch norms of each channel, of several the mean; infinite where there is none."""
    return [_of_norms(group, channels.model) for group in channels.groups.gated]


def _of_norms(group: Group, model: nn.Module) -> Tensor:
    scores = []
    for name, side in group.members:
        module = model.get_submodule(name) if side == "out" else None
        if isinstance(module, _BatchNorm) and module.affine:
            scale = values_of(module.weight).abs()
            scores.append(scale[torch.from_numpy(group.members[name, side])].mean(1))
    return torch.stack(scores).mean(0) if scores else torch.full((group.channels,), torch.inf)
