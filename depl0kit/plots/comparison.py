"""Figures of a comparison: differences between methods, and the errors of one run."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ..comparison.table import require_columns, with_newer
from ..support import checked
from .base import (
    BLACK,
    BLUE,
    GREY,
    cells,
    marks,
    points_of,
    prepare,
    row_height,
    strokes,
    ticks,
    words,
)
from .leaders import Leaders
from .methods import EDGE, METHODS, look, marker_colours, method_name, network_of, one_network, with_kind
from .scales import percent, round_limits, short
from .tradeoff import COSTS

LIMITS = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)  # of differences, in points


@checked
def paired_intervals(table: pd.DataFrame, ax: Axes | None = None) -> list[Artist]:
    """Differences to a reference method in percentage points: mean (marker) and interval over seeds.

    Args:
        table: of `dk.paired_differences`, of one network on one data set. The label says over how many
            pairs of runs (n) the intervals are, and each row that has fewer. Where there is no interval (one
            pair) only the mean is drawn, and where there is no pair the row says so. Markers are hollow as in
            `accuracy_vs_cost`.

    Raises:
        ValueError: the table is empty, lacks a column or holds several networks.
    """
    names = [
        *("data", "model", "method", "at", "difference", "low", "high", "pairs"),
        *("reference", "cost", "confidence"),
    ]
    require_columns(table, *names, source="dk.paired_differences")
    rows = _rows(one_network(with_newer(table)))
    low, middle, high = (100 * rows[name].to_numpy(float) for name in ("low", "difference", "high"))
    ax = _prepare_rows(ax, rows, np.concatenate([low, middle, high]))
    _, colours, markers = zip(*map(look, rows.method), strict=True)
    faces, edges = marker_colours(rows.method, rows.kind)
    bars = [[(a, y), (b, y)] for a, y, b in zip(low, rows.y, high, strict=True)]
    return [
        strokes(ax, [[(0, y) for y in ax.get_ylim()]], GREY, 1),
        strokes(ax, bars, colours, 2.5),
        marks(ax, middle, rows.y, markers, 50, faces, edges),
        *_no_pairs(ax, rows.y[rows.difference.isna()]),
    ]


@checked
def lambda_path(path: pd.DataFrame, ax: Axes | None = None) -> list[Artist]:
    """The points of one run with growing lambda, joined in its order: they are not replicates.

    Args:
        path: of `dk.lambda_path`. Filled markers are accuracies of the fine-tuned compact networks, hollow
            ones those before fine-tuning; both on validation images.
    """
    require_columns(path, "kept_macs", "val_accuracy", "raw_val_accuracy", "lam", source="dk.lambda_path")
    accuracies = path[["val_accuracy", "raw_val_accuracy"]].to_numpy()
    low, high = round_limits(np.nanmin(accuracies), np.nanmax(accuracies))
    ax = prepare(
        ax, "One run, growing λ: a path, not replicates", "MACs kept", "validation accuracy",
        (0, 1.05), (low, high + 0.1 * (high - low)),  # names are over their points
    )  # fmt: skip
    points = path[["kept_macs", "val_accuracy"]].to_numpy(float)
    raw = path[["kept_macs", "raw_val_accuracy"]].to_numpy(float)
    lams = [float(f"{lam:.2g}") for lam in path.lam]  # :g then says 100, where .2g alone says 1e+02
    names = words(ax, *points.T, [f"λ {lam:g}" for lam in lams], align=0)
    drawn = np.concatenate([np.stack([line[:-1], line[1:]], 1) for line in (raw, points)])
    drawn = drawn[np.isfinite(drawn).all((1, 2))]
    return [
        strokes(ax, [raw], GREY, 1, linestyles=":"),
        strokes(ax, [points], BLUE, 1.5),
        marks(ax, *raw.T, ["o"], 24, ["white"], GREY),
        marks(ax, *points.T, ["o"], 30, [BLUE], EDGE),
        Leaders(ax, names, drawn, [(0.5, 0.0)] * len(path), GREY, margin=5),  # best over their points
        names,
    ]


@checked
def confusion(
    matrix: Sequence[int] | np.ndarray, ax: Axes | None = None, classes: Sequence[str] | None = None
) -> list[Artist]:
    """Errors of a run: how many images of each class (rows) were taken for which other (columns).

    Args:
        matrix: counts, true x predicted, square or row after row as in the column `confusion`. The diagonal
            (what is right) is left blank. Up to 10 classes, the counts are written into the cells.
        classes: names; numbers from 0 if None.

    Raises:
        ValueError: the counts are not a square, or the names do not match them.
    """
    counts = _square(matrix)
    n = len(counts)
    names = [str(i) for i in range(n)] if classes is None else [str(name) for name in classes]
    if len(names) != n:
        raise ValueError(f"classes must be {n} names, as many as the matrix has rows; got {len(names)}.")
    ax = prepare(ax, "Errors", "predicted", "true", (0, n), (n, 0))
    _name_classes(ax, names)
    errors = np.ma.masked_array(counts, np.eye(n, dtype=bool))
    top = max(1, errors.max()) if n > 1 else 1
    image = cells(ax, np.arange(n + 1), np.arange(n + 1), errors, top)
    total, most = errors.sum() if n > 1 else 0, np.unravel_index(np.ma.argmax(errors), (n, n))
    text = f"{total} of {counts.sum()}"
    if total:
        text += "; " if classes is None else "\n"  # names may be long
        text += f"most: {names[most[0]]} → {names[most[1]]} ({top})"
    style = {"ha": "right", "va": "bottom", "color": GREY, "fontsize": "small"}
    note = ax.text(1, 1.02, text, transform=ax.transAxes, **style)
    return [image, note, *([_cell_numbers(ax, errors.filled(0), top)] if n <= 10 else [])]


def _limit(numbers: np.ndarray) -> float:
    """A round limit, at least half a percentage point, beyond all `numbers`."""
    reach = np.nanmax(numbers, initial=0.0)
    return next((step for step in LIMITS if reach <= 0.97 * step), 100.0)


def _rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `paired_intervals` with their heights: a block for each cost, in the order of METHODS."""
    order = {name: i for i, name in enumerate(METHODS)}
    blocks = list(dict.fromkeys(table["at"]))
    rows = table.assign(block=table["at"].map(blocks.index), rank=table.method.map(order).fillna(len(order)))
    rows = rows.sort_values(["block", "rank", "method"], ignore_index=True)
    return rows.assign(y=rows.index + 1.0 * (rows.block + 1))  # a heading before each block


