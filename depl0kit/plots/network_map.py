"""The map of a network: where its MACs are, which channels are open, and what its streams tie together."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.path import Path

from ..channels import Channels
from ..gates.posterior import UNDECIDED
from ..support import checked, checks
from .base import (
    BLUE,
    GREY,
    HEATMAP,
    PAGE,
    VERMILLION,
    marks,
    panels,
    points_of,
    prepare,
    strokes,
    word_width,
    words,
)
from .map_layout import MapLayout, Strip, lay_out
from .map_plan import Plan, plan
from .network import LIGHT
from .scales import short

FIXED = "#A9A9A9"  # channels without gates
GONE = "#CFE2EF"  # of a block: MACs that are no longer there
LINE = "#4D4D4D"
READS, WRITES = "o", "^"


class Ground(NamedTuple):
    """What stays on axes while channels open and close.

    Attributes:
        size: of the axes, in points, and of text, for which it was made.
        gated: the strips of tracks with gates.
        stripes: of all gated channels, strip after strip, from the middle outwards.
    """

    channels: Channels
    size: tuple[float, float, float]
    plan: Plan
    layout: MapLayout
    gated: list[Strip]
    stripes: list[Path]
    artists: list[Artist]

    def gate_at(self, x: float, y: float) -> int | None:
        """Number of the gated group that is drawn at this point of the axes, or very near to it."""
        away = [max(s.left - x, x - s.right, s.bottom - y, y - s.top) for s in self.gated]
        nearest = int(np.argmin([*away, 0.5 * self.layout.em]))
        return self.plan.tracks[self.gated[nearest].track].gate if nearest < len(away) else None


@checked
def network_map(
    channels: Channels,
    openness: Sequence[np.ndarray] | None = None,
    ax: Axes | None = None,
    selected: str | None = None,
) -> list[Artist]:
    """A whole network: blocks are layers, as high as their MACs; bands and rails are groups of channels.

    Layers stand from left to right in the order in which they run, in one row or several. A band joins
    neighbours. A rail runs above the blocks that write or read it, as a residual stream does. Each channel is
    a stripe of the same height, coloured by P(open), the most open ones in the middle. Those that are decided
    to close, with P(open) up to 0.1, are pale. Groups without gates are grey. The dark part of a block and
    the number under it are its expected MACs, which are the exact ones where every P(open) is 0 or 1.
    Beside a group stand its expected open channels and all of them. Axes that are too small for numbers
    show none.

    Args:
        openness: P(open) [channels] of each gated group, such as `posterior.prob_open()`; None: all are open.
        selected: name of a group that stands out, with the layers that write or read it.

    Raises:
        ValueError: `openness` does not fit the gated groups, or is outside of 0..1; no group is called
            `selected`.
    """
    probs = _checked_openness(channels, openness)
    if selected is not None:
        checks.one_of("group", selected, [g.name for g in channels.groups])
    ax = panels(1, (PAGE, 4.6))[0] if ax is None else ax
    ground = _ground(ax, channels)
    macs = channels.cost_model.expected_macs(torch.from_numpy(np.concatenate([np.empty(0), *probs])))
    chosen = [number for number, track in enumerate(ground.plan.tracks) if track.name == selected]
    return [
        *ground.artists,
        _blocks(ax, ground, macs, chosen),
        _stripes(ax, ground, probs),
        *_lines(ax, ground.layout),
        *_numbers(ax, ground, macs, probs),
        *(_outline(ax, ground.layout, track) for track in chosen),
    ]


def _checked_openness(channels: Channels, openness: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    groups = channels.groups.gated
    if openness is None:
        return [np.ones(g.channels) for g in groups]
    if len(openness) != len(groups):
        raise ValueError(
            f"openness must have one array for each of the {len(groups)} gated groups, got {len(openness)}: "
            "pass posterior.prob_open(), or None for a network with all channels."
        )
    for group, p in zip(groups, openness, strict=True):
        checks.shape(f"openness of {group.name!r}", p, group.channels)
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError(
                f"openness of {group.name!r} must be {group.channels} numbers in [0, 1], got "
                f"{checks.shown(p.tolist())}."
            )
    return [p.astype(float) for p in openness]


def _ground(ax: Axes, channels: Channels) -> Ground:
    """What is on the axes already, unless the network, or the size of axes or text, is another one."""
    before: Ground | None = getattr(ax, "network_map", None)
    if before is None:
        _empty(ax, 1, 1)
        if (engine := ax.figure.get_layout_engine()) is not None:
            engine.execute(ax.figure)  # now, since the size of the axes says how many rows there are
    size = *(side * 72 / ax.figure.dpi for side in ax.bbox.size), mpl.rcParams["font.size"]
    same = before is not None and before.channels is channels and before.size == size
    if same and all(artist.axes is ax for artist in before.artists):
        return before
    ax.network_map = _new_ground(ax, channels, size)
    return ax.network_map


def _new_ground(ax: Axes, channels: Channels, size: tuple[float, float, float]) -> Ground:
    width, height, _ = size
    _empty(ax, width, height)
    what = plan(channels)
    layout = lay_out(what, width, height)
    fixed, gated = (
        [strip for strip in layout.strips if (what.tracks[strip.track].gate is None) == without]
        for without in (True, False)
    )
    stripes = [path for strip in gated for path in _from_the_middle(strip, what.tracks[strip.track].channels)]
    artists = [
        _filled(ax, _of_blocks(layout, what.macs), GONE, edge=0.8),  # the edge shows those of few MACs
        _filled(ax, [_corners(*strip[1:]) for strip in fixed], FIXED),
        strokes(ax, layout.brackets, LIGHT, 1.0),
        *_key(ax, layout),
    ]
    if layout.words:
        texts, x, y = zip(*layout.words, strict=True)
        artists.append(words(ax, x, y, texts, colours=GREY, size=layout.size))
    return Ground(channels, size, what, layout, gated, stripes, artists)


def _empty(ax: Axes, width: float, height: float) -> None:
    prepare(ax, "Map of the network", "", "", (0, width), (0, height)).set_axis_off()


def _corners(left: float, right: float, bottom: float, top: float) -> list[tuple[float, float]]:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def _filled(
    ax: Axes, corners: Sequence, colours: str | Sequence, zorder: float = 1, edge: float = 0
) -> Artist:
    """Rectangles as one artist."""
    drawn = PolyCollection(corners, facecolors=colours, edgecolors="face", linewidths=edge, zorder=zorder)
    return ax.add_collection(drawn, autolim=False)


def _of_blocks(layout: MapLayout, macs: np.ndarray) -> list:
    """Rectangles as high as these MACs."""
    half, rises = layout.half_block, 0.5 * layout.points_per_mac * macs
    return [
        _corners(x - half, x + half, y - rise, y + rise)
        for x, y, rise in zip(layout.x, layout.middle, rises, strict=True)
    ]


def _from_the_middle(strip: Strip, channels: int) -> list[Path]:
    """A rectangle for each channel; made once, since it takes as long as to draw it."""
    edges = np.linspace(strip.bottom, strip.top, channels + 1)
    outwards = np.argsort(abs(np.arange(channels) - (channels - 1) / 2), kind="stable")
    return [Path(_corners(strip.left, strip.right, edges[i], edges[i + 1])) for i in outwards]


def _stripes(ax: Axes, ground: Ground, probs: Sequence[np.ndarray]) -> Artist:
    falling = [-np.sort(-p) for p in probs]
    values = [falling[ground.plan.tracks[strip.track].gate] for strip in ground.gated]
    stripes = PathCollection(ground.stripes, cmap=_colours(), linewidths=0, antialiaseds=False, zorder=2)
    stripes.set(array=np.concatenate([np.empty(0), *values]), clim=(0, 1))
    return ax.add_collection(stripes, autolim=False)


@lru_cache
def _colours() -> ListedColormap:
    """The colours of heatmaps, but pale for channels that are decided to close."""
    colours = mpl.colormaps[HEATMAP](np.linspace(0, 1, 256))
    colours[: int(256 * UNDECIDED[0]) + 1] = mpl.colors.to_rgba(LIGHT)
    return ListedColormap(colours)


def _blocks(ax: Axes, ground: Ground, macs: np.ndarray, chosen: Sequence[int]) -> Artist:
    touched = {layer for number in chosen for layer in ground.plan.tracks[number].layers}
    colours = [VERMILLION if i in touched else BLUE for i in range(len(macs))] if touched else BLUE
    return _filled(ax, _of_blocks(ground.layout, macs), colours, zorder=2)


def _lines(ax: Axes, layout: MapLayout) -> list[Artist]:
    """From each block one line to what it reads and one to what it writes, and a mark on each rail."""
    if not layout.lines:
        return []
    rising = sorted(layout.lines, key=lambda line: line.rail)
    longest = {(line.layer, line.writes): [(line.x, line.block), (line.x, line.rail)] for line in rising}
    x, y = [line.x for line in rising], [line.rail for line in rising]
    heads = [WRITES if line.writes else READS for line in rising]
    return [strokes(ax, [*longest.values()], LINE, 0.8, zorder=3), _marks(ax, x, y, heads, layout.em)]


def _marks(ax: Axes, x: Sequence[float], y: Sequence[float], heads: Sequence[str], em: float) -> Artist:
    return marks(ax, x, y, heads, (0.6 * em) ** 2, LINE, "white", 0.5, zorder=3)


def _numbers(ax: Axes, ground: Ground, macs: np.ndarray, probs: Sequence[np.ndarray]) -> list[Artist]:
    """The MACs of the whole network and, if there is room, of each layer, and the open channels."""
    layout, tracks, dense = ground.layout, ground.plan.tracks, ground.channels.dense_cost.macs
    total = f"{short(dense - ground.plan.macs.sum() + macs.sum())} of {short(dense)} MACs"
    beside_title = 0, mpl.rcParams["axes.titlepad"] + 0.36 * points_of("small")
    found = [words(ax, [layout.width], [layout.height], [total], 1.0, beside_title)]
    if layout.size:
        texts = [short(n) for n in macs]
        for number in layout.counts:
            track = tracks[number]
            texts.append(track.count if track.gate is None else track.count_of(probs[track.gate].sum()))
        under = zip(layout.x, layout.floor - 0.7 * layout.em, strict=True)
        x, y = zip(*under, *layout.counts.values(), strict=True)
        found.append(words(ax, x, y, texts, size=layout.size))
    return found


def _outline(ax: Axes, layout: MapLayout, track: int) -> Artist:
    around = [_corners(*strip[1:]) for strip in layout.strips if strip.track == track]
    return strokes(ax, [[*corners, corners[0]] for corners in around], VERMILLION, 1.5, zorder=2.5)


def _key(ax: Axes, layout: MapLayout) -> list[Artist]:
    """What colours and marks mean, in a line under the title; what finds no room is left out."""
    em = points_of("x-small")
    x, y = 0.0, layout.height - 0.8 * em
    corners, fills, texts, heads = [], [], [], []
    for colours, mark, text in _meanings(bool(layout.lines)):
        wide = (4 if len(colours) > 1 else 1) * em
        word = x + wide + 0.5 * em
        if word + word_width(text, em) > layout.width:
            break
        edges = np.linspace(x, x + wide, len(colours) + 1)
        corners += [_corners(*pair, y - em / 2, y + em / 2) for pair in pairwise(edges)]
        fills += colours
        heads += [(x + wide / 2, y, mark)] if mark else []
        texts.append((word, y, text))
        x = word + word_width(text, em) + 1.4 * em
    drawn = [_filled(ax, corners, fills)]
    if texts:
        drawn.append(words(ax, *zip(*texts, strict=True), 0, colours=GREY, size="x-small"))
    return [*drawn, _marks(ax, *zip(*heads, strict=True), em)] if heads else drawn


def _meanings(rails: bool) -> list[tuple[list, str, str]]:
    """Colours or a mark, and what they mean."""
    colours = [([*_colours().colors], "", "P(open) from 0 to 1"), ([FIXED], "", "fixed")]
    colours += [([BLUE], "", "MACs"), ([GONE], "", "MACs gone")]
    return [*colours, ([], READS, "reads"), ([], WRITES, "writes")] if rails else colours
