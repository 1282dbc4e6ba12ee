"""Accuracy against cost of the runs of a sweep, and how a method looks in every figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd

from ..fronts import DENSE, finished, require_columns
from .base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    VERMILLION,
    YELLOW,
    marks,
    prepare,
    spread,
    strokes,
    ticks,
    words,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

METHODS = {  # name -> (label, colour, marker), the same in every figure
    "mean_field": ("mean-field", BLUE, "o"),
    "forward": ("forward", VERMILLION, ">"),
    "backward": ("backward", ORANGE, "<"),
    "autoregressive": ("autoregressive", GREEN, "D"),
    "dense": ("dense", BLACK, "*"),
    "random": ("random", GREY, "X"),
    "small_dense": ("small dense", BLACK, "s"),
    "l1_uniform": ("L1, uniform", SKY, "v"),
    "l1_global": ("L1, global", PINK, "^"),
    "slimming": ("slimming", YELLOW, "P"),
}
COSTS = {
    "kept_macs": "MACs kept",
    "kept_params": "parameters kept",
    "macs": "MACs (multiply-accumulates per image)",
    "params": "parameters",
    "latency_ms": "measured latency (ms)",
}
ACCURACIES = {
    "test_accuracy": "test accuracy",
    "val_accuracy": "validation accuracy",
    "raw_val_accuracy": "validation accuracy before fine-tuning",
}
EDGE = "#444444"  # around markers: without it, yellow is lost on white
GAP = 0.065  # from label to label, of the height of the axes
LABELS = 0.29  # of the axes' width, for the names of methods
# Student's t, 97.5 %, at these degrees of freedom; against their inverse it is linear within 1 %
_DF = np.array([np.inf, 10, 5, 4, 3, 2, 1])
_T = np.array([1.96, 2.228, 2.571, 2.776, 3.182, 4.303, 12.706])


def accuracy_vs_cost(
    results: pd.DataFrame,
    ax: "Axes | None" = None,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
    selected: str | None = None,
    fronts: bool = True,
    ylim: tuple[float, float] | None = None,
) -> "list[Artist]":
    """Every run of a sweep as a point: what accuracy it has at what cost; the dense network as a dashed line.

    Args:
        results: table of `dk.sweep`, of one network on one data set. Failed runs are left out, and those of
            stage "tune" if there are others.
        cost: "kept_macs" or "kept_params" (shares of the dense network), "macs", "params" or "latency_ms".
        accuracy: "test_accuracy", "val_accuracy" or "raw_val_accuracy", in 0..1.
        selected: name of the run to circle; none if it is not among those drawn.
        fronts: join the runs of a method by a line through their means over seeds (one for each lambda or
            budget), with 95 % intervals of these means (Student's t; from two seeds on).
        ylim: limits of accuracy; a few round steps around the data if None.

    Raises:
        ValueError: the table holds several networks, no finished run, or lacks a column.
    """
    require_columns(results, "lam", "budget")
    runs = finished(results, cost, accuracy)
    if (runs.stage == "report").any():
        runs = runs[runs.stage == "report"]
    ax, left = _background(ax, one_network(runs), cost, accuracy, ylim)
    x, y = runs[cost].to_numpy(float), runs[accuracy].to_numpy(float)
    names = _in_order(runs.method)
    codes = pd.Categorical(runs.method, categories=names).codes
    artists = [_points(ax, x[codes == i], y[codes == i], name) for i, name in enumerate(names)]
    ends = np.column_stack([codes, x, y])  # where labels may point to: the cheapest run, or mean
    if fronts:
        ends = _mean_curves(runs, codes, x, y)
        artists += _curve_lines(ax, ends, names)
    starts = [min((end[1], end[2]) for end in ends if end[0] == i) for i in range(len(names))]
    texts = [look(name)[0] for name in names]
    if DENSE in names:
        i = names.index(DENSE)
        level = y[codes == i].mean()
        artists.append(
            strokes(ax, [[(left, level), (x[codes == i].mean(), level)]], BLACK, 1, linestyles="--")
        )
        starts[i], texts[i] = (left, level), f"dense {100 * level:.1f} %"
    artists += _labels(ax, left, starts, texts, names)
    return artists if selected is None else [*artists, circle_run(runs, selected, ax, cost, accuracy)]


def circle_run(
    runs: pd.DataFrame, name: str, ax: "Axes", cost: str = "kept_macs", accuracy: str = "test_accuracy"
) -> "Artist":
    """A circle around the run of that name, for axes with `accuracy_vs_cost`; none if `runs` lacks it."""
    own = runs[runs.run == name]
    return marks(ax, own[cost], own[accuracy], ["o"], 180, ["none"], BLACK, width=2, zorder=4)


def _in_order(methods: pd.Series) -> list[str]:
    """Each method once: those of METHODS in their order, then others by name."""
    order = list(METHODS)
    return sorted(
        methods.unique(), key=lambda name: (order.index(name) if name in order else len(order), name)
    )


def one_network(table: pd.DataFrame) -> pd.DataFrame:
    found = sorted(set(zip(table.model, table.data, strict=True)))
    if len(found) != 1:
        several = "; ".join(f"{model} on {data}" for model, data in found) or "no rows"
        raise ValueError(
            f"a figure shows one network on one data set, the table has {several}. "
            'Choose one: table[(table.data == "digits") & (table.model == "lenet")].'
        )
    return table


def network_of(table: pd.DataFrame) -> str:
    return f"{table.model.iloc[0]} on {table.data.iloc[0]}"


def look(method: str) -> tuple[str, str, str]:
    return METHODS.get(method, (method, GREY, "o"))


def _background(
    ax: "Axes | None", runs: pd.DataFrame, cost: str, accuracy: str, ylim: tuple[float, float] | None
) -> "tuple[Axes, float]":
    """The axes, and the lowest cost shown: what is left of it belongs to the labels."""
    share = cost.startswith("kept_")
    left, end, costs = _round_costs(runs[cost].min(), max(runs[cost].max(), 1.0 if share else 0.0))
    right = end * 1.04
    edge = right * (left / right) ** (1 / (1 - LABELS))
    if ylim is None:
        ylim = round_limits(runs[accuracy].min(), runs[accuracy].max())
    what, price = ACCURACIES.get(accuracy, accuracy), COSTS.get(cost, cost)
    title = f"{network_of(runs)}: {what} against cost"
    ax = prepare(ax, title, price, what, (edge, right), ylim)
    if ax.get_xscale() != "log":
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        ax.set_xlim(edge, right)
    ticks(ax.xaxis, costs, [(percent if share else short)(cost) for cost in costs])
    steps = mpl.ticker.MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(*ylim)
    heights = [y for y in steps if ylim[0] - 1e-9 <= y <= ylim[1] + 1e-9]
    ticks(ax.yaxis, heights, [percent(y) for y in heights])
    ax.spines.bottom.set_bounds(left, right)
    return ax, left


def _round_costs(low: float, high: float) -> tuple[float, float, list[float]]:
    """Ticks 1, 2, 5, 10, ... between two limits, themselves round, around the data."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)) - 1, np.ceil(np.log10(high)) + 1)
    edges = np.outer(decades, (1, 1.5, 2, 3, 5, 7)).ravel()
    start = edges[(edges <= low * 1.0001) & (edges < high * 0.8)].max()
    end = edges[edges >= high * 0.9999].min()
    many = end / start > 1000
    ticks = np.outer(decades, (1,) if many else (1, 2, 5)).ravel()
    return start, end, [t for t in ticks if start * 0.999 <= t <= end * 1.001]


def round_limits(low: float, high: float) -> tuple[float, float]:
    """A few round steps of accuracy around the data."""
    step = next((s for s in (0.005, 0.01, 0.02, 0.05, 0.1) if high - low <= 5 * s), 0.2)
    bottom, top = np.floor(low / step - 0.2) * step, np.ceil(high / step + 0.2) * step
    return max(0.0, round(bottom, 3)), min(1 + step / 5, round(top, 3))


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def short(number: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _points(ax: "Axes", x: np.ndarray, y: np.ndarray, method: str) -> "Artist":
    _, colour, marker = look(method)
    return marks(ax, x, y, [marker], 28, [colour], EDGE, width=0.5, alpha=0.6, zorder=2.5)


def _mean_curves(runs: pd.DataFrame, codes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A row per method and lambda or budget: code, mean cost (geometric), mean accuracy, half an interval."""
    lam, budget = (runs[name].fillna(-1).to_numpy(float) for name in ("lam", "budget"))
    keys, group = np.unique(np.column_stack([codes, lam, budget]), axis=0, return_inverse=True)
    group = group.ravel()
    count = np.bincount(group)
    costs, mean = np.exp(np.bincount(group, np.log(x)) / count), np.bincount(group, y) / count
    squares = np.bincount(group, (y - mean[group]) ** 2)
    df = np.maximum(count - 1, 1)
    half = np.interp(1 / df, 1 / _DF, _T) * np.sqrt(squares / df / count)
    rows = np.column_stack([keys[:, 0], costs, mean, np.where(count > 1, half, np.nan)])
    return rows[np.lexsort(rows.T[1::-1])]


def _curve_lines(ax: "Axes", curves: np.ndarray, names: Sequence[str]) -> "list[Artist]":
    colours = [look(name)[1] for name in names]
    paths = [curves[curves[:, 0] == i, 1:3] for i in range(len(names))]
    bars = [[(x, y - half), (x, y + half)] for _, x, y, half in curves]
    of_bars = [colours[int(code)] for code in curves[:, 0]]
    return [strokes(ax, paths, colours, 1.2), strokes(ax, bars, of_bars, 2)]


def _labels(
    ax: "Axes", left: float, starts: Sequence[tuple[float, float]], texts: Sequence[str], names: Sequence[str]
) -> "list[Artist]":
    """Names of the methods at the left, each with its marker and a thin line to where its curve begins."""
    edge, (bottom, top) = ax.get_xlim()[0], ax.get_ylim()
    span = (1 - GAP / 2) * (top - bottom)  # half a label below the top, or it would be cut
    heights = spread([(y - bottom) / span for _, y in starts], GAP) * span + bottom
    at = left * (edge / left) ** 0.2
    elbow = left * (edge / left) ** 0.08
    leaders = [[(at, y), (elbow, y), start] for y, start in zip(heights, starts, strict=True)]
    looks = [look(name) for name in names]
    colours = [colour for _, colour, _ in looks]
    return [
        strokes(ax, leaders, colours, 0.8, linestyles=":"),
        marks(ax, [at] * len(names), heights, [marker for _, _, marker in looks], 40, colours, EDGE),
        words(ax, [at] * len(names), heights, texts, 1.0, (-8, 0)),
    ]
