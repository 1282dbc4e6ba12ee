"""Which image of a folder belongs to which split; no file is opened to find out."""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..support.checks import few
from .decoding import suffixes
from .files import DataNotFoundError
from .splits import PARTS, cut_off

LAYOUT = "train/<class>/ and test/<class>/ or val/<class>/"


@dataclass(frozen=True)
class Files:
    """The files of one split, class after class or in the order of `stratified`."""

    paths: np.ndarray  # relative to the folder, as bytes: a million of them pass fast to workers
    labels: Tensor  # int64 [N], indices of the class names

    def pick(self, which: slice | Tensor) -> "Files":
        return Files(self.paths[which if isinstance(which, slice) else which.numpy()], self.labels[which])


@dataclass(frozen=True)
class Listing:
    """Which image of `folder` belongs to which split."""

    folder: Path
    classes: tuple[str, ...]
    splits: dict[str, Files]  # train, val, test

    def paths(self, parts: Iterable[str] = PARTS) -> list[str]:
        """Of all images of these splits, as the file system takes them."""
        return [os.path.join(self.folder, os.fsdecode(p)) for part in parts for p in self.splits[part].paths]


def listing(folder: Path) -> Listing:
    """Find the images of a folder, and split them as `load_data` says.

    Val alone, as ImageNet has it, becomes the *test* split, so that nobody chooses a model and reports its
    accuracy on the same images.
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
        names = few([os.path.relpath(path, folder) for path in left_out])
        warnings.warn(
            f"{len(left_out)} entries of {folder} are left out, as Pillow cannot read them as images, or "
            f"they lie in no class directory: {names}.",
            stacklevel=2,
        )
    return Listing(folder, classes, _split({p: _flat(folder, f, classes) for p, f in found.items()}))


def _here(parent: Path) -> str:
    if not parent.is_dir():
        return f"{parent} does not exist either"
    names = sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    return f"{parent} has the folders {', '.join(names[:8])}" if names else f"{parent} has no folders"


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
    """The images in a directory and below, by name; a link back to `above`, the way to here, is left out."""
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
        differ = [f"only train has {few(missing)}"] * bool(missing)
        differ += [f"only {part} has {few(extra)}"] * bool(extra)
        raise ValueError(
            f"the class directories of {folder / 'train'} and {part} differ: {'; '.join(differ)}. "
            f"Give both the same, or move {part} away."
        )
    empty = sorted(name for name, paths in files.items() if not paths)
    if empty:
        raise ValueError(
            f"no images in {folder / part / empty[0]} (nor in {len(empty) - 1} other class directories): "
            f"put .jpg, .jpeg, .png, ... files there, or delete the class from all splits."
        )


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
    parts = cut_off(train.labels, val=True, test=test is None)
    cut = dict(zip(PARTS, map(train.pick, parts), strict=True))
    return cut | ({"test": test} if test else {})
