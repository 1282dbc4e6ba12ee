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

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from .tracing import (
    Layer,
    attention_refusal,
    channelwise_width,
    has_plain_weights,
    is_convolution,
    is_grouped,
    probe_copy,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns about optional packages that nothing here uses
    import torch_pruning as tp

Slot = tuple[str, str]  # (name of a module, "in" or "out"): a side of a layer where channels lie

ATTENTION_OPS = ("BmmBackward", "ScaledDotProduct")


@dataclass(frozen=True)
class Group:
    """Channels that one gate vector switches.

    Attributes:
        name: the first layer that writes them.
        channels: how many, and so how many gates.
        writers, readers: the convolutions and linear layers that write and read them.
        stream: whether they are added up from several writers, as in a residual network.
        refusal: why the group cannot be gated; empty if it is gated.
        macs_share: share of the network's MACs that would go with all of them (0..1).
        members: per slot the indices, [channels, spread], that belong to each channel there; spread is
            more than 1 after a flatten and in grouped convolutions.
    """

    name: str
    channels: int
    writers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    stream: bool = False
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
    """The groups of a network in its order; `print` shows them as a table."""

    @property
    def gated(self) -> list[Group]:
        return [g for g in self if g.gated]

    def __repr__(self) -> str:
        rows = [("group", "channels", "written by", "read by", "MACs", "gate")]
        for g in self:
            status = ("stream" if g.stream else "yes") if g.gated else f"none: {g.refusal}"
            names = _abbreviate(g.writers), _abbreviate(g.readers)
            rows.append((g.name, str(g.channels), *names, f"{g.macs_share:.1%}", status))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        pad = [*(f"{{:{w}}}" for w in widths), "{}"]
        return "\n".join("  ".join(pad).format(*row) for row in rows)


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
    graph = _dependency_graph(probe, example)
    ties = _Ties(probe, [layer.name for layer in layers])
    ties.follow(graph)
    groups = ties.groups()
    if scope == "inner":
        why = "a residual stream: scope='all' gates it"
        groups = [replace(g, refusal=g.refusal or (why if g.stream else "")) for g in groups]
    return Groups(replace(g, macs_share=_macs_share(g, layers)) for g in groups)


class _Graph(tp.DependencyGraph):
    """Torch-Pruning's graph, which takes every reshape for a flatten and divides by zero in a shuffle."""

    def _build_dependency(self, module2node: dict) -> None:
        self.shuffles = [node for node in module2node.values() if _is_shuffle(node)]
        for node in self.shuffles:
            node.type = tp.ops.OPTYPE.ELEMENTWISE
        super()._build_dependency(module2node)


def _is_shuffle(node: object) -> bool:
    """Whether a reshape of images is read by anything but linear layers."""
    fn = node.grad_fn
    sizes = getattr(fn, "_saved_self_sym_sizes", None) or getattr(fn, "_saved_self_sizes", ())
    if node.type != tp.ops.OPTYPE.RESHAPE or len(sizes) < 4:
        return False
    ahead, seen = list(node.outputs), set()
    while ahead:
        reader = ahead.pop()
        if is_convolution(reader.module) or channelwise_width(reader.module):
            return True
        if not isinstance(reader.module, nn.Linear) and reader not in seen:
            ahead += reader.outputs
        seen.add(reader)
    return False


def _dependency_graph(model: nn.Module, example: Tensor) -> _Graph:
    try:
        with torch.enable_grad():
            graph = _Graph().build_dependency(model, (example,), verbose=False)
    except Exception as error:
        raise ValueError(f"Torch-Pruning cannot follow {type(model).__name__}: {error}") from error
    for node in graph.module2node.values():
        if any(op in str(node.grad_fn) for op in ATTENTION_OPS):
            raise ValueError(attention_refusal(model, type(node.grad_fn).__name__))
    return graph


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


class _Ties:
    """All places of a network where channels lie, numbered through, and which of them are tied."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.modules = {name: model.get_submodule(name) for name in names}
        self.names = {module: name for name, module in self.modules.items()}
        self.start: dict[Slot, int] = {}  # number of the first place of a slot
        self.count = 0
        self.edges: list[tuple[np.ndarray, np.ndarray]] = []
        self.refused: list[tuple[np.ndarray, str]] = []
        self.added: list[np.ndarray] = []  # places whose channels meet in an addition
        for name, module in self.modules.items():
            self._number(name, module)

    def _number(self, name: str, module: nn.Module) -> None:
        for side, width in _widths(module).items():
            self.start[name, side] = self.count
            self.count += width
        if isinstance(module, nn.GroupNorm):
            self._tie_blocks(name, module.num_groups, ("out",))
        elif is_grouped(module):
            self._tie_blocks(name, module.groups, ("in", "out"))
        if not has_plain_weights(module):
            for side in _widths(module):
                self._refuse(self._all(name, side), f"the weight of {name} is computed from other tensors")

    def _tie_blocks(self, name: str, blocks: int, sides: Sequence[str]) -> None:
        """Tie the channels that a grouped layer treats as one block."""
        first = self._all(name, sides[0]).reshape(blocks, -1)[:, :1]
        for side in sides:
            places = self._all(name, side).reshape(blocks, -1)
            self.edges.append((np.broadcast_to(first, places.shape).ravel(), places.ravel()))

    def _all(self, name: str, side: str) -> np.ndarray:
        return self.start[name, side] + np.arange(_widths(self.modules[name])[side])

    def _refuse(self, places: np.ndarray, reason: str) -> None:
        self.refused.append((places, reason))

    def follow(self, graph: _Graph) -> None:
        """Add the ties that Torch-Pruning finds from the outputs of every layer."""
        reached = np.zeros(self.count, dtype=bool)
        for name, module in self.modules.items():
            is_root = is_convolution(module) or isinstance(module, nn.Linear)
            if not is_root or module not in graph.module2node or reached[self._all(name, "out")].all():
                continue
            try:
                pruner = graph.get_pruner_of_module(module).prune_out_channels
                items = graph.get_pruning_group(module, pruner, list(range(_widths(module)["out"])))
            except Exception as error:  # of any kind: it is Torch-Pruning that fails on this structure
                why = f"Torch-Pruning cannot follow {name} ({type(error).__name__})"
                self._refuse(self._all(name, "out"), why)
                continue
            for item in items:
                roots = self.start[name, "out"] + np.asarray(item.root_idxs)
                self._add(graph, item, roots, reached)

    def _add(self, graph: _Graph, item: object, roots: np.ndarray, reached: np.ndarray) -> None:
        node, handler = item.dep.target, item.dep.handler
        module = node.module
        name = self.names.get(module)
        writes = graph.is_out_channel_pruning_fn(handler)
        if name is not None and _widths(module):
            matrix = is_convolution(module) or isinstance(module, nn.Linear)
            side = "out" if writes or not matrix else "in"
            places = self.start[name, side] + np.asarray(item.idxs)
            self.edges.append((roots, places))
            reached[places] = True
            ends = side == "out" and not node.outputs
        else:
            ends = not node.outputs
            if node in graph.shuffles:
                self._refuse(roots, "a reshape or shuffle mixes its channels")
            if name is not None or isinstance(module, nn.Parameter):
                self._refuse(roots, _why_unsupported(module, name))
        if ends:
            self._refuse(roots, "it is the network's output")
        if "AddBackward" in str(module) and sum(_carries_channels(n) for n in node.inputs) > 1:
            self.added.append(roots)

    def groups(self) -> list[Group]:
        """Join the ties to channels, and channels that lie in the same slots to groups."""
        label = _connected(self.count, self.edges)
        reasons: dict[int, str] = {}
        for places, reason in self.refused:
            for channel in np.unique(label[places]):
                reasons.setdefault(int(channel), reason)
        streams = np.unique(label[np.concatenate(self.added)]) if self.added else np.empty(0, int)
        slot_of = np.empty(self.count, dtype=int)
        slots = list(self.start)
        for i, (name, side) in enumerate(slots):
            slot_of[self._all(name, side)] = i
        kinds = self._kinds(label, slot_of, len(slots), reasons)
        groups = []
        for channels in kinds:
            places = np.flatnonzero(np.isin(label, channels))
            group = self._group(label, places, [slots[i] for i in np.unique(slot_of[places])])
            if group:
                reason = reasons.get(int(channels[0]), "")
                stream = bool(np.isin(channels[0], streams)) and len(group.writers) > 1
                groups.append(replace(group, stream=stream, refusal=reason or group.refusal))
        return _name_apart(groups)

    def _kinds(
        self, label: np.ndarray, slot_of: np.ndarray, slots: int, reasons: dict[int, str]
    ) -> list[np.ndarray]:
        """Channels that lie equally often in every slot, and are refused alike: arrays of labels.

        In the order of their first place. Equal multisets of slots are found by the sum of a random
        number per slot.
        """
        numbers = np.random.default_rng(0).random(slots)
        signature = np.bincount(label, weights=numbers[slot_of], minlength=self.count).round(9)
        present, first = np.unique(label, return_index=True)
        texts = {reason: i for i, reason in enumerate(dict.fromkeys(reasons.values()), 1)}
        refusal = np.array([texts.get(reasons.get(int(c), ""), 0) for c in present])
        _, kind = np.unique(np.stack([signature[present], refusal]), axis=1, return_inverse=True)
        order = np.argsort(first, kind="stable")
        found: dict[int, list[int]] = {}
        for i in order:
            found.setdefault(int(kind.ravel()[i]), []).append(int(present[i]))
        return [np.array(channels) for channels in found.values()]

    def _group(self, label: np.ndarray, places: np.ndarray, slots: list[Slot]) -> Group | None:
        """The group of the channels at these places; None if it is the network's input."""
        writers = [n for n, side in slots if side == "out" and self._is_matrix(n)]
        if not writers:
            return None
        readers = [n for n, side in slots if side == "in" and self._is_matrix(n)]
        order: list[int] | None = None
        members = {}
        for slot in sorted(slots, key=lambda s: s != (writers[0], "out")):
            here = self._all(*slot)
            here = here[np.isin(here, places)]
            labels = label[here]
            if order is None:  # channels in the order of the first writer
                order = list(dict.fromkeys(labels.tolist()))
                rank = {channel: i for i, channel in enumerate(order)}
            by_channel = np.argsort([rank[c] for c in labels.tolist()], kind="stable")
            members[slot] = (here[by_channel] - self.start[slot]).reshape(len(order), -1)
        plain = [n for n in readers if not is_grouped(self.modules[n])]
        refusal = "" if plain else "no layer reads it"
        return Group(writers[0], len(order), tuple(writers), tuple(plain), refusal=refusal, members=members)

    def _is_matrix(self, name: str) -> bool:
        return is_convolution(self.modules[name]) or isinstance(self.modules[name], nn.Linear)


def _widths(module: nn.Module) -> dict[str, int]:
    """Sides of a layer where channels lie, and how many; empty for a layer that cannot be cut."""
    if is_convolution(module):
        return {"in": module.in_channels, "out": module.out_channels}
    if isinstance(module, nn.Linear):
        return {"in": module.in_features, "out": module.out_features}
    width = channelwise_width(module)
    return {"out": width} if width else {}


def _carries_channels(node: object) -> bool:
    return not isinstance(node.module, nn.Parameter)


def _why_unsupported(module: nn.Module, name: str | None) -> str:
    if name is None:
        return f"a parameter of shape {tuple(module.shape)} is used outside of a layer"
    return f"{name} ({type(module).__name__}) works on all channels together"


def _connected(count: int, edges: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Label of every place: the smallest number among all places that it is tied to."""
    label = np.arange(count)
    if not edges:
        return label
    a, b = (np.concatenate(side) for side in zip(*edges, strict=True))
    while True:
        low = np.minimum(label[a], label[b])
        new = label.copy()
        np.minimum.at(new, a, low)
        np.minimum.at(new, b, low)
        new = new[new]  # halves the way to the smallest
        if np.array_equal(new, label):
            return label
        label = new


def _name_apart(groups: list[Group]) -> list[Group]:
    """Add the channels' range to the names of groups that share their first writer."""
    names = [g.name for g in groups]

    def named(g: Group) -> Group:
        if names.count(g.name) == 1:
            return g
        outputs = g.members[g.name, "out"]
        return replace(g, name=f"{g.name}[{outputs.min()}:{outputs.max() + 1}]")

    return [named(g) for g in groups]
