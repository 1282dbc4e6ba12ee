"""What accuracy a method leaves at what cost: fronts, comparison at matched cost, and their uncertainty.

Everything here reads the results table of a sweep: a row per run. Two rules hold throughout. Runs are
*chosen* on validation accuracy and *reported* on test accuracy. Methods are compared at the same cost and
on the same seed (which fixes data order and initial weights), so that what a seed does to all methods
cancels; curves are interpolated between runs, never continued beyond them.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from ..support import checks
from ..support.arguments import checked

DENSE = "dense"  # the method of the unpruned network
NETWORK = ["data", "model"]  # results of different networks are never mixed
CURVE = [*NETWORK, "method", "seed"]  # the runs that one curve goes through
MOST_DRAWS = 1_000_000  # bootstrap samples; a hundred times the usual number
AT = (0.5, 0.3, 0.15)  # shares of the dense MACs at which methods are compared, if nothing else is said


@checked
def pareto_front(
    results: pd.DataFrame,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
    choose: str = "val_accuracy",
) -> pd.DataFrame:
    """The runs of each (data, model, method) that no other run of that method beats.

    A run is beaten by one that costs no more and has no lower `choose`, and is better in one of the two.
    The front is chosen on validation data: on `accuracy`, which is only reported, it may go up and down.

    Args:
        results: table of `dk.sweep`; runs that failed are left out, runs of all stages and seeds take part.
        cost, accuracy, choose: names of columns.

    Returns:
        Those rows, sorted by data, model, method and cost.

    Raises:
        ValueError: `results` lack a column or finished runs, or have no column of that name.
    """
    runs = finished(results, cost, accuracy, choose)
    fronts = [own[_unbeaten(own[cost], own[choose])] for _, own in runs.groupby([*NETWORK, "method"])]
    return pd.concat(fronts).sort_values([*NETWORK, "method", cost, "run"], ignore_index=True)


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
        data, model, method (without "dense"), seed, at, accuracy. It is NaN where a curve does not reach:
        nothing is extrapolated.

    Raises:
        ValueError: `results` lack a column or finished runs, or a cost is not a number > 0.
    """
    at = _costs(at)
    rows = [
        (*key, *point)
        for key, costs, values in _curves(results, cost, accuracy)
        for point in zip(at, _interpolate(at, costs, values), strict=True)
    ]
    return pd.DataFrame(rows, columns=[*CURVE, "at", "accuracy"])


