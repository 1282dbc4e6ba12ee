"""CIFAR-10 and CIFAR-100.

`load` looks, in this order, at our own cache, at the unpacked folder and at the archive where
torchvision keeps them, and then downloads the archive.

The files are pickles, and reading a pickle can run any code that is in it. So torchvision reads a file only
after its MD5 sum is found to be that of the authors' file. The cache that is read from then on is
safetensors, which holds no code.
"""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from .data_set import Data, in_memory, picked
from .files import download, read_cache, set_aside, write_cache
from .splits import stratified

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def load(name: str, root: Path) -> Data:
    """The set `name` in `TITLES`, from the cache in `root` or from where its files are found.

    Raises:
        DataNotFoundError: it is not on this machine and cannot be downloaded.
    """
    cache = root / f"{name}.safetensors"
    cached = read_cache(cache)
    if cached is None:
        t, classes = _find(root, name)
        write_cache(cache, t, {"classes": json.dumps(classes)})
    else:
        t, classes = cached[0], json.loads(cached[1]["classes"])
    labels = t["train_labels"]
    num_val = len(labels) // 10
    parts = stratified(labels, len(labels) - num_val, num_val)
    train, test = (t[f"{part}_images"].permute(0, 3, 1, 2) for part in ("train", "test"))
    return in_memory(name, tuple(classes), *picked(train, labels, *parts), (test, t["test_labels"]))


def _find(root: Path, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """uint8 [N, H, W, 3] and int64 [N] of train and test, and the names of the (fine) classes."""
    from torchvision.datasets import CIFAR10, CIFAR100  # takes a second to import
    from torchvision.datasets.utils import download_url

    source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]  # knows the files and their MD5 sums
    if (found := _read(root, source)) is not None:
        return found
    download(
        root,
        [source.filename],
        lambda folder: download_url(source.url, folder, source.filename, source.tgz_md5),
        lambda path: _damage(path, source.tgz_md5),
        TITLES[name],
        f"or copy {source.filename} (from {source.url}) to {root.absolute()}",
    )
    return _read(root, source)


def _read(root: Path, source: type) -> tuple[dict[str, Tensor], list[str]] | None:
    """From the unpacked folder or the archive; None if neither is complete. Damaged files are set aside."""
    meta = source.meta["filename"], source.meta["md5"]
    files = [
        (root / source.base_folder / file, md5) for file, md5 in (*source.train_list, *source.test_list, meta)
    ]
    if all([_is_sound(path, md5) for path, md5 in files]):
        return _tensors(root, source)
    archive = root / source.filename
    if not _is_sound(archive, source.tgz_md5):
        return None
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(archive, folder, "gztar", filter="data")
        return _tensors(Path(folder), source)


def _tensors(root: Path, source: type) -> tuple[dict[str, Tensor], list[str]]:
    tensors = {}
    for part in ("train", "test"):
        found = source(root, train=part == "train")
        tensors[f"{part}_images"] = torch.from_numpy(found.data)
        tensors[f"{part}_labels"] = torch.tensor(found.targets)
    return tensors, list(found.classes)


def _is_sound(path: Path, md5: str) -> bool:
    """Whether a file is there and is the authors' one; another one is named in a warning and set aside."""
    damage = _damage(path, md5) if path.is_file() else ""
    if damage:
        warnings.warn(f"{path} is damaged: {damage}. {set_aside(path)}", stacklevel=2)
    return damage is None


def _damage(path: Path, md5: str) -> str | None:
    from torchvision.datasets.utils import calculate_md5

    found = calculate_md5(path)
    size = path.stat().st_size
    return None if found == md5 else f"expected the MD5 sum {md5}, found {found} in {size} bytes"
