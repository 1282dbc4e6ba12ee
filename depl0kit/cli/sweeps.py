"""`python -m depl0kit sweep` and `report`: many runs, and the comparison of their results."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from ..comparison.sweeps import load_grid, summary
from ..comparison.sweeps import sweep as swept
from ..plots.report import write_report
from ..support import checks
from .options import PROGRAM, Folder

Spec = Annotated[str, Positional, tyro.conf.arg(metavar="SPEC")]


def sweep(
    spec: Spec,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
    data: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    data_name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
) -> None:
    """Run every method with every price and seed: `python -m depl0kit sweep digits --out results/digits`

    The same command again resumes an interrupted sweep, and repeats failed runs.

    Args:
        spec: "digits", "paired-comparison", "cifar10-methods", "fashion-methods", "cifar10-resnet",
            "cifar10-gpu", "relatives", or a .toml file of your own with the fields of `Grid`.
        out: Folder of the table and all runs; results/SPEC if it is not given.
        workers: Number of processes, of one thread each; one for each core or GPU if it is not given.
        data: Folder of images to take instead of the data sets of SPEC.
        data_name: What tables, run names and figures call these images; the folder's own name if it is not
            given.
    """
    grid = load_grid(spec)
    if data is not None:
        name = data_name or checks.folder(data).resolve().name
        grid = replace(grid, data=(name,), folders={name: str(data)})
    elif data_name is not None:
        raise ValueError("--data-name is the name of the images in --data FOLDER, which is missing.")
    folder = checks.folder(out or Path("results", Path(spec).stem))
    results = swept(grid, folder, workers=workers)
    print(summary(results).to_string(index=False, float_format="{:.3f}".format))
    bad = results[results.error != ""]
    for run, error in zip(bad.run, bad.error, strict=True):
        print(f"failed: {run}: {error}")
    print(f"table: {folder / 'results.parquet'}. Next: {PROGRAM} report {shlex.quote(str(folder))}")


def report(folder: Folder, out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None) -> None:
    """Write the results of a sweep, figures and tables, as one HTML file.

    Args:
        folder: Folder of the sweep, the --out of `sweep`.
        out: The file; report.html in the folder if it is not given.
    """
    folder = checks.path("the folder", folder)
    print(f"written to {write_report(folder, checks.new_file(out or folder / 'report.html'))}")