@checked
def paired_differences(
    results: pd.DataFrame,
    reference: str = "mean_field",
    at: Iterable[float] = AT,
    draws: int = 10000,
    seed: int = 0,
    confidence: float = 0.95,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
) -> pd.DataFrame:
    """How much more accurate each method is than `reference`, at the same cost and on the same seed.

    **What an interval from 5 seeds is worth.** It is a percentile bootstrap of the mean over seeds. For
    normally distributed differences, one that says 95 % covers the true mean in about 84 % of cases with 5
    seeds, 74 % with 3 and 90 % with 10 (by simulation). So treat an interval that only just excludes zero as
    "perhaps", and note that among 20 of them three would exclude zero if all methods were alike. It speaks of
    other seeds only: not of other data, networks or settings, nor of the noise of one finite test set, which
    all seeds share. From one seed there is no interval: its ends are NaN.

    Args:
        results: table of `dk.sweep`.
        reference: the method that all others are compared with.
        at: costs (> 0) in units of the column `cost`.
        draws: bootstrap samples (at least 1); `seed` fixes them.
        confidence: of the intervals, in (0, 1).
        cost, accuracy: names of columns.

    Returns:
        A row per (data, model, method, at), the reference left out: `difference` (mean over pairs, method
        minus reference, in units of accuracy), `low` and `high`, `pairs` (seeds on which both reach this
        cost), `accuracy` and `reference_accuracy` (means over these seeds), `spread` and `reference_spread`
        (their standard deviations), and what was asked for: `reference`, `cost`, `confidence`.

    Raises:
        ValueError: as `at_matched_cost`, or no run of `reference`, or a number outside its range.
    """
    table = at_matched_cost(results, at, cost, accuracy)
    checks.one_of("reference", reference, table.method.unique())
    keys = [*NETWORK, "at", "seed"]
    theirs = table[table.method == reference].set_index(keys).accuracy.rename("reference_accuracy")
    others = table[table.method != reference].join(theirs, on=keys)
    rows = []
    for key, pairs in others.groupby([*NETWORK, "method", "at"], sort=False):
        pairs = pairs.dropna()
        ours, theirs = pairs.accuracy, pairs.reference_accuracy
        interval = mean_interval(ours - theirs, draws, seed, confidence)
        spreads = ours.std(), theirs.std()
        means = ours.mean(), theirs.mean()
        rows.append((*key, (ours - theirs).mean(), *interval, len(pairs), *means, *spreads))
    numbers = ["difference", "low", "high", "pairs"]
    both = ["accuracy", "reference_accuracy", "spread", "reference_spread"]
    found = pd.DataFrame(rows, columns=[*NETWORK, "method", "at", *numbers, *both])
    return found.assign(reference=reference, cost=cost, confidence=float(confidence))


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
            each (data, model) its own: adding a method to the table may then change all numbers.
        cost, accuracy: names of columns.

    Returns:
        data, model, method (without "dense"), seed, low_cost, high_cost, area (in units of accuracy; NaN
        where a curve does not reach from limit to limit). `area_intervals` sums it up over seeds.

    Raises:
        ValueError: as `at_matched_cost`, or the limits are no range, or the curves share none.
    """
    curves = pd.DataFrame(_curves(results, cost, accuracy), columns=["key", "costs", "values"])
    keys = pd.DataFrame(curves.key.tolist(), columns=CURVE)
    rows = []
    for _, own in curves.groupby([keys.data, keys.model]):
        low, high = _limits(limits) if limits is not None else _common_range(own, cost)
        for key, costs, values in own.itertuples(index=False):
            inside = costs[(costs > low) & (costs < high)]
            x = np.array([low, *inside, high])
            area = np.trapezoid(_interpolate(x, costs, values), np.log(x)) / np.log(high / low)
            rows.append((*key, low, high, area))
    return pd.DataFrame(rows, columns=[*CURVE, "low_cost", "high_cost", "area"])


@checked
def area_intervals(
    areas: pd.DataFrame, draws: int = 10000, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """The table of `area_under_front` over seeds: a row per (data, model, method).

    Returns:
        data, model, method, area (mean over seeds), low, high (bootstrap percentile interval; see
        `paired_differences` for what it is worth; NaN from one seed), seeds (those with an area).

    Raises:
        ValueError: `areas` lack a column, or a number lies outside its range.
    """
    require_columns(areas, *CURVE, "area", source="dk.comparison.area_under_front")
    rows = []
    for key, own in areas.groupby([*NETWORK, "method"]):
        found = own.area.dropna()
        rows.append((*key, found.mean(), *mean_interval(found, draws, seed, confidence), len(found)))
    return pd.DataFrame(rows, columns=[*NETWORK, "method", "area", "low", "high", "seeds"])


def mean_interval(
    values: Sequence[float], draws: int = 10000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean of `values`; (NaN, NaN) from fewer than two.

    Raises:
        ValueError: `draws` < 1, or `confidence` outside (0, 1).
    """
    checks.whole("seed", seed, 0)
    if checks.whole("draws", draws, 1) > MOST_DRAWS:
        raise ValueError(f"draws must be at most {MOST_DRAWS:,}: more change no digit that counts.")
    checks.number("confidence", confidence, 0, np.nextafter(1, 0), open_low=True)
    values = np.asarray(values, float)
    if len(values) < 2:
        return np.nan, np.nan
    # anew for every set of values: an interval does not depend on what else is in the table
    chosen = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[chosen].mean(1), [tail, 1 - tail])
    return float(low), float(high)


