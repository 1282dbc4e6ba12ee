"""The table of a sweep, and its folder.

sweep.json        the grid, versions, the command that made it
results.parquet   a row per run, in the grid's order; grows as runs finish; its pages have checksums
runs/NAME/        the run itself: result.json (with a checksum, and all settings of the run),
                  compact.safetensors, for posteriors its run folder; job.lock, held by who is at work
"""

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from ...support import checked, checks
from ...support.device import best_device
from ...support.files import DamagedFileError, different_field, read_json, write_atomically, write_json
from ...support.shipped import RESULTS, shipped
from ...support.versions import versions
from ..table import COLUMNS, to_rows, to_table, with_newer
from .grid import LISTS, Grid, Job
from .job import read_result
from .rows import RESULT, read_row, write_row

FORMAT = 1
TABLE, ABOUT = "results.parquet", "sweep.json"
NOTED = {"format": int, "version": str, "grid": dict, "environment": dict, "command": str}  # in sweep.json


class SweepFolder:
    """The folder of one sweep; see the module for its files."""

    def __init__(self, path: str | Path) -> None:
        self.path = checks.folder(path)

    def begin(self, grid: Grid, version: str) -> None:
        """Note what is run here; refuse if it is not what was run here, or more of it."""
        about = {"format": FORMAT, "version": version, "grid": grid.describe()}
        noted = self.path / ABOUT
        before = self.about() if noted.is_file() else None
        if before and (difference := different_field(_grown(before, about["grid"]), about)):
            name, before, now = difference
            raise ValueError(
                f"{self.path} holds a sweep with {name} = {before!r}, not {now!r}: sweep the same grid, "
                "or one with more values in its lists, to resume it, or choose another folder."
            )
        if before is None or before["grid"] != about["grid"]:
            write_json(noted, about | {"environment": versions(best_device()), "command": _command(grid)})
        self._unpack()

    def _unpack(self) -> None:
        """Write the rows of a table that came without its runs into their folders, where `done` looks."""
        if not (self.path / TABLE).is_file():
            return
        runs = self.path / "runs"
        try:
            table = load_results(self.path)
        except ValueError as error:
            if not any(runs.glob(f"*/{RESULT}")):
                raise  # the table is all there is: writing it anew would lose it
            warnings.warn(f"{error} It is written anew from {runs}.", stacklevel=4)
            return
        table = table[table.settings != ""]  # rows of earlier versions do not say what they belong to
        missing = [(runs / n).parent == runs and not (runs / n / RESULT).exists() for n in table.run]
        for row in to_rows(table[missing]):
            (runs / row["run"]).mkdir(parents=True, exist_ok=True)
            write_row(runs / row["run"], row)

    def about(self) -> dict[str, Any]:
        """What was noted by `begin`."""
        path = self.path / ABOUT
        if not path.is_file():  # also what would block whoever reads it, such as a FIFO
            raise FileNotFoundError(f"there is no sweep in {self.path}: it has no {ABOUT}.")
        try:
            about = read_json(path)
        except DamagedFileError as error:
            raise ValueError(f"{error}.") from error
        for name, kind in NOTED.items():
            if not isinstance(about.get(name), kind):
                found = f"found {about[name]!r}" if name in about else "found none"
                raise ValueError(f"{path} is damaged: expected {name} as {kind.__name__}, {found}.")
        return about

    def run_folder(self, job: Job) -> Path:
        return self.path / "runs" / job.name

    def done(self, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
        """Rows of those jobs that are finished, by name."""
        rows = {job.name: read_result(self.run_folder(job), job) for job in jobs}
        return {name: row for name, row in rows.items() if row is not None}

    def keep(self, job: Job, row: dict[str, Any]) -> None:
        """Keep the row of a job that ran where this disk is not seen, or that failed before it began."""
        stored = read_row(self.run_folder(job))
        if stored is None or (stored != row and not row["error"]):
            write_row(self.run_folder(job), row)

    def write_table(self, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
        """Write results.parquet anew, and return it."""
        table = to_table(rows)
        write_atomically(self.path / TABLE, lambda path: write_parquet(table, path))
        return table


def _grown(before: dict[str, Any], grid: dict[str, Any]) -> dict[str, Any]:
    """What was noted, with the lists of `grid` in the place of those that hold fewer of their values."""
    lists = {k: grid[k] for k in LISTS if k in grid and set(before["grid"].get(k, [None])) <= set(grid[k])}
    return before | {"grid": before["grid"] | lists}


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """With checksums, which `load_results` verifies: without, two of three flipped bits were not noticed."""
    table.to_parquet(path, compression="zstd", write_page_checksum=True)


@checked
def load_results(folder: str | Path) -> pd.DataFrame:
    """The table of a sweep, finished or not.

    Args:
        folder: of the sweep, or its results.parquet; or a name, such as "digits", of the results that
            come with the package, which lessons 06 and 09 read. A name is meant even where the working
            folder has a folder of that name; "./digits" or a `Path` is that folder.

    Returns:
        A row per run. `stage` is "tune" for runs that only chose a gate lr; `kind` is "static", "dynamic" or
        "factorised", see `baselines.KINDS`: their MACs mean different things. Accuracies (0..1) are those of
        the compact, fine-tuned network, `raw_val_accuracy` that before fine-tuning; `macs` per image and
        `params` are its own, kept_* their shares of the dense network's; `latency_ms` is of a batch of 64 on
        one thread, beside other runs, `latency_1_ms` of one image (NaN in tables of versions that did not
        measure it); `undecided` the share of gates with P(open) in 0.1..0.9. `groups`, `channels` and `open`
        are lists, one entry per channel group. Of a factorised network both have the widths of the dense one,
        of which no channel goes. Of a dynamic network `macs`, `kept_macs` and `open` are means over the test
        images, `macs` and `open` rounded; `macs` and `params` hold its branches; its latency is measured as
        it runs, with all channels computed. `confusion` counts test images,
        classes x classes (true, predicted) in rows; `prob_open` is uint8 [len(times), gates] of
        255 P(open), and `correct` has a bit per test image, as `numpy.packbits` packs them. `settings` are
        those of the run, as JSON. `error` says why a run has no numbers.

    Raises:
        FileNotFoundError: there is no such table; the text lists the names.
        ValueError: it is damaged, or columns are missing.
    """
    path = _table_of(folder)
    try:
        table = pd.read_parquet(path, page_checksum_verification=True)
    except Exception as error:  # Arrow and pandas have many for what they do not expect
        problem = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged: expected a Parquet file, found: {problem}.") from error
    table = with_newer(table)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}: it was not written by `sweep`, or by "
            "another version."
        )
    texts = [n for n, kind in COLUMNS.items() if kind.endswith("64") and not is_numeric_dtype(table[n])]
    if texts:
        raise ValueError(f"{path} is damaged: expected numbers in the columns {', '.join(texts)}.")
    return table


