"""What the map of a network shows: its layers in a row, and the groups that run past them.

Layers are numbered in the order in which they run. A position is a number on the same line: 1.5 is half way
between the middles of layers 1 and 2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..channels import Channels, Group

ASIDE = 0.09  # from the middle of a block to its leg, where it has two
BEYOND = 0.06  # how far a rail continues behind its last leg
GAP = 0.15  # between tracks that lie upon each other, as a share of the height of one


class Leg(NamedTuple):
    """A layer that writes (or reads) a track, and the position where the map shows it."""

    layer: int
    writes: bool
    at: float


@dataclass(frozen=True)
class Track:
    """A group on its way past the layers.

    Attributes:
        name, channels: of the group.
        gate: its number among the gated groups; None if it has no gate.
        legs: the layers that write or read it.
        rail: whether it runs above the blocks, as does a stream, and each group that continues past a layer.
            The others are bands between neighbours; a depthwise convolution, which writes what it reads, may
            stand in the middle of one.
        start, end: positions.
        base: where it begins, in channels: of a rail above the lowest one, of a band above the middle of
            the blocks.
    """

    name: str
    channels: int
    gate: int | None
    legs: tuple[Leg, ...]
    rail: bool
    start: float = 0.0
    end: float = 0.0
    base: float = 0.0

    @property
    def layers(self) -> set[int]:
        """Those that write or read it."""
        return {leg.layer for leg in self.legs}

    @property
    def count(self) -> str:
        """The longest text that says how many of its channels are open."""
        return self.count_of(self.channels)

    def count_of(self, open_channels: float) -> str:
        """How many channels are open, and how many there are; without a gate it is the same."""
        return f"{self.channels}" if self.gate is None else f"{open_channels:.0f}/{self.channels}"

    def meets(self, other: "Track") -> bool:
        """Whether both are at some position."""
        return self.start < other.end and other.start < self.end


class Plan(NamedTuple):
    """Names of the layers, their MACs in the whole network, [layers], and all tracks."""

    layers: list[str]
    macs: np.ndarray
    tracks: list[Track]


def plan(channels: Channels) -> Plan:
    """The layers and groups of a network.

    Raises:
        ValueError: no layer has a weight matrix.
    """
    table = channels.cost_model.per_layer(channels.sizes)
    if table.empty:
        raise ValueError(f"{type(channels.model).__name__} has no convolution or linear layer to show.")
    number = {name: i for i, name in enumerate(table.layer)}
    gates = {g.name: i for i, g in enumerate(channels.groups.gated)}
    tracks = _with_legs_apart([_track(g, number, gates.get(g.name)) for g in channels.groups])
    rails = _stacked([_spanned(t) for t in tracks if t.rail])
    bands = _centred(_stacked([_spanned(t) for t in tracks if not t.rail]))
    return Plan(list(table.layer), table.macs.to_numpy(), [*bands, *rails])


def _track(group: Group, number: dict[str, int], gate: int | None) -> Track:
    legs = [Leg(number[name], True, number[name]) for name in group.writers]
    legs += [Leg(number[name], False, number[name]) for name in group.readers]
    touched, written = {leg.layer for leg in legs}, {leg.layer for leg in legs if leg.writes}
    goes_on = any(layer not in written for layer in range(min(touched) + 1, max(touched)))
    return Track(group.name, group.channels, gate, tuple(legs), group.stream or goes_on)


def _with_legs_apart(tracks: Sequence[Track]) -> list[Track]:
    """A block that writes one rail and reads another gets a leg on each side."""
    legs = [leg for t in tracks if t.rail for leg in t.legs]
    both = {leg.layer for leg in legs if leg.writes} & {leg.layer for leg in legs if not leg.writes}

    def aside(leg: Leg) -> Leg:
        return leg._replace(at=leg.layer + (ASIDE if leg.writes else -ASIDE)) if leg.layer in both else leg

    return [replace(t, legs=tuple(map(aside, t.legs))) if t.rail else t for t in tracks]


def _spanned(track: Track) -> Track:
    """From the first to the last leg; a band that nothing reads ends half way to the next layer."""
    places = [leg.at for leg in track.legs]
    if track.rail:
        return replace(track, start=min(places) - BEYOND, end=max(places) + BEYOND)
    return replace(track, start=min(places), end=max(max(places), min(places) + 0.5))


def _stacked(tracks: Sequence[Track]) -> list[Track]:
    """Those that meet lie upon each other, each as low as there is room."""
    gap = GAP * np.median([t.channels for t in tracks]) if tracks else 0.0
    placed: list[Track] = []
    for track in sorted(tracks, key=lambda t: t.start):
        beside = [t for t in placed if t.meets(track)]
        bases = sorted([0.0, *(t.base + t.channels + gap for t in beside)])
        lying = (replace(track, base=base) for base in bases)
        placed.append(next(one for one in lying if not any(_collide(one, t, gap) for t in beside)))
    return placed


def _collide(one: Track, other: Track, gap: float) -> bool:
    """Whether two tracks that meet are less than `gap` channels apart."""
    low, high = sorted([one, other], key=lambda t: t.base)
    return low.base + low.channels + gap > high.base + 1e-9 * high.channels


def _centred(bands: Sequence[Track]) -> list[Track]:
    """Each pile of bands with its middle at 0; those that meet, also by way of others, are one pile."""
    piles: list[list[Track]] = []
    for band in bands:  # sorted by where they start
        if piles and band.start < max(t.end for t in piles[-1]):
            piles[-1].append(band)
        else:
            piles.append([band])
    tops = [max(t.base + t.channels for t in pile) for pile in piles]
    return [replace(t, base=t.base - top / 2) for pile, top in zip(piles, tops, strict=True) for t in pile]


def rows_of(plan: Plan, count: int, most: int) -> list[range]:
    """The layers in `count` rows of at most `most`, about equally long, broken where few tracks continue."""
    n = len(plan.layers)
    crossing = np.array([sum(t.start < i - 0.5 < t.end for t in plan.tracks) for i in range(n + 1)])
    broken = 2 * crossing / max(1, crossing.max())
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}  # layers so far -> the price and the breaks
    for _ in range(count):
        reached: dict[int, tuple[float, list[int]]] = {}
        for begin, (price, breaks) in best.items():
            for end in range(begin + 1, min(begin + most, n) + 1):
                uneven = 4 * ((end - begin) * count / n - 1) ** 2
                if price + broken[end] + uneven < reached.get(end, (np.inf,))[0]:
                    reached[end] = price + broken[end] + uneven, [*breaks, end]
        best = reached
    breaks = best[n][1]
    return [range(*pair) for pair in pairwise(breaks)]


def block_names(plan: Plan, row: range) -> Iterable[tuple[str, int, int]]:
    """Names of neighbours in a row that belong together, such as "blocks.3", and the first and last of them.

    A name ends with the first part that ends with a digit.
    """
    names = []
    for i in row:
        parts = plan.layers[i].split(".")
        end = next((n for n, part in enumerate(parts, 1) if part[-1:].isdigit()), len(parts))
        names.append(".".join(parts[:end]))
    edges = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]] + [len(names)]
    for first, after in pairwise(edges):
        yield names[first], row[first], row[after - 1]
