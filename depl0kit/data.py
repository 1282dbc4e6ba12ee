"""Data sets with fixed training, validation and test splits, held as uint8 tensors.

`load_data("digits")` needs nothing but scikit-learn; for "fashion_mnist" see `fashion_mnist.py`.

A further data set is one more function `root -> Data` in `_LOADERS`.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import checks, fashion_mnist
from .data_files import DataNotFoundError

__all__ = ["Data", "DataNotFoundError", "Split", "data_root", "load_data"]

SPLIT_SEED = 0


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
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

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
    t = fashion_mnist.load(root)
    images, labels = t["train_images"].unsqueeze(1), t["train_labels"].long()
    num_val = len(labels) // 12
    parts = _stratified(labels, len(labels) - num_val, num_val)
    train, val = ((images.index_select(0, i), labels[i]) for i in parts)  # twice as fast as images[i]
    test = t["test_images"].unsqueeze(1), t["test_labels"].long()
    return _assemble("fashion_mnist", fashion_mnist.CLASSES, train, val, test)


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
