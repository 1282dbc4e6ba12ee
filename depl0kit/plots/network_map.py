"""The map of a network: where its MACs are, which channels are open, and what its streams tie together."""

from collections.abc import Sequence
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
from .base import BLUE, GREY, HEATMAP, PAGE, VERMILLION, marks, panels, points_of, prepare, strokes, word_width, words
from .map_layout import MapLayout, Plan, Strip, count_text, lay_out, plan
from .network import LIGHT
from .scales import short

FIXED = "#A9A9A9"  # channels without gates
PALE_BLUE = "#CFE2EF"
DARK = "#4D4D4D"
READS, WRITES = "o", "^"


class Ground(NamedTuple):
    """What of a map stays when channels open and close, and the axes' size for which it was drawn."""

    channels: Channels
    size: tuple[float, ...]
    plan: Plan
    layout: MapLayout
    stripes: list[Path]  # of the gated channels, track after track, from the lowest
    artists: list[Artist]


@checked
def network_map(
    channels: Channels,
    openness: Sequence[np.ndarray] | None = None,
    ax: Axes | None = None,
    selected: str | None = None,
) -> list[Artist]:
    """Layers as blocks, their height the MACs, and groups as bands and rails, their height the channels.

    Layers run from left to right, in rows. A band goes from block to block; a rail, such as a residual
    stream, runs above the blocks that write it (arrow up) or read it (dot). Stripes are channels, coloured by
    P(open), the open ones below; those that are as good as closed (P(open) up to 0.1) are pale. Grey groups
    have no gates. The blue part of a block, and the number under it, are the expected MACs, which are exact
    where each P(open) is 0 or 1.

    Args:
        openness: P(open) [channels] of each gated group, as `posterior.prob_open()` gives it; None: all open.
        selected: name of a group that stands out, with the layers that read or write it.

    Raises:
        ValueError: `openness` does not fit the gated groups, or has a number outside 0..1.
    """
    probs = _checked_openness(channels, openness)
    ax = panels(1, (PAGE, 4.6))[0] if ax is None else ax
    ground = _ground(ax, channels)
    macs = channels.cost_model.expected_macs(torch.from_numpy(np.concatenate([np.empty(0), *probs])))
    tracks = ground.plan.tracks
    chosen = [i for i, track in enumerate(tracks) if track.name == selected]
    return [
        *ground.artists,
        _blocks(ax, ground, macs, {layer for i in chosen for layer in tracks[i].layers}),
        _stripes(ax, ground, probs),
        *_legs(ax, ground.layout),
        *_numbers(ax, ground, macs, probs),
        *[_outlines(ax, ground.layout, i) for i in chosen],
    ]


