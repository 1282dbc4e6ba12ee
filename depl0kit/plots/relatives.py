"""What relatives of L0 pruning do in training: a learnt penalty, and channels that come back."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from ..support import checked, checks
from .base import (
    BLACK,
    BLUE,
    GREEN,
    SKY,
    VERMILLION,
    cells,
    marks,
    points_of,
    prepare,
    row_height,
    sized,
    spread,
    strokes,
    ticks,
)
from .network import LIGHT, label_groups

END, TOP = 1.5, 1.6  # of the norms that penalties are drawn for, and of the penalties
LIVES = ListedColormap([LIGHT, BLUE, VERMILLION])  # closed, open, came back


@checked
def penalties(touching: Sequence[float] = (0.05, 0.3, 1.0), ax: Axes | None = None) -> list[Artist]:
    """What HALO charges for the norm n of a channel, beside L1 and L0; each is 1 at n = 1.

    With lambda fixed, xi n / lambda^2 + psi lambda is a straight line in n (thin). Training takes the lambda
    at which it is least, so that what is left lies below all these lines: n^(1/3), whatever xi and psi.

    Args:
        touching: norms, from 0 (excluded) to 1.5, at which the lines of some lambdas touch it.
    """
    checks.filled("touching", touching)
    at = np.array([checks.number("a norm of touching", n, 0, END, open_low=True) for n in touching])
    label = "norm n of a channel (thin: HALO with λ fixed)"
    ax = prepare(ax, "Penalties (each 1 at n = 1)", label, "penalty", (0, 1.3 * END), (0, TOP))
    ax.spines.bottom.set_bounds(0, END)  # beyond are only names
    ticks(ax.xaxis, (0.5, 1, 1.5))
    ticks(ax.yaxis, (0, 0.5, 1, 1.5))
    n = END * np.linspace(0, 1, 301) ** 3  # dense where the root is steep
    ends = np.stack([2 / 3 * np.cbrt(at), END / (3 * np.cbrt(at) ** 2) + 2 / 3 * np.cbrt(at)], 1)
    curves = {"L1": (n, n, GREEN), "HALO": (n, np.cbrt(n), BLUE), "L0": (n[1:], 0 * n[1:] + 1, BLACK)}
    lines = [np.column_stack([x, y]) for x, y, _ in curves.values()]
    colours = [colour for *_, colour in curves.values()]
    gap = 1.2 * points_of("medium") / row_height(ax) / TOP
    places = TOP * spread([line[-1, 1] / TOP for line in lines], gap)
    names = zip(curves, places, colours, strict=True)
    return [
        strokes(ax, [[(0, low), (END, high)] for low, high in ends], SKY, sized(0.9)),
        strokes(ax, lines, colours, sized(2)),
        marks(ax, at, np.cbrt(at), ["o"], sized(5) ** 2, [SKY], BLUE),
        marks(ax, [0], [0], ["o"], sized(5) ** 2, [BLACK], "none", clip_on=False),
        *[ax.text(1.03 * END, y, name, color=colour, va="center") for name, y, colour in names],
    ]


@checked
def channel_lives(
    masks: Sequence[Sequence[Sequence[float]]], sizes: Mapping[str, int], ax: Axes | None = None
) -> list[Artist]:
    """Which channels are open in which phase of a training: a row for each channel, group under group.

    Blue channels are open and were so in the phase before, orange ones have come back, grey ones are closed.

    Args:
        masks: for each phase, per group, 0 or 1 for each channel: what `grow_prune(on_phase=...)` hands out.
        sizes: channels per group, by name.

    Raises:
        ValueError: there are no phases, or a phase does not have a number for each channel.
    """
    checks.filled("masks", masks)
    n = sum(sizes.values())
    for phase, mask in enumerate(masks):
        checks.shape(f"the channels of masks[{phase}]", np.concatenate(mask), n)
    is_open = np.array([np.concatenate(mask) for mask in masks]) > 0
    label = "phase (blue: open, orange: came back)"
    ax = prepare(ax, f"The lives of {n} channels", label, "", (0.5, len(masks) + 0.5), (n, 0))
    ticks(ax.xaxis, range(1, len(masks) + 1, -(-len(masks) // 10)))
    label_groups(ax, sizes)
    before = np.vstack([is_open[:1], is_open[:-1]])
    states = is_open.astype(int) + (is_open & ~before)
    edges = np.arange(len(masks) + 1) + 0.5
    borders = [[(edges[0], y), (edges[-1], y)] for y in np.cumsum([*sizes.values()])[:-1]]
    image = cells(ax, edges, np.arange(n + 1), states.T, top=2)
    image.set_cmap(LIVES)
    return [image, strokes(ax, borders, "white", 2)]
