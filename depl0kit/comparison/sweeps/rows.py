"""The row of a run in the result.json of its folder, with a checksum."""

import json
import warnings
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...support.files import CHECKSUM, DamagedFileError, read_json, write_json
from ..table import COLUMNS, LISTS, NEWER, to_table

RESULT = "result.json"


def write_row(folder: Path, row: dict[str, Any]) -> None:
    """Keep the row of a run in its folder."""
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
    missing = [name for name in COLUMNS if name not in row and name not in NEWER]
    if missing:
        raise DamagedFileError(f"{path} is damaged: it has no {missing[0]}")
    for name, kind in LISTS.items():
        values = [] if row.get(name) is None else row[name]
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise DamagedFileError(f"{path} is damaged: {name} is no list of what it should hold")
    try:
        pa.Table.from_pandas(to_table([row]))
    except Exception as error:  # pandas and Arrow have many for values of a wrong type
        raise DamagedFileError(f"{path} is damaged: it makes no row of a table ({error!r})") from error


def _crc32(row: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(row, sort_keys=True).encode()):08x}"
