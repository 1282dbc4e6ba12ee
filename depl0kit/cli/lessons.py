"""The lessons in a folder of the reader's own: copied, and updated as long as the reader did not change them.

The file `.depl0kit.json` in that folder notes the SHA-256 of every file as it was copied. So a file that was
changed since is known, and is never written over.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..support import checks
from ..support.files import read_sound_json, write_atomically, write_json
from ..support.shipped import LESSONS, RESULTS, checkout, files_in, shipped
from ..support.versions import version

PLACES = {LESSONS: ".", RESULTS: RESULTS}  # what is copied, and where to, within the reader's folder
NOTED = ".depl0kit.json"


@dataclass
class Copied:
    """What `copy_lessons` did; names of files within the folder."""

    new: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # changed by the reader
    newer: list[str] = field(default_factory=list)  # kept too; the package has another one since


def copy_lessons(folder: Path) -> Copied:
    """Copy the lessons and the saved results into a folder, each file atomically.

    A file is written if it is not there, or is still as it was copied, from an earlier version; never if the
    reader changed it.

    Raises:
        ValueError: the folder is a file, cannot be written to, or holds the lessons of a clone.
    """
    root = checkout()
    if root and folder.resolve() in (root, root / LESSONS):
        raise ValueError(f"{folder} holds the lessons of a clone: choose another folder, or run `make lab`.")
    checks.new_file(folder / NOTED)
    before = read_sound_json(folder / NOTED, {"files": dict}).get("files", {})
    now, copied = dict(before), Copied()
    for name, source in _sources():
        target, noted, wanted = _target(folder, name), before.get(name), _sha256(source)
        found = _sha256(target)
        if found not in (None, noted, wanted):  # the reader changed it
            (copied.kept if noted == wanted else copied.newer).append(name)
            continue
        now[name] = wanted
        if found != wanted:
            write_atomically(target, partial(shutil.copyfile, source))
            (copied.updated if found else copied.new).append(name)
    if now != before:
        write_json(folder / NOTED, {"depl0kit": version(), "files": now})
    return copied


def _sources() -> Iterator[tuple[str, Path]]:
    """Name within the reader's folder, and file of the package, of all that is copied."""
    for folder, place in PLACES.items():
        for file in files_in(shipped(folder), folder):
            yield Path(place, file).as_posix(), shipped(folder) / file


def _target(folder: Path, name: str) -> Path:
    """The path of a file in the reader's folder, which exists or can be made."""
    path = folder / name
    checks.folder(path.parent)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and a file of that name is to be copied: rename the folder.")
    return path


def _sha256(path: Path) -> str | None:
    """Of the content of a file; None if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
