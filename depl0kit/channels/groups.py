"""Which channels can be removed together, in any network.

A channel of one layer rarely stands alone: a residual addition ties it to a channel of every layer that
writes to the same stream, a grouped convolution to its neighbours, a flatten spreads it over many
features. `tracer` finds these ties. Here they are joined: all places that are tied, however indirectly, form
one *channel*, and all channels that lie in the same layers form one *group*, with one gate a channel.

Gates multiply what the *readers* of a group (ordinary convolutions and linear layers) take in. A closed
channel is then exactly zero wherever it is read, whatever batch norm, activation or pooling made of it
on the way, so that removing it changes nothing.
"""

import html
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from ..support.tables import aligned
from .layers import Layer, Slot, is_grouped, is_matrix
from .places import Places
from .tracer import follow_channels

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
        sites: modules that slice, split or reshape its channels, and one such operation of each: their code
            may hold widths of its own.
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
    sites: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

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
        table = wide if fits else aligned(*self._rows(narrow=True))
        wrapped = (textwrap.fill(note, COLUMNS, subsequent_indent="    ") for note in self._notes())
        return "\n".join([table, *wrapped])

    def _repr_html_(self) -> str:
        head, *body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._rows()]
        rows = "".join(f"<tr>{row}</tr>" for row in body)
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes())
        return (
            f"<table><thead><tr>{head.replace('td>', 'th>')}</tr></thead><tbody>{rows}</tbody></table>{notes}"
        )

    def _reasons(self) -> list[str]:
        """Why groups have no gates, each reason once."""
        return list(dict.fromkeys(g.refusal for g in self if not g.gated))

    def _notes(self) -> list[str]:
        """The reasons under the table; what several of them ask to change stands once, at the end."""
        notes: list[str] = []
        same: dict[str, list[str]] = {}
        parts = [reason.rpartition(": ") for reason in self._reasons()]
        times = Counter(change for why, _, change in parts if why)
        for number, (why, colon, change) in enumerate(parts, 1):
            if why and times[change] > 1:
                same.setdefault(change, []).append(f"({number})")
                notes.append(f"({number}) {why}")
            else:
                notes.append(f"({number}) {why}{colon}{change}")
        return notes + [f"For {', '.join(numbers)}: {change}" for change, numbers in same.items()]

    def _rows(self, narrow: bool = False) -> list[tuple[str, ...]]:
        """The table with its head; a narrow one counts the writers, of which a group's name is the first."""
        rows = [("group", "channels", "writers" if narrow else "written by", "read by", "MACs", "gate")]
        reasons = self._reasons()
        for g in self:
            kind = "stream" if g.stream else "yes, may close" if g.may_close else "yes"
            gate = kind if g.gated else f"none ({reasons.index(g.refusal) + 1})"
            writers = str(len(g.writers)) if narrow else _abbreviate(g.writers)
            readers = _abbreviate(g.readers, 1 if narrow else 2)
            rows.append((g.name, str(g.channels), writers, readers, f"{g.macs_share:.1%}", gate))
        return rows


def _abbreviate(names: Sequence[str], shown: int = 2) -> str:
    more = f" +{len(names) - shown}" if len(names) > shown else ""
    return (", ".join(names[:shown]) + more) or "-"


def find_groups(
    model: nn.Module, inputs: Sequence[Tensor], layers: Sequence[Layer], scope: str = "inner"
) -> Groups:
    """The channel groups of `model`, in the order in which they are first written.

    Args:
        model: any network in eval mode; it is not changed.
        inputs: of its forward, a batch each.
        layers: what `trace(model, inputs)` returned.
        scope: "inner" refuses gates on streams, as the Dep-L0 paper has it; "all" admits them.
    """
    groups = _join(follow_channels(model, inputs, layers))
    if scope == "inner":
        why = "a residual stream: scope='all' gates it"
        groups = [replace(g, refusal=g.refusal or (why if g.stream else "")) for g in groups]
    return Groups(replace(g, macs_share=_macs_share(g, layers)) for g in groups)


