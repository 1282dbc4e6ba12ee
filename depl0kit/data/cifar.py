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

from .data_set import Data, with_val
from .files import Content, cached, download, set_aside

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def load(name: str, root: Path) -> Data:
    """The set `name` in `TITLES`, from the cache in `root` or from where its files are found."""
    t, notes = cached(root / f"{name}.safetensors", lambda: _find(root, name))
    parts = ((t[f"{part}_images"].permute(0, 3, 1, 2), t[f"{part}_labels"]) for part in ("train", "test"))
    return with_val(name, tuple(json.loads(notes["classes"])), *parts, share=10)


def _find(root: Path, name: str) -> Content:
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


def _read(root: Path, source: type) -> Content | None:
    """From the unpacked folder or the archive; None if neither is complete. Damaged files are set aside."""
    meta = source.meta["filename"], source.meta["md5"]
    files, folder = (*source.train_list, *source.test_list, meta), root / source.base_folder
    if all([_is_sound(folder / file, md5) for file, md5 in files]):
        return _tensors(root, source)
    archive = root / source.filename
    if not _is_sound(archive, source.tgz_md5):
        return None
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(archive, folder, "gztar", filter="data")
        return _tensors(Path(folder), source)


def _tensors(root: Path, source: type) -> Content:
    tensors: dict[str, Tensor] = {}
    for part in ("train", "test"):
        found = source(root, train=part == "train")
        tensors[f"{part}_images"] = torch.from_numpy(found.data)
        tensors[f"{part}_labels"] = torch.tensor(found.targets)
    return tensors, {"classes": json.dumps(found.classes)}


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
