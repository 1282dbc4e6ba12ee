"""The files of a run that only grow, history.csv and gates.f32; a checkpoint notes how far, and with what.

Why a kill costs time and loses nothing else: the files may be ahead of the last checkpoint, but never
behind it, as they are on the disk before it is written. It holds a `Mark` of each: size and checksum up to
its epoch. A run resumes from the newest sound checkpoint whose marks fit the files. (A checkpoint that was
half written does not exist: it takes its place when it is whole.) Rows after its marks are not kept, nor is
half a row: `go_back` cuts the files there, and these epochs are trained again. They get the same bits on
the same CPU, as what training changes (weights, optimisers, the numbers of `KNOBS`) is in the checkpoint,
and all that is random in an epoch follows from the seed and the epoch's number. If somebody moved a slider
after the checkpoint, its new value is in force from the start of these epochs.

What reads them raises a ValueError if they are damaged.
"""

import csv
import io
import os
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...support.files import DamagedFileError, read_file, write_atomically

COLUMNS = {"epoch", "train_loss", "val_loss", "val_accuracy", "kept_macs", "undecided", "lam", "seconds"}


class Mark(NamedTuple):
    """The state of the file after one of its items."""

    items: int
    epoch: float  # of the last item
    size: int  # in bytes
    crc32: int

    def and_then(self, epoch: float, content: bytes) -> "Mark":
        """The mark after one more item."""
        size, crc32 = self.size + len(content), zlib.crc32(content, self.crc32)
        return Mark(self.items + 1, epoch, size, crc32)


START = Mark(0, 0.0, 0, 0)


class Journal:
    """Items in the order of their epochs, as seen by the process that writes them.

    It writes where the items that it knows of end: what an interrupt left behind them is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marks = [START]  # of the item at which this process began, and of all since

    def encode(self, item: Any, is_first: bool) -> tuple[float, bytes]:
        """The epoch of an item, and how it stands in the file; `is_first`: nothing stands before it."""
        raise NotImplementedError

    def write(self, items: Sequence[Any]) -> None:
        """Add those of `items`, which are all so far, that the file does not have."""
        marks, content = self._marks[-1:], b""
        for item in items[marks[0].items :]:
            epoch, part = self.encode(item, marks[-1].items == 0)
            content += part
            marks.append(marks[-1].and_then(epoch, part))
        if content:
            with open(self.path, "r+b", opener=_open_or_make) as file:
                file.seek(marks[0].size)
                file.write(content)
                file.truncate()
            self._marks.extend(marks[1:])  # one step, and the last: an interrupt comes before or after it

    def at(self, epoch: float) -> Mark:
        """The mark after the last item up to `epoch`."""
        return self._marks[bisect_right(self._marks, epoch, key=lambda mark: mark.epoch) - 1]

    def cut(self, epoch: float) -> None:
        """Drop all items after `epoch`."""
        mark = self.at(epoch)
        del self._marks[self._marks.index(mark) + 1 :]  # before the file: see the class
        if self.path.exists() and self.path.stat().st_size > mark.size:
            os.truncate(self.path, mark.size)

    def read(self, mark: Mark) -> bytes | None:
        """What the file holds up to `mark`; None if that is not what was written."""
        try:
            content = read_file(self.path)[: mark.size]
        except FileNotFoundError:
            content = b""
        except DamagedFileError:
            return None
        return content if (len(content), zlib.crc32(content)) == (mark.size, mark.crc32) else None

    def go_back(self, mark: Mark) -> None:
        """Write the file anew, whole, up to a mark that fits it."""
        content = self.read(mark)
        if content or self.path.exists():
            write_atomically(self.path, lambda unfinished: unfinished.write_bytes(content))
        self._marks = [mark]

    def flush(self) -> None:
        """Wait until the disk has it."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def _open_or_make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


class History(Journal):
    """history.csv: a row per finished epoch."""

    def encode(self, row: dict[str, float], is_first: bool) -> tuple[float, bytes]:
        text = io.StringIO()
        writer = csv.DictWriter(text, row, lineterminator="\n")
        if is_first:
            writer.writeheader()
        writer.writerow(row)
        return row["epoch"], text.getvalue().encode("ascii")

    def text(self, size: int | None = None) -> str:
        """What it holds (its first `size` bytes), without a last line that is not finished."""
        try:
            text = read_file(self.path)[:size].decode("ascii")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (DamagedFileError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path} is damaged: {error}.") from error
        return text[: text.rfind("\n") + 1]

    def parse(self, text: str) -> pd.DataFrame:
        """The rows of a text; pandas's own reader rounds the last digit in some versions."""
        lines = csv.reader(io.StringIO(text))
        try:
            names = next(lines, [])
            if text and not set(names) >= COLUMNS:
                raise ValueError(f"expected the names of columns, found {names}")
            rows = [dict(zip(names, map(_number, line), strict=True)) for line in lines]
        except (ValueError, csv.Error) as error:
            raise ValueError(f"line {lines.line_num} of {self.path} is damaged: {error}.") from error
        return pd.DataFrame(rows)

    def counted(self, epoch: int) -> Mark | None:
        """The mark after `epoch` rows, counted in the file; None if they are not the first epochs."""
        text = "".join(self.text().splitlines(keepends=True)[: 1 + epoch] if epoch else [])
        if self.parse(text).get("epoch", pd.Series(dtype=int)).tolist() != [*range(1, epoch + 1)]:
            return None
        return Mark(epoch, epoch, len(text), zlib.crc32(text.encode()))


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


class Gates(Journal):
    """gates.f32: a float32 record per moment (epoch, log_alpha [N], prob_open [N], test-time gates [N])."""

    def encode(self, moment: tuple, is_first: bool) -> tuple[float, bytes]:
        epoch, *gates = moment
        return epoch, np.concatenate([[epoch], *gates]).astype(np.float32).tobytes()

    def records(self, n: int, size: int | None = None, first: int = 0) -> np.ndarray:
        """Its finished records (in its first `size` bytes) from number `first` on, [T, 1 + 3 n]."""
        width = 1 + 3 * n
        try:
            content = read_file(self.path, 4 * width * first)[:size]
        except FileNotFoundError:
            content = b""
        except DamagedFileError as error:
            raise ValueError(f"{error}.") from error
        whole = len(content) // (4 * width) * width
        return np.frombuffer(content, np.float32, whole).reshape(-1, width).copy()

    def counted(self, epoch: int, n: int) -> Mark | None:
        """The mark after the records up to `epoch`, counted in the file; None if that epoch has none."""
        records = self.records(n)
        records = records[: (records[:, 0] <= epoch).sum()]
        content = records.tobytes()
        is_whole = epoch == 0 or epoch in records[:, 0]
        return Mark(len(records), epoch, len(content), zlib.crc32(content)) if is_whole else None
