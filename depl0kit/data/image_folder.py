"""A folder of images as `Data`: decoded once, into memory and a cache; or streamed, where it is too big."""

import glob
import hashlib
import json
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ..support import checks
from .data_set import MEMORY_LIMIT, Data, in_memory
from .decoding import decode, decoded_bytes, depth, refusal
from .files import Content, DataNotFoundError, cached
from .folder_splits import Listing, listing
from .splits import PARTS
from .streaming import StreamedSplit

FORMAT = 2  # of the cache: raise it when the same files are to give other pixels
PHOTOS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of ImageNet, for what is streamed


def load(folder: Path, root: Path, size: int | None, skip_damaged: bool, stream: bool | None) -> Data:
    """The images of `folder`; `root` has the cache. For options and errors see `loading.load_data`."""
    if size is not None:
        checks.whole("size", size, 1)
    found = listing(folder)
    if stream is None:
        stream = decoded_bytes(found.paths(), size) > MEMORY_LIMIT
    name = folder.resolve().name
    if stream:
        return _streamed(name, found, size or 224, skip_damaged)
    t = decoded(found, root, size, skip_damaged)
    parts = ((t[f"{part}_images"].permute(0, 3, 1, 2), t[f"{part}_labels"]) for part in PARTS)
    return in_memory(name, found.classes, *parts)


def imagenet(root: Path, size: int | None, skip_damaged: bool, stream: bool | None) -> Data:
    """ImageNet in `root`, streamed if `stream` is None."""
    folder = root / "imagenet"
    if not folder.is_dir():
        raise DataNotFoundError(
            f"ImageNet is not at {folder.absolute()}: register at image-net.org, download ILSVRC2012, and "
            f"unpack it as {folder.name}/train/<wnid>/*.JPEG and {folder.name}/val/<wnid>/*.JPEG there."
        )
    return load(folder, root, size, skip_damaged, True if stream is None else stream)


def _streamed(name: str, found: Listing, size: int, skip_damaged: bool) -> Data:
    mean, std = PHOTOS
    same = {"skip_damaged": skip_damaged, "bits": depth(found.paths(["train"]))}
    splits = (
        StreamedSplit(found.folder, files, files.labels, torch.tensor(mean), torch.tensor(std), size, **same)
        for files in map(found.splits.get, PARTS)
    )
    return Data(name, *splits, found.classes, mean, std)


def decoded(where: Listing, root: Path, size: int | None, skip_damaged: bool) -> dict[str, Tensor]:
    """All images of a listing, decoded; from a cache in `root` if no file changed since.

    Options and errors are those of `loading.load_data`.

    Returns:
        <split>_images: uint8 [N, H, W, C], with C = 1 if all images are grey, else 3; and
        <split>_labels: int64 [N]; for train, val and test.
    """
    cache = _cache_path(where, root, size)

    def make() -> Content:
        content = _decode_all(where, size, skip_damaged)
        _forget(cache)
        return content

    tensors, notes = cached(cache, make)
    damaged = json.loads(notes["damaged"])
    if damaged and not skip_damaged:
        raise refusal(next(iter(damaged.values())))
    if damaged:
        names = checks.few(list(damaged))
        warnings.warn(f"{len(damaged)} images cannot be read and are left out: {names}.", stacklevel=2)
    return tensors


def _decode_all(where: Listing, size: int | None, skip: bool) -> Content:
    """What `decoded` returns, and in the notes {path: the error} of damaged images."""
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
    return tensors, {"damaged": json.dumps({paths[i]: error for i, error in damaged.items()})}


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
