"""A file that only grows, such as the history of a run: checkpoints note how far, and with what."""

import os
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...support.files import DamagedFileError, read_file, write_atomically


class Mark(NamedTuple):
    """The state of the file after one of its items."""

    items: int
    epoch: float  # of the last of them
    size: int  # in bytes
    crc32: int

    def and_then(self, epoch: float, content: bytes) -> "Mark":
        """The mark after one more item."""
        size, crc32 = self.size + len(content), zlib.crc32(content, self.crc32)
        return Mark(self.items + 1, epoch, size, crc32)


START = Mark(0, 0.0, 0, 0)


class Journal:
    """Items, one after the other in the order of their epochs, as the process sees it that writes them.

    It writes where the items that it knows of end: what an interrupt left behind them is overwritten.

    Args:
        path: of the file; it is made by the first item.
        epoch_of: the time of an item.
        encode: its bytes; the second argument tells whether it is the first of the file.
    """

    def __init__(
        self, path: Path, epoch_of: Callable[[Any], float], encode: Callable[[Any, bool], bytes]
    ) -> None:
        self.path, self._epoch_of, self._encode = path, epoch_of, encode
        self._marks = [START]  # of the item at which this process began, and of all since

    def write(self, items: Sequence[Any]) -> None:
        """Add those of `items`, which are all so far, that the file does not have."""
        marks, content = self._marks[-1:], b""
        for item in items[marks[0].items :]:
            part = self._encode(item, marks[-1].items == 0)
            content += part
            marks.append(marks[-1].and_then(self._epoch_of(item), part))
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
        """Forget all items after `epoch`."""
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
