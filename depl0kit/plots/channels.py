"""What channels cost: widths of the groups, MACs of the layers, and networks side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .base import BLUE, GREY, VERMILLION, prepare
from .network import LIGHT, bars

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


def group_widths(
    table: pd.DataFrame, selected: str | None = None, ax: "Axes | None" = None
) -> "list[Artist]":
    """Channels of each group: all (grey) and open (blue, the selected group in vermillion), with numbers.

    Args:
        table: a row per group: `group`, `channels`, `open`; `net.channel_table()` will do.
        selected: name of the group that stands out.
    """
    top = table.channels.max()
    ax = prepare(ax, "Open channels of each group", "", "channels", (-0.6, len(table) - 0.4), (0, 1.12 * top))
    _name_bars(ax, table.group)
    chosen = (table.group == selected).to_numpy()
    numbers = _numbers(ax, table.channels, [f"{n}" for n in table.open])
    return [bars(ax, table.channels, LIGHT), *_two_colours(ax, table.open, chosen), *numbers]


def layer_macs(
    now: pd.DataFrame, dense: pd.DataFrame, touched: Sequence[str] = (), ax: "Axes | None" = None
) -> "list[Artist]":
    """Millions of multiply-accumulates (MACs) per image of each layer: dense (grey) and now.

    Args:
        now, dense: `net.cost_model.per_layer(open_channels)` with some and with all channels open.
        touched: names of the layers that stand out in vermillion: those that read or write a group.
    """
    millions, all_millions = now.macs / 1e6, dense.macs / 1e6
    ax = prepare(
        ax,
        "Cost of each layer (vermillion: reads or writes the group)",
        "",
        "million MACs",
        (-0.6, len(now) - 0.4),
        (0, 1.12 * all_millions.max()),
    )
    _name_bars(ax, now.layer)
    chosen = now.layer.isin(touched).to_numpy()
    return [bars(ax, all_millions, LIGHT), *_two_colours(ax, millions, chosen)]


def channel_prices(table: pd.DataFrame, ax: "Axes | None" = None) -> "list[Artist]":
    """Thousands of MACs that one channel of each group costs, streams in vermillion.

    Args:
        table: a row per group: `group`, `macs_per_channel`, `stream` (bool).
    """
    thousands = table.macs_per_channel / 1e3
    ax = prepare(
        ax,
        "What one channel costs (vermillion: of a stream)",
        "",
        "thousand MACs",
        (-0.6, len(table) - 0.4),
        (0, 1.15 * thousands.max()),
    )
    _name_bars(ax, table.group)
    numbers = _numbers(ax, thousands, [f"{t:.0f}" for t in thousands])
    return [*_two_colours(ax, thousands, table.stream.to_numpy()), *numbers]


def measures(
    values: Sequence[float], names: Sequence[str], title: str, form: str = "{:.3g}", ax: "Axes | None" = None
) -> "list[Artist]":
    """One measure of several networks as bars, each with its value: one of a row of small figures.

    Args:
        values, names: of the networks, in the same order; the first is drawn in grey, as the yardstick.
        title: what is measured, with its unit.
        form: how a value is written.
    """
    top = max(values) or 1.0
    ax = prepare(ax, title, "", "", (-0.6, len(values) - 0.4), (0, 1.15 * top))
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks([])
    ax.spines.left.set_visible(False)
    first, rest = [values[0], *[0] * (len(values) - 1)], [0, *values[1:]]
    return [bars(ax, first, GREY), bars(ax, rest, BLUE), *_numbers(ax, values, map(form.format, values))]


def _two_colours(ax: "Axes", heights: Sequence[float], chosen: np.ndarray) -> "list[Artist]":
    heights = np.asarray(heights, float)
    return [bars(ax, heights * ~chosen, BLUE), bars(ax, heights * chosen, VERMILLION)]


def _name_bars(ax: "Axes", names: Sequence[str]) -> None:
    many = len(names) > 5
    ax.set_xticks(
        range(len(names)),
        names,
        rotation=90 if many else 0,
        fontsize="small" if len(names) < 16 else "x-small",
    )


def _numbers(ax: "Axes", heights: Sequence[float], texts: Sequence[str]) -> "list[Artist]":
    return [
        ax.annotate(
            text, (i, height), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize="small"
        )
        for i, (height, text) in enumerate(zip(heights, texts, strict=True))
    ]
