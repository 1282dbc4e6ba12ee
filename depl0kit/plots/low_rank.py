"""What layers of low rank keep of their weights."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from ..support import checked, checks
from .base import BLUE, points_of, prepare, row_height, ticks, words
from .network import LIGHT
from .scales import percent

HEIGHT = 0.85  # of the largest singular value, where 1 is the distance between rows


@checked
def singular_values(
    values: Mapping[str, Sequence[float]], ranks: Mapping[str, int], ax: Axes | None = None
) -> list[Artist]:
    """The singular values of each layer, a row each, and those that are kept (blue), with the rank and the
    energy kept, the share of the squares.

    Args:
        values: by layer, falling, at least one; drawn relative to the first, from left to right.
        ranks: by layer, how many are kept; layers that are not in it stay whole.

    Raises:
        ValueError: there are no layers, or a rank is not from 1 to the number of values.
    """
    checks.filled("values", values)
    heights = {layer: np.abs(row) / (np.max(np.abs(row)) or 1.0) for layer, row in values.items()}
    kept = {
        layer: checks.whole(f"ranks[{layer!r}]", ranks.get(layer, len(row)), 1, len(row))
        for layer, row in heights.items()
    }
    n, label = len(values), "share of the full rank; right: rank, energy"
    ax = prepare(ax, "Singular values (blue: kept)", label, "", (0, 1.5), (n, 0))
    ax.spines.bottom.set_bounds(0, 1)  # beyond are only the numbers
    ticks(ax.xaxis, (0, 0.5, 1))
    shown = range(0, n, max(1, int(np.ceil(1.15 * points_of("small") / row_height(ax)))))
    names = list(values)
    ticks(ax.yaxis, [i + 0.6 for i in shown], [names[i] for i in shown], fontsize="small")
    texts = [_kept(heights[names[i]], kept[names[i]], names[i] in ranks) for i in shown]
    areas = [_area(row, 0, kept[layer], i + 1) for i, (layer, row) in enumerate(heights.items())]
    areas += [_area(row, kept[layer], len(row), i + 1) for i, (layer, row) in enumerate(heights.items())]
    drawn = PolyCollection(areas, facecolors=np.repeat([BLUE, LIGHT], n))
    return [
        ax.add_collection(drawn, autolim=False),
        words(ax, [1] * len(shown), [i + 0.6 for i in shown], texts, 0, (7, 0)),
    ]


def _area(heights: np.ndarray, begin: int, end: int, foot: float) -> np.ndarray:
    """Outline of the bars from `begin` to `end` of a row from 0 to 1, which stands on `foot`: the axis points
    down."""
    x = np.arange(begin, end + 1).repeat(2) / len(heights)
    tops = foot - HEIGHT * heights[begin:end].repeat(2)
    return np.column_stack([x, [foot, *tops, foot]])


def _kept(heights: np.ndarray, rank: int, is_cut: bool) -> str:
    squares = heights**2
    share = squares[:rank].sum() / (squares.sum() or 1.0)
    return f"{rank}: {percent(round(share, 2))}" if is_cut else "whole"
