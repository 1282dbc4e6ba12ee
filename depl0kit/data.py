"""Data sets with fixed training, validation and test splits, held as uint8 tensors.

`load_data("digits")` needs nothing but scikit-learn. `load_data("fashion_mnist")` looks, in this
order, at our own cache, at idx files where torchvision keeps them, at Debian's package
dataset-fashion-mnist, and then downloads. Every file is checked before it is used.

A further data set is one more function `root -> Data` in `_LOADERS`.
"""

import http.client
import math
import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from . import checks

SPLIT_SEED = 0
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = {  # what it holds: (idx file, its exact shape)
    "train_images": ("train-images-idx3-ubyte", (60_000, 28, 28)),
    "train_labels": ("train-labels-idx1-ubyte", (60_000,)),
    "test_images": ("t10k-images-idx3-ubyte", (10_000, 28, 28)),
    "test_labels": ("t10k-labels-idx1-ubyte", (10_000,)),
}
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class DataNotFoundError(FileNotFoundError):
    """A data set is neither on this machine nor could it be downloaded; the text says how to get it."""


class _DamagedError(Exception):
    """A file is not what it should be; the text says what was expected and what was found."""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images with their labels.

    Args:
        images: uint8 [N, C, H, W], in channels-last memory format.
        labels: int64 [N].
        mean, std: float32 [C], of pixels in [0, 1]; what `batches` normalises with.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"Split({len(self)} images of {shape} on {self.images.device})"

    def to(self, device: torch.device | str) -> "Split":
        """The same split on `device`."""
        return Split(*(t.to(device) for t in (self.images, self.labels, self.mean, self.std)))

    def batches(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through the split.

        Args:
            batch_size: at least 1.
            generator: if given, shuffles, and leaves out the last incomplete batch (batch norm
                has no variance for one leftover image), unless it is the only one. Without it
                all images come, in order.

        Yields:
            (x, y): float32 [B, C, H, W], normalised, channels-last; int64 [B].
        """
        checks.whole("batch_size", batch_size, 1)
        pixels = self.images.permute(0, 2, 3, 1)  # how channels-last lies in memory
        if generator is None:
            pairs = zip(pixels.split(batch_size), self.labels.split(batch_size), strict=True)
        else:
            order = torch.randperm(len(self), generator=generator, device=generator.device)
            in_full_batches = len(self) - len(self) % batch_size or len(self)
            picks = order[:in_full_batches].to(pixels.device).split(batch_size)
            # index_select: 5 to 20 times faster than pixels[i] on a CPU
            pairs = ((pixels.index_select(0, i), self.labels.index_select(0, i)) for i in picks)
        scale, shift = self._affine
        return ((torch.addcmul(shift, p.float(), scale).permute(0, 3, 1, 2), y) for p, y in pairs)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift), [H, W, C] each, with pixel * scale + shift normalised.

        Spread over a whole image because broadcasting three channels is 5 times slower.
        """
        size = (*self.images.shape[2:], len(self.mean))
        scale, shift = 1 / (255 * self.std), -self.mean / self.std
        return scale.expand(size).contiguous(), shift.expand(size).contiguous()


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: choose models on `val`, report on `test`.

    Args:
        mean, std: per channel, of the training split, of pixels in [0, 1].
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def in_channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return tuple(self.train.images.shape[2:])

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def example(self) -> Tensor:
        """The first training image, normalised: float32 [1, C, H, W]."""
        return next(self.train.batches(1))[0]

    def to(self, device: torch.device | str) -> "Data":
        """The same data with all splits on `device`."""
        splits = {name: getattr(self, name).to(device) for name in ("train", "val", "test")}
        return replace(self, **splits)

    def __repr__(self) -> str:
        shape = "x".join(map(str, (self.in_channels, *self.image_size)))
        names = ", ".join(self.classes[:10]) + (", ..." if self.num_classes > 10 else "")
        return (
            f"Data({self.name}: {len(self.train)} train, {len(self.val)} val, {len(self.test)} test "
            f"images of {shape}; {self.num_classes} classes: {names})"
        )


def load_data(name_or_folder: str, root: str | Path | None = None) -> Data:
    """Load a data set by name: "digits" (1797 images, 8x8) or "fashion_mnist" (70,000, 28x28).

    Args:
        root: where files are kept, see `data_root`. Digits need none.

    Raises:
        ValueError: an unknown name.
        DataNotFoundError: the set is not on this machine and cannot be downloaded.
    """
    return _LOADERS[checks.one_of("data set", name_or_folder, _LOADERS)](data_root(root))


def data_root(root: str | Path | None = None) -> Path:
    """The folder of the data sets: `root`, else $DEPL0KIT_DATA, else data/ of the checkout that the
    package runs from, else ~/.cache/depl0kit."""
    checkout = Path(__file__).resolve().parent.parent
    in_checkout = (checkout / "pyproject.toml").is_file()
    default = checkout / "data" if in_checkout else "~/.cache/depl0kit"
    return Path(root or os.environ.get("DEPL0KIT_DATA") or default).expanduser()


# ---- the data sets


def _digits(root: Path) -> Data:
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target)
    train, val, test = ((images[i], labels[i]) for i in _stratified(labels, 1200, 240, 357))
    return _assemble("digits", tuple("0123456789"), train, val, test)


