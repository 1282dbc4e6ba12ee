"""Means over the seeds of a sweep: where `accuracy_vs_cost` draws them, with their intervals."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ..comparison.intervals import mean_interval
from .base import marks, sized, strokes
from .methods import colours_of, in_order, look, marker_colours

# shares of the width of the axes: how far means of one cost are apart, and how far one is moved at most
GAP, FARTHEST = 0.004, 0.01


def mean_errors(
    runs: pd.DataFrame, cost: str, accuracy: str, least: float, ylim: tuple[float, float]
) -> pd.DataFrame:
    """A row per method, kind and lambda or budget: mean cost (geometric), mean error, ends of its interval.

    Errors below `least` are drawn there; intervals end at the limits of the axis.
    """
    each = runs.assign(log_cost=np.log(runs[cost].astype(float)), error=1 - runs[accuracy])
    means = each.groupby(["method", "kind", "lam", "budget"], dropna=False, observed=True).agg(
        cost=("log_cost", "mean"), error=("error", "mean"), std=("error", "std"), seeds=("error", "size")
    )
    low, high = mean_interval(means.error, means["std"], means.seeds)
    means = means.assign(
        cost=np.exp(means.cost), error=means.error.clip(least), low=low.clip(*ylim), high=high.clip(*ylim)
    )
    return means.reset_index().sort_values(["method", "cost"], ignore_index=True)


def side_by_side(means: pd.DataFrame, xlim: tuple[float, float]) -> pd.DataFrame:
    """The same means, those of almost one cost moved apart, by as little as possible in least squares.

    Otherwise the bars of all methods that meet a budget exactly would lie on one another.
    """
    from scipy.optimize import isotonic_regression  # only here: it takes long to import

    if means.empty:
        return means
    order = np.argsort(means.cost.to_numpy(), kind="stable")
    width, places = np.log(xlim[1] / xlim[0]), np.log(means.cost.to_numpy()[order])
    steps = GAP * width * np.arange(len(places))
    moved = isotonic_regression(places - steps).x + steps  # rises by a step and more from one to the next
    found = np.empty(len(places))
    found[order] = np.clip(moved, places - FARTHEST * width, places + FARTHEST * width)
    return means.assign(cost=np.exp(found))


def draw_means(ax: Axes, means: pd.DataFrame, highlight: str | None) -> list[Artist]:
    """Lines, bars and markers of all methods; those of the highlighted one are apart, and on top."""
    on_top = means.method == highlight
    artists = _drawn(ax, means[~on_top], highlight, False)
    return [*artists, *_drawn(ax, means[on_top], highlight, True)] if on_top.any() else artists


def _drawn(ax: Axes, means: pd.DataFrame, highlight: str | None, on_top: bool) -> list[Artist]:
    names = in_order(means.method)
    paths = [means.loc[means.method == name, ["cost", "error"]].to_numpy() for name in names]
    methods = means.method.tolist()
    colours, zorder = colours_of(methods, highlight), 3.2 if on_top else 2.8
    markers = [look(name)[2] for name in methods]
    faces, edges = marker_colours(methods, means.kind, highlight)
    style = {"width": 0.6, "zorder": zorder + 0.1}
    return [
        strokes(ax, paths, colours_of(names, highlight), sized(2 if on_top else 1.2), zorder=zorder),
        strokes(ax, interval_lines(means), colours, sized(2 if on_top else 1.5), zorder=zorder),
        marks(ax, means.cost, means.error, markers, sized(6) ** 2, faces, edges, **style),
    ]


def interval_lines(means: pd.DataFrame) -> np.ndarray:
    """The intervals as lines, [n, 2, 2]; NaN where there is one seed."""
    return means[["cost", "low", "cost", "high"]].to_numpy(float).reshape(-1, 2, 2)


def steps(means: pd.DataFrame) -> np.ndarray:
    """The parts of the lines that join the means of a method, [n, 2, 2]."""
    way, method = means[["cost", "error"]].to_numpy(float), means.method.to_numpy()
    return np.stack([way[:-1], way[1:]], 1)[method[:-1] == method[1:]]
