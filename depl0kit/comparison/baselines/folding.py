"""Norms of filters as the batch norms after them scale them: how large a channel is where it is read."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...channels.channels import Channels
from ...channels.groups import Group
from .scores import filters, makers


class FoldedNorms:
    """Norm of each channel, |W| |gamma| / sqrt(var + eps), of the network as it is when it is called.

    A batch norm undoes the size of the filters before it, so their norm alone says nothing. Of several
    filters or layers that make a channel the mean counts. Everything lies on the network's device.
    """

    def __init__(self, channels: Channels) -> None:
        self._groups = [_writers(group, channels.model) for group in channels.groups.gated]

    def __call__(self) -> list[Tensor]:
        """Per gated group [channels], with a gradient to filters and gammas, not to var."""
        return [torch.stack([writer.norms() for writer in group]).mean(0) for group in self._groups]


class _Writer:
    """A layer that makes channels, and perhaps a batch norm after it; with [channels, spread] indices."""

    def __init__(self, module: nn.Module, outputs: Tensor, norm: nn.Module | None, scaled: Tensor) -> None:
        self.module, self.outputs, self.norm, self.scaled = module, outputs, norm, scaled

    def norms(self) -> Tensor:
        norms = torch.linalg.vector_norm(filters(self.module), dim=1)[self.outputs].mean(1)
        return norms if self.norm is None else norms * _scales(self.norm)[self.scaled].mean(1)


def _writers(group: Group, model: nn.Module) -> list[_Writer]:
    """The layers that make a group's channels, each with the batch norm that runs next, if one does."""
    device = next(model.parameters()).device
    members = {name: indices for (name, side), indices in group.members.items() if side == "out"}
    indices = {name: torch.from_numpy(of_layer).to(device) for name, of_layer in members.items()}
    layers = {name: model.get_submodule(name) for name in members}  # in the order in which they run
    norms = {n: m for n, m in layers.items() if isinstance(m, _BatchNorm) and m.affine}
    making = makers(group, model)
    order = [name for name in layers if name in norms or name in group.writers]
    return [
        _Writer(making[name], indices[name], norms.get(after), indices.get(after))
        for name, after in pairwise([*order, ""])
        if name in making
    ]


def _scales(norm: nn.Module) -> Tensor:
    """What a batch norm multiplies its inputs by in eval mode; |gamma| if it has no statistics."""
    scales = norm.weight.abs()
    return scales if norm.running_var is None else scales / (norm.running_var + norm.eps).sqrt()
