"""Data sets with fixed training, validation and test splits.

`load_data` takes a name or a folder of images. Sets that fit into memory are held there as uint8
tensors (`Split`); bigger ones are read from their files while they are used (`StreamedSplit`).

A further data set is one more function `root -> Data` in `_LOADERS`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..support import checks
from ..support.arguments import checked
from . import cifar, fashion_mnist, image_folder
from .decoding import DamagedImageError, decoded_bytes, depth
from .files import DataNotFoundError
from .image_folder import Listing
from .splits import Split, stratified
from .streaming import StreamedSplit

__all__ = [
    "DamagedImageError",
    "Data",
    "DataNotFoundError",
    "Split",
    "StreamedSplit",
    "data_root",
    "load_data",
]

MEMORY_LIMIT = 4e9  # bytes of pixels; a bigger folder is streamed
PHOTOS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of ImageNet, for what is streamed


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: choose models on `val`, report on `test`.

    Args:
        mean, std: per channel, of the training split, of pixels in [0, 1]; of ImageNet where the
            data are streamed.
    """

    name: str
    train: Split | StreamedSplit
    val: Split | StreamedSplit
    test: Split | StreamedSplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def in_channels(self) -> int:
        return self.train.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.train.shape[1:]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def example(self) -> Tensor:
        """The first training image, normalised: float32 [1, C, H, W]."""
        return self.train.example

    def to(self, device: torch.device | str) -> "Data":
        """The same data with all splits on `device`."""
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

    def __repr__(self) -> str:
        shape = "x".join(map(str, (self.in_channels, *self.image_size)))
        names = ", ".join(self.classes[:10]) + (", ..." if self.num_classes > 10 else "")
        return (
            f"Data({self.name}: {len(self.train)} train, {len(self.val)} val, {len(self.test)} test "
            f"images of {shape}; {self.num_classes} classes: {names})"
        )


@checked
def load_data(
    name_or_folder: str | Path,
    root: str | Path | None = None,
    size: int | None = None,
    skip_damaged: bool = False,
    stream: bool | None = None,
) -> Data:
    """Load a data set by its name, or from a folder of images.

    Names: "digits" (1797 images, 8x8, grey), "fashion_mnist" (70,000, 28x28, grey), "cifar10" and
    "cifar100" (60,000, 32x32), and "imagenet" (1.3 million photographs, which you must bring:
    root/imagenet/train/<class>/ and root/imagenet/val/<class>/).

    A folder is a `Path`, or text that has a separator in it or names a directory. It holds
    `train/<class>/` and `test/<class>/`, `val/<class>/`, or both. Choose models on `val`, report on
    `test`: with val/ alone, as in ImageNet, its images become the *test* split, and validation is a
    tenth of train; with test/ alone, validation is a tenth of train, too; with neither, a tenth
    becomes validation and a fifth test. These parts are the same every time, with all classes in
    their proportions. Images are read as a viewer shows them, see `decoding`; files that Pillow cannot
    read are named in a warning.

    Args:
        root: where files are kept, see `data_root`. Digits need none.
        size: of folders, in pixels: every image is scaled until its shorter side has that size, and
            its middle is cut out. None keeps the images, which must then all have one size; where
            they are streamed, it is 224.
        skip_damaged: of folders: leave out images that cannot be read, with a warning.
        stream: of folders: True reads images anew in every epoch, False decodes them all once, into
            memory and a cache; None streams ImageNet, and what would need more than 4 GB.

    Raises:
        ValueError: an unknown name, a folder with another layout, an option that does not apply.
        DamagedImageError: (a ValueError) an image of a folder cannot be read.
        DataNotFoundError: the set is not on this machine and cannot be downloaded.
    """
    options = _FolderOptions(size, skip_damaged, stream)
    if is_folder(name_or_folder):
        return _folder(Path(name_or_folder).expanduser(), data_root(root), options)
    if name_or_folder == "imagenet":
        return _imagenet(data_root(root), options)
    loader = _LOADERS[_checked_name(name_or_folder)]
    if options != _FolderOptions():
        raise ValueError(
            f"size, skip_damaged and stream are for folders of images, not for {name_or_folder!r}."
        )
    return loader(data_root(root))


def is_folder(name_or_folder: str | Path) -> bool:
    """Whether `load_data` takes it for a folder, and not for a name."""
    if isinstance(name_or_folder, Path):
        return True
    if not isinstance(name_or_folder, str) or name_or_folder in (*_LOADERS, "imagenet"):
        return False
    separators = (os.sep, os.altsep or os.sep)
    return any(s in name_or_folder for s in separators) or Path(name_or_folder).expanduser().is_dir()


