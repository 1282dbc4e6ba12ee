"""Which gate lr suits a posterior: chosen on validation data, by runs that are not reported."""

import pandas as pd

NEAR = 1.1  # a run that keeps at most this many times its budget has reached it


def chosen_gate_lrs(table: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """The best gate lr by (data, model, method), of the "tune" rows of a sweep's table.

    Of the rates with which gates reach the budget in every trial, the one with the best mean validation
    accuracy; if none does, the one that comes nearest: an accuracy means little where nothing was removed.
    """
    trials = table[table.stage == "tune"]
    chosen = {}
    for key, mine in trials.groupby(["data", "model", "method"]):
        good = mine[mine.error == ""]
        if good.empty:
            raise ValueError(f"no gate lr of {key[2]} on {key[0]} could be tried: {mine.error.iloc[0]}")
        by_lr = good.assign(excess=good.kept_macs / good.budget).groupby("gate_lr")
        scores = by_lr.agg(excess=("excess", "max"), accuracy=("val_accuracy", "mean"), runs=("run", "size"))
        scores = scores[scores.runs == scores.runs.max()]  # a rate that failed somewhere is no choice
        reached = scores[scores.excess <= NEAR]
        chosen[key] = float(scores.excess.idxmin() if reached.empty else reached.accuracy.idxmax())
    return chosen
