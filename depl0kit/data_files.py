"""What all data sets share about their files: the tensor cache, and the words when something is wrong.

A cache is one safetensors file: reading it never executes code. It is written atomically, and its
checksum covers everything in it, so that a cache is either sound or found out.
"""

import json
import os
import shutil
import tempfile
import warnings
import zlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


class DataNotFoundError(FileNotFoundError):
    """A data set is neither on this machine nor could it be downloaded; the text says how to get it."""


class DamagedFileError(Exception):
    """A file is not what it should be; the text says what was expected and what was found."""


def delete(path: Path) -> str:
    """Delete a damaged file, and say so in a sentence."""
    try:
        path.unlink(missing_ok=True)  # another process may have been first
    except OSError as error:
        return f"It cannot be deleted ({error}): delete it by hand."
    return "It is deleted, and fetched or built again."


def read_cache(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors and notes in `path`; None if it is missing, or damaged and therefore deleted."""
    try:
        with safe_open(path, "pt") as file:
            keys, notes = file.keys(), file.metadata() or {}
            # cloned, or the tensors would hang on the mapped file for as long as they live
            tensors = {key: file.get_tensor(key).clone() for key in keys}
    except SafetensorError as error:
        problem = f"expected a safetensors file, found: {error}"
    except (FileNotFoundError, NotADirectoryError, RuntimeError):
        return None  # missing, or gone between the two times that safetensors opens it
    else:
        expected = notes.pop("crc32", None)
        if (found := _crc32(tensors, notes)) == expected:
            return tensors, notes
        problem = f"expected the checksum {expected}, found {found}"
    warnings.warn(f"the cache {path} is damaged: {problem}. {delete(path)}", stacklevel=2)
    return None


def write_cache(path: Path, tensors: dict[str, Tensor], notes: dict[str, str] | None = None) -> None:
    """Atomically: other processes see the old file or the new one, never a part.

    Where it cannot be written there is a warning: the data are there all the same.
    """
    notes = notes or {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".cache-") as folder:
            unfinished, ordinary = Path(folder, path.name), Path(folder, "ordinary")
            save_file(tensors, unfinished, notes | {"crc32": _crc32(tensors, notes)})
            ordinary.touch()
            shutil.copymode(ordinary, unfinished)  # save_file's is for its owner only
            os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"the cache {path} cannot be written ({error}).", stacklevel=2)


def _crc32(tensors: dict[str, Tensor], notes: dict[str, str]) -> str:
    """Over names, types, shapes, notes and values."""
    described = {key: (str(tensors[key].dtype), tuple(tensors[key].shape)) for key in sorted(tensors)}
    checksum = zlib.crc32(json.dumps([described, notes], sort_keys=True).encode())
    for key in described:
        checksum = zlib.crc32(tensors[key].numpy(), checksum)
    return f"{checksum:08x}"