def _fashion_mnist(root: Path) -> Data:
    t = _cached(root / "fashion_mnist.safetensors", _find_fashion_mnist)
    images, labels = t["train_images"].unsqueeze(1), t["train_labels"].long()
    num_val = len(labels) // 12
    parts = _stratified(labels, len(labels) - num_val, num_val)
    train, val = ((images.index_select(0, i), labels[i]) for i in parts)  # twice as fast as images[i]
    test = t["test_images"].unsqueeze(1), t["test_labels"].long()
    return _assemble("fashion_mnist", FASHION_MNIST_CLASSES, train, val, test)


_LOADERS: dict[str, Callable[[Path], Data]] = {"digits": _digits, "fashion_mnist": _fashion_mnist}


def _stratified(labels: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """Indices of disjoint parts of the given sizes, each with all classes in their proportions.

    NumPy promises the stream of RandomState for good, so the parts never change.
    """
    shuffled = torch.from_numpy(np.random.RandomState(SPLIT_SEED).permutation(len(labels)))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in range(int(labels.max()) + 1):  # each class spread evenly over (0, 1)
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place.argsort(stable=True).split(sizes)


def _assemble(name: str, classes: tuple[str, ...], *parts: tuple[Tensor, Tensor]) -> Data:
    """Data from (images, labels) of train, val and test, with the statistics of train."""
    mean, std = _channel_statistics(parts[0][0])
    last, m, s = torch.channels_last, torch.tensor(mean), torch.tensor(std)
    splits = (Split(images.contiguous(memory_format=last), labels, m, s) for images, labels in parts)
    return Data(name, *splits, classes, mean, std)


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of uint8 [N, C, H, W] per channel, in [0, 1]; from histograms, so no float copy."""
    value = torch.arange(256, dtype=torch.float64) / 255
    share = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)]).double()
    share /= share.sum(1, keepdim=True)
    mean = share @ value
    variance = (share * (value - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp(min=1 / 255).tolist())  # never 0


# ---- Fashion-MNIST's files


def _find_fashion_mnist(root: Path) -> dict[str, Tensor]:
    raw = root / "FashionMNIST" / "raw"
    tensors = _read_folder(raw, _delete) or _read_folder(DEBIAN_FOLDER, _debian_remedy)
    if tensors is None:
        try:
            _download(raw)
        except (_DamagedError, RuntimeError, OSError, http.client.HTTPException) as error:
            raise DataNotFoundError(_how_to_get_it(raw, error)) from error
        tensors = _read_folder(raw, _delete)
    return tensors


def _how_to_get_it(raw: Path, error: Exception) -> str:
    files = ", ".join(f"{file}.gz" for file, _ in FASHION_MNIST_FILES.values())
    return (
        f"Fashion-MNIST is not on this machine and cannot be downloaded ({' '.join(str(error).split())}). "
        "Load it again when online; or, on Debian and Ubuntu, apt-get install --reinstall "
        f"dataset-fashion-mnist; or copy {files} to {raw}."
    )


def _debian_remedy(path: Path) -> str:
    return "Repair it with: apt-get install --reinstall dataset-fashion-mnist"


def _delete(path: Path) -> str:
    try:
        path.unlink(missing_ok=True)  # another process may have been first
    except OSError as error:
        return f"It cannot be deleted ({error}): delete it by hand."
    return "It is deleted, and fetched or built again."


def _read_folder(folder: Path, remedy: Callable[[Path], str]) -> dict[str, Tensor] | None:
    """The four idx files, unpacked or .gz; None if one is not there in good order.

    A damaged file is named in a warning that ends with `remedy(file)`.
    """
    tensors = {}
    for key, (file, shape) in FASHION_MNIST_FILES.items():
        for path in (folder / file, folder / f"{file}.gz"):
            if key not in tensors and path.is_file():
                try:
                    tensors[key] = _read_idx(path, shape)
                except _DamagedError as error:
                    warnings.warn(f"{path} is damaged: {error}. {remedy(path)}", stacklevel=2)
    return tensors if len(tensors) == len(FASHION_MNIST_FILES) else None


def _read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """uint8 tensor of an idx file: 0, 0, 8 (unsigned bytes), rank, sizes (big-endian), values.

    Raises:
        _DamagedError: not exactly a header for `shape` and its values, or a label above 9.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    size = len(header) + math.prod(shape)
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = _gunzip(content, size)
    found = content[: len(header)]
    if found != header:
        raise _DamagedError(
            f"expected the idx header {header.hex(' ', -4)} ({'x'.join(map(str, shape))} bytes), "
            f"found {found.hex(' ', -4) or 'an empty file'}"
        )
    if len(content) != size:
        raise _DamagedError(f"expected {size} bytes, found {len(content)}")
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=len(header)).view(shape)
    if len(shape) == 1 and (highest := int(values.max())) >= len(FASHION_MNIST_CLASSES):
        raise _DamagedError(f"expected labels from 0 to 9, found {highest}")
    return values


