"""A sweep's table in a few rows."""

import pandas as pd

from ...support import checked
from ..table import COLUMNS, reported, require_columns


@checked
def summary(results: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, network, method and price: mean and spread over seeds of what was reported.

    Args:
        results: of `sweep`; rows that only chose a gate lr and rows of failed runs are left out.

    Returns:
        data, model, method, lam, budget, gate_lr, seeds (how many), test_accuracy and its standard deviation
        accuracy_std, kept_macs and its macs_std, undecided.
    """
    require_columns(results, *COLUMNS)
    keys = ["data", "model", "method", "lam", "budget", "gate_lr"]
    groups = reported(results).groupby(keys, sort=False, dropna=False)
    return groups.agg(
        seeds=("seed", "nunique"),
        test_accuracy=("test_accuracy", "mean"),
        accuracy_std=("test_accuracy", "std"),
        kept_macs=("kept_macs", "mean"),
        macs_std=("kept_macs", "std"),
        undecided=("undecided", "mean"),
    ).reset_index()
