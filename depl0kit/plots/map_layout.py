"""Where everything stands on the map of a network: numbers only, no artists.

`plan` says which groups run past which layers, from the channels alone. `lay_out` gives all of it a place on
axes of some size, in points.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..channels import Channels, Group
from .base import points_of, word_width
from .scales import short

HALF_BLOCK = 0.17  # all these are shares of the distance of two layers
LEG = 0.09  # from the middle of a block to its leg, where it has two
END = 0.06  # how far a rail goes on behind its last leg


@dataclass(frozen=True)
class Track:
    """A group on its way past the layers, which are numbered in the order in which they run.

    Attributes:
        name, channels: of the group.
        gate: its number among the gated groups; None if it has no gate.
        writers, readers: numbers of layers.
        rail: whether it runs above the blocks, as it goes past some that do not touch it. Others are
            bands between neighbours.
        start, end: in layers; 1.5 is half way between layers 1 and 2.
        base: channels of other groups below it.
    """

    name: str
    channels: int
    gate: int | None
    writers: tuple[int, ...]
    readers: tuple[int, ...]
    rail: bool
    start: float = 0.0
    end: float = 0.0
    base: float = 0.0

    @property
    def layers(self) -> set[int]:
        """Those that write or read it."""
        return {*self.writers, *self.readers}


class Plan(NamedTuple):
    """What the map of a network shows: layers with their names and MACs of the whole network, and tracks."""

    layers: list[str]
    macs: np.ndarray
    tracks: list[Track]


class Leg(NamedTuple):
    """A line between a block and a rail."""

    track: int
    layer: int
    writes: bool
    x: float
    block: float
    rail: float


class Strip(NamedTuple):
    """A rectangle that shows the channels of a track, one upon another; wrapped tracks have several."""

    track: int
    left: float
    right: float
    bottom: float
    top: float


class Word(NamedTuple):
    """A text and its middle."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class MapLayout:
    """Places on axes of `width` x `height`, in points from the lower left corner.

    Attributes:
        em, size: of the text, in points and such as "small"; "" where there is no room for numbers.
        x, floor: of the blocks, [layers]: the middle and the lower edge.
        half_block: half of a block's width.
        points_per_mac: height of a block by its MACs.
        strips, legs: of all tracks.
        counts: by track where its number of channels stands, as far as there is room.
        notes: names of blocks and rows.
        brackets: ends of the lines over names, [n, 2, 2].
    """

    width: float
    height: float
    em: float
    size: str
    x: np.ndarray
    middle: np.ndarray
    floor: np.ndarray
    half_block: float
    points_per_mac: float
    strips: list[Strip]
    legs: list[Leg]
    counts: dict[int, tuple[float, float]]
    notes: list[Word]
    brackets: list


def plan(channels: Channels) -> Plan:
    """The layers and groups of a network, in the order in which they run."""
    table = channels.cost_model.per_layer(channels.sizes)
    number = {name: i for i, name in enumerate(table.layer)}
    gates = {g.name: i for i, g in enumerate(channels.groups.gated)}
    tracks = [_track(g, number, gates.get(g.name)) for g in channels.groups]
    reads = {i for t in tracks if t.rail for i in t.readers}
    writes = {i for t in tracks if t.rail for i in t.writers}
    tracks = [_spanned(t, reads & writes) for t in tracks]
    bases = {rail: _stack([t for t in tracks if t.rail == rail]) for rail in (False, True)}
    tracks = [replace(t, base=bases[t.rail][t.name]) for t in tracks]
    return Plan(list(table.layer), table.macs.to_numpy(), tracks)


def _track(group: Group, number: dict[str, int], gate: int | None) -> Track:
    writers, readers = (tuple(number[name] for name in names) for names in (group.writers, group.readers))
    touched = {*writers, *readers}
    passes = len(touched) <= max(touched) - min(touched)
    return Track(group.name, group.channels, gate, writers, readers, group.stream or passes)


def _leg_at(layer: int, writes: bool, double: set[int]) -> float:
    """A block that reads and writes rails has a leg on each side, any other one in its middle."""
    return layer + (LEG if writes else -LEG) * (layer in double)


