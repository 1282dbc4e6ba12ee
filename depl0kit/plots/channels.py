"""What channels cost: widths of the groups, MACs of the layers, and networks side by side."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ..comparison.table import require_columns
from ..support import checked, checks
from .base import BLUE, GREY, VERMILLION, bars, prepare, ticks, words
from .network import LIGHT


@checked
def group_widths(table: pd.DataFrame, selected: str | None = None, ax: Axes | None = None) -> list[Artist]:
    """Channels of each group: all (grey) and open (blue, the selected group in vermillion), with numbers.

    Args:
        table: a row per group: `group`, `channels`, `open`; `net.channel_table()` will do.
        selected: name of the group that stands out.
    """
    require_columns(table, "group", "channels", "open", source="net.channel_table()")
    top = 1.12 * table.channels.max()
    ax = _prepare_bars(ax, "Open channels of each group", table.group, "channels", top)
    chosen = table.group == selected
    numbers = _numbers(ax, table.channels, [f"{n}" for n in table.open])
    return [bars(ax, [table.channels, table.open], _all_and_open(chosen)), numbers]


@checked
def layer_macs(
    now: pd.DataFrame, dense: pd.DataFrame, touched: Sequence[str] = (), ax: Axes | None = None
) -> list[Artist]:
    """Millions of multiply-accumulates (MACs) per image of each layer: dense (grey) and now.

    Args:
        now, dense: `channels.cost_model.per_layer(open_channels)` with some and with all channels open.
        touched: names of the layers that stand out in vermillion: those that read or write a group.
    """
    for table in (now, dense):
        require_columns(table, "layer", "macs", source="channels.cost_model.per_layer")
    millions, all_millions = now.macs / 1e6, dense.macs / 1e6
    title, top = "Cost per layer (vermillion: uses the group)", 1.12 * all_millions.max()
    ax = _prepare_bars(ax, title, now.layer, "million MACs", top)
    chosen = now.layer.isin(touched)
    return [bars(ax, [all_millions, millions], _all_and_open(chosen))]


@checked
def channel_prices(table: pd.DataFrame, ax: Axes | None = None) -> list[Artist]:
    """Thousands of MACs that one channel of each group costs, streams in vermillion.

    Args:
        table: a row per group: `group`, `macs_per_channel`, `stream` (bool).
    """
    require_columns(table, "group", "macs_per_channel", "stream", source="lesson 05")
    thousands = table.macs_per_channel / 1e3
    title, top = "Cost of a channel (vermillion: of a stream)", 1.15 * thousands.max()
    ax = _prepare_bars(ax, title, table.group, "thousand MACs", top)
    numbers = _numbers(ax, thousands, [f"{t:.0f}" for t in thousands])
    return [bars(ax, thousands, _two_colours(table.stream)), numbers]


@checked
def measures(
    values: Sequence[float], names: Sequence[str], title: str, form: str = "{:.3g}", ax: Axes | None = None
) -> list[Artist]:
    """One measure of several networks as bars, each with its value: one of a row of small figures.

    Args:
        values, names: of the networks, in the same order; the first is drawn in grey, as the yardstick.
        title: what is measured, with its unit.
        form: how a value is written.
    """
    checks.filled("values", values)
    top = max(values) or 1.0
    ax = prepare(ax, title, "", "", (-0.6, len(values) - 0.4), (0, 1.15 * top))
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks([])
    ax.spines.left.set_visible(False)
    colours = [GREY, *[BLUE] * (len(values) - 1)]
    return [bars(ax, values, colours), _numbers(ax, values, [form.format(value) for value in values])]


def _two_colours(chosen: Iterable[bool]) -> list[str]:
    return [VERMILLION if one else BLUE for one in chosen]


def _all_and_open(chosen: Sequence[bool]) -> list[list[str]]:
    """Colours of two rows of bars: of all channels, and of the open ones."""
    return [[LIGHT] * len(chosen), _two_colours(chosen)]


def _prepare_bars(ax: Axes | None, title: str, names: Sequence[str], ylabel: str, top: float) -> Axes:
    """The background of bars, each with its name."""
    ax = prepare(ax, title, "", ylabel, (-0.6, len(names) - 0.4), (0, top))
    size, turned = "small" if len(names) < 16 else "x-small", 90 if len(names) > 5 else 0
    ticks(ax.xaxis, range(len(names)), list(names), rotation=turned, fontsize=size)
    return ax


def _numbers(ax: Axes, heights: Sequence[float], texts: Sequence[str]) -> Artist:
    return words(ax, range(len(heights)), heights, texts, shift=(0, 7))
