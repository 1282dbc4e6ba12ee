"""Splits too big for memory: images are read from their files by worker processes, batch after batch.

The workers come from a fork server, because a fork of this process, with its threads and its GPU,
may hang. As with every such worker, a script that trains needs `if __name__ == "__main__":`.
"""

import multiprocessing
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..support.children import end_with_parent
from ..support.device import usable_cores
from .decoding import DamagedImageError, read, refusal
from .image_folder import Files
from .splits import affine, normalise, plan


@dataclass(frozen=True, eq=False, repr=False)
class StreamedSplit:
    """Images in files, with the interface of `Split`; every image is read anew in every epoch.

    Args:
        folder, files: where the images are.
        labels: int64 [N], on the device that batches go to.
        mean, std: float32 [3], of pixels in [0, 1].
        size: of the square that is cut out of every image, in pixels.
        workers: processes that read, 0 for none; None: one per usable core, shared with the other
            processes of this machine.
        skip_damaged: leave an image that cannot be read out of its batch, with a warning, instead of
            raising. It still counts in `len`.
        bits: of images with more than 8, see `decoding.depth`.
    """

    folder: Path
    files: Files
    labels: Tensor
    mean: Tensor
    std: Tensor
    size: int = 224
    workers: int | None = None
    skip_damaged: bool = False
    bits: int = 16

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"StreamedSplit({len(self)} images of {shape} from {self.folder}, on {self.labels.device})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (3, self.size, self.size)

    @property
    def example(self) -> Tensor:
        """The first image, normalised: float32 [1, C, H, W]."""
        pixels = self._images(None)[0]
        if isinstance(pixels, str):
            raise refusal(pixels)
        return normalise(pixels[None].to(self.labels.device), *self._affine)

    def to(self, device: torch.device | str) -> "StreamedSplit":
        """The same split, with its batches on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("labels", "mean", "std")}
        return replace(self, **moved)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through the split, as `Split.batches` does.

        Without `augment` an image is scaled until its shorter side has 8/7 of `size` pixels, and its
        middle is cut out. With it, a random part of 8 to 100 % of the image, of sides 3:4 to 4:3,
        is scaled to the size, and mirrored with probability 1/2. What an image gets depends on the
        generator's state and on the image alone, and not on the number of workers or processes.

        Raises:
            DamagedImageError: an image cannot be read, and skip_damaged is False.
            ValueError: as `Split.batches`.
        """
        order, spans = plan(len(self), batch_size, generator, augment, part)
        order = torch.arange(len(self)) if order is None else order.cpu()
        seed = None
        if augment:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        return self._read([order[s] for s in spans], seed, part[1])

    def _read(self, picks: list[Tensor], seed: int | None, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        device, workers = self.labels.device, self._workers(len(picks), world)
        loader = DataLoader(
            self._images(seed),
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
                if not self.skip_damaged:
                    raise refusal(problem)
                warnings.warn(f"{problem} and is left out.", stacklevel=2)
            if sound.any():
                x = normalise(pixels.to(device, non_blocking=True), *self._affine)
                yield x, self.labels.index_select(0, i[sound].to(device))

    def _images(self, seed: int | None) -> "_Images":
        return _Images(self.folder, self.files.paths, self.size, self.bits, seed)

    def _workers(self, batches: int, world: int) -> int:
        if self.workers is not None:
            return self.workers
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))  # torchrun sets it, per machine
        return min(max(1, usable_cores() // here), batches)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        return affine(self.mean, self.std, self.shape[1:])


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
        with torch.random.fork_rng(devices=[]):  # the transforms draw from the global generator
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
