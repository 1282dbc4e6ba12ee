"""Run a grid, here or on any executor, and keep what is done whatever dies."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ...support import checked, checks
from ...support.versions import version
from ..table import DENSE, to_table
from .estimate import estimated_hours
from .grid import Grid, Job
from .job import failed, run_job
from .local import kill, local_executor, worker_count
from .results import SweepFolder
from .tuning import chosen_gate_lrs

DEATHS = 2  # of its worker process, after which a run is given up


@checked
def sweep(
    grid: Grid,
    out: str | Path | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: bool = True,
    on_row: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Run a grid and return its table, a row per run (columns: see `load_results`).

    A run that fails is a row with its error. If the sweep is killed, the same call resumes it and tries
    failed runs again; worker processes end with the process that started them.

    Args:
        grid: what to run.
        out: a folder for the table and all runs; None keeps none of them.
        executor: where to run; its workers must have depl0kit, and see `out` if runs are to resume after a
            kill. None starts processes of one thread each on this machine, one a core or GPU; a script
            that does so needs `if __name__ == "__main__":`.
        workers: how many processes to start, without an executor.
        progress: show a bar with the time left and the best run so far.
        on_row: called with the table so far, whenever a run is done.

    Raises:
        ValueError: `out` holds another sweep; the text names the difference.
        RuntimeError: the executor's workers cannot import depl0kit, or have another version.

    Example:
        On a cluster of Dask: `dk.sweep(grid, "results/x", Client(...).get_executor())`. Under Slurm, with
        submitit: `executor = submitit.AutoExecutor("logs")`, `executor.update_parameters(timeout_min=60,
        cpus_per_task=1)`, then the same call.
    """
    if workers is not None:
        checks.whole("workers", workers, 1)
    with nullcontext(out) if out is not None else TemporaryDirectory(prefix="depl0kit-") as path:
        return _Sweep(grid, SweepFolder(path), executor, workers, progress, on_row).run()


@dataclass
class _Sweep:
    """What `sweep` does."""

    grid: Grid
    folder: SweepFolder
    executor: Executor | None
    workers: int | None
    progress: bool
    on_row: Callable[[pd.DataFrame], None] | None
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    order: list[Job] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)

    def run(self) -> pd.DataFrame:
        self.folder.begin(self.grid, version())
        if self.executor is not None:
            _greet(self.executor)
        elif self.progress:
            self._say_how_long()
        self._run_all(self.grid.tuning_jobs(), "choosing gate lr")
        self._run_all(self.grid.jobs(chosen_gate_lrs(self._write())), "sweep")
        return self._write()

    def _say_how_long(self) -> None:
        """Print how many runs and hours are left, before the first run."""
        trials = self.grid.tuning_jobs()
        tried = self.folder.done(trials)
        chosen = chosen_gate_lrs(to_table(list(tried.values()))) if len(tried) == len(trials) else None
        jobs = self.grid.jobs(chosen)
        done = tried | self.folder.done(jobs)
        if left := [job for job in (*trials, *jobs) if job.name not in done]:
            workers = min(self.workers or worker_count(), len(left))
            hours = estimated_hours(left, workers)
            print(
                f"{len(left)} runs left: at most about {hours:.2g} h, {workers} side by side",
                file=sys.stderr,
            )

    def _run_all(self, jobs: Sequence[Job], title: str) -> None:
        self.order += jobs
        done = self.folder.done(jobs)
        self.rows |= done
        left = [job for job in jobs if job.name not in done]
        shown = self.progress and len(jobs) > 0  # not a bar of 0/0
        with tqdm(total=len(jobs), initial=len(done), desc=title, unit="run", disable=not shown) as bar:
            self._note_best(bar)
            while left:  # again only after a worker process died
                left = self._run_some(left, bar)

    def _run_some(self, jobs: Sequence[Job], bar: tqdm) -> list[Job]:
        """Run jobs; returns those that are left because a process died."""
        executor = self.executor or local_executor(self.workers)
        try:
            futures = {executor.submit(run_job, job, self.folder.run_folder(job)): job for job in jobs}
            for future in as_completed(futures):
                job, error = futures[future], future.exception()
                if error is None:
                    self._take(job, future.result(), bar)
                elif self.executor is not None or not isinstance(error, BrokenExecutor):
                    self._take(job, failed(job, f"{type(error).__name__}: {error}"), bar)
        except BaseException:  # also an interrupt: its runs resume from their checkpoints another time
            if self.executor is None:
                kill(executor)
            raise
        if self.executor is None:
            executor.shutdown()
        left = [job for job in jobs if job.name not in self.rows]
        return [job for job in left if not self._is_given_up(job, bar)]

    def _is_given_up(self, job: Job, bar: tqdm) -> bool:
        """After a process died: whether this job was running in it, and too often."""
        if not self.folder.run_folder(job).exists():  # had not begun
            return False
        self.deaths[job.name] += 1
        if self.deaths[job.name] < DEATHS:
            return False
        self._take(job, failed(job, f"its process died {DEATHS} times: is there enough memory?"), bar)
        return True

    def _take(self, job: Job, row: dict[str, Any], bar: tqdm) -> None:
        self.rows[job.name] = row
        self.folder.keep(job, row)
        table = self._write()
        if self.on_row is not None:
            self.on_row(table)
        self._note_best(bar)
        bar.update()

    def _write(self) -> pd.DataFrame:
        """The table so far, in the grid's order, which is also kept in the folder."""
        return self.folder.write_table([self.rows[job.name] for job in self.order if job.name in self.rows])

    def _note_best(self, bar: tqdm) -> None:
        good = [row for row in self.rows.values() if not row["error"] and row["method"] != DENSE]
        bad = sum(bool(row["error"]) for row in self.rows.values())
        text = f"{bad} failed" if bad else ""
        if good:
            best = max(good, key=lambda row: row["val_accuracy"])
            what = f"{best['method']}, {best['kept_macs']:.0%} of MACs"
            text = f"best {best['val_accuracy']:.3f} ({what}) {text}"
        bar.set_postfix_str(text.strip())


def _greet(executor: Executor) -> None:
    """Raise a RuntimeError if the workers of an executor lack this package, or have another version."""
    try:
        theirs = executor.submit(version).result()
    except Exception as error:  # each executor has an exception of its own for this
        raise RuntimeError(
            f"the executor cannot run depl0kit ({type(error).__name__}: {error}): install it for its "
            "workers, in the same version, and try again."
        ) from error
    if theirs != version():
        raise RuntimeError(
            f"the executor's workers have depl0kit {theirs}, here it is {version()}: install one version."
        )
