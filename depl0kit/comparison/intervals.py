"""What can be said about other seeds: means over the seeds that were run, with intervals."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import pandas as pd

from ..support import checked, checks
from .fronts import AT, at_matched_cost
from .table import CURVE, METHOD, NETWORK, require_columns

Numbers = TypeVar("Numbers", float, np.ndarray, pd.Series)


def mean_interval(
    mean: Numbers, std: Numbers, count: Numbers, confidence: float = 0.95
) -> tuple[Numbers, Numbers]:
    """Low and high end of Student's t interval of a mean over seeds; arrays give an interval for each entry.

    It covers the true mean with probability `confidence` for any number of seeds from two on, if values are
    normally distributed and each seed is drawn independently. From one seed there is no interval: both ends
    are NaN.

    Args:
        mean, std, count: of the values; the standard deviation is the one with `count` - 1.
        confidence: in (0, 1).

    Raises:
        ValueError: `confidence` is outside its range.

    Example:
        >>> low, high = mean_interval(0.9, 0.01, 5)
        >>> f"{low:.4f} to {high:.4f}"
        '0.8876 to 0.9124'
    """
    from scipy import stats  # only here: it takes half a second to import

    checks.number("confidence", confidence, 0, np.nextafter(1, 0), open_low=True)
    half = stats.t.ppf((1 + confidence) / 2, np.asarray(count) - 1) * std / np.sqrt(count)
    return mean - half, mean + half


@checked
def paired_differences(
    results: pd.DataFrame,
    reference: str = "mean_field",
    at: Iterable[float] = AT,
    confidence: float = 0.95,
    cost: str = "kept_macs",
    accuracy: str = "test_accuracy",
) -> pd.DataFrame:
    """How much more accurate each method is than `reference`, at the same cost and on the same seed.

    The intervals are those of `mean_interval`, over seeds. Each one alone covers the true mean as often as it
    says; but of 20 intervals of 95 % one is expected to exclude zero even if all methods are equal. They tell
    what to expect of other seeds, not of other data, networks or settings. All seeds share one finite test
    set, whose noise the intervals do not contain.

    Args:
        results: table of `dk.sweep`.
        reference: the method that all others are compared with.
        at: costs (> 0) in units of the column `cost`.
        confidence: of the intervals, in (0, 1).
        cost, accuracy: names of columns.

    Returns:
        A row per (data, model, kind, method, at) without the reference, which may be of another kind:
        `difference` (mean over pairs, method minus reference, in units of accuracy), `low` and `high` (NaN
        from fewer than two pairs), `pairs` (seeds on which both methods reach this cost), `accuracy` and
        `reference_accuracy` (means over these seeds), `spread` and `reference_spread` (their standard
        deviations), and the arguments `reference`, `cost` and `confidence`.

    Raises:
        ValueError: as `at_matched_cost`, or no run of `reference`, or a number outside its range.
    """
    pairs = _pairs(at_matched_cost(results, at, cost, accuracy), reference)
    found = pairs.groupby([*NETWORK, *METHOD, "at"], sort=False).agg(
        difference=("difference", "mean"),
        deviation=("difference", "std"),
        pairs=("difference", "count"),
        accuracy=("accuracy", "mean"),
        reference_accuracy=("reference_accuracy", "mean"),
        spread=("accuracy", "std"),
        reference_spread=("reference_accuracy", "std"),
    )
    low, high = mean_interval(found.difference, found.pop("deviation"), found.pairs, confidence)
    found.insert(1, "low", low)
    found.insert(2, "high", high)
    return found.reset_index().assign(reference=reference, cost=cost, confidence=float(confidence))


def _pairs(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Each method's accuracies beside those of the reference; NaN where one of the two is missing."""
    checks.one_of("reference", reference, table.method.unique())
    keys = [*NETWORK, "at", "seed"]
    theirs = table[table.method == reference].set_index(keys).accuracy.rename("reference_accuracy")
    pairs = table[table.method != reference].join(theirs, on=keys)
    both = ["accuracy", "reference_accuracy"]
    pairs[both] = pairs[both].where(pairs[both].notna().all(axis=1))
    return pairs.assign(difference=pairs.accuracy - pairs.reference_accuracy)


@checked
def area_intervals(areas: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The table of `area_under_front` over seeds: a row per (data, model, kind, method).

    Returns:
        data, model, kind, method, area (mean over seeds), low, high (see `mean_interval`; NaN from one seed),
        seeds (those with an area).

    Raises:
        ValueError: `areas` lack a column, or a number lies outside its range.
    """
    require_columns(areas, *CURVE, "area", source="dk.comparison.area_under_front")
    found = areas.groupby([*NETWORK, *METHOD]).area.agg(area="mean", std="std", seeds="count").reset_index()
    low, high = mean_interval(found.area, found["std"], found.seeds, confidence)
    return found.assign(low=low, high=high)[[*NETWORK, *METHOD, "area", "low", "high", "seeds"]]
