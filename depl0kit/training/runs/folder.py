"""The files of one run: readable while it runs, whole after any kill.

config.json        what is trained, on what data, and how (`about`)
environment.json   versions, device and git commit of each session that trained
history.csv        a row per finished epoch (`journal`)
gates.f32          float32 records (epoch, log_alpha [N], prob_open [N], test-time gates [N])
checkpoints/       the last two states from which training can resume (`checkpoints`)
status.json        where it is now, a few times a second
control.json       what its watchers ask for: the numbers of `KNOBS`, until_stop, speed; run, pause or stop
control.lock       held while somebody changes control.json (`control`)
lock               held by the process that trains
recipe.json        of a run from the shell: where its images lie
log.txt            of a run in the background: what it printed
"""

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from ...support import checks
from ...support.files import read_sound_json, remove_unfinished, write_json
from ..knobs import KNOBS
from .about import read_config, write_config
from .checkpoints import Checkpoint, Checkpoints
from .control import Control
from .journal import Gates, History

HISTORY, GATES = "history.csv", "gates.f32"
SESSIONS = {"sessions": [dict]}  # of environment.json
QUIET_SECONDS = 10  # without a new status, beside the time of some steps
STARTING_SECONDS = 120  # more before the first step, which may be compiled
NEW = {"state": "new", "epoch": 0.0, "error": ""}  # before it begins
STATUS = {
    "state": str, "epoch": float, "error": str, "images_per_second": float, "seconds_left": (float, None),
    "updated": float, "epochs?": int, **{f"{name}?": float for name in KNOBS},
    "mu?": float, "until_stop?": bool, "speed?": (float, None), "notice?": str, "host?": str,
}  # fmt: skip


