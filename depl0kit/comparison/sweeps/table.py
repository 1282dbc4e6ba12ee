"""The rows of a sweep, one a run: as a table, and in the result.json of each run."""

import json
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ...support.files import CHECKSUM, DamagedFileError, read_json, write_json

RESULT = "result.json"
COLUMNS = {  # of the table of a sweep: type as pandas has it
    "run": "str", "stage": "str", "data": "str", "model": "str", "method": "str",
    "lam": "float64", "budget": "float64", "seed": "int64", "gate_lr": "float64",
    "epochs": "int64", "fine_tune_epochs": "int64",
    "raw_val_accuracy": "float64", "val_accuracy": "float64", "test_accuracy": "float64",
    "macs": "Int64", "params": "Int64", "kept_macs": "float64", "kept_params": "float64",
    "undecided": "float64", "latency_ms": "float64", "seconds": "float64", "device": "str", "error": "str",
    "groups": "object", "channels": "object", "open": "object", "confusion": "object",
    "times": "object", "prob_open": "object",
}  # fmt: skip
LISTS = {  # what the columns of lists hold
    "groups": str, "channels": int, "open": int, "confusion": int, "times": int | float, "prob_open": int,
}  # fmt: skip


def to_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table with the columns and types of a sweep."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    as_bytes = [None if v is None else bytes(v) for v in table.prob_open]  # a list in JSON, bytes in Parquet
    return table.assign(prob_open=pd.Series(as_bytes, index=table.index, dtype="object"))


def write_row(folder: Path, row: dict[str, Any]) -> None:
    """Keep the row of a run in its folder, with a checksum."""
    write_json(folder / RESULT, row | {CHECKSUM: _crc32(row)})


def read_row(folder: Path) -> dict[str, Any] | None:
    """The row in the folder of a run; None if there is none, or it is damaged, which a warning says."""
    path = folder / RESULT
    if not path.is_file():  # also what would block whoever reads it, such as a FIFO
        return None
    try:
        return _checked(read_json(path), path)
    except DamagedFileError as error:
        warnings.warn(f"{error}. This run is done again.", stacklevel=2)
        return None


def _checked(row: dict[str, Any], path: Path) -> dict[str, Any]:
    expected = row.pop(CHECKSUM, None)
    if expected is None:  # of a version that wrote none
        _refuse_no_row(row, path)
    elif (found := _crc32(row)) != expected:
        raise DamagedFileError(f"{path} is damaged: expected the checksum {expected}, found {found}")
    return row


def _refuse_no_row(row: dict[str, Any], path: Path) -> None:
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise DamagedFileError(f"{path} is damaged: it has no {missing[0]}")
    for name, kind in LISTS.items():
        values = [] if row[name] is None else row[name]
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise DamagedFileError(f"{path} is damaged: {name} is no list of what it should hold")
    try:
        pa.Table.from_pandas(to_table([row]))
    except Exception as error:  # pandas and Arrow have many for values of a wrong type
        raise DamagedFileError(f"{path} is damaged: it makes no row of a table ({error!r})") from error


def _crc32(row: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(row, sort_keys=True).encode()):08x}"
