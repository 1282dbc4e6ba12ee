"""Round limits and ticks of axes, and how numbers are written beside them."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from ..support import checked

ROOM = 0.12  # share of the axes' width to the left of the cheapest run: space for names


def round_costs(low: float, high: float) -> tuple[float, float, list[float]]:
    """Limits and ticks of a logarithmic axis around the data: limits are round, or a little beyond that."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)) - 2, np.ceil(np.log10(high)) + 1)
    edges = np.outer(decades, (1, 1.5, 2, 3, 5, 7)).ravel()
    end = edges[edges >= max(high, low * 1.3) * 0.9999].min()
    start = edges[edges <= low * (low / end) ** (ROOM / (1 - ROOM))].max()
    # labels in the narrowest picture have room for two to three in a decade, of two decades
    steps = (1, 2, 5) if end <= 100 * start else (1, 3) if end <= 1000 * start else (1,)
    at = np.outer(decades, steps).ravel()
    return start, end * (end / start) ** 0.03, [t for t in at if start * 0.999 <= t <= end * 1.001]


def round_errors(
    low: float, high: float, limits: tuple[float, float] | None
) -> tuple[float, float, Sequence[float]]:
    """Limits and ticks of a logarithmic axis from errors: limits are round and a little beyond the data."""
    if limits is not None:
        low, high = limits
        if not 0 < low < high:
            raise ValueError(f"ylim must be two errors, 0 < low < high, got ({low:g}, {high:g}).")
    if high < 1.1 * low:  # hardly any spread: the axis must not magnify it
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
        if number >= 0.9995 * size:  # what would be rounded to 1000 of the smaller unit
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
