"""Error against cost of the runs of a sweep."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ..comparison.table import DENSE, finished, require_columns
from ..support import checked, checks
from .base import BLACK, GREY, marks, prepare, sized, strokes, ticks, words
from .leaders import KEY, Leaders
from .means import draw_means, interval_lines, mean_errors, side_by_side, steps
from .methods import (
    colours_of,
    in_order,
    is_faded,
    kind_notes,
    look,
    marker_colours,
    method_name,
    network_of,
    one_network,
    with_kind,
)
from .scales import percent, round_costs, round_errors, short

COSTS = {
    "kept_macs": "MACs kept",
    "kept_params": "parameters kept",
    "macs": "MACs (multiply-accumulates per image)",
    "params": "parameters",
    "latency_ms": "measured latency (ms)",
    "latency_1_ms": "measured latency of one image (ms)",
}
ERRORS = {
    "test_accuracy": "test error",
    "val_accuracy": "validation error",
    "raw_val_accuracy": "validation error before fine-tuning",
}
FLAWLESS = 1 - 1e-9  # accuracies above this differ from 1 only by rounding
FEWEST = 5e-4  # drawn for an error of zero where nothing tells the number of images
BAND = "#ECECEC"  # pale: points are seen on it


@checked
def accuracy_vs_cost(
    results: pd.DataFrame,
    ax: Axes | None = None,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
    selected: str | None = None,
    fronts: bool = True,
    ylim: tuple[float, float] | None = None,
    highlight: str | None = None,
) -> list[Artist]:
    """What error (1 - accuracy) each method of a sweep has at what cost. Lower is better.

    A line for each method joins its means over seeds, one for each lambda or budget. Bars are their 95 %
    intervals (Student's t; from two seeds on). Faint points are single runs. The dense network is a dashed
    line, with the interval of its mean as a band. Bars and band are cut at the axis. Markers are hollow where
    the cost is not that of one small network: dynamic ones have a mean over images, factorised other layers.

    Both axes are logarithmic: halving the error is the same distance everywhere. Where the number of test
    images is known, the label says how much error one image is. Means of almost the same cost are drawn
    side by side: up to 1 % of the axis from where they belong.

    A logarithmic axis has no zero. Errors below half an image, zero among them, are drawn at half an image,
    where the tick says "0 %". The number of images is known from the column `confusion`, for test accuracy;
    without it half of the smallest error of the other runs is taken, and 0.05 % if no run has an error.

    Args:
        results: table of `dk.sweep`, of one network on one data set. Failed runs are left out, and those of
            stage "tune" if there are others.
        cost: "kept_macs" or "kept_params" (shares of the dense network), "macs", "params",
            "latency_ms" or "latency_1_ms".
        accuracy: "test_accuracy", "val_accuracy" or "raw_val_accuracy", in 0..1.
        selected: name of the run to circle; none if it is not among those drawn.
        fronts: draw the lines and bars; False: single runs and the dense network only.
        ylim: limits of the error, 0 < low < high; a little beyond the data if None.
        highlight: the method to draw in its colour; all others except the dense network are grey. None:
            all in colour.

    Raises:
        ValueError: the table holds several networks, no finished run, no run of the method to highlight, or
            lacks a column; `ylim` does not rise from above zero.
    """
    runs = _shown(results, cost, accuracy, highlight)
    names, errors = list(runs.method.cat.categories), drawn_errors(runs, accuracy)
    ax = _background(ax, runs, cost, accuracy, errors, ylim)
    points = runs[["method", "kind"]].assign(cost=runs[cost].astype(float), error=errors)
    means = mean_errors(runs, cost, accuracy, errors.min(), ax.get_ylim())
    dense, others = means[means.method == DENSE], means[means.method != DENSE]
    curves = side_by_side(others, ax.get_xlim()) if fronts else others[:0]
    level = np.array([[(cost, error) for cost in ax.get_xlim()] for error in dense.error]).reshape(-1, 2, 2)
    artists = [_points(ax, points[points.method == name], name, highlight, fronts) for name in names]
    if fronts:
        artists += draw_means(ax, curves, highlight)
    artists += _draw_level(ax, dense, level)
    kinds = dict(zip(runs.method, runs.kind, strict=True))
    ends = _cheapest(curves if fronts else points)
    texts = {name: with_kind(method_name(name), kinds[name]) for name in names}
    if len(dense):
        ends[DENSE] = tuple(level[0, 0])  # its name belongs to the left end of its line
        texts[DENSE] += f" {percent(1 - runs[accuracy][runs.method == DENSE].mean())}"
    artists += _names(ax, ends, texts, kinds, _segments(points, curves, level), highlight)
    return artists if selected is None else [*artists, circle_run(runs, selected, ax, cost, accuracy)]


def _shown(results: pd.DataFrame, cost: str, accuracy: str, highlight: str | None) -> pd.DataFrame:
    """The runs of the figure, methods in their order: those that are reported, or all if there are none."""
    require_columns(results, "lam", "budget")
    runs = finished(results, cost, accuracy)
    if (runs.stage == "report").any():
        runs = runs[runs.stage == "report"]
    names = in_order(one_network(runs).method)
    if highlight is not None:
        checks.one_of("method", highlight, names)
    return runs.assign(method=pd.Categorical(runs.method, names))


def circle_run(
    runs: pd.DataFrame, name: str, ax: Axes, cost: str = "kept_macs", accuracy: str = "test_accuracy"
) -> Artist:
    """A circle around the run of that name, for axes with `accuracy_vs_cost`; none if `runs` lacks it."""
    own = (runs.run == name).to_numpy()
    x, y = runs[cost].to_numpy(float)[own], drawn_errors(runs, accuracy)[own]
    # over all else, as in a live figure, where what stays lies under what is new
    return marks(ax, x, y, ["o"], sized(13.4) ** 2, ["none"], BLACK, width=sized(2), zorder=6)


def drawn_errors(runs: pd.DataFrame, accuracy: str = "test_accuracy") -> np.ndarray:
    """The error of each run as `accuracy_vs_cost` draws it: zero at half an image."""
    accuracies = runs[accuracy].to_numpy(float)
    errors, some = 1 - accuracies, accuracies <= FLAWLESS
    if some.all():
        return errors
    if images := _test_images(runs, accuracy):
        least = 0.5 / images
    else:
        least = errors[some].min() / 2 if some.any() else FEWEST
    return np.where(some, errors, least)


def _test_images(runs: pd.DataFrame, accuracy: str) -> int | None:
    """The number of images that `accuracy` was measured on; None if the table does not tell."""
    told = accuracy == "test_accuracy" and "confusion" in runs
    return int(np.sum(runs.confusion.iloc[0])) if told else None


def _background(
    ax: Axes | None,
    runs: pd.DataFrame,
    cost: str,
    accuracy: str,
    errors: np.ndarray,
    ylim: tuple[float, float] | None,
) -> Axes:
    share = cost.startswith("kept_")
    left, right, costs = round_costs(runs[cost].min(), runs[cost].max())
    bottom, top, heights = round_errors(errors.min(), errors.max(), ylim)
    what = ERRORS.get(accuracy, f"1 - {accuracy}")
    title = f"{network_of(runs)}: {what}"
    limits = (left, right), (bottom, top)
    images = _test_images(runs, accuracy)
    unit = f"\none image of {images:,} = {percent(1 / images)}" if images else ""
    xlabel = COSTS.get(cost, cost) + kind_notes(runs.kind)
    ax = prepare(ax, title, xlabel, f"{what} (log scale){unit}", *limits)
    if (ax.get_xscale(), ax.get_yscale()) != ("log", "log"):
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_locator(mpl.ticker.NullLocator())
        ax.set(xlim=limits[0], ylim=limits[1])
    small = {"fontsize": "small"}  # in narrow axes, larger names of ticks would touch each other
    ticks(ax.xaxis, costs, [(percent if share else short)(cost) for cost in costs], **small)
    names = {y: percent(y) for y in heights}
    if runs[accuracy].max() > FLAWLESS and errors.min() >= bottom:
        zero = errors.min()  # where it is drawn; ticks near to it would touch its own
        names = {zero: "0 %"} | {y: name for y, name in names.items() if y > 2 * zero}
    ticks(ax.yaxis, list(names), list(names.values()), **small)
    return ax


def _points(ax: Axes, points: pd.DataFrame, method: str, highlight: str | None, faint: bool) -> Artist:
    """The runs of one method; `faint` where their means are drawn, too."""
    size, alpha = (4.2, 0.35) if faint else (5.3, 0.6)
    if highlight is not None:
        alpha = 0.7  # grey is faint enough
    faces, edges = marker_colours([method], points.kind[:1], highlight)
    return marks(
        ax, points.cost, points.error, [look(method)[2]], sized(size) ** 2, faces, edges[0], width=0.5,
        alpha=alpha, zorder=3 if method == highlight else 2.5,
    )  # fmt: skip


def _cheapest(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Cost and error of the cheapest point of each method."""
    first = rows.sort_values(["cost", "error"]).drop_duplicates("method").sort_values("method")
    return dict(zip(first.method, zip(first.cost, first.error, strict=True), strict=True))


def _draw_level(ax: Axes, dense: pd.DataFrame, level: np.ndarray) -> list[Artist]:
    """The line of the dense network and its interval, from side to side of the axes."""
    line = strokes(ax, level, BLACK, sized(1), linestyles="--", zorder=2.6)
    bands = [
        ax.axhspan(low, high, facecolor=BAND, edgecolor="none", zorder=0.5)
        for low, high in zip(dense.low, dense.high, strict=True)
        if np.isfinite(low)  # one seed has no interval
    ]
    return [*bands, line]


def _segments(points: pd.DataFrame, curves: pd.DataFrame, level: np.ndarray) -> np.ndarray:
    """All that names must not cover, [n, 2, 2]: runs and means (from a point to itself), bars and lines."""
    dots = pd.concat([points, curves])[["cost", "error"]].to_numpy(float)
    found = np.concatenate([np.stack([dots, dots], 1), interval_lines(curves), steps(curves), level])
    return found[np.isfinite(found).all((1, 2))]  # one seed has no interval


def _names(
    ax: Axes,
    ends: Mapping[str, tuple[float, float]],
    texts: Mapping[str, str],
    kinds: Mapping[str, str],
    segments: np.ndarray,
    highlight: str | None,
) -> list[Artist]:
    """Names of the methods near the cheap ends of their curves, each after its marker."""
    names = sorted(ends, key=lambda name: name != DENSE)  # this one first: its place is over its line
    aims = [(0.0, -0.2) if name == DENSE else (1.0, 0.5) for name in names]
    x, y = zip(*(ends[name] for name in names), strict=True)
    colours = colours_of(names, highlight)
    faces, edges = marker_colours(names, [kinds[name] for name in names], highlight)
    ink = [GREY if is_faded(name, highlight) else BLACK for name in names]
    bold = [sized(0.5) * (name == highlight) for name in names]
    markers = [look(name)[2] for name in names]
    keys = marks(ax, x, y, markers, sized(5.5) ** 2, faces, edges, width=0.5, zorder=5)
    named = words(ax, x, y, [texts[name] for name in names], 0, (sized(KEY), 0), ink)
    named.set(edgecolors=ink, linewidths=bold, zorder=5)
    return [Leaders(ax, named, segments, aims, colours, keys, margin=5), keys, named]
