"""How accurate a method is at what cost: its front, and the curve through the runs of each seed.

Everything here reads the results table of a sweep: a row per run. Two rules hold throughout. Runs are
*chosen* on validation accuracy and *reported* on test accuracy. Curves are interpolated between runs, never
continued beyond them.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from ..support import checked, checks
from .table import CURVE, DENSE, METHOD, NETWORK, finished

AT = (0.5, 0.3, 0.15)  # shares of the dense MACs at which methods are compared, if nothing else is said


@checked
def pareto_front(
    results: pd.DataFrame,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
    choose: str = "val_accuracy",
) -> pd.DataFrame:
    """The runs of each (data, model, kind, method) that no other run of that method beats.

    A run is beaten by one that costs no more and has no lower `choose`, and is better in one of the two.
    The front is chosen on validation data: on `accuracy`, which is only reported, it may go up and down.

    Args:
        results: table of `dk.sweep`; runs that failed are left out, runs of all stages and seeds take part.
        cost, accuracy, choose: names of columns.

    Returns:
        Those rows, sorted by data, model, kind, method and cost: the costs of static, dynamic and factorised
        networks mean different things.

    Raises:
        ValueError: `results` lack a column or finished runs, or have no column of that name.
    """
    runs = finished(results, cost, accuracy, choose)
    fronts = [_unbeaten(own, cost, choose) for _, own in runs.groupby([*NETWORK, *METHOD])]
    return pd.concat(fronts).sort_values([*NETWORK, *METHOD, cost, "run"], ignore_index=True)


@checked
def at_matched_cost(
    results: pd.DataFrame,
    at: Iterable[float] = AT,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
) -> pd.DataFrame:
    """The accuracy of each method and seed at exactly these costs.

    Linear interpolation in log cost between the runs of one seed (of stage "report"); runs at one cost count
    as their mean. The dense run of that seed belongs to every method's curve: its right end.

    Args:
        results: table of `dk.sweep`.
        at: costs (> 0), or one, in units of the column `cost`: shares of the dense network for "kept_macs".
        cost, accuracy: names of columns.

    Returns:
        data, model, kind, method (without "dense"), seed, at, accuracy. It is NaN where a curve does not
        reach: nothing is extrapolated.

    Raises:
        ValueError: `results` lack a column or finished runs, or a cost is not a number > 0.
    """
    at = list(dict.fromkeys(checks.number("at", one, 0, open_low=True) for one in at))
    rows = [
        (*key, *point)
        for key, costs, values in _curves(results, cost, accuracy)
        for point in zip(at, _interpolate(at, costs, values), strict=True)
    ]
    return pd.DataFrame(rows, columns=[*CURVE, "at", "accuracy"])


@checked
def area_under_front(
    results: pd.DataFrame,
    limits: tuple[float, float] | None = None,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
) -> pd.DataFrame:
    """Mean accuracy over log cost between two limits: one number for the whole curve of a method and seed.

    The curves are those of `at_matched_cost`, integrated exactly.

    Args:
        results: table of `dk.sweep`.
        limits: lowest and highest cost. If None, the range that every seed of every method covers, for
            each (data, model, kind) its own: adding a method to the table may then change all numbers.
        cost, accuracy: names of columns.

    Returns:
        data, model, kind, method (without "dense"), seed, low_cost, high_cost, area (in units of accuracy;
        NaN where a curve does not reach from limit to limit). `area_intervals` sums it up over seeds.

    Raises:
        ValueError: as `at_matched_cost`, or the limits are no range, or the curves share none.
    """
    if limits is not None and not 0 < limits[0] < limits[1]:
        raise ValueError(f"limits must rise from above 0, got ({limits[0]:g}, {limits[1]:g}).")
    curves = pd.DataFrame(_curves(results, cost, accuracy), columns=["key", "costs", "values"])
    keys = pd.DataFrame(curves.key.tolist(), columns=CURVE)
    rows = []
    for _, own in curves.groupby([keys.data, keys.model, keys.kind]):
        low, high = map(float, limits) if limits is not None else _common_range(own, cost)
        for key, costs, values in own.itertuples(index=False):
            inside = costs[(costs > low) & (costs < high)]
            x = np.array([low, *inside, high])
            area = np.trapezoid(_interpolate(x, costs, values), np.log(x)) / np.log(high / low)
            rows.append((*key, low, high, area))
    return pd.DataFrame(rows, columns=[*CURVE, "low_cost", "high_cost", "area"])


def _unbeaten(runs: pd.DataFrame, cost: str, choose: str) -> pd.DataFrame:
    best = runs.groupby(cost)[choose].max()  # at each cost, rising
    best_below = best.cummax().shift(fill_value=-np.inf)
    return runs[runs[choose].eq(runs[cost].map(best)) & runs[choose].gt(runs[cost].map(best_below))]


def _curves(
    results: pd.DataFrame, cost: str, accuracy: str
) -> Iterator[tuple[tuple[object, ...], np.ndarray, np.ndarray]]:
    """For each (data, model, kind, method, seed): its costs, rising, and the accuracy at each."""
    runs = finished(results, cost, accuracy, stage="report")
    runs = runs.sort_values([*CURVE, cost, "run"])  # sums then do not depend on the order of rows
    is_dense = runs.method == DENSE
    if is_dense.all():
        raise ValueError("no run to compare: all finished runs of stage 'report' are of the dense network.")
    ends = dict(list(runs[is_dense].groupby([*NETWORK, "seed"])))
    for key, own in runs[~is_dense].groupby(CURVE):
        data, model, *_, seed = key
        end = ends.get((data, model, seed))
        means = (own if end is None else pd.concat([own, end])).groupby(cost)[accuracy].mean()
        yield key, means.index.to_numpy(float), means.to_numpy()


def _interpolate(at: Sequence[float], costs: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.interp(np.log(at), np.log(costs), values, left=np.nan, right=np.nan)


def _common_range(curves: pd.DataFrame, cost: str) -> tuple[float, float]:
    starts, ends = (curves.costs.map(lambda costs, i=i: costs[i]) for i in (0, -1))
    low, high = starts.max(), ends.min()
    if low >= high:
        (data, _, _, late, _), early = curves.key[starts.idxmax()], curves.key[ends.idxmin()][3]
        raise ValueError(
            f"on {data} the methods share no range of {cost}: {late!r} starts at {low:g} and {early!r} ends "
            f"at {high:g}. Pass limits=(low, high), or leave out a method."
        )
    return low, high
