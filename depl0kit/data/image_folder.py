"""Data sets in folders of images: `train/<class>/` and `val/<class>/`, `test/<class>/`, or both.

`listing` finds the files and decides which image belongs to which split; `load` decodes them all
into one tensor, once, and keeps it in a cache. Folders too big for that are read by streaming.py.
"""

import glob
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .decoding import SUFFIXES, decode, depth, refusal, suffixes
from .files import DataNotFoundError, read_cache, write_cache
from .splits import stratified

PARTS = ("train", "val", "test")
LAYOUT = "train/<class>/ and test/<class>/ or val/<class>/"
FORMAT = 2  # of the cache: raise it when the same files are to give other pixels


@dataclass(frozen=True)
class Files:
    """The files of one split, class after class or in the order of `stratified`.

    Args:
        paths: relative to the folder, as an array of bytes: a million of them pass fast to workers.
        labels: int64 [N], indices of the class names.
    """

    paths: np.ndarray
    labels: Tensor

    def pick(self, indices: Tensor) -> "Files":
        return Files(self.paths[indices.numpy()], self.labels[indices])


@dataclass(frozen=True)
class Listing:
    """Which image of `folder` belongs to which split; no file is opened for that."""

    folder: Path
    classes: tuple[str, ...]
    splits: dict[str, Files]  # train, val, test

    def paths(self, parts: Iterable[str] = PARTS) -> list[str]:
        """Of all images of these splits, as the file system takes them."""
        return [os.path.join(self.folder, os.fsdecode(p)) for part in parts for p in self.splits[part].paths]


def listing(folder: Path) -> Listing:
    """Find the images of a folder, and split them.

    With train, val and test there is nothing to split. With test alone, validation is a tenth of
    train. With val alone, as ImageNet has it, val becomes the *test* split, so that nobody reports
    on what they chose models on, and validation is a tenth of train. With train alone, validation
    is a tenth of it and test a fifth. What is cut off train is drawn with a fixed seed, and has all
    classes in their proportions. Files that are no images Pillow can read are named in a warning.

    Raises:
        DataNotFoundError: the folder does not exist.
        ValueError: it has another layout, or a link in it leads nowhere; the text says what to change.
    """
    if not folder.exists():
        raise DataNotFoundError(
            f"the folder {folder} does not exist: check the path, {_here(folder.parent)}."
        )
    for part in PARTS:
        _refuse_broken_link(folder / part)
    if not (folder / "train").is_dir():
        raise ValueError(f"{folder} has no train/ in it: a data set is laid out as {LAYOUT}.")
    left_out: list[str] = []
    found = {part: _class_files(folder / part, left_out) for part in PARTS if (folder / part).is_dir()}
    classes = tuple(sorted(found["train"]))
    if not classes:
        raise ValueError(f"{folder / 'train'} has no class directories: images go into {LAYOUT}.")
    for part, files in found.items():
        _check_classes(folder, part, files, classes)
    if left_out:
        warnings.warn(_what_is_left_out(folder, left_out), stacklevel=2)
    return Listing(folder, classes, _split({p: _flat(folder, f, classes) for p, f in found.items()}))


def _here(parent: Path) -> str:
    if not parent.is_dir():
        return f"{parent} does not exist either"
    names = sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    return f"{parent} has the folders {', '.join(names[:8])}" if names else f"{parent} has no folders"


def _what_is_left_out(folder: Path, paths: list[str]) -> str:
    return (
        f"{len(paths)} entries of {folder} are left out, as they are no images that Pillow can read here, or "
        f"lie in no class directory: {_few([os.path.relpath(path, folder) for path in paths])}."
    )


def _refuse_broken_link(path: str | Path) -> None:
    if os.path.islink(path) and not os.path.exists(path):
        raise ValueError(f"{path} is a link to {os.readlink(path)}, which is not there: repair or delete it.")


def _class_files(part: Path, left_out: list[str]) -> dict[str, list[str]]:
    """{class: paths of its images, sorted}; the paths of what is no image go to `left_out`."""
    found, endings, above = {}, set(suffixes()), (os.path.realpath(part),)
    for entry in _visible(part):
        _refuse_broken_link(entry.path)  # or a class would be missing without a word
        if _is_directory(entry):
            found[entry.name] = list(_images(entry.path, endings, above, left_out))
        else:
            left_out.append(entry.path)
    return found


def _images(directory: str, endings: set[str], above: tuple[str, ...], left_out: list[str]) -> Iterator[str]:
    """The images in a directory and below, in the order of their names.

    Args:
        above: the directories that lead here, without links: one that links back to them is not entered.
    """
    here = os.path.realpath(directory)
    if any(os.path.commonpath([here, one]) == here for one in above):
        left_out.append(directory)
        return
    for entry in _visible(directory):
        if _is_directory(entry):
            yield from _images(entry.path, endings, (*above, here), left_out)
        elif os.path.splitext(entry.name)[1].lower() in endings and (entry.is_symlink() or entry.is_file()):
            yield entry.path  # also a link that leads nowhere: an image that cannot be read
        else:
            left_out.append(entry.path)


def _visible(directory: str | Path) -> list[os.DirEntry]:
    """Not such as the ._0001.jpg that macOS leaves behind; in the order of their names."""
    return sorted((e for e in os.scandir(directory) if not e.name.startswith(".")), key=lambda e: e.name)


