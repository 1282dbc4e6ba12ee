"""What all figures share: conventions, colours, style, and the background of an `Axes`.

Conventions, kept by all figures, so that the same function draws in a plain notebook, in a paper
and sixty times a minute in a live one:

- `figure(data..., ax=None) -> list[Artist]`. Without `ax` it makes a new pyplot figure, so that
  `dk.plots.gate_cdf(hc, 0.0)` works as the last line of a cell.
- **Return every artist that you add** to the axes. A live figure removes exactly these after the
  next call, except those that it returns again unchanged: only new ones are drawn. `lab.LiveFigure`
  refuses a figure that keeps one back.
- Labels, ticks, limits and title belong to the background. Set them through `prepare`, which may
  be called again and again. Give limits that do not depend on the data, or move in few large
  steps: a picture whose background stays is drawn ten times faster. A colour bar is background
  too: add it only if the axes have none.
- Numbers that change are text artists, never part of a title or label.
- Colour: the constants below for series, `HEATMAP` for images; label lines directly, no legends.
- Sizes are left to matplotlib's defaults or are relative ("small"), so that `style` scales them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.font_manager import font_scalings
from matplotlib.image import PcolorImage
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import IdentityTransform

from ..support import checked, checks

# The palette of Okabe & Ito (2008): told apart under every common form of colour blindness.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PINK, YELLOW, BLACK = "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#000000"
SERIES = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PINK, YELLOW, BLACK)
GREY = "#767676"  # notes and guides; readable on white
HEATMAP = "cividis"

STYLE = {"figure.constrained_layout.use": True, "figure.figsize": (6.4, 4.0), "font.size": 10}
PROJECTOR = STYLE | {
    "figure.figsize": (9.6, 6.0),
    "font.size": 16,
    "lines.linewidth": 3,
    "lines.markersize": 10,
    "axes.linewidth": 1.6,
    "xtick.major.width": 1.6,
    "ytick.major.width": 1.6,
}


# Live figures scale their text with the pixels of the screen, so that these settings need not change with its
# size. To fit letters to whole pixels would take a quarter of the time of a picture.
LIVE = {name: mpl.rcParamsDefault[name] for name in PROJECTOR if not name.startswith("figure")}
LIVE["text.hinting"] = "none"


PAGE = 8.2  # inches: the width of a notebook's cell, in which a figure keeps its size


@checked
def panels(count: int, size: tuple[float, float] = (4.1, 3.4), **options: Any) -> list[Axes]:
    """New axes for a row of figures; where text is large (`PROJECTOR`) they are larger, and below each other.

    Args:
        count: how many, at least 1.
        size: width and height of each, in inches at normal text size; as many stand side by side as fit.
        options: of `plt.subplots`, such as `sharey=True`.

    Example:
        >>> left, right = panels(2)
        >>> left.figure.get_size_inches().tolist()
        [8.2, 3.4]
    """
    import matplotlib.pyplot as plt  # only here, as in `prepare`

    checks.whole("count", count, 1)
    large = mpl.rcParams["font.size"] / STYLE["font.size"]
    width, height = (large * side for side in size)
    columns = min(count, max(1, int(PAGE / width + 1e-9)))
    rows = -(-count // columns)
    options |= {"figsize": (columns * width, rows * height), "layout": "constrained", "squeeze": False}
    axes = plt.subplots(rows, columns, **options)[1].ravel()
    for ax in axes[count:]:
        ax.remove()
    return list(axes[:count])


@checked
def style(projector: bool = False) -> AbstractContextManager[None]:
    """Draw figures in the package's style inside `with`; `projector`: readable from the back row.

    For all figures and explorers of a notebook: `dk.lab.projector()`.
    """
    return settings(PROJECTOR if projector else STYLE)


@contextmanager
def settings(chosen: Mapping[str, Any]) -> Iterator[None]:
    """matplotlib's rcParams with these settings inside `with`."""
    before = {name: mpl.rcParams[name] for name in chosen}
    if before == dict(chosen):  # as usual: a thread that draws then does not touch the settings of others
        yield
        return
    # not `rc_context`: around a notebook's first figure it would switch interactive display off again
    mpl.rcParams.update(chosen)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def message(ax: Axes, text: str) -> Artist:
    """A sentence in the middle of empty axes."""
    return ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", color=GREY)


