"""What all data sets share about their files: download, tensor cache, and the words when one is damaged."""

import http.client
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from torch import Tensor

from ..support.files import DamagedFileError, read_tensors, write_tensors

Content = tuple[dict[str, Tensor], dict[str, str]]  # tensors and notes of a cache


class DataNotFoundError(FileNotFoundError):
    """A data set is neither on this machine nor could it be downloaded; the text says how to get it."""


def download(
    root: Path,
    files: list[str],
    fetch: Callable[[Path], object],
    damage: Callable[[Path], str | None],
    title: str,
    other_ways: str,
) -> None:
    """Download files, once more if one arrives damaged, and move them to `root`.

    No other process ever sees half a file. Only one downloads at a time; the others wait, and use its files.

    Args:
        files: their paths within `root`.
        fetch: downloads them to the same paths within another folder, and raises if one is damaged.
        damage: what is wrong with a file; None if nothing is.
        title, other_ways: of the data set, and how to get it otherwise; for the error.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".download.lock"), tempfile.TemporaryDirectory(".part", ".", root) as folder:
            if all((root / file).is_file() and not damage(root / file) for file in files):
                return
            _fetch_twice(Path(folder), files, fetch, damage)
            for file in files:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(folder, file), root / file)
    except (DamagedFileError, RuntimeError, OSError, http.client.HTTPException) as error:
        problem = " ".join(str(error).split())
        raise DataNotFoundError(
            f"{title} is not on this machine and cannot be downloaded ({problem}): load it again when "
            f"online, {other_ways}."
        ) from error


def _fetch_twice(
    folder: Path, files: list[str], fetch: Callable[[Path], object], damage: Callable[[Path], str | None]
) -> None:
    for last_try in (False, True):
        try:
            fetch(folder)
            return
        except (RuntimeError, ConnectionError, http.client.HTTPException) as error:
            arrived = (path for file in files if (path := folder / file).is_file())
            found = (f"{path.name} arrived damaged: {wrong}" for path in arrived if (wrong := damage(path)))
            if (first := next(found, None)) is None:
                raise
            if last_try:
                raise DamagedFileError(first) from error
            warnings.warn(f"{first}. It is downloaded again.", stacklevel=3)


def delete(path: Path) -> str:
    """Delete a damaged file that this package made, and say so in a sentence."""
    try:
        path.unlink(missing_ok=True)  # another process may have been first
    except OSError as error:
        return f"It cannot be deleted ({error}): delete it by hand."
    return "It is deleted, and fetched or built again."


def set_aside(path: Path) -> str:
    """Rename a damaged file that somebody brought, and say so in a sentence.

    It is not ours to delete: offline, what is left of it may be all there is.
    """
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError as error:
        return f"It cannot be renamed ({error}): repair it by hand."
    return f"It is kept as {aside.name}, and fetched again if there is a network."


def cached(path: Path, make: Callable[[], Content]) -> Content:
    """The tensors and notes in the cache `path`; if it is missing or damaged, made and written anew.

    If it cannot be written there is a warning, and no error: the data are in memory.
    """
    try:
        return read_tensors(path)
    except FileNotFoundError:
        pass
    except DamagedFileError as error:
        warnings.warn(f"the cache {error}. {delete(path)}", stacklevel=2)
    content = make()
    try:
        write_tensors(path, *content)
    except OSError as error:
        warnings.warn(f"the cache {path} cannot be written ({error}).", stacklevel=2)
    return content