def _join(places: Places) -> list[Group]:
    """Join places to channels, and channels that lie in the same slots to groups."""
    label = places.channels()
    refused = _first_reasons(places, label)
    streams = set(label[np.concatenate([np.empty(0, int), *places.added])].tolist())
    channels: dict[int, list[tuple[Slot, int]]] = {}
    for slot in places.start:
        for index, channel in enumerate(label[places.all(slot)].tolist()):
            channels.setdefault(channel, []).append((slot, index))
    alike: dict[tuple, list[int]] = {}
    for channel, its_places in channels.items():
        slots = tuple(slot for slot, _ in its_places)
        alike.setdefault((slots, refused.get(channel, ""), channel in streams), []).append(channel)
    sites = _sites(places, label)
    groups = []
    for (slots, refusal, added), its_channels in alike.items():
        indices = np.array([[index for _, index in channels[channel]] for channel in its_channels])
        group = _group(places, slots, refusal, added, indices)
        passed = [item for channel in its_channels for item in sites.get(channel, {}).items()]
        groups.append(replace(group, sites=dict(passed)))
    groups = [g for g in groups if g.writers]  # without a writer it is the network's input
    streams = {writer for g in groups if g.stream for writer in g.writers}
    return _name_apart([replace(g, may_close=_may_close(g, streams, places)) for g in groups])


def refuse_single(groups: Groups) -> Groups:
    """Refuse groups of one channel that must stay: in training its gate would close it, in vain."""

    def refused(g: Group) -> Group:
        if not g.gated or g.channels > 1 or g.may_close:
            return g
        together = max(indices.shape[1] for indices in g.members.values())
        if together == 1:
            return replace(g, refusal="it has one channel, which must stay")
        why = f"its {together} channels go together, and one must stay"
        return replace(g, refusal=f"{why}: a batch norm, or a group norm of more groups, keeps them apart")

    return Groups(refused(g) for g in groups)


def _first_reasons(places: Places, label: np.ndarray) -> dict[int, str]:
    """The first reason against removing a channel, by label."""
    reasons: dict[int, str] = {}
    for refused, reason in places.refused:
        for channel in np.unique(label[refused]).tolist():
            reasons.setdefault(channel, reason)
    return reasons


def _sites(places: Places, label: np.ndarray) -> dict[int, dict[str, str]]:
    """The sites that a channel passes, with an operation of each, by label."""
    sites: dict[int, dict[str, str]] = {}
    for passing, site, operation in places.sites:
        for channel in np.unique(label[passing]).tolist():
            sites.setdefault(channel, {})[site] = operation
    return sites


def _group(places: Places, slots: tuple[Slot, ...], refusal: str, added: bool, indices: np.ndarray) -> Group:
    """One group; `indices` [channels, places] says where in its slot each place of a channel lies."""
    of_slot = {slot: [s == slot for s in slots] for slot in slots}
    members = {slot: indices[:, columns] for slot, columns in of_slot.items()}
    modules = {name: places.modules.get(name) for name, _ in slots}
    matrices = [(name, side) for name, side in members if modules[name] and is_matrix(modules[name])]
    writers = tuple(name for name, side in matrices if side == "out")
    readers = tuple(name for name, side in matrices if side == "in" and not is_grouped(modules[name]))
    return Group(
        name=writers[0] if writers else "",
        channels=len(indices),
        writers=writers,
        readers=readers,
        stream=added and len(writers) > 1,
        refusal=refusal or ("" if readers else "no layer reads it"),
        members=members,
    )


def _may_close(group: Group, streams: set[str], places: Places) -> bool:
    """Whether the group is the inside of a residual branch that standard modules can stand in for.

    One convolution writes it, one without a bias reads it and writes to a stream, and those between
    are grouped: pooling gives the shapes that they gave (see `removal`). A parameter outside of layers has no
    such stand-in.
    """
    if any(places.modules.get(name) is None for name, _ in group.members):
        return False
    plain = [name for name in group.writers if not is_grouped(places.modules[name])]
    if group.stream or len(plain) != 1 or len(group.readers) != 1 or group.readers[0] not in streams:
        return False
    reader = places.modules[group.readers[0]]
    convolutions = [places.modules[name] for name in (*group.writers, *group.readers)]
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