def _is_directory(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _check_classes(folder: Path, part: str, files: dict[str, list[str]], classes: tuple[str, ...]) -> None:
    missing, extra = sorted(set(classes) - set(files)), sorted(set(files) - set(classes))
    if missing or extra:
        differ = [f"only train has {_few(missing)}"] * bool(missing)
        differ += [f"only {part} has {_few(extra)}"] * bool(extra)
        raise ValueError(
            f"the class directories of {folder / 'train'} and {part} differ: {'; '.join(differ)}. "
            f"Give both the same, or move {part} away."
        )
    empty = sorted(name for name, paths in files.items() if not paths)
    if empty:
        raise ValueError(
            f"no images in {folder / part / empty[0]} (nor in {len(empty) - 1} other class directories): "
            f"put {', '.join(SUFFIXES[:3])}, ... files there, or delete the class from all splits."
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _flat(folder: Path, files: dict[str, list[str]], classes: tuple[str, ...]) -> Files:
    start = len(os.path.join(folder, ""))
    paths = [os.fsencode(path[start:]) for name in classes for path in files[name]]
    counts = torch.tensor([len(files[name]) for name in classes])
    return Files(np.array(paths), torch.arange(len(classes)).repeat_interleave(counts))


def _split(found: dict[str, Files]) -> dict[str, Files]:
    """train, val and test of the parts that are there, see `listing`."""
    if len(found) == len(PARTS):
        return found
    train, test = found["train"], found.get("test", found.get("val"))
    n = len(train.labels)
    num_val, num_test = max(1, round(n / 10)), 0 if test else max(1, round(n / 5))
    if num_val + num_test >= n:
        raise ValueError(
            f"{n} training images are too few to cut validation images off: add some, or a val/."
        )
    parts = stratified(train.labels, n - num_val - num_test, num_val, num_test)
    cut = dict(zip(PARTS, (train.pick(i) for i in parts), strict=True))
    return cut | ({"test": test} if test else {})


# ---- in memory


def load(where: Listing, root: Path, size: int | None, skip_damaged: bool) -> dict[str, Tensor]:
    """All images of a listing, decoded; from a cache in `root` if no file changed since.

    Args:
        size: None keeps the images as they are, all of one size; else they are scaled until the
            shorter side has `size` pixels, and their middle is cut out, size x size.
        skip_damaged: leave out the images that cannot be read, with a warning that names them.

    Returns:
        <split>_images: uint8 [N, H, W, C], with C = 1 if all images are grey, else 3; and
        <split>_labels: int64 [N]; for train, val and test.

    Raises:
        DamagedImageError: an image cannot be read, and skip_damaged is False.
        ValueError: images of different sizes, and no `size`.
    """
    cache = _cache_path(where, root, size)
    cached = read_cache(cache)
    if cached is None:
        tensors, damaged = _decode_all(where, size, skip_damaged)
        _forget(cache)
        write_cache(cache, tensors, {"damaged": json.dumps(damaged)})
    else:
        tensors, damaged = cached[0], json.loads(cached[1]["damaged"])
    if damaged and not skip_damaged:
        raise refusal(next(iter(damaged.values())))
    if damaged:
        names = _few(list(damaged))
        warnings.warn(f"{len(damaged)} images cannot be read and are left out: {names}.", stacklevel=2)
    return tensors


def _decode_all(where: Listing, size: int | None, skip: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors as `load` returns them, {path: the error} of damaged images)."""
    paths = where.paths()
    images, damaged = decode(paths, size, skip, depth(where.paths(["train"])))
    sound = torch.ones(len(paths), dtype=torch.bool)
    sound[list(damaged)] = False
    counts, tensors = [len(where.splits[part].labels) for part in PARTS], {}
    for part, pixels, keep in zip(PARTS, images.split(counts), sound.split(counts), strict=True):
        if not keep.any():
            raise ValueError(f"no image of the {part} split of {where.folder} can be read: repair some.")
        tensors[f"{part}_images"] = pixels if keep.all() else pixels[keep]
        tensors[f"{part}_labels"] = where.splits[part].labels[keep]
    return tensors, {paths[i]: error for i, error in damaged.items()}


def _cache_path(where: Listing, root: Path, size: int | None) -> Path:
    """<name>-<folder and size>-<fingerprint>: another state of the same folder differs at the end."""
    counts = [len(where.splits[part].labels) for part in PARTS]
    files = hashlib.sha256(f"{FORMAT} {where.classes} {counts}".encode(errors="surrogateescape"))
    within = len(os.path.join(where.folder, ""))  # the same folder may go by several paths
    for path in where.paths():
        status = os.stat(path) if os.path.exists(path) else os.lstat(path)  # of a link that leads nowhere
        state = f"{path[within:]}\0{status.st_size}\0{status.st_mtime_ns}\n"
        files.update(state.encode(errors="surrogateescape"))
    which = hashlib.sha256(f"{where.folder.resolve()}\n{size}".encode()).hexdigest()
    name = f"{where.folder.resolve().name}-{which[:8]}-{files.hexdigest()[:16]}.safetensors"
    return root / "folders" / name


def _forget(cache: Path) -> None:
    """Delete the caches of earlier states of the same folder."""
    prefix = cache.name.rpartition("-")[0]
    for stale in cache.parent.glob(f"{glob.escape(prefix)}-*.safetensors"):
        if stale != cache:  # which another process may have written meanwhile
            stale.unlink(missing_ok=True)
