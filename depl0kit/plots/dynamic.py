"""Figures of networks that choose their channels for every image."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ..comparison.table import require_columns
from ..support import checked, checks
from .base import BLUE, VERMILLION, bars, marks, prepare, sized, strokes, ticks, words
from .methods import EDGE
from .network import LIGHT
from .scales import percent, round_errors

LEAST = 1e-4  # losses below are drawn there
BINS = 8  # of the means, with the same number of images each


@checked
def macs_of_images(
    table: pd.DataFrame, dense_macs: float, ax: Axes | None = None, source: str = "test images"
) -> list[Artist]:
    """What share of the dense MACs each image takes, against how hard it is: its loss. A dot is an image.

    Images that are taken for another class are vermillion. The line joins the means of eight parts of the
    images, from the lowest losses to the highest, each with the same number of images.

    Args:
        table: of `dk.comparison.dynamic.per_image`: a row per image, with `macs`, `loss` and `correct`.
        dense_macs: of the network with all channels.
        source: what the images are, for the title.
    """
    require_columns(table, "macs", "loss", "correct", source="dk.comparison.dynamic.per_image")
    checks.filled("table", table)
    checks.number("dense_macs", dense_macs, 0, open_low=True)
    rows = table.assign(share=table.macs / dense_macs, loss=table.loss.clip(LEAST)).sort_values("loss")
    ax = _prepare_images(ax, rows, source)
    parts = np.array_split(np.arange(len(rows)), min(BINS, len(rows)))
    means = [(np.exp(np.log(rows.loss.iloc[part]).mean()), rows.share.iloc[part].mean()) for part in parts]
    colours = np.where(rows.correct, BLUE, VERMILLION)
    wrong = f"{len(rows) - rows.correct.sum()} of {len(rows)} wrong"
    note = {"ha": "right", "va": "bottom", "color": VERMILLION, "fontsize": "small"}
    return [
        marks(ax, rows.loss, rows.share, ["o"], sized(3.5) ** 2, colours, "none", alpha=0.45),
        strokes(ax, [means], EDGE, sized(1.5)),
        marks(ax, *np.transpose(means), ["s"], sized(5.5) ** 2, ["white"], EDGE),
        ax.text(1, 1.02, wrong, transform=ax.transAxes, **note),
    ]


@checked
def two_images(
    groups: Sequence[str],
    channels: Sequence[int],
    first: Sequence[int],
    second: Sequence[int],
    ax: Axes | None = None,
    names: Sequence[str] = ("easy", "hard"),
) -> list[Artist]:
    """Two ways through one network: open channels of each group for two images, side by side.

    Args:
        groups: names of the gated groups.
        channels: of each group, open or not (grey).
        first, second: channels that are open for each image, as the column `open` of
            `dk.comparison.dynamic.per_image`: blue and vermillion.
        names: of the two images.

    Raises:
        ValueError: the lists are not of one length.
    """
    if not len(groups) == len(channels) == len(first) == len(second) > 0 or len(names) != 2:
        raise ValueError(
            "groups, channels, first and second must have an entry for every group, and names two, got "
            f"{len(groups)}, {len(channels)}, {len(first)}, {len(second)} and {len(names)}."
        )
    top, places = 1.2 * max(channels), np.arange(len(groups))
    ax = prepare(ax, "Open channels for two images", "", "channels", (-0.6, len(groups) - 0.4), (0, top))
    size, turned = "small" if len(groups) < 16 else "x-small", 90 if len(groups) > 5 else 0
    ticks(ax.xaxis, places, list(groups), rotation=turned, fontsize=size)
    sides = zip((first, second), (-0.2, 0.2), (BLUE, VERMILLION), names, (0.02, 0.55), strict=True)
    drawn = [bars(ax, channels, LIGHT, 0.8)]
    for counts, shift, colour, name, left in sides:
        drawn.append(bars(ax, counts, colour, 0.36, shift))
        drawn.append(ax.text(left, 0.99, name, transform=ax.transAxes, color=colour, va="top"))
        if len(groups) <= 10:
            texts = [str(count) for count in counts]
            drawn.append(words(ax, places + shift, counts, texts, shift=(0, 6), size="x-small"))
    return drawn


def _prepare_images(ax: Axes | None, rows: pd.DataFrame, source: str) -> Axes:
    left, right, _ = round_errors(rows.loss.min(), rows.loss.max(), None)
    right = max(right, rows.loss.max() * 1.2)  # losses have no upper end, as errors have
    low, high = rows.share.min(), rows.share.max()
    room = max(0.1 * (high - low), 0.01)
    title = f"MACs of {len(rows):,} {source}"
    xlabel = "loss of the image (log scale): easy to hard"
    ax = prepare(ax, title, xlabel, "share of the dense MACs", (left, right), (low - room, high + room))
    if ax.get_xscale() != "log":
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        ax.set(xlim=(left, right))
    decades = 10.0 ** np.arange(np.ceil(np.log10(left)), np.floor(np.log10(right)) + 1)
    ticks(ax.xaxis, decades, [f"{loss:g}" for loss in decades], fontsize="small")
    ax.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda share, _: percent(share)))
    return ax
