"""Which entries of a network's weights belong to which channel."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ...channels.channels import Channels
from ...channels.groups import Group
from ...channels.layers import Slot, owner_of, tensors_along


class Entries:
    """The weights that write, scale or read the channels of a network's gated groups.

    An entry of a convolution between two groups belongs to a channel of each of them.

    Args:
        channels: their network's tensors are changed in place only, so that these stay the same.
        written: with the entries that make a channel: filters, biases, norms.
        read: with those by which other layers read it.
        buffers: with the statistics of batch norms.

    Attributes:
        tensors: all that have such entries.
    """

    def __init__(
        self, channels: Channels, *, written: bool = True, read: bool = True, buffers: bool = False
    ) -> None:
        places: dict[Tensor, list[tuple[int, int, Tensor]]] = {}
        for number, group in enumerate(channels.groups.gated):
            for slot in group.members:
                reads = slot[1] == "in" and slot[0] in group.readers
                if read if reads else written:
                    for tensor, dim in _tensors_at(channels.model, slot):
                        if buffers or isinstance(tensor, nn.Parameter):
                            places.setdefault(tensor, []).append((number, dim, _indices(group, slot, tensor)))
        self.tensors = list(places)
        self._places = list(places.values())

    def open(self, masks: Sequence[Tensor]) -> list[Tensor]:
        """1 for entries whose channels are all open, else 0: for each of `tensors` one of its shape.

        Args:
            masks: 0 or 1, per gated group [channels], on the CPU.
        """
        closed = [mask == 0 for mask in masks]
        found = [torch.ones_like(tensor, requires_grad=False) for tensor in self.tensors]
        for ones, places in zip(found, self._places, strict=True):
            for group, dim, indices in places:
                ones.index_fill_(dim, indices[closed[group].to(indices.device)].flatten(), 0.0)
        return found


def _tensors_at(model: nn.Module, slot: Slot) -> Iterator[tuple[Tensor, int]]:
    """The tensors with an entry per channel of a slot, and their dimension along which channels lie."""
    name, side = slot
    if side not in ("in", "out"):
        yield getattr(*owner_of(model, name)), int(side)
        return
    module = model.get_submodule(name)
    for key, dim in tensors_along(module, side).items():
        if getattr(module, key, None) is not None:
            yield getattr(module, key), dim


def _indices(group: Group, slot: Slot, tensor: Tensor) -> Tensor:
    return torch.from_numpy(group.members[slot]).to(tensor.device)