def _checked_openness(channels: Channels, openness: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    groups = channels.groups.gated
    if openness is None:
        return [np.ones(g.channels) for g in groups]
    if len(openness) != len(groups):
        raise ValueError(f"openness must have an array for each of the {len(groups)} gated groups, got {len(openness)}.")
    for group, p in zip(groups, openness, strict=True):
        checks.shape(f"openness of {group.name!r}", p, group.channels)
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError(
                f"openness of {group.name!r} must be probabilities in [0, 1], got {checks.shown(p.tolist())}."
            )
    return [p.astype(float) for p in openness]


def _ground(ax: Axes, channels: Channels) -> Ground:
    """The still part of the map on `ax`: the one that is there, or a new one for another size or network."""
    prepare(ax, "Map of the network", "", "", ax.get_xlim(), ax.get_ylim())
    ax.set_axis_off()
    ground = getattr(ax, "network_map", None)
    if ground is None and (engine := ax.figure.get_layout_engine()) is not None:
        engine.execute(ax.figure)  # the axes must have their place: it says how much text there is room for
    points = 72 / ax.figure.dpi
    size = ax.bbox.width * points, ax.bbox.height * points, mpl.rcParams["font.size"]
    if ground is None or ground.channels is not channels or not np.allclose(ground.size, size) or _gone(ground):
        ax.network_map = ground = _new_ground(ax, channels, size)
    return ground


def _gone(ground: Ground) -> bool:
    return any(artist.axes is None for artist in ground.artists)


def _new_ground(ax: Axes, channels: Channels, size: tuple[float, float, float]) -> Ground:
    width, height, _ = size
    ax.set(xlim=(0, width), ylim=(0, height))
    drawn = plan(channels)
    layout = lay_out(drawn, width, height)
    fixed = [strip for strip in layout.strips if drawn.tracks[strip.track].gate is None]
    whole = _rectangles(layout, layout.points_per_mac * drawn.macs)
    artists = [
        _filled(ax, whole, PALE_BLUE, edge=0.8),  # the edge shows those with hardly any MACs
        _filled(ax, [_corners(strip.left, strip.right, strip.bottom, strip.top) for strip in fixed], FIXED),
        strokes(ax, layout.brackets, LIGHT, 1.0),
        *_key(ax, layout),
    ]
    if layout.size:
        texts, x, y = zip(*layout.notes, strict=True)
        artists.append(words(ax, x, y, texts, colours=GREY, size=layout.size))
    return Ground(channels, size, drawn, layout, _stripe_paths(drawn, layout), artists)


def _corners(left: float, right: float, bottom: float, top: float) -> list[tuple[float, float]]:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def _filled(ax: Axes, corners: Sequence, colours: Sequence, zorder: float = 1, edge: float = 0) -> Artist:
    """Rectangles as one artist."""
    drawn = PolyCollection(corners, facecolors=colours, edgecolors="face", linewidths=edge, zorder=zorder)
    return ax.add_collection(drawn, autolim=False)


def _rectangles(layout: MapLayout, heights: np.ndarray) -> list:
    half, sides = layout.half_block, zip(layout.x, layout.middle, heights / 2, strict=True)
    return [_corners(x - half, x + half, y - rise, y + rise) for x, y, rise in sides]


def _stripe_paths(plan: Plan, layout: MapLayout) -> list[Path]:
    """Of each gated strip its channels, from the lowest; made once, as a path takes microseconds."""
    paths = []
    for strip in _gated(plan, layout):
        edges = np.linspace(strip.bottom, strip.top, plan.tracks[strip.track].channels + 1)
        pairs = np.column_stack([edges[:-1], edges[1:]])
        outwards = np.argsort(abs(pairs.sum(1) - strip.bottom - strip.top), kind="stable")
        paths += [Path(_corners(strip.left, strip.right, *pair)) for pair in pairs[outwards]]
    return paths


def _gated(plan: Plan, layout: MapLayout) -> list[Strip]:
    return [strip for strip in layout.strips if plan.tracks[strip.track].gate is not None]


def _stripes(ax: Axes, ground: Ground, probs: Sequence[np.ndarray]) -> Artist:
    """All channels as one artist, coloured by P(open), the open ones of each group lowest."""
    ordered = [np.sort(p)[::-1] for p in probs]
    gates = [ground.plan.tracks[strip.track].gate for strip in _gated(ground.plan, ground.layout)]
    values = np.concatenate([np.empty(0), *(ordered[gate] for gate in gates)])
    stripes = PathCollection(ground.stripes, linewidths=0, cmap=_colours(), zorder=2)
    stripes.set(array=values, clim=(0, 1), antialiaseds=False)
    return ax.add_collection(stripes, autolim=False)


def _colours() -> ListedColormap:
    """The colours of heatmaps, but pale for what is as good as closed."""
    colours = mpl.colormaps[HEATMAP](np.linspace(0, 1, 256))
    colours[: round(256 * UNDECIDED[0]) + 1] = mpl.colors.to_rgba(LIGHT)
    return ListedColormap(colours)


def _blocks(ax: Axes, ground: Ground, macs: np.ndarray, touched: set[int]) -> Artist:
    colours = [VERMILLION if i in touched else BLUE for i in range(len(macs))]
    heights = ground.layout.points_per_mac * macs
    return _filled(ax, _rectangles(ground.layout, heights), colours, zorder=2)


def _legs(ax: Axes, layout: MapLayout) -> list[Artist]:
    """A line for all that a block reads, one for what it writes, and a mark on each rail."""
    legs = sorted(layout.legs, key=lambda leg: leg.rail)
    longest = {(leg.layer, leg.writes): [(leg.x, leg.block), (leg.x, leg.rail)] for leg in legs}
    heads = [WRITES if leg.writes else READS for leg in legs]
    x, y = [leg.x for leg in legs], [leg.rail for leg in legs]
    return [
        strokes(ax, list(longest.values()), DARK, 0.8, zorder=3),
        _marks(ax, x, y, heads, layout.em),
    ]


def _marks(ax: Axes, x: Sequence[float], y: Sequence[float], heads: Sequence[str], em: float) -> Artist:
    return marks(ax, x, y, heads, (0.6 * em) ** 2, DARK, "white", 0.5, zorder=3)


def _numbers(ax: Axes, ground: Ground, macs: np.ndarray, probs: Sequence[np.ndarray]) -> list[Artist]:
    """All MACs over the map, those of each layer under its block, and open channels beside their group."""
    layout, tracks, dense = ground.layout, ground.plan.tracks, ground.channels.dense_cost.macs
    total = dense - ground.plan.macs.sum() + macs.sum()
    share = f"{short(total)} of {short(dense)} MACs"
    found = [words(ax, [layout.width], [layout.height], [share], 1.0, (0, 10))]
    if not layout.size:
        return found
    opened = [probs[t.gate].sum() if t.gate is not None else None for t in tracks]
    texts = [short(n) for n in macs] + [count_text(tracks[i], opened[i]) for i in layout.counts]
    places = [*zip(layout.x, layout.floor - 0.75 * layout.em, strict=True), *layout.counts.values()]
    x, y = zip(*places, strict=True)
    return [*found, words(ax, x, y, texts, size=layout.size)]


def _outlines(ax: Axes, layout: MapLayout, track: int) -> Artist:
    strips = [strip for strip in layout.strips if strip.track == track]
    closed = [_corners(s.left, s.right, s.bottom, s.top) + [(s.left, s.bottom)] for s in strips]
    return strokes(ax, closed, VERMILLION, 1.5, zorder=3)


def _key(ax: Axes, layout: MapLayout) -> list[Artist]:
    """What the colours and marks mean, in a line under the title; what does not fit is left out."""
    em = points_of("x-small")
    x, y = 0.0, layout.height - 0.8 * em
    patches, shades, texts, marked = [], [], [], []
    for colours, mark, text in _entries(bool(layout.legs)):
        start, wide = x, (4 if len(colours) > 1 else 1) * em
        x = start + wide + 0.5 * em
        if x + word_width(text, em) > layout.width:
            break
        edges = np.linspace(start, start + wide, len(colours) + 1)
        patches += [_corners(*pair, y - em / 2, y + em / 2) for pair in zip(edges, edges[1:], strict=False)]
        shades += colours
        marked += [(start + wide / 2, mark)] if mark else []
        texts.append((x, text))
        x += word_width(text, em) + 1.4 * em
    places, names = zip(*texts, strict=True)
    drawn = [_filled(ax, patches, shades), words(ax, places, [y] * len(places), names, 0, colours=GREY, size="x-small")]
    if marked:
        places, heads = zip(*marked, strict=True)
        drawn.append(_marks(ax, places, [y] * len(heads), heads, em))
    return drawn


def _entries(rails: bool) -> list[tuple[list, str, str]]:
    """Colours or a mark, and what they mean."""
    entries = [
        ([*_colours().colors], "", "P(open) from 0 to 1"),
        ([FIXED], "", "fixed"),
        ([BLUE], "", "MACs"),
        ([PALE_BLUE], "", "MACs gone"),
    ]
    return [*entries, ([], READS, "reads"), ([], WRITES, "writes")] if rails else entries