def prepare(
    ax: Axes | None,
    title: str,
    xlabel: str,
    ylabel: str,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
) -> Axes:
    """The background of a figure; makes the axes if there are none. May be called again."""
    if ax is None:
        import matplotlib.pyplot as plt  # only here: live figures and servers never need it

        ax = plt.subplots(layout="constrained")[1]
    if (ax.get_title("left"), ax.get_xlabel(), ax.get_ylabel(), ax.get_xlim(), ax.get_ylim()) == (
        title, xlabel, ylabel, xlim, ylim,
    ):  # fmt: skip
        return ax  # of a live figure: setting all this again takes a millisecond
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, loc="left", fontsize="medium", fontweight="bold")
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=xlim, ylim=ylim)
    return ax


def ticks(axis: Axis, at: Sequence[float], names: Sequence[str] = (), **text: object) -> bool:
    """Put ticks there; False if they are there already, as usual in a live figure (setting takes a third of
    a millisecond). The other arguments are as in `Axes.set_xticks`."""
    if tuple(names) == tick_names(axis) and np.array_equal(axis.get_majorticklocs(), at):
        return False
    axis.set_ticks(at, names or None, **text)
    return True


def tick_names(axis: Axis) -> tuple[str, ...]:
    """The names that the ticks were given; empty if they show their numbers."""
    formatter = axis.get_major_formatter()
    named = isinstance(formatter, mpl.ticker.FuncFormatter)  # what `set_ticks` makes of names
    return tuple(formatter.format_ticks(axis.get_majorticklocs())) if named else ()


def sized(points: float) -> float:
    """A length in points that grows with the text of the style."""
    return points * mpl.rcParams["font.size"] / 10


def points_of(size: str) -> float:
    """Points of text of a relative size, such as "small", in the style that holds now."""
    return font_scalings[size] * mpl.rcParams["font.size"]


def row_height(ax: Axes) -> float:
    """Points from one whole number to the next along the vertical axis, in the layout that holds now."""
    low, high = ax.get_ylim()
    return ax.bbox.height * 72 / ax.figure.dpi / abs(high - low)


def cells(ax: Axes, x: Sequence[float], y: Sequence[float], values: np.ndarray, top: float = 1.0) -> Artist:
    """`values` [rows, columns] from 0 to `top` as a heatmap, in a third of the time of `imshow`.

    `x` and `y` are the edges of the columns and rows.
    """
    image = PcolorImage(ax, np.asarray(x), np.asarray(y), values, cmap=HEATMAP, clim=(0, top))
    image.set_in_layout(False)  # it fills the axes, and matplotlib cannot tell its extent
    return ax.add_image(image)


def strokes(
    ax: Axes, segments: Sequence, colours: str | Sequence[str], width: float, **more: object
) -> Artist:
    """Lines as one artist: a line of its own takes milliseconds each."""
    lines = LineCollection(segments, colors=colours, linewidths=width, **more)
    return ax.add_collection(lines, autolim=False)


