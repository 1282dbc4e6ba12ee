"""CIFAR-10 and CIFAR-100: where their tensors come from.

`load` looks, in this order, at our own cache, at the unpacked folder and at the archive where
torchvision keeps them, and then downloads the archive.

The files are pickles, and reading a pickle can run any code that is in it. So bytes are unpickled
only after their MD5 sum is found to be the one that torchvision lists: it stands for the file of the
authors. The cache that is read from then on is safetensors, which holds no code.
"""

import hashlib
import http.client
import io
import json
import os
import pickle
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..support.files import DamagedFileError
from .files import DataNotFoundError, read_cache, set_aside, write_cache

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def load(root: Path, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors and class names of `name` in `TITLES`, from the cache in `root` or where they are found.

    Returns:
        train_images, test_images: uint8 [N, H, W, 3]; train_labels, test_labels: int64 [N]; and the
        names of the (fine) classes.

    Raises:
        DataNotFoundError: they are not on this machine and cannot be downloaded.
    """
    cache = root / f"{name}.safetensors"
    cached = read_cache(cache)
    if cached is None:
        tensors, classes = _find(root, name)
        write_cache(cache, tensors, {"classes": json.dumps(classes)})
        return tensors, tuple(classes)
    return cached[0], tuple(json.loads(cached[1]["classes"]))


# ---- the sources; `source` is torchvision's class, which knows the files and their MD5 sums


def _find(root: Path, name: str) -> tuple[dict[str, Tensor], list[str]]:
    from torchvision.datasets import CIFAR10, CIFAR100  # takes a second to import

    source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    contents = _read_folder(root / source.base_folder, source) or _read_archive(root, source)
    if contents is None:
        try:
            _download(root, source)
        except (DamagedFileError, RuntimeError, OSError, http.client.HTTPException) as error:
            raise DataNotFoundError(_how_to_get_it(root, name, source, error)) from error
        contents = _read_archive(root, source)
    return _tensors(contents, source)


def _how_to_get_it(root: Path, name: str, source: type, error: Exception) -> str:
    return (
        f"{TITLES[name]} is not on this machine and cannot be downloaded ({' '.join(str(error).split())}): "
        f"load it again when online, or copy {source.filename} (from {source.url}) to {root.absolute()}."
    )


def _md5_sums(source: type) -> dict[str, str]:
    return dict(source.train_list + source.test_list) | {source.meta["filename"]: source.meta["md5"]}


def _read_folder(folder: Path, source: type) -> dict[str, bytes] | None:
    """The contents of the unpacked files; None if one is missing, or damaged and set aside."""
    contents = {file: _read_checked(folder / file, md5) for file, md5 in _md5_sums(source).items()}
    return None if None in contents.values() else contents


def _read_archive(root: Path, source: type) -> dict[str, bytes] | None:
    """The contents of the files in the archive; None if it is missing, or damaged and set aside."""
    packed = _read_checked(root / source.filename, source.tgz_md5)
    if packed is None:
        return None
    # from the very bytes that were checked, and in memory: no file of it lands anywhere
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {file: _member(archive, f"{source.base_folder}/{file}") for file in _md5_sums(source)}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    with archive.extractfile(name) as file:
        return file.read()


def _read_checked(path: Path, md5: str) -> bytes | None:
    """The bytes of a file; None if it is missing, or damaged, named in a warning and set aside."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if (damage := _damage(content, md5)) is None:
        return content
    warnings.warn(f"{path} is damaged: {damage}. {set_aside(path)}", stacklevel=2)
    return None


def _damage(content: bytes, md5: str) -> str | None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return None if found == md5 else f"expected the MD5 sum {md5}, found {found} in {len(content)} bytes"


def _download(root: Path, source: type) -> None:
    """Download into a folder of this process, then move the archive to `root`; no other sees half a file.

    If it arrives damaged, which torchvision checks, once more.
    """
    from torchvision.datasets.utils import download_url

    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
        arrived = Path(folder, source.filename)
        for last_try in (False, True):
            try:
                download_url(source.url, folder, source.filename, source.tgz_md5)
                break
            except (RuntimeError, ConnectionError, http.client.HTTPException):
                if not arrived.is_file():
                    raise
                damage = _damage(arrived.read_bytes(), source.tgz_md5)
                damage = f"{source.filename} arrived damaged: {damage}"
                if last_try:
                    raise DamagedFileError(damage) from None
                warnings.warn(f"{damage}. It is downloaded again.", stacklevel=2)
        os.replace(arrived, root / source.filename)


# ---- from bytes to tensors


def _tensors(contents: dict[str, bytes], source: type) -> tuple[dict[str, Tensor], list[str]]:
    """Of contents whose MD5 sums are checked."""
    tensors = {}
    for part, files in (("train", source.train_list), ("test", source.test_list)):
        batches = [pickle.loads(contents[file], encoding="latin1") for file, _ in files]
        planes = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([batch.get("labels", batch.get("fine_labels")) for batch in batches])
        tensors[f"{part}_images"] = torch.from_numpy(planes.transpose(0, 2, 3, 1).copy())
        tensors[f"{part}_labels"] = torch.from_numpy(labels.astype(np.int64))
    meta = pickle.loads(contents[source.meta["filename"]], encoding="latin1")
    return tensors, list(meta[source.meta["key"]])
