"""Where everything stands on the map of a network: numbers only, no artists.

`lay_out` gives all of a `Plan` a place on axes of some size, in points from the lower left corner.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .base import points_of, word_width
from .map_numbers import Strip, free_places
from .map_plan import Plan, Track, block_names, rows_of
from .scales import short

HALF_BLOCK = 0.14  # of the distance between two layers
BESIDE = HALF_BLOCK + 0.02  # where a band begins
TALLEST = 0.35  # of the width: the height of a row that needs no more
ROW_SHAPE = 3.5  # width of a row by its height, which is aimed at where there is room
FULL = 0.8  # of the height, that text may take
FEWEST = 8  # layers in a row, if there is more than one


class Line(NamedTuple):
    """From a block up to the middle of a rail."""

    track: int
    layer: int
    writes: bool
    x: float
    block: float
    rail: float


class Word(NamedTuple):
    """A text and its middle."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class MapLayout:
    """Places on axes of `width` x `height`, all in points.

    Attributes:
        em: of the text.
        size: of the text, such as "small"; "" where there is no room for any.
        x, middle, floor: of the blocks, [layers] each; on the floor, their row's lower edge, stand the MACs.
        half_block: half of the width of a block.
        points_per_mac: the height of a block by its MACs.
        strips, lines: of all tracks.
        counts: by track the middle of its number of open channels, where there is room for it.
        words, brackets: names of blocks and rows; ends of the lines over the names.
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
    lines: list[Line]
    counts: dict[int, tuple[float, float]]
    words: list[Word]
    brackets: list[list[tuple[float, float]]]


@dataclass(frozen=True)
class _Margins:
    """Points above and below what a row shows, and over all rows for the key."""

    key: float
    legs: float
    counts: float
    macs: float
    names: float
    between: float

    @classmethod
    def of(cls, em: float) -> "_Margins":
        return cls(*(share * em for share in (2.4, 1.6, 1.3, 1.5, 1.7, 1.0)))

    @property
    def row(self) -> float:
        return self.legs + self.counts + self.macs + self.names + self.between


@dataclass(frozen=True)
class _Frame:
    """The rows on the axes.

    Attributes:
        gutter, pitch: where the first layer's place begins, and the distance between two layers.
        floors, middles, ceilings: of each row the lower edge and the middle of the blocks, and the lower edge
            of the rails.
        unit: height of a channel.
    """

    rows: list[range]
    em: float
    margins: _Margins
    gutter: float
    pitch: float
    floors: np.ndarray
    middles: np.ndarray
    ceilings: np.ndarray
    unit: float
    points_per_mac: float

    def x(self, row: int, position: float) -> float:
        return self.gutter + (position - self.rows[row].start + 0.5) * self.pitch

    def bottom(self, row: int, track: Track) -> float:
        return (self.ceilings if track.rail else self.middles)[row] + track.base * self.unit


def lay_out(plan: Plan, width: float, height: float) -> MapLayout:
    """Give everything a place; text has the size that the style gives it now."""
    size, rows = _size_and_rows(plan, width, height)
    em = points_of(size)
    margins = _Margins.of(em)
    fits = margins.key + len(rows) * margins.row < FULL * height
    if not fits:
        margins = _Margins(margins.key, *[min(0.6 * em, 0.08 * height / len(rows))] * 5)
    frame = _frame(plan, rows, width, height, em, margins)
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    x = np.array([frame.x(row, layer) for layer, row in enumerate(row_of)])
    middle, half = frame.middles[row_of], HALF_BLOCK * frame.pitch
    rise = 0.5 * frame.points_per_mac * plan.macs
    blocks = np.column_stack([x - half, x + half, middle - rise, middle + rise])
    strips = [strip for track in range(len(plan.tracks)) for strip in _strips(plan, track, frame)]
    lines = list(_lines(plan, frame, row_of, blocks[:, 3]))
    taken = _taken(strips, lines, blocks, frame, width, height)
    counts = free_places(plan.tracks, strips, blocks, taken, em, width) if fits else {}
    words, brackets = _names(plan, frame) if fits else ([], [])
    return MapLayout(
        width, height, em, size if fits else "", x, middle, frame.floors[row_of], half, frame.points_per_mac,
        strips, lines, counts, words, brackets,
    )  # fmt: skip


def _size_and_rows(plan: Plan, width: float, height: float) -> tuple[str, list[range]]:
    """The larger text, if that needs no more rows; more rows than are needed, if there is room."""
    ems = {size: points_of(size) for size in ("x-small", "small")}
    most = {size: max(1, int(_row_width(width, em) / _least_pitch(plan, em))) for size, em in ems.items()}
    fewest = {size: -(-len(plan.layers) // layers) for size, layers in most.items()}
    size = "small" if fewest["small"] == fewest["x-small"] else "x-small"
    count = max(fewest[size], min(round(ROW_SHAPE * height / width), len(plan.layers) // FEWEST))
    return size, rows_of(plan, count, most[size])


def _gutter(em: float) -> float:
    return word_width("MACs", em) + 0.6 * em


def _row_width(width: float, em: float) -> float:
    return width - _gutter(em) - 0.3 * em


def _least_pitch(plan: Plan, em: float) -> float:
    """MACs of neighbours stay apart, and of the numbers of channels at least half fit between two blocks."""
    counts = [word_width(t.count, em) for t in plan.tracks if not t.rail]
    between = (float(np.median(counts)) if counts else 0.0) + 0.4 * em
    return max(word_width(short(8.88e6), em) + 0.8 * em, between / (1 - 2 * HALF_BLOCK))


def _frame(
    plan: Plan, rows: list[range], width: float, height: float, em: float, margins: _Margins
) -> _Frame:
    """Rows are as high as what they show, with one scale for all channels and one for all MACs."""
    rails, bands = np.array([_heights(plan.tracks, row) for row in rows]).T
    unit_per_mac = max(bands.mean(), 0.5 * rails.mean(), 1.0) / plan.macs.max()
    blocks = [unit_per_mac * plan.macs[row.start : row.stop].max() for row in rows]
    chains = np.maximum(bands, blocks)
    free = max(0.0, height - margins.key - len(rows) * margins.row)
    unit = min(free / (rails + chains).sum(), TALLEST * width / (rails + chains).max())
    spare = free - unit * (rails + chains).sum()
    ends = height - margins.key - spare / 2 - np.cumsum(margins.row + unit * (rails + chains))
    floors = ends + margins.between + margins.names + margins.macs
    middles = floors + 0.5 * unit * chains
    ceilings = floors + unit * chains + margins.counts + margins.legs
    pitch = _row_width(width, em) / max(map(len, rows))
    return _Frame(rows, em, margins, _gutter(em), pitch, floors, middles, ceilings, unit, unit * unit_per_mac)


def _heights(tracks: Sequence[Track], row: range) -> tuple[float, float]:
    """Channels of the rails and of the bands in a row, from the lowest to the highest."""
    here = [t for t in tracks if t.start < row.stop - 0.5 and t.end > row.start - 0.5]
    rails = max((t.base + t.channels for t in here if t.rail), default=0.0)
    return rails, 2 * max((max(-t.base, t.base + t.channels) for t in here if not t.rail), default=0.0)


def _strips(plan: Plan, number: int, frame: _Frame) -> Iterable[Strip]:
    track = plan.tracks[number]
    spans = [(track.start, track.end)]
    if not track.rail:  # from block to block
        spans = [(i + BESIDE, min(i + 1 - BESIDE, track.end)) for i in np.arange(track.start, track.end)]
    for row, layers in enumerate(frame.rows):
        for start, end in spans:
            left, right = max(start, layers.start - 0.5), min(end, layers.stop - 0.5)
            if left < right:
                bottom = frame.bottom(row, track)
                top = bottom + track.channels * frame.unit
                yield Strip(number, frame.x(row, left), frame.x(row, right), bottom, top)


def _lines(plan: Plan, frame: _Frame, row_of: np.ndarray, tops: np.ndarray) -> Iterable[Line]:
    for number, track in enumerate(plan.tracks):
        for layer, writes, at in track.legs if track.rail else ():
            row = row_of[layer]
            middle = frame.bottom(row, track) + 0.5 * track.channels * frame.unit
            yield Line(number, layer, writes, frame.x(row, at), tops[layer], middle)


def _names(plan: Plan, frame: _Frame) -> tuple[list[Word], list[list[tuple[float, float]]]]:
    """Names under the blocks that share them, with brackets, and at the left what the numbers are."""
    words, brackets = [], []
    em, margins = frame.em, frame.margins
    for r, row in enumerate(frame.rows):
        words.append(Word("MACs", word_width("MACs", em) / 2, frame.floors[r] - 0.5 * margins.macs))
        y = frame.floors[r] - margins.macs
        for name, first, last in block_names(plan, row):
            left, right = frame.x(r, first - 0.5), frame.x(r, last + 0.5)
            fitting = (text for text in _shorter(name) if word_width(text, em) < right - left - 0.5 * em)
            words.append(Word(next(fitting, ""), (left + right) / 2, y - 0.75 * em))
            brackets.append([(left + 0.08 * frame.pitch, y), (right - 0.08 * frame.pitch, y)])
    return words, brackets


def _shorter(name: str) -> Iterable[str]:
    """The name, without its first parts, and without its last letters."""
    parts = name.split(".")
    yield name
    yield from (f"…{'.'.join(parts[i:])}" for i in range(1, len(parts)))
    yield from (f"{parts[-1][:n]}…" for n in range(len(parts[-1]) - 1, 2, -1))


def _taken(
    strips: Sequence[Strip],
    lines: Sequence[Line],
    blocks: np.ndarray,
    frame: _Frame,
    width: float,
    height: float,
) -> np.ndarray:
    """Left, right, bottom and top, [n, 4], of all where no number of channels may stand."""
    margins = frame.margins
    under = [(0, width, floor - margins.macs - margins.names, floor) for floor in frame.floors]
    upright = [(line.x - 1, line.x + 1, line.block, line.rail) for line in lines]
    key = (0, width, height - 0.6 * margins.key, height)
    return np.array([*(strip[1:] for strip in strips), *upright, *blocks, *under, key])
