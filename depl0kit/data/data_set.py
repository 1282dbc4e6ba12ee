"""`Data`: what every source of images returns."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .splits import MemorySplit, Split, stratified

Part = tuple[Tensor, Tensor]  # images [N, C, H, W], and labels, int64 [N]
MEMORY_LIMIT = 4e9  # bytes of pixels; a bigger folder is streamed, a bigger data set refused


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: choose models on `val`, report on `test`.

    Args:
        mean, std: per channel, of the training split, of pixels in [0, 1] (of floating-point images as they
            are); of ImageNet where the data are streamed.
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


def in_memory(name: str, classes: tuple[str, ...], *parts: Part) -> Data:
    """Data from (images, labels) of train, val and test, with the statistics of train."""
    mean, std = _channel_statistics(parts[0][0])
    last, m, s = torch.channels_last, torch.tensor(mean), torch.tensor(std)
    splits = (MemorySplit(images.contiguous(memory_format=last), labels, m, s) for images, labels in parts)
    return Data(name, *splits, classes, mean, std)


def with_val(name: str, classes: tuple[str, ...], train: Part, test: Part, share: int) -> Data:
    """Data in memory; one of `share` training images is for validation."""
    labels = train[1]
    num_val = len(labels) // share
    return in_memory(
        name, classes, *picked(*train, *stratified(labels, len(labels) - num_val, num_val)), test
    )


def picked(images: Tensor, labels: Tensor, *indices: Tensor) -> list[Part]:
    """The parts at these indices; index_select is twice as fast as images[i]."""
    return [(images.index_select(0, i), labels[i]) for i in indices]


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of [N, C, H, W] per channel, std never 0; of uint8 in [0, 1]."""
    if images.is_floating_point():
        std, mean = torch.std_mean(images, (0, 2, 3), correction=0)
        return tuple(mean.tolist()), tuple(std.where(std > 0, 1.0).tolist())
    value = torch.arange(256, dtype=torch.float64) / 255  # from histograms, so no float copy
    share = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)]).double()
    share /= share.sum(1, keepdim=True)
    mean = share @ value
    variance = (share * (value - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp(min=1 / 255).tolist())
