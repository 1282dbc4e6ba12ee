"""Images with their labels, and how they are divided into training, validation and test images.

`Split` is the interface. A `MemorySplit` holds its images in memory, on one device; a `StreamedSplit`
(streaming.py) reads them from files.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from .batches import affine, draw_moves, move, normalise, plan

PARTS = ("train", "val", "test")
SPLIT_SEED = 0
Batches = Iterator[tuple[Tensor, Tensor]]


class Split(ABC):
    """Images with their labels: what training and evaluation go through in batches.

    Attributes:
        images: uint8 or float32 [N, C, H, W], as the batches have them before they are normalised. A streamed
            split reads them all when it is asked: `take` a few of them first.
        labels: int64 [N], on the device that batches go to.
        mean, std: float32 [C], of pixels in [0, 1] (uint8) or as they are (float32).
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    _white = 255  # the pixel that counts as 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""

    @property
    def example(self) -> Tensor:
        """The first image, normalised: float32 [1, C, H, W]."""
        return normalise(self._pick(slice(1)).images.permute(0, 2, 3, 1), *self._affine)

    def to(self, device: torch.device | str) -> "Split":
        """The same split, with its batches on `device`."""
        names = ("labels", "mean", "std")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def take(self, n: int) -> "Split":
        """`n` images with all classes in their proportions; all images, if there are fewer.

        These are the first ones, except where a split lies class after class.
        """
        if checks.whole("n", n, 1) >= len(self) or (self.labels.diff() < 0).any():
            return self._pick(slice(n))
        return self._pick(stratified(self.labels.cpu(), n, len(self) - n)[0])

    def batches(
        self,
        batch_size: int,
        rng: torch.Generator | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Batches:
        """Go once through the split.

        Args:
            batch_size: at least 1; of all processes together where `part` is given.
            rng: if given, shuffles, and leaves out the last incomplete batch (batch norm has no variance for
                one leftover image), unless it is the only one. Without it all images come, in order. The same
                state gives the same batches, bit for bit.
            augment: shift each image by up to height // 8 pixels in both directions, 0 (black) at the rim,
                and mirror it with probability 1/2; only with `rng`. A `StreamedSplit` cuts out a random part.
            part: (rank, world): of every shuffled batch, the images of process `rank` of `world`; without
                `rng`, its part of all images. The parts of all processes together are the whole, if their
                random states are the same.

        Yields:
            (x, y): float32 [B, C, H, W], normalised, channels-last; int64 [B].

        Raises:
            ValueError: an argument outside its range, a batch smaller than the number of processes.
            DamagedImageError: an image of a streamed split cannot be read.
        """
        order, spans = plan(len(self), batch_size, rng, augment, part)
        pairs = self._pairs(order, spans, rng if augment else None, part[1])
        scale, offset = self._affine
        return ((normalise(pixels, scale, offset), y) for pixels, y in pairs)

    @abstractmethod
    def _pick(self, which: slice | Tensor) -> "Split":
        """The split of these images alone."""

    @abstractmethod
    def _pairs(
        self, order: Tensor | None, spans: list[slice], rng: torch.Generator | None, world: int
    ) -> Batches:
        """Pixels [B, H, W, C] and labels of the batches that `plan` made; augmented where `rng` is given."""

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        return affine(self.mean, self.std, self.shape[1:], self._white)


@dataclass(frozen=True, eq=False, repr=False)
class MemorySplit(Split):
    """A `Split` in memory, its images in channels-last memory format."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __repr__(self) -> str:
        return f"MemorySplit({len(self)} images of {'x'.join(map(str, self.shape))} on {self.images.device})"

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.images.shape[1:])

    @property
    def _white(self) -> int:
        return 1 if self.images.is_floating_point() else 255

    def to(self, device: torch.device | str) -> "MemorySplit":
        return replace(super().to(device), images=self.images.to(device))

    def _pick(self, which: slice | Tensor) -> "MemorySplit":
        return replace(self, images=self.images[which], labels=self.labels[which])

    def _pairs(
        self, order: Tensor | None, spans: list[slice], rng: torch.Generator | None, world: int
    ) -> Batches:
        pixels = self.images.permute(0, 2, 3, 1)  # how channels-last lies in memory
        if order is None:
            return ((pixels[s], self.labels[s]) for s in spans)
        order = order.to(pixels.device)  # of all batches at once: no waiting in between
        # index_select: 5 to 20 times faster than pixels[i] on a CPU
        picks = (order[s] for s in spans)
        pairs = ((pixels.index_select(0, i), self.labels.index_select(0, i)) for i in picks)
        if rng is None:
            return pairs
        moves = draw_moves(len(order), self.shape[1] // 8, rng).to(pixels.device)
        return ((move(p, moves[s]), y) for (p, y), s in zip(pairs, spans, strict=True))


def cut_off(labels: Tensor, val: bool, test: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of train, val and test: a tenth of the images for validation, a fifth for test, if wanted."""
    n = len(labels)
    num_val, num_test = (max(1, round(n / k)) if wanted else 0 for k, wanted in ((10, val), (5, test)))
    if num_val + num_test >= n:
        raise ValueError(
            f"{n} training images are too few to cut validation or test images off: add some, or bring a "
            "validation and a test set."
        )
    return stratified(labels, n - num_val - num_test, num_val, num_test)


def stratified(labels: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """Indices of disjoint parts of the given sizes, each with all classes in their proportions.

    NumPy promises the stream of RandomState for good, so the parts never change.
    """
    shuffled = torch.from_numpy(np.random.RandomState(SPLIT_SEED).permutation(len(labels)))
    # members of one class lie together, in shuffled order: not a pass over all labels per class
    grouped = shuffled[labels[shuffled].argsort(stable=True)]
    counts = torch.bincount(labels)
    place = torch.empty(len(labels), dtype=torch.float64)
    for members in grouped.split(counts.tolist()):  # each class spread evenly over (0, 1)
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place.argsort(stable=True).split(sizes)