def _gunzip(content: bytes, size: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)  # 31: gzip; unlike the gzip module it keeps what came so far
    try:
        unpacked = stream.decompress(content)
    except zlib.error as error:
        raise _DamagedError(f"expected gzip data, found: {error}") from error
    if not stream.eof:
        raise _DamagedError(f"expected {size} bytes once unpacked, found the end after {len(unpacked)}")
    return unpacked


def _download(raw: Path) -> None:
    """Download into a folder of this process, then move the four .gz files to `raw`.

    So no other process ever sees half a file.
    """
    raw.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=raw, prefix=".download-") as folder:
        _torchvision_download(folder)
        for file, _ in FASHION_MNIST_FILES.values():
            os.replace(Path(folder, "FashionMNIST", "raw", f"{file}.gz"), raw / f"{file}.gz")


def _torchvision_download(folder: str) -> None:
    """torchvision's download, with its md5 checks; once more if a file arrives damaged."""
    from torchvision.datasets import FashionMNIST  # another second

    for last_try in (False, True):
        try:
            FashionMNIST(folder, download=True)
            return
        except (RuntimeError, ConnectionError, http.client.HTTPException) as error:
            damage = _first_damage(Path(folder, "FashionMNIST", "raw"))
            if damage is None:  # nothing arrived
                raise
            if last_try:
                raise _DamagedError(damage) from error
            warnings.warn(f"{damage}. It is downloaded again.", stacklevel=2)


def _first_damage(folder: Path) -> str | None:
    for file, shape in FASHION_MNIST_FILES.values():
        path = folder / f"{file}.gz"
        try:
            if path.is_file():
                _read_idx(path, shape)
        except _DamagedError as error:
            return f"{path.name} arrived damaged: {error}"
    return None


# ---- the cache: all tensors of a set in one safetensors file


def _cached(path: Path, build: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in `path`; if it is missing or damaged, those of `build(folder)`, then kept there."""
    tensors = _read_cache(path)
    if tensors is None:
        tensors = build(path.parent)
        _write_cache(path, tensors)
    return tensors


def _read_cache(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            keys = file.keys()
            # cloned, or the tensors would hang on the mapped file for as long as they live
            tensors = {key: file.get_tensor(key).clone() for key in keys}
            expected = (file.metadata() or {}).get("crc32")
    except FileNotFoundError:  # another process has just deleted it
        return None
    except SafetensorError as error:
        problem = f"expected a safetensors file, found: {error}"
    else:
        found = _crc32(tensors)
        if found == expected:
            return tensors
        problem = f"expected the checksum {expected}, found {found}"
    warnings.warn(f"the cache {path} is damaged: {problem}. {_delete(path)}", stacklevel=2)
    return None


def _write_cache(path: Path, tensors: dict[str, Tensor]) -> None:
    """Atomically: other processes see the old file or the new one, never a part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".cache-") as folder:
            unfinished = Path(folder, path.name)
            # not save_file, whose file only its owner may read
            unfinished.write_bytes(save(tensors, {"crc32": _crc32(tensors)}))
            os.replace(unfinished, path)
    except OSError as error:  # the data are there all the same
        warnings.warn(f"the cache {path} cannot be written ({error}).", stacklevel=2)


def _crc32(tensors: dict[str, Tensor]) -> str:
    checksum = 0
    for key in sorted(tensors):
        checksum = zlib.crc32(tensors[key].numpy(), checksum)
    return f"{checksum:08x}"