def _table_of(folder: str | Path) -> Path:
    """The file that `load_results` reads."""
    names = sorted(table.parent.name for table in shipped(RESULTS).glob(f"*/{TABLE}"))
    path = Path(folder).expanduser()
    own = path / TABLE if path.is_dir() else path
    if isinstance(folder, str) and folder in names:
        named = shipped(RESULTS) / folder / TABLE
        if own.is_file() and not own.samefile(named):
            warnings.warn(
                f"{folder!r} are the results that come with depl0kit; './{folder}' are those in the folder "
                f"{folder} here.",
                stacklevel=4,
            )
        return named
    if not own.is_file():
        raise FileNotFoundError(
            f"there are no results in {str(folder)!r}: expected a file {TABLE} in a folder, or choose one of "
            f"the results that come with depl0kit: {', '.join(map(repr, names))}."
        )
    return own


def _command(grid: Grid) -> str:
    """The words of the shell, without paths of images; of a notebook only that it was one."""
    if Path(sys.argv[0]).name not in ("__main__.py", "depl0kit"):
        return "depl0kit.sweep(...)"
    paths = set(grid.folders.values())
    words = ["FOLDER" if os.path.abspath(os.path.expanduser(w)) in paths else w for w in sys.argv[1:]]
    return shlex.join(["python", "-m", "depl0kit", *words])