def bars(
    ax: Axes,
    heights: Sequence[float] | Sequence[Sequence[float]],
    colours: str | Sequence[str] | Sequence[Sequence[str]],
    width: float = 0.7,
    shift: float = 0.0,
    foot: float = 0.0,
) -> Artist:
    """Bars at 0, 1, 2, ... as one artist: a tenth of the time that a patch per bar takes.

    Args:
        heights: [n], or [k, n]: k bars at each place, the later ones on top.
        colours: of all, or of each, in a shape that broadcasts to that of `heights`.
        shift: how far they stand to the right.
        foot: where they begin; above 0 on a logarithmic axis.
    """
    rows = np.atleast_2d(heights)
    left = np.tile(np.arange(rows.shape[1]) + shift - width / 2, len(rows))
    corners = np.full((left.size, 4, 2), foot, float)
    corners[..., 0] = np.column_stack([left, left, left + width, left + width])
    corners[:, 1:3, 1] = rows.reshape(-1, 1)
    faces = np.broadcast_to(colours, rows.shape).ravel()
    return ax.add_collection(PolyCollection(corners, facecolors=faces), autolim=False)


@lru_cache
def _marker(name: str) -> Path:
    style = MarkerStyle(name)
    return style.get_path().transformed(style.get_transform())


def marks(
    ax: Axes, x: Sequence[float], y: Sequence[float], markers: Sequence[str], size: float,
    colours: Sequence[str], edge: str, width: float = 0.8, **more: object,
) -> Artist:  # fmt: skip
    """Markers as one artist, like `Axes.scatter` with a marker for each, in a fraction of its time."""
    paths = [_marker(name) for name in markers]
    drawn = PathCollection(paths, [size], facecolors=colours, edgecolors=edge, linewidths=width, **more)
    return _stamp(ax, drawn, x, y)


def _stamp(ax: Axes, drawn: PathCollection, x: Sequence[float], y: Sequence[float]) -> Artist:
    """Put paths, in points, at points in data coordinates."""
    drawn.set_offsets(np.column_stack([x, y]))
    drawn.set_offset_transform(ax.transData)
    drawn.set_transform(IdentityTransform())
    return ax.add_collection(drawn, autolim=False)


class Words(PathCollection):
    """Small `texts` as one artist: as `Text`, each takes more than a millisecond."""

    texts: tuple[str, ...] = ()


def words(
    ax: Axes, x: Sequence[float], y: Sequence[float], texts: Sequence[str], align: float = 0.5,
    shift: tuple[float, float] = (0, 0), colours: str | Sequence[str] = BLACK, size: str = "small",
) -> Artist:  # fmt: skip
    """`Words` at points in data coordinates.

    Args:
        align: the share of a text that lies left of its point; its middle is as high as that.
        shift: how far the texts are moved to the right and up, in points.
    """
    paths = [_word(text, points_of(size), align, shift) for text in texts]
    drawn = Words(paths, [1.0], facecolors=colours, linewidths=0)
    drawn.texts = tuple(texts)
    _stamp(ax, drawn, x, y)
    drawn.set(clip_on=False, in_layout=False)  # like other texts, it may stand out a little
    return drawn


@lru_cache(maxsize=1024)
def word_width(text: str, points: float) -> float:
    """Points from the left to the right side of one of `Words`."""
    across = _word(text, points, 0.0, (0, 0)).vertices[:, 0]
    return across.max() - across.min()


@lru_cache(maxsize=1024)
def _word(text: str, points: float, align: float, shift: tuple[float, float]) -> Path:
    if not text.strip():
        return Path(np.zeros((1, 2)))
    path = TextPath((0, 0), text, size=points)
    across = path.vertices[path.codes != Path.CLOSEPOLY, 0]  # exact extents of curves take far longer
    left, right = across.min(), across.max()
    middle = 0.36 * points  # half the height of a digit
    return Path(path.vertices - [left + align * (right - left) - shift[0], middle - shift[1]], path.codes)


def spread(values: Sequence[float], gap: float) -> np.ndarray:
    """Positions near `values`, at least `gap` apart and within [gap / 2, 1]: labels that do not overlap."""
    order = np.argsort(values)
    placed = np.array(values, float)[order]
    for i in range(len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap if i else gap / 2)
    placed[-1:] = np.minimum(placed[-1:], 1)
    for i in range(len(placed) - 1, 0, -1):
        placed[i - 1] = min(placed[i - 1], placed[i] - gap)
    return placed[np.argsort(order)]