def _spanned(track: Track, double: set[int]) -> Track:
    """The track from its first to its last layer; one that nothing reads ends behind its writer."""
    if track.rail:
        legs = [_leg_at(i, True, double) for i in track.writers]
        legs += [_leg_at(i, False, double) for i in track.readers]
        return replace(track, start=min(legs) - END, end=max(legs) + END)
    touched = (*track.writers, *track.readers)
    return replace(track, start=min(touched), end=max(max(touched), min(touched) + 0.5))


def _stack(tracks: Sequence[Track]) -> dict[str, float]:
    """The channels below each track: those of one time lie upon each other, as low as there is room."""
    gap = 0.15 * np.median([t.channels for t in tracks]) if tracks else 0.0
    placed: list[tuple[Track, float]] = []
    for track in sorted(tracks, key=lambda t: t.start):
        beside = [(base, base + t.channels + gap) for t, base in placed
                  if t.start < track.end and track.start < t.end]  # fmt: skip
        places = sorted([0.0, *(top for _, top in beside)])
        height = track.channels + gap
        base = next(
            y for y in places if all(y >= top - 1e-9 or y + height <= low + 1e-9 for low, top in beside)
        )
        placed.append((track, base))
    return {track.name: base for track, base in placed}


def rows_of(plan: Plan, most: int, count: int) -> list[range]:
    """The layers in rows of at most `most`, about equally long, broken where few groups go on."""
    n = len(plan.layers)
    crossing = [sum(t.start < i - 0.5 < t.end for t in plan.tracks) for i in range(n + 1)]
    most_crossing = max([1, *crossing])
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}
    for _ in range(count):
        reached: dict[int, tuple[float, list[int]]] = {}
        for at, (price, breaks) in best.items():
            for end in range(at + 1, min(at + most, n) + 1):
                longer = price + 2 * crossing[end] / most_crossing + 4 * ((end - at) * count / n - 1) ** 2
                if end not in reached or longer < reached[end][0]:
                    reached[end] = longer, [*breaks, end]
        best = reached
    breaks = best[n][1]
    return [range(a, b) for a, b in zip(breaks, breaks[1:], strict=False)]


class _Lines(NamedTuple):
    """Heights in points of what stands above and below the blocks of a row."""

    key: float  # over all rows
    legs: float
    counts: float
    macs: float
    names: float
    gap: float

    @classmethod
    def of_text(cls, em: float) -> "_Lines":
        return cls(2.4 * em, 1.6 * em, 1.3 * em, 1.5 * em, 1.7 * em, 1.0 * em)

    @property
    def row(self) -> float:
        return sum(self) - self.key


@dataclass(frozen=True)
class _Frame:
    """The rows on the axes: `floors` under the blocks, `ceilings` under the rails, `unit` points a channel."""

    rows: list[range]
    em: float
    lines: _Lines
    gutter: float
    pitch: float
    floors: np.ndarray
    axes: np.ndarray
    ceilings: np.ndarray
    unit: float
    points_per_mac: float

    def x(self, row: int, position: float) -> float:
        """Of a position, in layers, in that row."""
        return self.gutter + (position - self.rows[row].start + 0.5) * self.pitch

    def cut(self, start: float, end: float) -> Iterable[tuple[int, float, float]]:
        """The part in each row, in points."""
        for r, row in enumerate(self.rows):
            a, b = max(start, row.start - 0.5), min(end, row.stop - 0.5)
            if a < b:
                yield r, self.x(r, a), self.x(r, b)

    def middle(self, track: Track, row: int) -> float:
        if track.rail:
            return self.ceilings[row] + (track.base + 0.5 * track.channels) * self.unit
        return self.axes[row]


def lay_out(plan: Plan, width: float, height: float) -> MapLayout:
    """Give everything a place on axes of this size, in points; text has the size that holds now."""
    size, rows = _size_and_rows(plan, width, height)
    em = points_of(size)
    lines = _Lines.of_text(em)
    if not (lettered := lines.key + len(rows) * lines.row < 0.65 * height):
        lines = _Lines(lines.key, *[0.6 * em] * 5)
    frame = _frame(plan, rows, em, lines, width, height)
    row_of = np.concatenate([np.full(len(row), r) for r, row in enumerate(rows)])
    x = np.array([frame.x(r, i) for i, r in enumerate(row_of)])
    middle, half = frame.axes[row_of], HALF_BLOCK * frame.pitch
    rise = 0.5 * frame.points_per_mac * plan.macs
    tops = middle + rise
    strips = [strip for i in range(len(plan.tracks)) for strip in _strips(plan, i, frame)]
    blocks = np.column_stack([x - half, x + half, middle - rise, tops])
    legs = _legs(plan, frame, row_of, tops)
    counts = _counts(plan, frame, strips, legs, blocks, width, height) if lettered else {}
    notes, brackets = _notes(plan, frame) if lettered else ([], [])
    return MapLayout(
        width, height, em, size if lettered else "", x, middle, frame.floors[row_of], half, frame.points_per_mac, strips,
        legs, counts, notes, brackets,
    )  # fmt: skip


