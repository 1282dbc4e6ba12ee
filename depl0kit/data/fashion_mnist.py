"""Fashion-MNIST's files: where its tensors come from.

`load` looks, in this order, at our own cache, at idx files where torchvision keeps them, at Debian's
package dataset-fashion-mnist, and then downloads. Every file is checked before it is used.
"""

import http.client
import math
import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..support.files import DamagedFileError
from .files import DataNotFoundError, read_cache, set_aside, write_cache

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = {  # what it holds: (idx file, its exact shape)
    "train_images": ("train-images-idx3-ubyte", (60_000, 28, 28)),
    "train_labels": ("train-labels-idx1-ubyte", (60_000,)),
    "test_images": ("t10k-images-idx3-ubyte", (10_000, 28, 28)),
    "test_labels": ("t10k-labels-idx1-ubyte", (10_000,)),
}
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def load(root: Path) -> dict[str, Tensor]:
    """The tensors named in `FILES`, uint8, from the cache in `root` or else from where they are found.

    Raises:
        DataNotFoundError: they are not on this machine and cannot be downloaded.
    """
    cache = root / "fashion_mnist.safetensors"
    if (cached := read_cache(cache)) is not None:
        return cached[0]
    tensors = _find(root / "FashionMNIST" / "raw")
    write_cache(cache, tensors)
    return tensors


# ---- the sources


def _find(raw: Path) -> dict[str, Tensor]:
    """From `raw`, where torchvision keeps the files, else from Debian, else downloaded to `raw`."""
    tensors = _read_folder(raw, set_aside) or _read_folder(DEBIAN_FOLDER, _debian_remedy)
    if tensors is None:
        try:
            _download(raw)
        except (DamagedFileError, RuntimeError, OSError, http.client.HTTPException) as error:
            raise DataNotFoundError(_how_to_get_it(raw, error)) from error
        tensors = _read_folder(raw, set_aside)
    return tensors


def _how_to_get_it(raw: Path, error: Exception) -> str:
    files = ", ".join(f"{file}.gz" for file, _ in FILES.values())
    return (
        f"Fashion-MNIST is not on this machine and cannot be downloaded ({' '.join(str(error).split())}). "
        "Load it again when online; or, on Debian and Ubuntu, apt-get install --reinstall "
        f"dataset-fashion-mnist; or copy {files} to {raw}."
    )


def _debian_remedy(path: Path) -> str:
    return "Repair it with: apt-get install --reinstall dataset-fashion-mnist"


def _download(raw: Path) -> None:
    """Download into a folder of this process, then move the four .gz files to `raw`.

    So no other process ever sees half a file.
    """
    raw.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=raw, prefix=".download-") as folder:
        arrived = _torchvision_download(Path(folder))
        for file, _ in FILES.values():
            os.replace(arrived / f"{file}.gz", raw / f"{file}.gz")


def _torchvision_download(folder: Path) -> Path:
    """torchvision's download, with its md5 checks; once more if a file arrives damaged.

    Returns the folder within `folder` that then holds the files.
    """
    from torchvision.datasets import FashionMNIST  # takes a second to import

    arrived = folder / "FashionMNIST" / "raw"
    for last_try in (False, True):
        try:
            FashionMNIST(folder, download=True)
            break
        except (RuntimeError, ConnectionError, http.client.HTTPException) as error:
            damage = _first_damage(arrived)
            if damage is None:  # nothing arrived
                raise
            if last_try:
                raise DamagedFileError(damage) from error
            warnings.warn(f"{damage}. It is downloaded again.", stacklevel=2)
    return arrived


def _first_damage(folder: Path) -> str | None:
    for file, shape in FILES.values():
        path = folder / f"{file}.gz"
        try:
            if path.is_file():
                _read_idx(path, shape)
        except DamagedFileError as error:
            return f"{path.name} arrived damaged: {error}"
    return None


# ---- idx files


def _read_folder(folder: Path, remedy: Callable[[Path], str]) -> dict[str, Tensor] | None:
    """The four idx files, unpacked or .gz; None if one is not there in good order.

    A damaged file is named in a warning that ends with `remedy(file)`.
    """
    tensors = {}
    for key, (file, shape) in FILES.items():
        for path in (folder / file, folder / f"{file}.gz"):
            if key not in tensors and path.is_file():
                try:
                    tensors[key] = _read_idx(path, shape)
                except DamagedFileError as error:
                    warnings.warn(f"{path} is damaged: {error}. {remedy(path)}", stacklevel=2)
    return tensors if len(tensors) == len(FILES) else None


def _read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """uint8 tensor of an idx file: 0, 0, 8 (unsigned bytes), rank, sizes (big-endian), values.

    Raises:
        DamagedFileError: not exactly a header for `shape` and its values, or a label above 9.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    size = len(header) + math.prod(shape)
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = _gunzip(content, size)
    found = content[: len(header)]
    if found != header:
        raise DamagedFileError(
            f"expected the idx header {header.hex(' ', -4)} ({'x'.join(map(str, shape))} bytes), "
            f"found {found.hex(' ', -4) or 'an empty file'}"
        )
    if len(content) != size:
        raise DamagedFileError(f"expected {size} bytes, found {len(content)}")
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=len(header)).view(shape)
    if len(shape) == 1 and (highest := int(values.max())) >= len(CLASSES):
        raise DamagedFileError(f"expected labels from 0 to 9, found {highest}")
    return values


def _gunzip(content: bytes, size: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)  # 31: gzip; unlike the gzip module it keeps what came so far
    try:
        unpacked = stream.decompress(content)
    except zlib.error as error:
        raise DamagedFileError(f"expected gzip data, found: {error}") from error
    if not stream.eof:
        raise DamagedFileError(f"expected {size} bytes once unpacked, found the end after {len(unpacked)}")
    return unpacked
