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
    return _of_writers(channels, lambda module: torch.rand(len(_filters(module))))


def l1_norms(channels: Channels) -> list[Tensor]:
    """L1 norm of the filters that write each channel, over the mean of their layer.

    Of several writers the mean counts. Relative, as the plain norm grows with the number of a filter's
    weights: one threshold on it would close the first layer of a network, whose filters have the fewest.
    """

    def norms(module: nn.Module) -> Tensor:
        norms = _filters(module).abs().sum(1)
        return norms / norms.mean().clamp(min=torch.finfo(norms.dtype).tiny)

    return _of_writers(channels, norms)


def _of_writers(channels: Channels, score: Callable[[nn.Module], Tensor]) -> list[Tensor]:
    """The mean of `score` over the layers that write a channel, and over its outputs there."""
    return [_of_group(group, channels.model, score) for group in channels.groups.gated]


def _of_group(group: Group, model: nn.Module, score: Callable[[nn.Module], Tensor]) -> Tensor:
    writers = {name: model.get_submodule(name) for name in group.writers}
    # a depthwise convolution passes channels on, it does not make them
    plain = {name: module for name, module in writers.items() if not is_grouped(module)}
    scores = [
        score(module)[torch.from_numpy(group.members[name, "out"])].mean(1)
        for name, module in (plain or writers).items()
    ]
    return torch.stack(scores).mean(0)


def _filters(module: nn.Module) -> Tensor:
    """The weights of each output, [outputs, weights]."""
    weight = values_of(module.weight)
    if is_transposed(module):  # [inputs, outputs of a block, ...]
        blocks = weight.reshape(module.groups, -1, *weight.shape[1:]).transpose(1, 2)
        return blocks.reshape(module.out_channels, -1)
    return weight.flatten(1)


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