def _checked_name(name: object) -> str:
    try:
        return checks.one_of("data set", name, (*_LOADERS, "imagenet"))
    except ValueError as error:
        raise ValueError(f"{error} For a folder of images pass its path, such as './{name}'.") from None


@checked
def data_root(root: str | Path | None = None) -> Path:
    """The folder of the data sets: `root`, else $DEPL0KIT_DATA, else data/ of the checkout that the
    package runs from, else ~/.cache/depl0kit."""
    checkout = Path(__file__).resolve().parents[2]
    in_checkout = (checkout / "pyproject.toml").is_file()
    default = checkout / "data" if in_checkout else "~/.cache/depl0kit"
    return Path(root or os.environ.get("DEPL0KIT_DATA") or default).expanduser()


# ---- the data sets


def _digits(root: Path) -> Data:
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target)
    train, val, test = ((images[i], labels[i]) for i in stratified(labels, 1200, 240, 357))
    return _assemble("digits", tuple("0123456789"), train, val, test)


def _fashion_mnist(root: Path) -> Data:
    t = fashion_mnist.load(root)
    images, labels = t["train_images"].unsqueeze(1), t["train_labels"].long()
    num_val = len(labels) // 12
    parts = stratified(labels, len(labels) - num_val, num_val)
    train, val = ((images.index_select(0, i), labels[i]) for i in parts)  # twice as fast as images[i]
    test = t["test_images"].unsqueeze(1), t["test_labels"].long()
    return _assemble("fashion_mnist", fashion_mnist.CLASSES, train, val, test)


def _cifar(name: str, root: Path) -> Data:
    t, classes = cifar.load(root, name)
    images, labels = t["train_images"], t["train_labels"]
    num_val = len(labels) // 10
    parts = stratified(labels, len(labels) - num_val, num_val)
    train, val = ((images.index_select(0, i).permute(0, 3, 1, 2), labels[i]) for i in parts)
    return _assemble(name, classes, train, val, (t["test_images"].permute(0, 3, 1, 2), t["test_labels"]))


_LOADERS: dict[str, Callable[[Path], Data]] = {
    "digits": _digits,
    "fashion_mnist": _fashion_mnist,
    "cifar10": partial(_cifar, "cifar10"),
    "cifar100": partial(_cifar, "cifar100"),
}
DATA_SETS = (*_LOADERS, "imagenet")  # by name


@dataclass(frozen=True)
class _FolderOptions:
    """See `load_data`."""

    size: int | None = None
    skip_damaged: bool = False
    stream: bool | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            checks.whole("size", self.size, 1)
        for name, allowed in (("skip_damaged", (False, True)), ("stream", (None, False, True))):
            if getattr(self, name) not in allowed:  # "no" would be taken for True
                words = " or ".join(map(str, allowed))
                raise ValueError(f"{name} must be {words}, got {getattr(self, name)!r}.")


def _imagenet(root: Path, options: _FolderOptions) -> Data:
    folder = root / "imagenet"
    if not folder.is_dir():
        raise DataNotFoundError(
            f"ImageNet is not at {folder.absolute()}: register at image-net.org, download ILSVRC2012, and "
            f"unpack it as {folder.name}/train/<wnid>/*.JPEG and {folder.name}/val/<wnid>/*.JPEG there."
        )
    streamed = True if options.stream is None else options.stream
    return _folder(folder, root, replace(options, stream=streamed))


def _folder(folder: Path, root: Path, options: _FolderOptions) -> Data:
    found = image_folder.listing(folder)
    stream = options.stream
    if stream is None:
        stream = decoded_bytes(found.paths(), options.size) > MEMORY_LIMIT
    name = folder.resolve().name
    if stream:
        return _streamed(name, found, options)
    t = image_folder.load(found, root, options.size, options.skip_damaged)
    parts = ((t[f"{p}_images"].permute(0, 3, 1, 2), t[f"{p}_labels"]) for p in image_folder.PARTS)
    return _assemble(name, found.classes, *parts)


def _streamed(name: str, found: Listing, options: _FolderOptions) -> Data:
    mean, std = PHOTOS
    bits = depth(found.paths(["train"]))
    splits = {
        part: StreamedSplit(
            found.folder, files, files.labels, torch.tensor(mean), torch.tensor(std), options.size or 224,
            skip_damaged=options.skip_damaged, bits=bits,
        )
        for part, files in found.splits.items()
    }  # fmt: skip
    return Data(name, **splits, classes=found.classes, mean=mean, std=std)


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
