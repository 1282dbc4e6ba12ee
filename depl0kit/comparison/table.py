"""The results table of a sweep, a row per run: its columns, and which of its rows count."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..support import checked, checks

COLUMNS = {  # types as pandas has them; what they mean: see `load_results`
    "run": "str", "stage": "str", "data": "str", "model": "str", "method": "str", "kind": "str",
    "lam": "float64", "budget": "float64", "seed": "int64", "gate_lr": "float64",
    "epochs": "int64", "fine_tune_epochs": "int64",
    "raw_val_accuracy": "float64", "val_accuracy": "float64", "test_accuracy": "float64",
    "macs": "Int64", "params": "Int64", "kept_macs": "float64", "kept_params": "float64",
    "undecided": "float64", "latency_ms": "float64", "latency_1_ms": "float64", "seconds": "float64",
    "device": "str", "error": "str",
    "groups": "object", "channels": "object", "open": "object", "confusion": "object",
    "times": "object", "prob_open": "object", "correct": "object", "settings": "str",
}  # fmt: skip
NEWER = {
    "kind": "static",
    "latency_1_ms": np.nan,
    "correct": None,
    "settings": "",
}  # columns that older tables lack, and what stands there then
LISTS = {  # what the columns of lists hold
    "groups": str, "channels": int, "open": int, "confusion": int, "times": int | float, "prob_open": int,
    "correct": int,
}  # fmt: skip
BYTES = ("prob_open", "correct")  # numbers in 0..255: a list in JSON, bytes in Parquet
DENSE = "dense"  # the method of the unpruned network
NETWORK = ["data", "model"]  # results of different networks are never mixed
METHOD = ["kind", "method"]  # nor are costs of different kinds, without a mark
CURVE = [*NETWORK, *METHOD, "seed"]  # the runs that one curve goes through


def with_newer(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns that older versions did not have."""
    return table.assign(**{name: value for name, value in NEWER.items() if name not in table})


def to_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table with the columns and types of a sweep."""
    table = pd.DataFrame([_flat(row) for row in rows], columns=list(COLUMNS)).astype(COLUMNS)
    for name in BYTES:
        as_bytes = [None if v is None else bytes(v) for v in table[name]]
        table[name] = pd.Series(as_bytes, index=table.index, dtype="object")
    return table


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    settings = row.get("settings")
    as_text = json.dumps(settings, sort_keys=True) if settings else ""
    return dict.fromkeys(COLUMNS) | NEWER | row | {"settings": as_text}


def to_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a sweep's table as JSON holds them: what `to_table` was given."""
    return [{name: _plain(name, value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(name: str, value: Any) -> Any:
    if name == "settings":
        return json.loads(value) if value else None
    if name in LISTS:
        return None if value is None else np.asarray(list(value)).tolist()  # of bytes, an array or a list
    return None if pd.isna(value) else getattr(value, "item", lambda: value)()


def require_columns(table: pd.DataFrame, *names: str, source: str = "dk.sweep") -> None:
    """Raise a ValueError that names the columns that `table` lacks, and where such tables come from."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"expected the table of {source}, got {type(table).__name__}.")
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(f"the table lacks the columns {checks.few(missing, 9)}: is it from {source}?")


def without_failed(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs without an error; from CSV an empty error comes back as NaN."""
    return results[results.error.isna() | results.error.eq("")]


def reported(results: pd.DataFrame) -> pd.DataFrame:
    """The rows that results are about: runs without an error that did not only choose a gate lr."""
    good = without_failed(results)
    return good[good.stage == "report"]


def finished(results: pd.DataFrame, cost: str, *others: str, stage: str | None = None) -> pd.DataFrame:
    """The rows of runs without an error, of this stage if one is named, that have all these numbers.

    A ValueError says that columns are missing or not numeric, a cost is not > 0, or no row is left.
    """
    if isinstance(results, pd.DataFrame):
        results = with_newer(results)
    require_columns(results, "run", "stage", *CURVE, "error")
    numeric = results.select_dtypes("number").columns
    for name in (cost, *others):
        checks.one_of("column", name, numeric)
    runs = without_failed(results).dropna(subset=[cost, *others])
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


@checked
def summary(results: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, network, method and price: mean and spread over seeds of what was reported.

    Args:
        results: of `sweep`; rows that only chose a gate lr and rows of failed runs are left out.

    Returns:
        data, model, kind, method, lam, budget, gate_lr, seeds (how many), test_accuracy and its standard
        deviation accuracy_std, kept_macs and its macs_std, undecided.
    """
    require_columns(results, *COLUMNS)
    keys = [*NETWORK, *METHOD, "lam", "budget", "gate_lr"]
    groups = reported(results).groupby(keys, sort=False, dropna=False)
    return groups.agg(
        seeds=("seed", "nunique"),
        test_accuracy=("test_accuracy", "mean"),
        accuracy_std=("test_accuracy", "std"),
        kept_macs=("kept_macs", "mean"),
        macs_std=("kept_macs", "std"),
        undecided=("undecided", "mean"),
    ).reset_index()