def _frame(plan: Plan, rows: list[range], em: float, lines: _Lines, width: float, height: float) -> _Frame:
    """Rows are as high as what they show; a channel has the same height in all of them, and so has a MAC."""

    def highest(row: range, rail: bool) -> float:
        within = (t for t in plan.tracks if t.rail == rail and t.start < row.stop - 0.5 and t.end > row.start - 0.5)
        return max((t.base + t.channels for t in within), default=0.0)

    gutter = word_width("MACs", em) + 0.6 * em
    rails = np.array([highest(row, True) for row in rows])
    bands = np.array([highest(row, False) for row in rows])
    block = max(bands.mean(), 0.5 * rails.mean(), 1.0) / plan.macs.max()  # channels as high as a MAC
    chains = np.maximum(bands, [block * plan.macs[row.start : row.stop].max() for row in rows])
    free = height - lines.key - len(rows) * lines.row
    pitch = (width - gutter - 0.3 * em) / max(map(len, rows))
    unit = min(free / (rails + chains).sum(), 0.35 * width / (rails + chains).max())
    spare = free - unit * (rails + chains).sum()
    depth = lines.key + spare / 2 + np.cumsum(lines.row + unit * (rails + chains))  # from the top to the end of each row
    floors = height - depth + lines.macs + lines.names + lines.gap
    axes = floors + 0.5 * chains * unit
    ceilings = floors + chains * unit + lines.counts + lines.legs
    return _Frame(rows, em, lines, gutter, pitch, floors, axes, ceilings, unit, block * unit)


