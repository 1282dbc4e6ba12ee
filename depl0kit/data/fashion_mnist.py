"""Fashion-MNIST.

`load` looks, in this order, at our own cache, at idx files where torchvision keeps them, at Debian's
package dataset-fashion-mnist, and then downloads. Every file is checked before it is used.
"""

import math
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..support.files import DamagedFileError
from .data_set import Data, with_val
from .files import cached, download, set_aside

FOLDER = "FashionMNIST/raw"  # torchvision's
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_REMEDY = "Repair it with: apt-get install --reinstall dataset-fashion-mnist"
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


def load(root: Path) -> Data:
    """The set, from the cache in `root` or else from where its files are found."""
    t, _ = cached(root / "fashion_mnist.safetensors", lambda: (_find(root), {}))
    images, labels = (t["train_images"], t["test_images"]), (t["train_labels"], t["test_labels"])
    parts = ((x.unsqueeze(1), y.long()) for x, y in zip(images, labels, strict=True))
    return with_val("fashion_mnist", CLASSES, *parts, share=12)


def _find(root: Path) -> dict[str, Tensor]:
    """The tensors named in `FILES`, uint8, from torchvision's folder, else from Debian, else downloaded."""
    raw = root / FOLDER
    found = _read_folder(raw, set_aside) or _read_folder(DEBIAN_FOLDER, lambda _: DEBIAN_REMEDY)
    if found is not None:
        return found
    from torchvision.datasets import FashionMNIST  # takes a second to import

    names = [f"{file}.gz" for file, _ in FILES.values()]
    download(
        root,
        [f"{FOLDER}/{name}" for name in names],
        lambda folder: FashionMNIST(folder, download=True),
        _damage,
        "Fashion-MNIST",
        "or, on Debian and Ubuntu, apt-get install --reinstall dataset-fashion-mnist, "
        f"or copy {', '.join(names)} to {raw}",
    )
    return _read_folder(raw, set_aside)


def _damage(path: Path) -> str | None:
    shapes = {f"{file}.gz": shape for file, shape in FILES.values()}
    try:
        _read_idx(path, shapes[path.name])
    except DamagedFileError as error:
        return str(error)
    return None


def _read_folder(folder: Path, remedy: Callable[[Path], str]) -> dict[str, Tensor] | None:
    """The four idx files, unpacked or .gz; None if one is missing, or damaged, which a warning says."""
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
    """uint8 tensor of an idx file: 0, 0, 8 (unsigned bytes), rank, sizes (big-endian), values."""
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
