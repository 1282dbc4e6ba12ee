"""Which channels can be removed together, in any convolutional network.

A channel of one layer rarely stands alone: a residual addition ties it to a channel of every layer that
writes to the same stream, a grouped convolution to its neighbours, a flatten spreads it over many
features. Torch-Pruning's dependency graph (Fang et al. 2023, "DepGraph") follows these ties through
PyTorch's autograd graph. Here they are joined: all places that are tied, however indirectly, form one
*channel*, and all channels that lie in the same layers form one *group*, with one gate a channel.

Gates multiply what the *readers* of a group (ordinary convolutions and linear layers) take in. A closed
channel is then exactly zero wherever it is read, whatever batch norm, activation or pooling made of it
on the way, so that removing it changes nothing.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from ..support.tables import aligned
from .dependencies import Slot, Ties, dependency_graph, is_matrix, release
from .tracing import Layer, is_grouped, probe_copy

COLUMNS = 100  # of a terminal


@dataclass(frozen=True)
class Group:
    """Channels that one gate vector switches.

    Attributes:
        name: the first layer that writes them.
        channels: how many, and so how many gates.
        writers, readers: the convolutions and linear layers that write and read them.
        stream: whether they are added up from several writers, as in a residual network.
        refusal: why the group cannot be gated; empty if it is gated.
        may_close: whether all of its channels may go, as in a residual branch, which then adds a
            constant to its stream.
        macs_share: share of the network's MACs that would go with all of them (0..1).
        members: per slot the indices, [channels, spread], that belong to each channel there; spread is
            more than 1 after a flatten and in grouped convolutions.
    """

    name: str
    channels: int
    writers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    stream: bool = False
    may_close: bool = False
    refusal: str = ""
    macs_share: float = 0.0
    members: dict[Slot, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def gated(self) -> bool:
        return not self.refusal

    def spread(self, slot: Slot) -> int:
        """Indices per channel at a slot; 0 where the group is not."""
        return self.members[slot].shape[1] if slot in self.members else 0


class Groups(tuple[Group, ...]):
    """The groups of a network in its order; `print` shows them as a table, and so does a notebook."""

    @property
    def gated(self) -> list[Group]:
        return [g for g in self if g.gated]

    def __repr__(self) -> str:
        wide = aligned(*self._rows())
        fits = max(map(len, wide.splitlines())) <= COLUMNS
        return wide if fits else aligned(*self._rows(narrow=True))

    def _repr_html_(self) -> str:
        head, *body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._rows()]
        rows = "".join(f"<tr>{row}</tr>" for row in body)
        return f"<table><thead><tr>{head.replace('td>', 'th>')}</tr></thead><tbody>{rows}</tbody></table>"

    def _rows(self, narrow: bool = False) -> list[tuple[str, ...]]:
        """The table with its head; a narrow one counts the writers, of which a group's name is the first."""
        rows = [("group", "channels", "writers" if narrow else "written by", "read by", "MACs", "gate")]
        for g in self:
            kind = "stream" if g.stream else "yes, may close" if g.may_close else "yes"
            gate = kind if g.gated else f"none: {g.refusal}"
            writers = str(len(g.writers)) if narrow else _abbreviate(g.writers)
            readers = _abbreviate(g.readers, 1 if narrow else 2)
            rows.append((g.name, str(g.channels), writers, readers, f"{g.macs_share:.1%}", gate))
        return rows


def _abbreviate(names: Sequence[str], shown: int = 2) -> str:
    more = f" +{len(names) - shown}" if len(names) > shown else ""
    return (", ".join(names[:shown]) + more) or "-"


def find_groups(model: nn.Module, example: Tensor, layers: Sequence[Layer], scope: str = "inner") -> Groups:
    """The channel groups of `model`, in the order in which they are first written.

    Args:
        model: any convolutional network; it is not changed.
        example: a batch of inputs.
        layers: what `trace(model, example)` returned.
        scope: "inner" refuses gates on streams, as the Dep-L0 paper has it; "all" admits them.

    Raises:
        ValueError: Torch-Pruning cannot follow the network at all, or it computes attention.
    """
    probe = probe_copy(model)
    names = [layer.name for layer in layers]
    ties = Ties(probe, names)
    graph = dependency_graph(probe, example, names)
    ties.follow(graph)
    release(graph)
    groups = _join(ties)
    if scope == "inner":
        why = "a residual stream: scope='all' gates it"
        groups = [replace(g, refusal=g.refusal or (why if g.stream else "")) for g in groups]
    return Groups(replace(g, macs_share=_macs_share(g, layers)) for g in groups)


