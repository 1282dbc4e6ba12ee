"""`python -m depl0kit sweep` and `report`: many runs, and what came of them."""

import shlex
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro
from tyro.conf import Positional

from ..comparison.sweeps import load_grid, summary
from ..comparison.sweeps import sweep as swept
from ..plots.report import write_report
from ..support import checks
from ..support.tables import aligned
from .options import PROGRAM, Folder

Spec = Annotated[str, Positional, tyro.conf.arg(metavar="SPEC")]


def sweep(
    spec: Spec,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Run every method with every price and seed: `python -m depl0kit sweep digits --out results/digits`

    The same command again resumes it where it was broken off, and tries failed runs again.

    Args:
        spec: "digits", "paired-comparison", or a .toml file of your own with the fields of `Grid`.
        out: Folder of the table and all runs; results/SPEC if it is not given.
        workers: Processes, of one thread each; one for each core or GPU if it is not given.
    """
    folder = checks.folder(out or Path("results", Path(spec).stem))
    results = swept(load_grid(spec), folder, workers=workers)
    print(in_text(summary(results)))
    bad = results[results.error != ""]
    for run, error in zip(bad.run, bad.error, strict=True):
        print(f"failed: {run}: {error}")
    print(f"table: {folder / 'results.parquet'}. Next: {PROGRAM} report {shlex.quote(str(folder))}")


def report(folder: Folder, out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None) -> None:
    """Write what a sweep found, figures and tables, as one HTML file that needs nothing else.

    Args:
        folder: Of the sweep, the --out of `sweep`.
        out: The file; report.html in the folder if it is not given.
    """
    folder = checks.path("the folder", folder)
    print(f"written to {write_report(folder, checks.new_file(out or folder / 'report.html'))}")


def in_text(frame: pd.DataFrame) -> str:
    """A small table of numbers, three decimals."""
    rows = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in frame.itertuples(index=False)
    ]
    return aligned(list(frame), *rows)
