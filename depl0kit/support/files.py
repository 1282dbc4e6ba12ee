"""Files that are whole or not there: atomic writes, and tensors with a checksum.

Tensors are kept in safetensors files: reading one never executes code. The checksum covers names, types,
shapes, notes and values, so that any damage is found.
"""

import json
import os
import shutil
import stat
import tempfile
import warnings
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

CHECKSUM = "crc32"  # key of the notes that holds it
UNFINISHED = ".unfinished-"  # start of the name of a folder in which a file is being written
MOST = 1e15  # no number in a small file is larger; Python's JSON also reads NaN and 10**400

WORDS = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}


class DamagedFileError(Exception):
    """A file is not what it should be; the text says what was expected and what was found.

    The readers here raise FileNotFoundError where there is no file.
    """


def write_atomically(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Let `write` fill a new file, and put it in the place of `path` when it is complete.

    Others see the old file or the new one, never a part, even if this process is killed or an OSError is
    raised. `durable`: wait until the disk has it, so that it survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as folder:
        unfinished, ordinary = Path(folder, path.name), Path(folder, "ordinary")
        write(unfinished)
        ordinary.touch()
        shutil.copymode(ordinary, unfinished)  # some writers let only the owner read
        if durable:
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    if durable and hasattr(os, "O_DIRECTORY"):  # the new name too; Windows cannot open folders
        folder_of_path = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder_of_path)
        finally:
            os.close(folder_of_path)


def remove_unfinished(folder: Path, before: float) -> None:
    """Delete unfinished files of killed processes in `folder` that were last changed before a time."""
    for left in folder.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):  # another process has just finished it
            if left.stat().st_mtime < before:
                shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, content: Mapping, durable: bool = True) -> None:
    """`content` as JSON, atomically."""
    text = json.dumps(content, indent=2)
    write_atomically(path, lambda unfinished: unfinished.write_text(f"{text}\n"), durable)


def read_file(path: Path, start: int = 0) -> bytes:
    """What an ordinary file holds from a byte on; a pipe, which would keep its reader waiting, is refused."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamagedFileError(f"{path} is damaged: expected a file, found a folder, a pipe or a device")
    with path.open("rb") as file:
        file.seek(start)
        return file.read()


def read_json(path: Path) -> dict:
    """The object in a JSON file."""
    try:
        content = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged: expected JSON, found: {error}") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} is damaged: expected a JSON object, found {type(content).__name__}")
    return content


def read_sound_json(path: Path, form: Any = dict) -> dict:
    """The object in a JSON file that has the form (see `misfit`) that it should have.

    {} if there is no such file or, with a warning, if it is damaged: for files that no run needs.
    """
    try:
        content = read_json(path)
        if wrong := misfit(content, form):
            raise DamagedFileError(f"{path} is damaged: {wrong}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except DamagedFileError as error:
        warnings.warn(f"{error}. It is ignored.", stacklevel=3)
        return {}
    return content


def misfit(value: Any, form: Any, name: str = "its content") -> str:
    """What is wrong with the form of a value from JSON; "" if nothing is.

    Args:
        form: a type (`float`: any finite number), None, a tuple of possible forms, [form] for a
            list of any length, or {name: form} for an object, which may hold more; names that end in "?" may
            be missing.
    """
    if isinstance(form, tuple):
        found = [misfit(value, one, name) for one in form]
        return "" if "" in found else found[0]
    if isinstance(form, list) and isinstance(value, list):
        parts = [(entry, form[0], f"every entry of {name}") for entry in value]
    elif isinstance(form, dict) and isinstance(value, dict):
        wanted = {key: one for key, one in form.items() if not key.endswith("?") or key[:-1] in value}
        parts = [(value.get(key.rstrip("?")), one, key.rstrip("?")) for key, one in wanted.items()]
    elif _fits(value, form):
        parts = []
    else:
        return f"expected {name} to be {_in_words(form)}, found {str(value)[:40]!r}"
    return next(filter(None, (misfit(*part) for part in parts)), "")


def _fits(value: Any, form: Any) -> bool:
    if form is None or isinstance(form, list | dict):  # a list or an object was looked for above
        return form is None and value is None
    return is_of(value, form) and (form not in (int, float) or -MOST < value < MOST)  # not NaN


def is_of(value: Any, kind: type) -> bool:
    """Whether a value from a file is of a type: True is no number, 3 is a `float` too."""
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)


def _in_words(form: Any) -> str:
    kind = form if form is None or isinstance(form, type) else type(form)
    return (WORDS | {list: "a list", dict: "an object", None: "null"})[kind]


def different_field(
    before: Mapping, now: Mapping, ignored: Collection[str] = ()
) -> tuple[str, Any, Any] | None:
    """The first entry of `now`, by its dotted name, that differs in `before`, and both values."""
    old, new = _flat(before), _flat(now)
    return next(((n, old.get(n), v) for n, v in new.items() if n not in ignored and old.get(n) != v), None)


def _flat(content: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{start}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Tensors (on the CPU) and notes with a checksum, atomically."""
    content = {key: tensor.contiguous() for key, tensor in tensors.items()}
    notes = dict(notes or {})

    def save(unfinished: Path) -> None:
        try:
            save_file(content, unfinished, notes | {CHECKSUM: _crc32(content, notes)})
        except SafetensorError as error:  # this is how it reports a full disk
            raise OSError(str(error)) from error

    write_atomically(path, save)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and notes in `path`."""
    try:
        with safe_open(path, "pt") as file:
            keys, notes = file.keys(), file.metadata() or {}
            # cloned, or the tensors would keep the mapped file open
            tensors = {key: file.get_tensor(key).clone() for key in keys}
    except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
        # missing, or deleted between the two times that safetensors opens it
        raise FileNotFoundError(f"there is no file {str(path)!r}.") from error
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is damaged: expected a safetensors file, found: {error}") from error
    expected = notes.pop(CHECKSUM, None)
    if (found := _crc32(tensors, notes)) != expected:
        raise DamagedFileError(f"{path} is damaged: expected the checksum {expected}, found {found}")
    return tensors, notes


def _crc32(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    described = {key: (str(tensors[key].dtype), tuple(tensors[key].shape)) for key in sorted(tensors)}
    checksum = zlib.crc32(json.dumps([described, notes], sort_keys=True).encode())
    for key in described:
        data = tensors[key].contiguous().reshape(-1).view(torch.uint8)  # NumPy has no bfloat16
        checksum = zlib.crc32(data.numpy(), checksum)
    return f"{checksum:08x}"