def _join(ties: Ties) -> list[Group]:
    """Join places to channels, and channels that lie in the same slots to groups."""
    label = ties.channels()
    refused, streams = _refusals(ties, label), set(label[ties.added].tolist())
    channels: dict[int, list[tuple[Slot, int]]] = {}
    for slot in ties.start:
        for index, channel in enumerate(label[ties.all(*slot)].tolist()):
            channels.setdefault(channel, []).append((slot, index))
    alike: dict[tuple, list[list[int]]] = {}
    for channel, places in channels.items():
        slots, indices = zip(*places, strict=True)
        kind = slots, refused.get(channel, ""), channel in streams
        alike.setdefault(kind, []).append(indices)
    groups = [_group(ties, *kind, np.array(indices)) for kind, indices in alike.items()]
    groups = [g for g in groups if g.writers]  # without a writer it is the network's input
    streams = {writer for g in groups if g.stream for writer in g.writers}
    return _name_apart([replace(g, may_close=_may_close(g, streams, ties)) for g in groups])


def _refusals(ties: Ties, label: np.ndarray) -> dict[int, str]:
    """The first reason against removing a channel, by label."""
    reasons: dict[int, str] = {}
    for places, reason in ties.refused:
        for channel in np.unique(label[places]).tolist():
            reasons.setdefault(channel, reason)
    return reasons


def _group(ties: Ties, slots: tuple[Slot, ...], refusal: str, added: bool, indices: np.ndarray) -> Group:
    """One group; `indices` [channels, places] says where in its slot each place of a channel lies."""
    of_slot = {slot: [s == slot for s in slots] for slot in slots}
    members = {slot: indices[:, columns] for slot, columns in of_slot.items()}
    matrices = [(name, side) for name, side in members if is_matrix(ties.modules[name])]
    writers = tuple(name for name, side in matrices if side == "out")
    readers = tuple(n for n, side in matrices if side == "in" and not is_grouped(ties.modules[n]))
    return Group(
        name=writers[0] if writers else "",
        channels=len(indices),
        writers=writers,
        readers=readers,
        stream=added and len(writers) > 1,
        refusal=refusal or ("" if readers else "no layer reads it"),
        members=members,
    )


def _may_close(group: Group, streams: set[str], ties: Ties) -> bool:
    """Whether the group is the inside of a residual branch that standard modules can stand in for.

    One convolution writes it, one without a bias reads it and writes to a stream, and those between
    are grouped: pooling gives the shapes that they gave (see `compaction`).
    """
    plain = [name for name in group.writers if not is_grouped(ties.modules[name])]
    if group.stream or len(plain) != 1 or len(group.readers) != 1 or group.readers[0] not in streams:
        return False
    reader = ties.modules[group.readers[0]]
    convolutions = [ties.modules[name] for name in (*group.writers, *group.readers)]
    alone = group.members[group.readers[0], "in"].size == reader.weight.shape[1]
    return alone and reader.bias is None and all(_is_poolable(m) for m in convolutions)


def _is_poolable(module: nn.Module) -> bool:
    """Whether average pooling with the same kernel, stride and padding gives the same shape."""
    if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str):
        return False
    fits = all(2 * p <= k for p, k in zip(module.padding, module.kernel_size, strict=True))
    return fits and module.dilation == (1, 1)


def _macs_share(group: Group, layers: Sequence[Layer]) -> float:
    """Share of all MACs that lie in products with this group's channels."""
    total, gone = 0, 0.0
    for layer in layers:
        macs = layer.pair_macs * layer.inputs * layer.outputs + layer.output_macs * layer.outputs
        read, written = (
            group.channels * group.spread((layer.name, side)) / max(1, width)
            for side, width in (("in", layer.inputs), ("out", layer.outputs))
        )
        kept = (1 - written) * (1 - read if layer.pair_macs else 1)
        total, gone = total + macs, gone + macs * (1 - kept)
    return gone / max(1, total)


def _name_apart(groups: list[Group]) -> list[Group]:
    """Add the channels' range to the names of groups that share their first writer."""
    names = [g.name for g in groups]

    def named(g: Group) -> Group:
        if names.count(g.name) == 1:
            return g
        outputs = g.members[g.name, "out"]
        return replace(g, name=f"{g.name}[{outputs.min()}:{outputs.max() + 1}]")

    return [named(g) for g in groups]
