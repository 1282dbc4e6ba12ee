"""What a run folder holds; only what changed is read again, so it can be asked many times a second."""

import socket
import time
from typing import Any

import numpy as np
import pandas as pd

from .folder import NEW, RunFolder, patience
from .journal import Gates

COLUMNS = 200  # of the heatmap, at most: a screen cannot show many more


class RunView:
    """The state of a run as of the last `look`; `about` and `gates` are None while there is no run."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._forget()

    def _forget(self) -> None:
        self.about: dict[str, Any] | None = None
        self.status: dict[str, Any] = dict(NEW)
        self.history, self._history_text = pd.DataFrame(), ""
        self.gates: GateColumns | None = None
        self._marks: dict[str, tuple | None] = {}
        self._heard = time.monotonic()

    def look(self) -> bool:
        """Read what changed; returns whether there is something new to draw."""
        is_new = self._changed("config.json")
        if is_new:
            self._begin_anew()
        if self._changed("status.json"):
            self.status, self._heard = self.folder.status(), time.monotonic()
        if self.about is None:
            return is_new
        has_rows, has_gates = self._changed("history.csv"), self._changed("gates.f32")
        if has_rows:
            self._read_history()
        if has_gates:
            self.gates.read()
        return is_new or has_rows or has_gates

    def silent_since(self) -> float | None:
        """Time (Unix) of the last status of a run that says "running" but seems dead; None if all is well."""
        if self.status["state"] != "running" or self.about is None:
            return None
        here = self.status.get("host") == socket.gethostname()  # the clocks of two machines may differ
        silence = time.time() - self.status["updated"] if here else time.monotonic() - self._heard
        return self.status["updated"] if silence > patience(self.about, self.status) else None

    def _begin_anew(self) -> None:
        """The folder holds another run now, or none."""
        mark = self._marks["config.json"]
        self._forget()
        if mark is not None:
            about = self.folder.about()  # if that fails, the next look tries again
            self.about = about
            n = sum(channels for _, channels in about["net"]["groups"])
            self.gates = GateColumns(self.folder.gates_file, n)
        self._marks["config.json"] = mark

    def _read_history(self) -> None:
        """Read only the rows that were added, if those known before are still there."""
        file, known = self.folder.history_file, self._history_text
        text = file.text()
        if known and text.startswith(known):
            names = text[: text.index("\n") + 1]
            added = file.parse(names + text[len(known) :])
            self.history = pd.concat([self.history, added], ignore_index=True)
        else:
            self.history = file.parse(text)
        self._history_text = text

    def _changed(self, name: str) -> bool:
        """Whether a file has changed since the last look; ask before reading it, or a change is missed."""
        try:
            found = (self.folder.path / name).stat()
        except FileNotFoundError:
            mark = None
        else:
            mark = found.st_mtime_ns, found.st_size, found.st_ino
        before, self._marks[name] = self._marks.get(name), mark
        return mark != before


class GateColumns:
    """P(open) over time from the file of n gates, in at most COLUMNS even steps, and the gates at its end.

    It reads only what was appended since the last time: long runs cost no more than short ones.
    """

    def __init__(self, file: Gates, n: int) -> None:
        self._file, self._n = file, n
        self._forget()

    def _forget(self) -> None:
        self._record: np.ndarray | None = None  # the last of all
        self._kept: list[tuple[float, np.ndarray]] = []  # columns of every `_step`-th record
        self._step, self._count = 1, 0  # records read

    def last(self) -> tuple[np.ndarray, np.ndarray] | None:
        """P(open) [n] and test-time gates [n] at the end of the file; None if it is empty."""
        if self._record is None:
            return None
        _, prob_open, gates = np.split(self._record[1:], 3)
        return prob_open, gates

    def columns(self) -> tuple[list[float], np.ndarray]:
        """Times [T] and P(open) [T, n]; each column stands for the time since the one before."""
        columns = list(self._kept)
        if self._record is not None and self._count % self._step:
            columns.append(self._column())
        return [t for t, _ in columns], np.array([p for _, p in columns]).reshape(-1, self._n)

    def read(self) -> None:
        """Read the new records; all records again if the file was cut."""
        if not self._append_new():
            self._forget()
            self._append_new()

    def _append_new(self) -> bool:
        """Returns False if the file no longer begins with what was read before."""
        # from the last known record, which must be the same
        records = self._file.records(self._n, first=max(0, self._count - 1))
        if self._record is not None:
            if not len(records) or not np.array_equal(records[0], self._record):
                return False
            records = records[1:]
        for record in records:
            self._take(record)
        return True

    def _take(self, record: np.ndarray) -> None:
        self._record, self._count = record.copy(), self._count + 1
        if self._count % self._step == 0:
            self._kept.append(self._column())
        if len(self._kept) >= COLUMNS:
            self._kept, self._step = self._kept[1::2], 2 * self._step

    def _column(self) -> tuple[float, np.ndarray]:
        """Time and P(open) of the last record; a copy, so that the rest of the record is freed."""
        return float(self._record[0]), self._record[1 + self._n : 1 + 2 * self._n].copy()