def _size_and_rows(plan: Plan, width: float, height: float) -> tuple[str, list[range]]:
    """The larger text if that needs no more rows."""
    counts = [f"{t.channels}/{t.channels}" for t in plan.tracks if not t.rail and t.gate is not None]
    widest = max([short(8.88e6), *counts], key=len)
    most = {}
    for size in ("x-small", "small"):
        em = points_of(size)
        room = width - word_width("MACs", em) - 0.6 * em
        most[size] = max(1, int(room / (word_width(widest, em) + 1.5 * em)))
    rows = {size: -(-len(plan.layers) // most[size]) for size in most}
    size = "small" if rows["small"] == rows["x-small"] else "x-small"
    import os
    count=max(rows[size], int(os.environ.get("R",0)) or min(round(3.5 * height / width), len(plan.layers) // 8))
    return size, rows_of(plan, most[size], count)


def _strips(plan: Plan, number: int, frame: _Frame) -> Iterable[Strip]:
    track = plan.tracks[number]
    spans = [(track.start, track.end)]
    if not track.rail:  # from block to block
        starts = np.arange(track.start, track.end)
        spans = [(i + HALF_BLOCK + 0.02, min(i + 0.98 - HALF_BLOCK, track.end)) for i in starts]
    for start, end in spans:
        for row, left, right in frame.cut(start, end):
            middle = frame.middle(track, row)
            half = 0.5 * track.channels * frame.unit
            yield Strip(number, left, right, middle - half, middle + half)


def _legs(plan: Plan, frame: _Frame, row_of: np.ndarray, tops: np.ndarray) -> list[Leg]:
    rails = [(number, t) for number, t in enumerate(plan.tracks) if t.rail]
    double = {i for _, t in rails for i in t.writers} & {i for _, t in rails for i in t.readers}
    return [
        Leg(
            number, i, writes, frame.x(row_of[i], _leg_at(i, writes, double)), tops[i],
            frame.middle(track, row_of[i]),
        )
        for number, track in rails
        for writes, layers in ((True, track.writers), (False, track.readers))
        for i in layers
    ]  # fmt: skip


def _notes(plan: Plan, frame: _Frame) -> tuple[list[Word], list]:
    """Names under the blocks that share them, with brackets, where there is room, and of the rows."""
    notes, brackets = [], []
    for r, row in enumerate(frame.rows):
        macs = frame.floors[r] - 0.6 * frame.lines.macs
        notes.append(Word("MACs", 0.5 * word_width("MACs", frame.em), macs))
        names = [_block_name(plan.layers[i]) for i in row]
        edges = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]] + [len(names)]
        for a, b in zip(edges, edges[1:], strict=False):
            left, right = (frame.x(r, row.start + i - 0.5) for i in (a, b))
            line = frame.floors[r] - frame.lines.macs
            name = next((n for n in _shorter(names[a]) if word_width(n, frame.em) < right - left - frame.em / 2), "")
            brackets.append([(left + 0.08 * frame.pitch, line), (right - 0.08 * frame.pitch, line)])
            notes.append(Word(name, (left + right) / 2, line - 0.75 * frame.em))
    return notes, brackets


def _block_name(layer: str) -> str:
    """The name of a layer up to the first part that ends with a number, such as "blocks.3"."""
    parts = layer.split(".")
    end = next((i for i, part in enumerate(parts, 1) if part[-1:].isdigit()), len(parts))
    return ".".join(parts[:end])


def _shorter(name: str) -> Iterable[str]:
    """The name, then without its first parts, then without its last letters."""
    parts = name.split(".")
    yield name
    yield from (f"….{'.'.join(parts[i:])}" for i in range(1, len(parts)))
    yield from (f"{parts[-1][:n]}…" for n in range(len(parts[-1]) - 1, 2, -1))


def _counts(
    plan: Plan, frame: _Frame, strips: Sequence[Strip], legs: Sequence[Leg], blocks: np.ndarray, width: float, height: float
) -> dict[int, tuple[float, float]]:
    """Where the numbers of channels stand: of the places above or beside a track the first that is free.

    Args:
        blocks: left, right, bottom and top, [layers, 4].
    """
    texts = [(0, width, f - frame.lines.macs - frame.lines.names, f) for f in frame.floors]
    key = (0, width, height - 0.6 * frame.lines.key, height)
    lines = [(leg.x - 1, leg.x + 1, leg.block, leg.rail) for leg in legs]
    taken = np.array([*(strip[1:] for strip in strips), *lines, *blocks, *texts, key])
    counts = {}
    for number, track in enumerate(plan.tracks):
        half = 0.5 * word_width(count_text(track), frame.em) + 0.1 * frame.em
        own = [strip for strip in strips if strip.track == number]
        for x, y in _places(track.rail, own, blocks, half, frame.em):
            box = x - half, x + half, y - 0.55 * frame.em, y + 0.55 * frame.em
            apart = (taken[:, 0] >= box[1]) | (taken[:, 1] <= box[0])
            apart |= (taken[:, 2] >= box[3]) | (taken[:, 3] <= box[2])
            if apart.all() and 0 <= box[0] and box[1] <= width:
                counts[number] = x, y
                taken = np.vstack([taken, box])
                break
    return counts


def _places(
    rail: bool, strips: Sequence[Strip], blocks: np.ndarray, half: float, em: float
) -> Iterable[tuple[float, float]]:
    """Middles of possible places of a number that is twice `half` wide, the best first."""
    for _, left, right, bottom, top in strips:
        if rail:
            yield left - half - 0.3 * em, (bottom + top) / 2
            yield left + half, top + 0.6 * em
            yield right - half, top + 0.6 * em
            yield right + half + 0.3 * em, (bottom + top) / 2
        else:
            x = (left + right) / 2
            yield x, top + 0.6 * em
            over = (blocks[:, 0] < x + half) & (blocks[:, 1] > x - half) & (blocks[:, 2] < top) & (blocks[:, 3] > bottom)
            yield x, max([top, *blocks[over, 3]]) + 0.6 * em


def count_text(track: Track, open_channels: float | None = None) -> str:
    """The open channels and all of them, by default with all open; a track without gates has only all."""
    if track.gate is None:
        return f"{track.channels}"
    return f"{track.channels if open_channels is None else open_channels:.0f}/{track.channels}"
