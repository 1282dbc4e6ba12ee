"""What all data sets share about their files: the tensor cache, and the words when something is wrong."""

import warnings
from pathlib import Path

from torch import Tensor

from ..support.files import DamagedFileError, read_tensors, write_tensors


class DataNotFoundError(FileNotFoundError):
    """A data set is neither on this machine nor could it be downloaded; the text says how to get it."""


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
        return f"It cannot be renamed ({error}): put it right by hand."
    return f"It is kept as {aside.name}, and fetched again if there is a network."


def read_cache(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors and notes in `path`; None if it is missing, or damaged and therefore deleted."""
    try:
        return read_tensors(path)
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        warnings.warn(f"the cache {error}. {delete(path)}", stacklevel=2)
        return None


def write_cache(path: Path, tensors: dict[str, Tensor], notes: dict[str, str] | None = None) -> None:
    """Atomically: other processes see the old file or the new one, never a part.

    Where it cannot be written there is a warning: the data are there all the same.
    """
    try:
        write_tensors(path, tensors, notes)
    except OSError as error:
        warnings.warn(f"the cache {path} cannot be written ({error}).", stacklevel=2)
