"""Figures of posteriors over few gates, and of what is measured on the posterior of a network."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..comparison.table import require_columns
from ..gates.diagnostics import directions
from ..support import checked, checks
from .base import BLACK, BLUE, GREY, SERIES, VERMILLION, bars, cells, prepare, sized, spread, strokes

PAIR_STATES = ("neither", "2nd", "1st", "both")  # short: they stand under narrow columns
GREY_BARS = "#BBBBBB"
FLOOR = 1e-4  # probabilities below are drawn there
FAMILY_COLOURS = {"exact": BLACK, "mean field": VERMILLION, "chain": BLUE}


@checked
def pair_states(
    table: np.ndarray, title: str, ax: Axes | None = None, names: Sequence[str] | None = None
) -> list[Artist]:
    """What a posterior does with each pair of gates: a row per pair, a column per state.

    Args:
        table: [pairs, 4], P(neither, only the second, only the first, both open); `ExactPosterior.pair`.
        title: whose posterior this is.
        names: of the pairs; 1, 2, ... if None.
    """
    rows = len(table)
    checks.shape("table", table, None, 4)
    checks.shape("names", np.asarray(names or [""] * rows), rows)
    ax = prepare(ax, title, "open (no number: below 0.1)", "", (0, 4), (rows, 0))
    ax.set_xticks(np.arange(4) + 0.5, PAIR_STATES)
    ax.set_yticks(np.arange(rows) + 0.5, names or [f"pair {i + 1}" for i in range(rows)])
    image = cells(ax, np.arange(5), np.arange(rows + 1), table)
    numbers = [  # of a live figure each takes half a millisecond
        ax.text(j + 0.5, i + 0.5, f"{p:.2f}", ha="center", va="center", color=BLACK if p > 0.5 else "white")
        for (i, j), p in np.ndenumerate(table)
        if p >= 0.1
    ]
    return [image, *numbers]


@checked
def likeliest_masks(
    exact: np.ndarray, others: Mapping[str, np.ndarray], ax: Axes | None = None, count: int = 40
) -> list[Artist]:
    """The `count` likeliest masks under the exact posterior (grey), and what others give them (dots).

    Args:
        exact: probabilities of all masks, [2^n].
        others: name -> [2^n], in the same order; a name of `FAMILY_COLOURS` has its colour.
        count: masks shown; all, if there are fewer.
    """
    # rounded: masks that are equally likely keep their order, whatever the last bits say
    order = np.argsort(-np.log(exact).round(6), kind="stable")[:count]
    ax = _prepare_log(
        ax, f"The {len(order)} likeliest masks (grey: exact)", "masks, by exact probability", "probability",
        (-1, 1.3 * len(order)), (0.6 * FLOOR, 1.2),
    )  # fmt: skip
    ax.set_xticks([])
    x = np.arange(len(order))
    artists: list[Artist] = [bars(ax, exact[order], GREY_BARS, 0.9, foot=1e-9)]
    for (name, q), colour in zip(others.items(), _colours(others), strict=True):
        y = np.maximum(q[order], FLOOR)
        share = q[order].sum()
        artists.append(_line(ax, x, y, colour, linestyle="", marker="o", markersize=4))
        height = 0.85 - 0.3 * list(others).index(name)
        artists.append(_label(ax, 0.79, height, f"{name}: {share:.2f}\nof its mass is here", colour))
    return [*artists, _label(ax, 0.79, 0.2, f"exact: {exact[order].sum():.2f}", GREY)]


@checked
def all_open_curve(
    gains: np.ndarray,
    exact: np.ndarray,
    trails: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ax: Axes | None = None,
) -> list[Artist]:
    """P(all gates open) over the gain: the exact curve (black), and where others were found.

    Args:
        gains, exact: the curve, of the same length; the first and last gain are the ends of the axis.
        trails: name -> gains and P(all open), in the order in which they were visited. A point is put at
            the last, and lines join them, except for "chain", which does not depend on its way.
    """
    checks.shape("gains", gains, len(exact))
    checks.filled("gains", gains)
    ends = tuple(checks.number("the ends of gains", end) for end in (gains[0], gains[-1]))
    ax = prepare(ax, "P(all gates open), black: exact", "gain g", "probability", ends, (-0.04, 1.04))
    artists = [_line(ax, gains, exact, BLACK)]
    for (name, (x, y)), colour in zip(trails.items(), _colours(trails), strict=True):
        width = 0.0 if name == "chain" else 1.2
        artists.append(_line(ax, x, y, colour, linewidth=width, marker=".", markersize=5, alpha=0.8))
        if len(x):
            artists.append(_line(ax, [x[-1]], [y[-1]], colour, marker="o", markersize=9, clip_on=False))
    return [*artists, *_names(ax, 0.6, 0.5, trails)]


@checked
def open_gates(probs: Mapping[str, np.ndarray], ax: Axes | None = None) -> list[Artist]:
    """P of 0, 1, ..., n gates open: bars side by side, a colour per posterior.

    Args:
        probs: name -> [n + 1], `ExactPosterior.open_gates`; a name of `FAMILY_COLOURS` has its colour.
    """
    checks.filled("probs", probs)
    n = len(next(iter(probs.values()))) - 1
    ax = prepare(ax, "How many gates are open", "open gates", "probability", (-0.6, n + 0.6), (0, 1.04))
    ax.set_xticks(range(n + 1))
    width = 0.8 / len(probs)
    artists = [
        bars(ax, p, colour, width, (i - (len(probs) - 1) / 2) * width)
        for i, (p, colour) in enumerate(zip(probs.values(), _colours(probs), strict=True))
    ]
    return [*artists, *_names(ax, 0.5, 0.93, probs, "center")]


@checked
def kl_curves(
    x: Sequence[float], kls: Mapping[str, Sequence[float]], xlabel: str, ax: Axes | None = None
) -> list[Artist]:
    """KL(q || p) of several families over a property of the problem, each line with its name.

    Args:
        x: the property, rising.
        kls: name -> KL at each x, in nats.
        xlabel: what the property is.
    """
    for name, values in (("x", x), ("kls", kls)):
        checks.filled(name, values)
    top = 1.1 * max(max(values) for values in kls.values())
    ax = prepare(
        ax, "KL(q ‖ exact)", xlabel, "nats", (x[0], x[0] + 1.35 * (x[-1] - x[0])), (-0.03 * top, top)
    )
    ends = top * spread([values[-1] / top for values in kls.values()], 0.07)
    ax.set_xticks([t for t in MaxNLocator(5).tick_values(x[0], x[-1]) if x[0] <= t <= x[-1]])
    ax.spines.bottom.set_bounds(x[0], x[-1])  # beyond are only the names
    # the first are wider, so that a line on top of another leaves its edges in sight
    widths = 1.5 + 2.0 * np.arange(len(kls))[::-1]
    artists: list[Artist] = []
    for (name, values), y, colour, width in zip(kls.items(), ends, _colours(kls), widths, strict=True):
        beside = {"textcoords": "offset points", "va": "center", "color": colour}
        artists.append(_line(ax, x, values, colour, linewidth=width))
        artists.append(ax.annotate(name, (x[-1], y), (6, 0), **beside))
    return artists


@checked
def group_entropy(groups: pd.DataFrame, ax: Axes | None = None) -> list[Artist]:
    """How undecided each group is: entropy in bits per gate (bars), and the share of undecided gates (lines).

    Args:
        groups: `posterior_report(net).groups`: a row per group with `group`, `entropy`, `undecided`.
    """
    require_columns(groups, "group", "entropy", "undecided", source="posterior_report")
    n = len(groups)
    ax = prepare(ax, "Entropy per gate (line: share undecided)", "", "bits", (-0.6, n - 0.4), (0, 1.04))
    ax.set_xticks(range(n), groups.group, rotation=20 if n < 6 else 90, ha="right" if n < 6 else "center")
    lines = [[(i - 0.4, y), (i + 0.4, y)] for i, y in enumerate(groups.undecided)]
    return [bars(ax, groups.entropy, BLUE), strokes(ax, lines, BLACK, 1.5)]


@checked
def coupling_spectrum(spectra: Mapping[str, np.ndarray], ax: Axes | None = None) -> list[Artist]:
    """In how many independent directions gates can move: the spectrum of each posterior, and its number.

    Args:
        spectra: name -> `posterior_report(net).spectrum`, falling.
    """
    checks.filled("spectra", spectra)
    longest = max(map(len, spectra.values()))
    top = max(float(s[0]) for s in spectra.values())
    ax = _prepare_log(
        ax, "Directions in which a step moves gates", "direction", "weight", (0, longest), (1e-3, 3 * top)
    )
    artists: list[Artist] = []
    for i, ((name, s), colour) in enumerate(zip(spectra.items(), _colours(spectra), strict=True)):
        text = f"{name}: {directions(s):.0f} of {len(s)}"
        artists.append(_line(ax, np.arange(1, len(s) + 1), np.maximum(s, 1e-9), colour))
        artists.append(_label(ax, 0.97, 0.93 - 0.09 * i, text, colour, "right"))
    return artists


@checked
def gradient_clouds(
    estimates: Mapping[str, np.ndarray], exact: float, ax: Axes | None = None
) -> list[Artist]:
    """What estimators say on one gradient: a dot per draw, their mean (diamond), the exact gradient (line).

    The axis shows 95 % of the draws of the widest cloud; draws beyond its ends are drawn there.

    Args:
        estimates: name -> [draws], such as the column of one gate of `exact.gradient_estimates`; finite.
        exact: the gradient that they estimate.
    """
    checks.filled("estimates", estimates)
    for name, x in estimates.items():
        checks.shape(f"estimates[{name!r}]", x, None)
        checks.filled(f"estimates[{name!r}]", x)
    far = max(abs(exact), *(np.quantile(np.abs(x), 0.95) for x in estimates.values()), 1e-9)
    end = float(MaxNLocator(3).tick_values(0, far)[-1])
    ax = prepare(
        ax, "Gradient estimates, mean ± sd (line: exact)", "gradient in the logit of P(open)", "",
        (-end, end), (len(estimates) - 0.65, -0.7),
    )  # fmt: skip
    ax.set_yticks([])
    ax.spines.left.set_visible(False)
    artists: list[Artist] = []
    for row, ((name, x), colour) in enumerate(zip(estimates.items(), _colours(estimates), strict=True)):
        y = row + 0.5 * (np.arange(len(x)) * 0.6180339887 % 1 - 0.5)  # golden ratio: evenly spread
        dots = {"linestyle": "", "marker": ".", "alpha": 0.3, "markeredgewidth": 0}
        artists.append(_line(ax, np.clip(x, -end, end), y, colour, clip_on=False, **dots))
        mean = {"marker": "D", "markeredgecolor": BLACK, "clip_on": False}
        artists.append(_line(ax, [np.clip(x.mean(), -end, end)], [row], colour, **mean))
        text = f"{name}: {x.mean():.2f} ± {x.std():.2f}".replace(": -", ": −")
        artists.append(ax.text(-end, row - 0.43, text, color=colour, va="center", fontsize="small"))
    lines = [[(exact, row - 0.3), (exact, row + 0.3)] for row in range(len(estimates))]
    return [*artists, strokes(ax, lines, BLACK, sized(1.2))]


def _prepare_log(ax: Axes | None, *background: Any) -> Axes:
    """`prepare` for axes with a logarithmic height."""
    if ax is None or ax.get_yscale() != "log":  # setting it again would be a new background
        ax = prepare(ax, *background)
        ax.set_yscale("log")
    return prepare(ax, *background)


def _line(ax: Axes, x: Sequence[float], y: Sequence[float], colour: str, **style: Any) -> Artist:
    return ax.add_artist(Line2D(x, y, color=colour, **style))


def _colours(names: Iterable[str]) -> list[str]:
    """A colour per name: the family's own, or the next of the series that no family has."""
    others = iter([c for c in SERIES if c not in FAMILY_COLOURS.values()] * 9)
    return [FAMILY_COLOURS.get(name) or next(others) for name in names]


def _label(ax: Axes, x: float, y: float, text: str, colour: str, side: str = "left") -> Artist:
    """Text at a share of the axes' width and height."""
    return ax.text(x, y, text, color=colour, transform=ax.transAxes, ha=side, va="center", fontsize="small")


def _names(ax: Axes, x: float, y: float, names: Iterable[str], side: str = "left") -> list[Artist]:
    """Names under each other in their colours, from a share of the axes' width and height downwards."""
    coloured = zip(names, _colours(names), strict=True)
    return [_label(ax, x, y - 0.09 * i, name, colour, side) for i, (name, colour) in enumerate(coloured)]
