"""Figures of the gates of a whole network: over time, per layer, and against each other."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from ..comparison.table import require_columns
from ..gates.diagnostics import correlation_matrix
from ..support import checked, checks
from .base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    HEATMAP,
    ORANGE,
    VERMILLION,
    bars,
    cells,
    marks,
    message,
    points_of,
    prepare,
    row_height,
    spread,
    strokes,
    ticks,
    words,
)

LIGHT = "#DDDDDD"  # what is no longer there
SIGNED = "PuOr"  # of images around zero; told apart under colour blindness


@checked
def prob_open_heatmap(gates: pd.DataFrame, ax: Axes | None = None) -> list[Artist]:
    """P(open) of every channel (rows, group under group) over the epochs (columns).

    Args:
        gates: `run.gates`: a row per (epoch, group, channel), in that order, with `prob_open`.
    """
    require_columns(gates, "epoch", "group", "prob_open", source="run.gates")
    times = gates.epoch.unique()
    sizes = gates[gates.epoch == times[0]].groupby("group", sort=False).size().to_dict()
    return prob_open_image(gates.prob_open.to_numpy().reshape(len(times), -1), times, sizes, ax)


@checked
def prob_open_image(
    prob_open: np.ndarray,
    times: Sequence[float],
    sizes: Mapping[str, int],
    ax: Axes | None = None,
    end: float | None = None,
    nothing: str = "no gates so far",
) -> list[Artist]:
    """As `prob_open_heatmap`, from arrays.

    Args:
        prob_open: [T, N], at `times` (T of them, rising, in epochs); each stands for the time since the one
            before.
        sizes: channels per group, by name, N in all.
        end: right end of the time axis; the last of `times` if None.
        nothing: what to say if T is 0.
    """
    n = sum(sizes.values())
    ax = prepare(ax, "P(open) of every channel", "epoch", "", (0, end or times[-1]), (n, 0))
    ticks(ax.xaxis, _whole_epochs(end or times[-1]))
    label_groups(ax, sizes)
    _colour_bar(ax, HEATMAP, (0, 1), "P(open)")
    if not len(times):
        return [message(ax, nothing)]
    # a running training draws this several times a second
    checks.shape("prob_open", prob_open, len(times), n)
    image = cells(ax, [0, *times], np.arange(n + 1), prob_open.T)
    edges = np.cumsum([*sizes.values()])[:-1]
    return [image, strokes(ax, [[(0, e), (ax.get_xlim()[1], e)] for e in edges], "white", 2)]


@checked
def layer_bars(table: pd.DataFrame, ax: Axes | None = None) -> list[Artist]:
    """Channels of each group: all of them (grey), and those open at test time (blue, with numbers).

    Args:
        table: `net.channel_table()`: a row per group with `group`, `channels`, `open` and, if it is known,
            `expected_open`, shown as a short black line.
    """
    require_columns(table, "group", "channels", "open", source="net.channel_table()")
    expected = table.get("expected_open", ())
    x, channels, kept = np.arange(len(table)), table.channels.to_numpy(), table.open.to_numpy()
    ax = prepare(
        ax, "Open channels (line: expected)" if len(expected) else "Open channels", "", "channels",
        (-0.6, len(x) - 0.4), (0, 1.15 * channels.max()),
    )  # fmt: skip
    few = len(x) < 6
    ticks(ax.xaxis, x, table.group.tolist(), rotation=20 if few else 90, ha="right" if few else "center")
    lines = [[(i - 0.4, y), (i + 0.4, y)] for i, y in enumerate(expected)]
    size = "small" if len(x) < 9 else "x-small"
    return [
        bars(ax, [channels, kept], [[LIGHT], [BLUE]]),
        strokes(ax, lines, BLACK, 1.5),
        words(ax, x, channels, [f"{n}" for n in kept], shift=(0, 7), size=size),
    ]


HISTORY = {  # column -> (name, colour)
    "val_accuracy": ("accuracy", GREEN),
    "kept_macs": ("MACs", BLUE),
    "undecided": ("undecided", ORANGE),
}


@checked
def history_curves(
    history: pd.DataFrame, ax: Axes | None = None, epochs: float | None = None
) -> list[Artist]:
    """Validation accuracy, MACs kept (exact / dense) and the share of undecided gates per epoch.

    Args:
        history: `run.history`; may be empty.
        epochs: right end of the time axis; the last epoch of the table if None.
    """
    if len(history):
        require_columns(history, "epoch", *HISTORY, source="run.history")
    end = epochs or history.epoch.max()
    ax = prepare(ax, "Accuracy, cost, undecided gates", "epoch", "share", (0, 1.6 * end), (0, 1.04))
    ticks(ax.xaxis, _whole_epochs(end))
    ax.spines.bottom.set_bounds(0, end)  # beyond are only the labels
    if history.empty:
        return []
    epoch, *curves = (history[column].to_numpy() for column in ("epoch", *HISTORY))
    names, colours = zip(*HISTORY.values(), strict=True)
    at, last = [epoch[-1]] * len(curves), [curve[-1] for curve in curves]
    if len(epoch) == 1:
        lines = marks(ax, at, last, ["o"], (mpl.rcParams["lines.markersize"] / 2) ** 2, colours, "none")
    else:
        paths = [np.column_stack([epoch, curve]) for curve in curves]
        lines = strokes(ax, paths, colours, mpl.rcParams["lines.linewidth"])
    ends = spread(last, 0.1)
    beside = 7 + 2.3 * mpl.rcParams["font.size"]  # points: numbers of four digits, and a gap
    return [
        lines,
        words(ax, at, ends, [f"{value:.2f}" for value in last], 0, (7, 0), colours),
        words(ax, at, ends, names, 0, (beside, 0), colours),  # apart: so both are cached
    ]


@checked
def log_alpha_flow(
    log_alphas: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    threshold: float,
    ax: Axes | None = None,
) -> list[Artist]:
    """log_alpha of every gate (dots), group after group, and the generator's weights between them.

    Args:
        log_alphas: one array [channels] per group, in the order of the chain.
        weights: one array [channels of the next, channels] per step of the chain; positive ones are
            drawn in black, negative ones in vermillion, thicker where they are larger.
        threshold: log_alpha below which a gate is closed at test time.
    """
    checks.filled("log_alphas", log_alphas)
    checks.shape("weights", np.empty(len(weights)), len(log_alphas) - 1)
    ax = prepare(
        ax, "log α flows from group to group", "group (weights: > 0 black, < 0 vermillion)", "log α",
        (-0.5, len(log_alphas) - 0.5), (-5, 5),
    )  # fmt: skip
    ax.set_xticks(range(len(log_alphas)), [str(i + 1) for i in range(len(log_alphas))])
    x = np.concatenate([np.full(len(a), i) for i, a in enumerate(log_alphas)])
    y = np.concatenate(log_alphas)
    is_open = y > threshold
    return [
        ax.add_collection(_weight_lines(log_alphas, weights), autolim=False),
        *_threshold_line(ax, threshold),
        *ax.plot(x[is_open], y[is_open], "o", color=BLUE),
        *ax.plot(x[~is_open], y[~is_open], "o", color=VERMILLION, markerfacecolor="white"),
    ]


@checked
def log_alpha_paths(gates: pd.DataFrame, threshold: float, ax: Axes | None = None) -> list[Artist]:
    """log_alpha of every gate over the epochs: a line per gate, blue if it ends open.

    Args:
        gates: `run.gates`.
        threshold: log_alpha below which a gate is closed at test time.
    """
    require_columns(gates, "epoch", "log_alpha", source="run.gates")
    times = gates.epoch.unique()
    paths = gates.log_alpha.to_numpy().reshape(len(times), -1).T
    ax = prepare(ax, "log α of every gate", "epoch", "log α", (times[0], times[-1]), (-5, 5))
    colours = np.where(paths[:, -1] > threshold, BLUE, VERMILLION)
    segments = [np.column_stack([times, path]) for path in paths]
    return [strokes(ax, segments, colours, 0.8, alpha=0.5), *_threshold_line(ax, threshold)]


@checked
def gate_correlation(samples: np.ndarray, sizes: Mapping[str, int], ax: Axes | None = None) -> list[Artist]:
    """Pearson correlation of every pair of gates over draws.

    Args:
        samples: sampled gates [draws, N].
        sizes: channels per group, by name, N in all.
    """
    return gate_pairs(correlation_matrix(samples), sizes, ax, "Correlation of gates", "correlation r")


@checked
def gate_pairs(
    matrix: np.ndarray, sizes: Mapping[str, int], ax: Axes | None = None, title: str = "", label: str = ""
) -> list[Artist]:
    """A number in [-1, 1] for every pair of gates, as an image; the diagonal is left out.

    Args:
        matrix: [N, N], such as `correlation_matrix(...)` or `posterior.coupling()`.
        sizes: channels per group, by name, N in all.
        title, label: what the numbers are, long and short.
    """
    n = len(matrix)
    checks.shape("matrix", matrix, n, n)
    ax = prepare(ax, title, "", "", (0, n), (n, 0))
    label_groups(ax, sizes)
    ax.set_xticks([])
    _colour_bar(ax, SIGNED, (-1, 1), label)
    image = ax.imshow(
        np.where(np.eye(n), 0, matrix), cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest",
        extent=(0, n, n, 0), aspect="auto",
    )  # fmt: skip
    edges = np.cumsum([*sizes.values()])[:-1]
    lines = [*([(0, e), (n, e)] for e in edges), *([(e, 0), (e, n)] for e in edges)]
    return [image, strokes(ax, lines, GREY, 0.8)]


def _threshold_line(ax: Axes, threshold: float) -> list[Artist]:
    left, right = ax.get_xlim()
    return [
        *ax.plot([left, right], [threshold] * 2, color=GREY, linewidth=1, linestyle="--"),
        ax.annotate(
            "closed below", (right, threshold - 0.35), (-7, 0), textcoords="offset points", ha="right",
            va="center", color=GREY, fontsize="small",
        ),
    ]  # fmt: skip


def _weight_lines(log_alphas: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> LineCollection:
    x = np.repeat(np.arange(len(weights)), [w.size for w in weights])
    starts = [np.broadcast_to(log_alphas[i], w.shape).ravel() for i, w in enumerate(weights)]
    ends = [np.broadcast_to(log_alphas[i + 1][:, None], w.shape).ravel() for i, w in enumerate(weights)]
    sides = [np.column_stack([x, np.concatenate(starts)]), np.column_stack([x + 1, np.concatenate(ends)])]
    segments = np.stack(sides, axis=1)
    flat = np.concatenate([w.ravel() for w in weights])
    widths = 1.5 * np.abs(flat) / (np.abs(flat).max() or 1.0)
    shown = widths > 0.15  # the faintest are invisible, and half of the time it takes to draw them all
    colours = np.where(flat > 0, BLACK, VERMILLION)
    return LineCollection(segments[shown], colors=colours[shown], linewidths=widths[shown], alpha=0.35)


@lru_cache
def _whole_epochs(end: float) -> list[float]:
    """A few ticks from 0 to `end`, none of them within an epoch."""
    return [t for t in mpl.ticker.MaxNLocator(5, integer=True).tick_values(0, end) if 0 <= t <= end]


def label_groups(ax: Axes, sizes: Mapping[str, int]) -> None:
    """Names and widths beside the rows of each group; of names that would touch, only the first."""
    widths = np.array(list(sizes.values()))
    at, line = widths.cumsum() - widths / 2, 1.3 * points_of("small") / row_height(ax)
    between = "\n" if np.diff(at).min(initial=np.inf) > 2 * line else " "
    labels = {}
    for place, (name, width) in zip(at, sizes.items(), strict=True):
        if not labels or place - max(labels) > line:
            labels[place] = f"{name}{between}({width})"
    ticks(ax.yaxis, list(labels), list(labels.values()), fontsize="small")


def _colour_bar(ax: Axes, cmap: str, limits: tuple[float, float], label: str) -> None:
    """A colour bar beside `ax`, once: it is part of the background."""
    if not getattr(ax, "has_colour_bar", False):
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(*limits), cmap)
        at = np.linspace(*limits, 5)
        ax.figure.colorbar(scale, ax=ax, label=label, ticks=at, fraction=0.05, pad=0.02)
        ax.has_colour_bar = True
