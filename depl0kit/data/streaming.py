"""Splits too big for memory: images are read from their files by worker processes, batch after batch.

The workers come from a fork server, because a fork of this process, with its threads and its GPU,
may hang. As with every such worker, a script that trains needs `if __name__ == "__main__":`.
"""

import multiprocessing
import os
import warnings
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..support.children import end_with_parent
from ..support.device import usable_cores
from .decoding import DamagedImageError, read, refusal
from .folder_splits import Files
from .splits import Batches, Split


@dataclass(frozen=True, eq=False, repr=False)
class StreamedSplit(Split):
    """A `Split` whose images lie in files; every image is read anew in every epoch.

    An image is scaled until its shorter side has 8/7 of `size` pixels, and its middle is cut out. Augmented,
    a random part of 8 to 100 % of the image, of sides 3:4 to 4:3, is scaled to the size, and mirrored with
    probability 1/2. What an image gets depends on the random state and on the image alone, and not on the
    number of workers or processes.
    """

    folder: Path
    files: Files  # in the folder
    labels: Tensor  # int64 [N], on the device that batches go to
    mean: Tensor  # float32 [3], of pixels in [0, 1], as is `std`
    std: Tensor
    size: int = 224  # of the square that is cut out of every image, in pixels
    workers: int | None = None  # that read; 0: none. None: one per usable core, shared by processes of a run
    # leave damaged images out of their batches, with a warning; they count in `len`, are black in `images`
    skip_damaged: bool = False
    bits: int = 16  # of images with more than 8, see `decoding.depth`

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"StreamedSplit({len(self)} images of {shape} from {self.folder}, on {self.labels.device})"

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    @property
    def images(self) -> Tensor:
        """All images as they are without augmentation: uint8 [N, 3, H, W], read anew every time."""
        read = [self._sound(item) for item in map(self._reader(None).__getitem__, range(len(self)))]
        black = torch.zeros(self.size, self.size, 3, dtype=torch.uint8)
        pixels = torch.stack([black if image is None else image for image in read])
        return pixels.to(self.labels.device).permute(0, 3, 1, 2)

    def _pick(self, which: slice | Tensor) -> "StreamedSplit":
        return replace(self, files=self.files.pick(which), labels=self.labels[which])

    def _pairs(
        self, order: Tensor | None, spans: list[slice], rng: torch.Generator | None, world: int
    ) -> Batches:
        order = torch.arange(len(self)) if order is None else order.cpu()
        seed = None if rng is None else int(torch.randint(2**62, (), generator=rng, device=rng.device))
        return self._read([order[s] for s in spans], seed, world)

    def _read(self, picks: list[Tensor], seed: int | None, world: int) -> Batches:
        device, workers = self.labels.device, self._workers(len(picks), world)
        loader = DataLoader(
            self._reader(seed),
            batch_sampler=[p.tolist() for p in picks],
            num_workers=workers,
            collate_fn=_collate,
            multiprocessing_context=_context() if workers else None,
            worker_init_fn=_begin,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # or it draws from the global one, and with it changes a run
        )
        for (pixels, sound, problems), i in zip(loader, picks, strict=True):
            for problem in problems:
                self._sound(problem)
            if sound.any():
                yield pixels.to(device, non_blocking=True), self.labels.index_select(0, i[sound].to(device))

    def _sound(self, item: Tensor | str) -> Tensor | None:
        """An image of `_Images`; None, with a warning, if it cannot be read and may be left out."""
        if isinstance(item, Tensor):
            return item
        if not self.skip_damaged:
            raise refusal(item)
        warnings.warn(f"{item} and is left out.", stacklevel=3)
        return None

    def _reader(self, seed: int | None) -> "_Images":
        return _Images(self.folder, self.files.paths, self.size, self.bits, seed)

    def _workers(self, batches: int, world: int) -> int:
        if self.workers is not None:
            return self.workers
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))  # torchrun sets it, per machine
        return min(max(1, usable_cores() // here), batches)


class _Images(Dataset):
    """uint8 [H, W, 3] of image i; augmented where `seed` is given."""

    def __init__(self, folder: Path, paths: np.ndarray, size: int, bits: int, seed: int | None) -> None:
        from torchvision.transforms import v2  # takes a second to import

        self.folder, self.paths, self.bits, self.seed = folder, paths, bits, seed
        if seed is None:
            self.transform = v2.Compose([v2.Resize(round(size * 8 / 7)), v2.CenterCrop(size)])
        else:
            self.transform = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()])

    def __getitem__(self, i: int) -> Tensor | str:
        """The image, or what is wrong with it: an error would lose its text on the way to the reader."""
        try:
            path = os.path.join(self.folder, os.fsdecode(self.paths[i]))
            image = read(path, bits=self.bits).convert("RGB")
        except DamagedImageError as error:
            return str(error)
        if self.seed is None:
            return torch.from_numpy(np.array(self.transform(image)))
        with torch.random.fork_rng(devices=[]):  # the transforms draw from the global random state
            torch.default_generator.manual_seed(self.seed + i)
            return torch.from_numpy(np.array(self.transform(image)))


def _begin(worker: int) -> None:
    end_with_parent()


def _collate(items: list[Tensor | str]) -> tuple[Tensor, Tensor, list[str]]:
    """(the sound images of a batch, which of the batch they are, what is wrong with the others)."""
    images = [item for item in items if isinstance(item, Tensor)]
    sound = torch.tensor([isinstance(item, Tensor) for item in items])
    problems = [item for item in items if isinstance(item, str)]
    return torch.stack(images) if images else torch.empty(0), sound, problems


def _context() -> BaseContext:
    """How workers are started: from a server that has no threads, where there is one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # imported once, by the server, and not by every worker in every epoch
    context.set_forkserver_preload([__name__, "torchvision.transforms.v2", f"{__package__}.fork_server"])
    return context