def _prepare_rows(ax: Axes | None, rows: pd.DataFrame, ends: np.ndarray) -> Axes:
    """The background of `paired_intervals`, wide enough for all `ends`."""
    n, level = rows.pairs.max(), 100 * rows.confidence.iloc[0]
    xlabel = (  # in two lines, for narrow axes
        f"percentage points above {method_name(rows.reference.iloc[0])}\n"
        f"{level:g} % intervals, n = {n} {'seed' if n == 1 else 'seeds'}"
    )
    limits = (-_limit(-ends), _limit(ends)), (rows.y.max() + 0.7, -0.7)
    ax = prepare(ax, f"{network_of(rows)}: accuracy", xlabel, "", *limits)
    _name_rows(ax, rows)
    return ax


def _no_pairs(ax: Axes, heights: pd.Series) -> list[Artist]:
    """A note on the roomier side of zero, for each row without a pair."""
    low, high = ax.get_xlim()
    right = high >= -low
    style = {"color": GREY, "fontsize": _row_size(ax), "va": "center", "ha": "left" if right else "right"}
    return [ax.text(0, y, " no pair of runs ", **style) for y in heights]


def _row_size(ax: Axes) -> float:
    """Points of text that fit into the rows: small, or less in low axes."""
    return min(points_of("small"), 0.75 * row_height(ax))


def _name_rows(ax: Axes, rows: pd.DataFrame) -> None:
    cost = rows.cost.iloc[0]
    what = COSTS.get(cost, cost).split(" (")[0]
    form = (lambda at: f"{percent(at)} of {what.split()[0]}") if cost.startswith("kept_") else short
    heads = rows.drop_duplicates("block")
    fewer = [f", n = {n}" if 0 < n < rows.pairs.max() else "" for n in rows.pairs]
    names = map(with_kind, map(method_name, rows.method), rows.kind)
    own = [name + note for name, note in zip(names, fewer, strict=True)]
    ax.set_yticks([*(heads.y - 1), *rows.y], [*map(form, heads["at"]), *own], fontsize=_row_size(ax))
    for label in ax.get_yticklabels()[: len(heads)]:
        label.set_fontweight("bold")
    ax.tick_params("y", length=0)


def _square(matrix: Sequence[int] | np.ndarray) -> np.ndarray:
    counts = np.asarray(matrix)
    n = round(counts.size**0.5)
    if n < 1 or n * n != counts.size or counts.shape not in ((n, n), (n * n,)):
        raise ValueError(f"matrix must be classes x classes counts, got shape {counts.shape}.")
    return counts.reshape(n, n)


def _name_classes(ax: Axes, names: Sequence[str]) -> None:
    step = -(-len(names) // 20)  # at most 20 names fit
    at, names = np.arange(len(names))[::step] + 0.5, names[::step]
    long = max(map(len, names)) > 3
    if ticks(ax.xaxis, at, names, rotation=45 if long else 0, ha="right" if long else "center"):
        ticks(ax.yaxis, at, names)
        ax.tick_params(length=0)


def _cell_numbers(ax: Axes, counts: np.ndarray, top: int) -> Artist:
    """The counts > 0 as one artist: as texts, they would take most of the figure's time."""
    rows, columns = np.nonzero(counts)
    found = counts[rows, columns]
    colours = np.where(found > top / 2, BLACK, "white")
    return words(ax, columns + 0.5, rows + 0.5, [str(n) for n in found], colours=colours)