class RunFolder:
    """The folder of one run; see the module for its files.

    Args:
        path: is made when something is first written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = checks.folder(path)
        self.history_file, self.gates_file = History(self.path / HISTORY), Gates(self.path / GATES)
        self._journals = {HISTORY: self.history_file, GATES: self.gates_file}
        self._checkpoints = Checkpoints(self.path / "checkpoints")
        self.control = Control(self.path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep every other process from training in this folder; the lock of a killed process is free.

        Raises:
            RuntimeError: another process trains here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(
                f"another process is training in {self.path}: wait until it ends, ask it to stop "
                f"(RunFolder({str(self.path)!r}).ask(state='stop')), or use another folder."
            ) from None
        try:
            os.utime(self.path / "lock")  # what is older was left by earlier processes
            yield
        finally:
            lock.release()

    def about(self) -> dict[str, Any]:
        """What is trained ("net"), on what ("data") and how ("train", a `TrainConfig`).

        Raises:
            FileNotFoundError: there is no run here.
            ValueError: it is of another version, or damaged.
        """
        content, settings = read_config(self.path / "config.json")
        return content | {"train": settings}

    def begin(self, about: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Note what is trained here and by which session; refuse a run that differs from the one here.

        Args:
            about: "net", "data" and "train" as plain values; and the version that wrote it.

        Raises:
            ValueError: the folder holds a run that differs; the text names the first field.
        """
        config, sessions = self.path / "config.json", self.path / "environment.json"
        if not config.exists() and self._has_begun():
            raise ValueError(
                f"{self.path} holds a history but no config.json that says what was trained: use another "
                "folder, or delete this one to start anew."
            )
        write_config(config, about)
        earlier = read_sound_json(sessions, SESSIONS).get("sessions", [])
        write_json(sessions, {"sessions": [*earlier, environment]})

    def tidy(self) -> None:
        """Delete what killed processes left unfinished; only for the holder of the lock."""
        with self.control.lock():  # or somebody may be asking
            for folder in (self.path, self._checkpoints.path):
                remove_unfinished(folder, before=(self.path / "lock").stat().st_mtime)

    def append(self, rows: list[dict], moments: list[tuple]) -> None:
        """Add to the history and to the gates what they do not have of all rows, and of all moments
        (epoch, log_alpha, prob_open, gates)."""
        self.history_file.write(rows)
        self.gates_file.write(moments)

    def history(self, until: Checkpoint | None = None) -> pd.DataFrame:
        """A row per finished epoch; empty before the first.

        Args:
            until: a checkpoint of this folder: only the rows that it counted.

        Raises:
            ValueError: history.csv is damaged.
        """
        return self.history_file.parse(self.history_file.text(_size(HISTORY, until)))

    def gates(self, until: Checkpoint | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Times [T] in epochs, and [T, N] each: log_alpha, P(open), test-time gates.

        Args:
            until: as of `history`.
        """
        records = self.gates_file.records(self._gate_count(), _size(GATES, until))
        return records[:, 0], *np.split(records[:, 1:], 3, axis=1)

    def _gate_count(self) -> int:
        return sum(channels for _, channels in self.about()["net"]["groups"])

    def cut(self, epoch: int) -> None:
        """Drop what this process wrote after the end of `epoch`."""
        for journal in self._journals.values():
            journal.cut(epoch)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and delete all but the last two."""
        for journal in self._journals.values():  # first: no checkpoint may be ahead of them
            journal.flush()
        marks = {name: journal.at(checkpoint.epoch) for name, journal in self._journals.items()}
        self._checkpoints.save(checkpoint, marks)

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest sound checkpoint, or None; a damaged one is named in a warning."""
        return next(self._checkpoints.sound(), None)

    def resume_point(self) -> Checkpoint | None:
        """The newest sound checkpoint that fits history and gates; None if nothing was trained here.

        Raises:
            ValueError: something was trained, but there is no such checkpoint.
        """
        for checkpoint in self._checkpoints.sound():
            if fitting := self._fitting(checkpoint):
                return fitting
            warnings.warn(
                f"{HISTORY} and {GATES} in {self.path} are not those that the checkpoint of epoch "
                f"{checkpoint.epoch} counted. The checkpoint before it is used.",
                stacklevel=2,
            )
        if self._has_begun():
            raise ValueError(
                f"the run in {self.path} cannot be resumed, as it has no sound checkpoint that fits its "
                "history: use another folder, or delete this one to start anew."
            )
        return None

    def _has_begun(self) -> bool:
        grown = [journal.path for journal in self._journals.values()]
        return bool(self._checkpoints.files()) or any(p.exists() and p.stat().st_size for p in grown)

    def _fitting(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint, with its marks, if history and gates hold what it counted."""
        marks = checkpoint.marks
        if not marks:  # of an earlier version, which counted nothing: what there is up to its epoch
            gates = self.gates_file.counted(checkpoint.epoch, self._gate_count())
            marks = {HISTORY: self.history_file.counted(checkpoint.epoch), GATES: gates}
        if None in marks.values() or marks[HISTORY].items != checkpoint.epoch:
            return None
        found = [journal.read(marks[name]) for name, journal in self._journals.items()]
        return None if None in found else replace(checkpoint, marks=marks)

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Drop what came after a resume point; others may be reading at the same time."""
        for name, journal in self._journals.items():
            journal.go_back(checkpoint.marks[name])
        self._checkpoints.go_back(checkpoint.epoch)

    def status(self) -> dict[str, Any]:
        """state, epoch, epochs, images_per_second, seconds_left, updated, ...; before it begins the state is
        "new"."""
        return read_sound_json(self.path / "status.json", STATUS) or dict(NEW)

    def set_status(self, **status: Any) -> None:
        """Note where the run is; see `status`."""
        write_json(self.path / "status.json", status | {"updated": time.time()}, durable=False)

    def ask(self, **requests: Any) -> None:
        """Ask the run for something else, which it does within a tenth of a second or a step.

        When it is resumed it remembers the numbers of `KNOBS`, after a kill also until_stop.

        Args:
            requests: lam, temperature, gate_lr (see `KNOBS`); until_stop, True or False (see `Trainer`);
                speed > 0, in epochs a second at most, or None for as fast as possible, which changes no
                number of the run; state, "run", "pause" or "stop".

        Raises:
            ValueError: a name or a value that no run knows.
        """
        self.control.ask(requests)


def _size(name: str, until: Checkpoint | None) -> int | None:
    """Bytes of a file that a checkpoint counted; None if it, or nothing, counted any."""
    return until.marks[name].size if until is not None and name in until.marks else None


def patience(about: Mapping[str, Any], status: Mapping[str, Any]) -> float:
    """Seconds for which a run under way may write nothing: some steps, or its validation.

    `about` and `status` are those of its `RunFolder`.
    """
    images, rate = 5 * about["train"].batch_size + about["data"]["val"], status["images_per_second"]
    return QUIET_SECONDS + (images / rate if rate else STARTING_SECONDS)
