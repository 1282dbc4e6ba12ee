"""Error against cost of the runs of a sweep, and how a method looks in every figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PathCollection
from scipy.special import stdtrit

from ..comparison.fronts import DENSE, finished, require_columns
from ..support import checks
from ..support.arguments import checked
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
    Words,
    marks,
    prepare,
    strokes,
    ticks,
    words,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase

METHODS = {  # name -> (label, colour, marker), the same in every figure
    "mean_field": ("mean field", BLUE, "o"),
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
ERRORS = {
    "test_accuracy": "test error",
    "val_accuracy": "validation error",
    "raw_val_accuracy": "validation error before fine-tuning",
}
EDGE = "#444444"  # around markers: without it, yellow is lost on white
FADED, FADED_EDGE = "#D0D0D0", "#B0B0B0"  # of the methods beside a highlighted one
FLAWLESS = 1 - 1e-9  # accuracies beyond this are 1, but for rounding
FEWEST = 5e-4  # drawn for an error of zero where nothing tells the number of images
ROOM = 0.12  # of the axes' width: what is left of the cheapest run, for names
# in points: cells of the grid in which names find room, what is free around a name, from the middle of the
# marker before it to the name, and how far from its end it needs a line
CELL, MARGIN, KEY, BESIDE = 2.5, 3.5, 8.0, 12.0


@checked
def accuracy_vs_cost(
    results: pd.DataFrame,
    ax: "Axes | None" = None,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
    selected: str | None = None,
    fronts: bool = True,
    ylim: tuple[float, float] | None = None,
    highlight: str | None = None,
) -> "list[Artist]":
    """Every run of a sweep as a point: what error (1 - accuracy) it has at what cost. Lower is better.

    Both axes are logarithmic: halving the error is the same way down everywhere. The dense network is a
    dashed line.

    A logarithmic axis has no zero. Errors below half an image, zero among them, are drawn at half an image,
    where the tick says "0 %". The number of images is known from the column `confusion`, for test accuracy;
    without it half of the smallest error of the other runs is taken, and 0.05 % if no run has an error.

    Args:
        results: table of `dk.sweep`, of one network on one data set. Failed runs are left out, and those of
            stage "tune" if there are others.
        cost: "kept_macs" or "kept_params" (shares of the dense network), "macs", "params" or "latency_ms".
        accuracy: "test_accuracy", "val_accuracy" or "raw_val_accuracy", in 0..1.
        selected: name of the run to circle; none if it is not among those drawn.
        fronts: join the runs of a method by a line through their means over seeds (one for each lambda or
            budget), with 95 % intervals of these means (Student's t; from two seeds on), cut at the axis.
        ylim: limits of the error, 0 < low < high; a little beyond the data if None.
        highlight: the method to draw in its colour; others are grey, but for the dense network. None: all
            in colour.

    Raises:
        ValueError: the table holds several networks, no finished run, no run of the method to highlight, or
            lacks a column; `ylim` does not rise from above zero.
    """
    require_columns(results, "lam", "budget")
    runs = finished(results, cost, accuracy)
    if (runs.stage == "report").any():
        runs = runs[runs.stage == "report"]
    names = _in_order(one_network(runs).method)
    if highlight is not None:
        checks.one_of("method", highlight, names)
    x, y = runs[cost].to_numpy(float), drawn_errors(runs, accuracy)
    ax = _background(ax, runs, cost, accuracy, y, ylim)
    codes = pd.Categorical(runs.method, categories=names).codes
    artists = [_points(ax, x[codes == i], y[codes == i], name, highlight) for i, name in enumerate(names)]
    curves = np.column_stack([codes, x, y, y, y])  # without lines, names are at the cheapest runs
    if fronts:
        curves = _mean_curves(runs, codes, x, 1 - runs[accuracy].to_numpy(float), ax.get_ylim(), y.min())
        artists += _curve_lines(ax, curves, names, highlight)
    ends = {name: min(curves[curves[:, 0] == i, 1:3].tolist()) for i, name in enumerate(names)}
    texts = {name: method_name(name) for name in names}
    drawn = [_segments(np.column_stack([x, y]), curves if fronts else curves[:0])]
    if DENSE in names:
        error = 1 - runs[accuracy][runs.method == DENSE].mean()
        texts[DENSE] += f" {percent(error)}"
        level = [(end, max(error, y.min())) for end in (ax.get_xlim()[0], ends[DENSE][0])]
        ends[DENSE], drawn = level[0], [*drawn, [level]]
        artists.append(strokes(ax, [level], BLACK, _sized(1), linestyles="--", zorder=2.6))
    artists += _names(ax, ends, texts, np.concatenate(drawn), highlight)
    return artists if selected is None else [*artists, circle_run(runs, selected, ax, cost, accuracy)]


def circle_run(
    runs: pd.DataFrame, name: str, ax: "Axes", cost: str = "kept_macs", accuracy: str = "test_accuracy"
) -> "Artist":
    """A circle around the run of that name, for axes with `accuracy_vs_cost`; none if `runs` lacks it."""
    own = (runs.run == name).to_numpy()
    x, y = runs[cost].to_numpy(float)[own], drawn_errors(runs, accuracy)[own]
    # over all else, as in a live figure, where what stays lies under what is new
    return marks(ax, x, y, ["o"], _sized(13.4) ** 2, ["none"], BLACK, width=_sized(2), zorder=6)


def drawn_errors(runs: pd.DataFrame, accuracy: str = "test_accuracy") -> np.ndarray:
    """The error of each run as `accuracy_vs_cost` draws it: zero at half an image."""
    accuracies = runs[accuracy].to_numpy(float)
    errors, some = 1 - accuracies, accuracies <= FLAWLESS
    if some.all():
        return errors
    if accuracy == "test_accuracy" and "confusion" in runs:
        least = 0.5 / np.sum(runs.confusion.iloc[0])
    else:
        least = errors[some].min() / 2 if some.any() else FEWEST
    return np.where(some, errors, least)


def method_name(method: Any) -> Any:
    """The name of a method in figures and tables: "mean field" for "mean_field".

    What is no text stays as it is, such as a seed beside it in an index: `table.rename(index=method_name)`.
    """
    return look(method)[0] if isinstance(method, str) else method


@checked
def look(method: str) -> tuple[str, str, str]:
    return METHODS.get(method, (method, GREY, "o"))


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


def _in_order(methods: pd.Series) -> list[str]:
    """Each method once: those of METHODS in their order, then others by name."""
    order = list(METHODS)
    return sorted(
        methods.unique(), key=lambda name: (order.index(name) if name in order else len(order), name)
    )


# ---- axes


def _background(
    ax: "Axes | None",
    runs: pd.DataFrame,
    cost: str,
    accuracy: str,
    errors: np.ndarray,
    ylim: tuple[float, float] | None,
) -> "Axes":
    share = cost.startswith("kept_")
    left, right, costs = _round_costs(runs[cost].min(), runs[cost].max())
    bottom, top, heights = _round_errors(errors.min(), errors.max(), ylim)
    what = ERRORS.get(accuracy, f"1 - {accuracy}")
    title = f"{network_of(runs)}: {what} against cost"
    limits = (left, right), (bottom, top)
    ax = prepare(ax, title, COSTS.get(cost, cost), f"{what} (log scale)", *limits)
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


def _round_costs(low: float, high: float) -> tuple[float, float, list[float]]:
    """Limits and ticks of a logarithmic axis around the data: limits are round, or a little beyond that."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)) - 2, np.ceil(np.log10(high)) + 1)
    edges = np.outer(decades, (1, 1.5, 2, 3, 5, 7)).ravel()
    end = edges[edges >= max(high, low * 1.3) * 0.9999].min()
    start = edges[edges <= low * (low / end) ** (ROOM / (1 - ROOM))].max()
    at = np.outer(decades, (1,) if end > 1000 * start else (1, 2, 5)).ravel()
    return start, end * (end / start) ** 0.03, [t for t in at if start * 0.999 <= t <= end * 1.001]


def _round_errors(
    low: float, high: float, limits: tuple[float, float] | None
) -> tuple[float, float, Sequence[float]]:
    """Limits and ticks of a logarithmic axis from errors: limits are round and a little beyond the data."""
    if limits is not None:
        low, high = limits
        if not 0 < low < high:
            raise ValueError(f"ylim must be two errors, 0 < low < high, got ({low:g}, {high:g}).")
    if high < 1.1 * low:  # hardly any spread: the axis shall not magnify it
        low, high = low / 1.05, high * 1.05
    if high < 3 * low:
        at = mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    else:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        at = np.outer(decades, (1,) if high > 5e3 * low else (1, 2, 5)).ravel()
        at = at[np.searchsorted(at, low * 1.0001) - 1 : np.searchsorted(at, high * 0.9999) + 1]
    if limits is None:
        beyond = (at[-1] / at[0]) ** 0.04
        limits = at[0] / beyond, min(at[-1], 1.0) * beyond
    return *limits, [t for t in at if limits[0] <= t <= min(limits[1], 1.0)]


@checked
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


# ---- runs and lines


def _sized(points: float) -> float:
    """A length in points that grows with the text of the style."""
    return points * mpl.rcParams["font.size"] / 10


def _faded(method: str, highlight: str | None) -> bool:
    return highlight is not None and method not in (highlight, DENSE)


def _colours(methods: Sequence[str], highlight: str | None) -> list[str]:
    return [FADED if _faded(name, highlight) else look(name)[1] for name in methods]


def _edges(methods: Sequence[str], highlight: str | None) -> list[str]:
    return [FADED_EDGE if _faded(name, highlight) else EDGE for name in methods]


def _points(ax: "Axes", x: np.ndarray, y: np.ndarray, method: str, highlight: str | None) -> "Artist":
    colour, edge, marker = _colours([method], highlight), _edges([method], highlight)[0], look(method)[2]
    on_top = method == highlight
    alpha = 0.9 if on_top else 0.6
    zorder = 3 if on_top else 2.5
    return marks(ax, x, y, [marker], _sized(5.3) ** 2, colour, edge, width=0.5, alpha=alpha, zorder=zorder)


def _mean_curves(
    runs: pd.DataFrame,
    codes: np.ndarray,
    x: np.ndarray,
    errors: np.ndarray,
    ylim: tuple[float, float],
    least: float,
) -> np.ndarray:
    """A row per method and lambda or budget: code, mean cost (geometric), mean error, ends of its interval.

    Errors below `least` are drawn there; intervals end at the limits of the axis.
    """
    lam, budget = (runs[name].fillna(-1).to_numpy(float) for name in ("lam", "budget"))
    keys, group = np.unique(np.column_stack([codes, lam, budget]), axis=0, return_inverse=True)
    group = group.ravel()
    count = np.bincount(group)
    costs, mean = np.exp(np.bincount(group, np.log(x)) / count), np.bincount(group, errors) / count
    squares = np.bincount(group, (errors - mean[group]) ** 2)
    df = np.maximum(count - 1, 1)
    half = np.where(count > 1, stdtrit(df, 0.975) * np.sqrt(squares / df / count), np.nan)
    low, high = np.clip([mean - half, mean + half], *ylim)
    rows = np.column_stack([keys[:, 0], costs, np.maximum(mean, least), low, high])
    return rows[np.lexsort(rows.T[1::-1])]


def _curve_lines(
    ax: "Axes", curves: np.ndarray, names: Sequence[str], highlight: str | None
) -> "list[Artist]":
    """The lines and intervals of all methods; those of the highlighted one are apart, and on top."""
    artists = []
    for on_top in (False, True) if highlight in names else (False,):
        own = [i for i, name in enumerate(names) if (name == highlight) == on_top]
        colours = dict(zip(own, _colours([names[i] for i in own], highlight), strict=True))
        rows = curves[np.isin(curves[:, 0], own)]
        paths = [rows[rows[:, 0] == i, 1:3] for i in own]
        bars = [[(x, low), (x, high)] for _, x, _, low, high in rows]
        zorder = 2.8 if on_top else 2
        artists += [
            strokes(ax, paths, list(colours.values()), _sized(2 if on_top else 1.2), zorder=zorder),
            strokes(ax, bars, [colours[int(code)] for code in rows[:, 0]], _sized(2), zorder=zorder),
        ]
    return artists


# ---- names


def _segments(points: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """All that names must not cover, [n, 2, 2]: runs (from a point to itself), intervals, and lines."""
    bars = curves[:, [1, 3, 1, 4]].reshape(-1, 2, 2)
    steps = np.stack([curves[:-1, 1:3], curves[1:, 1:3]], 1)[curves[:-1, 0] == curves[1:, 0]]
    found = np.concatenate([np.stack([points, points], 1), bars, steps])
    return found[np.isfinite(found).all((1, 2))]  # one seed has no interval


def _names(
    ax: "Axes",
    ends: Mapping[str, tuple[float, float]],
    texts: Mapping[str, str],
    segments: np.ndarray,
    highlight: str | None,
) -> "list[Artist]":
    """Names of the methods near the cheap ends of their curves, each after its marker."""
    names = sorted(ends, key=lambda name: name != DENSE)  # this one first: its place is over its line
    aims = [(0.0, -0.2) if name == DENSE else (1.0, 0.5) for name in names]
    x, y = zip(*(ends[name] for name in names), strict=True)
    colours, edges = _colours(names, highlight), _edges(names, highlight)
    ink = [GREY if _faded(name, highlight) else BLACK for name in names]
    bold = [_sized(0.5) * (name == highlight) for name in names]
    markers = [look(name)[2] for name in names]
    keys = marks(ax, x, y, markers, _sized(5.5) ** 2, colours, edges, width=0.5, zorder=5)
    named = words(ax, x, y, [texts[name] for name in names], 0, (_sized(KEY), 0), ink)
    named.set(edgecolors=ink, linewidths=bold, zorder=5)
    return [Leaders(ax, named, segments, aims, colours, keys), keys, named]


class Leaders(LineCollection):
    """Thin lines from names to what they name. Before they are drawn, they put the names where there is room.

    Where that is depends on the size of the axes, which is known only then. A name is placed as near to its
    end as it can be without covering a run, a line or another name; beside its end it needs no line.

    Args:
        names: where they are now is what they name. They are moved.
        segments: all that must not be covered, [n, 2, 2] in data coordinates.
        keys: markers before the names, moved with them.
        aims: the point of each name that is best put at its end, in shares of its width and height.
        margin: what must be free around a name, in points, half of a marker included.
    """

    def __init__(
        self,
        ax: "Axes",
        names: Words,
        segments: np.ndarray,
        aims: Sequence[tuple[float, float]],
        colours: str | Sequence[str],
        keys: PathCollection | None = None,
        margin: float = MARGIN,
    ) -> None:
        super().__init__([], colors=colours, linewidths=_sized(0.8), zorder=4.5)  # before the names
        self._moved = [names] if keys is None else [names, keys]
        self._ends, self._segments, self._aims = names.get_offsets().copy(), segments, aims
        before, boxes = _sized(KEY / 2) if keys else 0.0, [path.vertices for path in names.get_paths()]
        height = 2 * max(abs(box[:, 1]).max() for box in boxes)  # of all the same, around their middle
        self._sizes = np.array([(before + box[:, 0].max(), height) for box in boxes])  # points
        self._start = np.array([before, height / 2])  # of a name, from the lower left corner of its box
        self._shape: tuple[float, ...] | None = None  # of the axes for which names were placed
        self._margin, self._beside = _sized(margin), _sized(BESIDE)  # in the style that holds now
        ax.add_collection(self, autolim=False)

    def draw(self, renderer: "RendererBase") -> None:
        ax = self.axes
        shape = *ax.bbox.bounds, *ax.get_xlim(), *ax.get_ylim(), self.figure.dpi
        if shape != self._shape:  # to move artists while all is as it was would ask for another drawing
            self._shape = shape
            self._place()
        super().draw(renderer)

    def _place(self) -> None:
        data, corner, scale = self.axes.transData, self.axes.bbox.p0, 72 / self.figure.dpi
        room = Room(self.axes.bbox.size * scale, self._margin)
        room.take_lines((data.transform(self._segments.reshape(-1, 2)) - corner).reshape(-1, 2, 2) * scale)
        boxes, lines = [], []
        ends = (data.transform(self._ends) - corner) * scale
        for end, size, aim in zip(ends, self._sizes, self._aims, strict=True):
            box = room.place(end, size, aim)
            start = np.clip(end, box, box + size)
            far = np.hypot(*(start - end)) > self._beside
            boxes.append(box + self._start)
            lines.append([start if far else end, end])
            room.take_lines(np.array(lines[-1:]))
        back = data.inverted().transform
        for artist in self._moved:
            artist.set_offsets(back(np.array(boxes) / scale + corner))
        self.set_segments(back(np.reshape(lines, (-1, 2)) / scale + corner).reshape(-1, 2, 2))


class Room:
    """Which cells of the axes are taken. All places and sizes are in points, from the lower left corner."""

    def __init__(self, size: np.ndarray, margin: float) -> None:
        columns, rows = np.maximum(1, np.ceil(size / CELL)).astype(int)
        self._taken, self._margin = np.zeros((rows, columns)), margin

    def take_lines(self, segments: np.ndarray) -> None:
        """Take the cells under these lines, [n, 2, 2]."""
        way = segments[:, 1] - segments[:, 0]
        steps = (abs(way).max(1) / CELL).astype(int) + 1
        along = (np.arange(steps.sum()) - (steps.cumsum() - steps).repeat(steps)) / steps.repeat(steps)
        points = segments[:, 0].repeat(steps, 0) + along[:, None] * way.repeat(steps, 0)
        column, row = np.floor(points / CELL).astype(int).T
        inside = (row >= 0) & (row < len(self._taken)) & (column >= 0) & (column < len(self._taken.T))
        self._taken[row[inside], column[inside]] = 1

    def place(self, end: np.ndarray, size: np.ndarray, aim: tuple[float, float]) -> np.ndarray:
        """Take a box of this size near `end`, where least is covered; returns its lower left corner."""
        high, wide = np.minimum(
            np.ceil((size[::-1] + 2 * self._margin) / CELL).astype(int), self._taken.shape
        )
        sums = np.pad(self._taken.cumsum(0).cumsum(1), (1, 0))
        covered = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
        y, x = (CELL * at + self._margin for at in np.indices(covered.shape, sparse=True))
        away = _distance(end[0] - np.clip(end[0], x, x + size[0]), end[1] - np.clip(end[1], y, y + size[1]))
        off_aim = _distance(x + aim[0] * size[0] - end[0], y + aim[1] * size[1] - end[1])
        row, column = np.unravel_index(np.argmin(away + off_aim / 4 + 100 * covered), covered.shape)
        self._taken[row : row + high, column : column + wide] = 1
        return np.array([column, row]) * CELL + self._margin


def _distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x**2 + y**2)  # three times as fast as `hypot`, as x and y are a row and a column