def finished(results: pd.DataFrame, cost: str, *others: str, stage: str | None = None) -> pd.DataFrame:
    """The rows of runs that did not fail and have all these numbers; `stage`: only of this one.

    Raises:
        ValueError: columns are missing, there is no numeric column of such a name, a cost is not > 0, or
            no row is left.
    """
    runs = _without_failed(results, cost, *others)
    if stage is not None:
        runs = runs[runs.stage == stage]
    if runs.empty:
        of_stage = f" of stage {stage!r}" if stage else ""
        raise ValueError(
            f"no run to compare: of {len(results)} rows none has finished{of_stage} with {cost} and "
            f"{', '.join(others)}. The column `error` says why runs failed."
        )
    if not (runs[cost] > 0).all():
        worst = runs.loc[runs[cost].idxmin()]
        raise ValueError(f"column {cost!r} must be > 0; run {worst.run!r} has {worst[cost]:g}.")
    return runs


def require_columns(table: pd.DataFrame, *names: str, source: str = "dk.sweep") -> None:
    """Raise a ValueError that names the columns that `table` lacks, and where such tables come from."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"expected the table of {source}, got {type(table).__name__}.")
    missing = [name for name in names if name not in table]
    if missing:
        more = f" and {len(missing) - 9} more" if len(missing) > 9 else ""
        raise ValueError(f"the table lacks the columns {', '.join(missing[:9])}{more}: is it from {source}?")


def _without_failed(results: pd.DataFrame, *numbers: str) -> pd.DataFrame:
    require_columns(results, "run", "stage", *CURVE, "error")
    numeric = results.select_dtypes("number").columns
    for name in numbers:
        checks.one_of("column", name, numeric)
    fine = results.error.isna() | results.error.eq("")  # from CSV an empty error comes back as NaN
    return results[fine & results[list(numbers)].notna().all(axis=1)]


def _unbeaten(cost: pd.Series, quality: pd.Series) -> np.ndarray:
    best = quality.groupby(cost).max()  # at each cost, rising
    best_below = best.cummax().shift(fill_value=-np.inf)
    return (quality.eq(cost.map(best)) & quality.gt(cost.map(best_below))).to_numpy()


def _curves(
    results: pd.DataFrame, cost: str, accuracy: str
) -> Iterator[tuple[tuple[object, ...], np.ndarray, np.ndarray]]:
    """For each (data, model, method, seed): its costs, rising, and the accuracy at each."""
    runs = finished(results, cost, accuracy, stage="report")
    runs = runs.sort_values([*CURVE, cost, "run"])  # sums then do not depend on the order of rows
    is_dense = runs.method == DENSE
    if is_dense.all():
        raise ValueError("no run to compare: all finished runs of stage 'report' are of the dense network.")
    ends = dict(list(runs[is_dense].groupby([*NETWORK, "seed"])))
    for key, own in runs[~is_dense].groupby(CURVE):
        data, model, _, seed = key
        end = ends.get((data, model, seed))
        means = (own if end is None else pd.concat([own, end])).groupby(cost)[accuracy].mean()
        yield key, means.index.to_numpy(float), means.to_numpy()


def _interpolate(at: Sequence[float], costs: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.interp(np.log(at), np.log(costs), values, left=np.nan, right=np.nan)


def _costs(at: Iterable[float] | float) -> list[float]:
    at = checks.plain(at)
    at = at if isinstance(at, Iterable) and not isinstance(at, str) else [at]
    return list(dict.fromkeys(checks.number("at", cost, 0, open_low=True) for cost in at))


def _limits(limits: tuple[float, float]) -> tuple[float, float]:
    limits = checks.plain(limits)
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise ValueError(f"limits must be the lowest and the highest cost, got {limits!r}.")
    low, high = (checks.number("limits", limit, 0, open_low=True) for limit in limits)
    if low >= high:
        raise ValueError(f"limits must rise, got ({low:g}, {high:g}).")
    return low, high


def _common_range(curves: pd.DataFrame, cost: str) -> tuple[float, float]:
    starts, ends = (curves.costs.map(lambda costs, i=i: costs[i]) for i in (0, -1))
    low, high = starts.max(), ends.min()
    if low >= high:
        (data, _, late, _), early = curves.key[starts.idxmax()], curves.key[ends.idxmin()][2]
        raise ValueError(
            f"on {data} the methods share no range of {cost}: {late!r} starts at {low:g} and {early!r} ends "
            f"at {high:g}. Pass limits=(low, high), or leave out a method."
        )
    return low, high
