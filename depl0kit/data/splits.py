"""Images with their labels, and how training and evaluation go through them in batches.

A `Split` holds its images in memory, on one device; `StreamedSplit` (streaming.py) has the same
interface and reads them from files. Both leave it to `plan` which image comes when.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..support import checks

SPLIT_SEED = 0


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images with their labels, in memory.

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
        return f"Split({len(self)} images of {'x'.join(map(str, self.shape))} on {self.images.device})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return tuple(self.images.shape[1:])

    @property
    def example(self) -> Tensor:
        """The first image, normalised: float32 [1, C, H, W]."""
        return next(self.batches(1))[0]

    def to(self, device: torch.device | str) -> "Split":
        """The same split on `device`."""
        return Split(*(t.to(device) for t in (self.images, self.labels, self.mean, self.std)))

    def take(self, n: int) -> "Split":
        """The first `n` images (all, if there are fewer); of a training split they are mixed evenly."""
        n = checks.whole("n", n, 1)
        return Split(self.images[:n], self.labels[:n], self.mean, self.std)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through the split.

        Args:
            batch_size: at least 1; of all processes together where `part` is given.
            generator: if given, shuffles, and leaves out the last incomplete batch (batch norm
                has no variance for one leftover image), unless it is the only one. Without it
                all images come, in order. The same state gives the same batches, bit for bit.
            augment: shift each image by up to height // 8 pixels in both directions, black at the
                rim, and mirror it with probability 1/2; only with a generator.
            part: (rank, world): of every shuffled batch, the share of process `rank` of `world`;
                without a generator, its share of the images. All shares together are the whole,
                if the generators of all processes have the same state.

        Yields:
            (x, y): float32 [B, C, H, W], normalised, channels-last; int64 [B].

        Raises:
            ValueError: an argument outside its range, a batch smaller than the number of processes.
        """
        order, spans = plan(len(self), batch_size, generator, augment, part)
        pixels = self.images.permute(0, 2, 3, 1)  # how channels-last lies in memory
        if order is None:
            pairs = ((pixels[s], self.labels[s]) for s in spans)
        else:
            order = order.to(pixels.device)  # of all batches at once: no waiting in between
            # index_select: 5 to 20 times faster than pixels[i] on a CPU
            picks = (order[s] for s in spans)
            pairs = ((pixels.index_select(0, i), self.labels.index_select(0, i)) for i in picks)
        if augment:
            moves = draw_moves(len(order), self.shape[1] // 8, generator).to(pixels.device)
            pairs = ((move(p, moves[s]), y) for (p, y), s in zip(pairs, spans, strict=True))
        scale, offset = self._affine
        return ((normalise(p, scale, offset), y) for p, y in pairs)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        return affine(self.mean, self.std, self.shape[1:])


# ---- which image comes when


def plan(
    n: int, batch_size: int, generator: torch.Generator | None, augment: bool, part: tuple[int, int]
) -> tuple[Tensor | None, list[slice]]:
    """The order of `n` images, and the slices of it that are the batches of one process.

    Arguments and errors are those of `Split.batches`.

    Returns:
        (order, spans): int64 [M] on the generator's device, the images of all processes' batches;
        None means 0 .. n-1, without a generator.
    """
    checks.whole("batch_size", batch_size, 1)
    rank, world = _checked_part(part)
    if generator is None:
        if augment:
            raise ValueError("augment=True needs a generator, which draws the shifts: pass generator=...")
        first, last = rank * n // world, (rank + 1) * n // world
        return None, [slice(i, min(i + batch_size, last)) for i in range(first, last, batch_size)]
    size = min(batch_size, n)
    if size < world:
        raise ValueError(
            f"a batch of {size} images cannot be shared by {world} processes: "
            f"pass a batch_size of at least {world}, and as many images."
        )
    order = torch.randperm(n, generator=generator, device=generator.device)[: n - n % size]
    share = slice(rank * size // world, (rank + 1) * size // world)
    return order, [slice(i + share.start, i + share.stop) for i in range(0, len(order), size)]


def _checked_part(part: tuple[int, int]) -> tuple[int, int]:
    """(rank, world), whole numbers with 0 <= rank < world."""
    try:
        rank, world = part
    except (TypeError, ValueError):
        raise ValueError(f"part must be (rank, world), such as (0, 2), got {part!r}.") from None
    world = checks.whole("world, the second of part,", world, 1)
    if checks.whole("rank, the first of part,", rank, 0) >= world:
        raise ValueError(f"rank, the first of part, must lie between 0 and {world - 1}, got {rank!r}.")
    return rank, world


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


# ---- what happens to a batch


def draw_moves(n: int, reach: int, generator: torch.Generator) -> Tensor:
    """A random shift and flip for each of `n` images.

    Returns:
        int64 [n, 3]: down and right, -reach .. reach pixels each; 1 to mirror the image, else 0.
        On the generator's device.
    """
    on = {"generator": generator, "device": generator.device}
    shifts, flips = torch.randint(-reach, reach + 1, (n, 2), **on), torch.randint(2, (n, 1), **on)
    return torch.cat([shifts, flips], 1)


def move(pixels: Tensor, moves: Tensor) -> Tensor:
    """Shift and mirror every image of a batch by its own amount; what comes in at the rim is black.

    The shift is a crop of the padded image, as is usual; the crop is then mirrored.

    Args:
        pixels: uint8 [B, H, W, C].
        moves: of `draw_moves`, on the device of `pixels`.
    """
    b, h, w, c = pixels.shape
    pad = h // 8
    padded = F.pad(pixels, (0, 0, pad, pad, pad, pad))
    down, right, flip = moves.view(b, 3, 1).unbind(1)
    column = torch.arange(w, device=pixels.device)
    column = torch.where(flip == 1, w - 1 - column, column) + pad - right
    row = torch.arange(h, device=pixels.device) + pad - down
    image = torch.arange(b, device=pixels.device).view(b, 1, 1)
    # one gather of whole pixels: 4 times faster than indexing with three tensors
    index = (image * (h + 2 * pad) + row.view(b, h, 1)) * (w + 2 * pad) + column.view(b, 1, w)
    return padded.view(-1, c).index_select(0, index.view(-1)).view(b, h, w, c)


def affine(mean: Tensor, std: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(scale, offset), [H, W, C] each, with pixel * scale + offset normalised.

    Spread over a whole image because broadcasting three channels is 5 times slower.
    """
    scale, offset, shape = 1 / (255 * std), -mean / std, (*size, len(mean))
    return scale.expand(shape).contiguous(), offset.expand(shape).contiguous()


def normalise(pixels: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """uint8 [B, H, W, C] to normalised float32 [B, C, H, W], channels-last."""
    return torch.addcmul(offset, pixels.float(), scale).permute(0, 3, 1, 2)
