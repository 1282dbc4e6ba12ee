"""Image files as pixels: one file, or many in parallel threads into one tensor.

Threads, because Pillow lets other threads run while it decodes and scales, and they can be started
from anywhere: a process pool would run a user's script again in every process.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from .device import usable_cores

CHUNK = 64  # images that a thread takes at a time
SMALL = 96 * 96  # pixels; below, most of the work holds Python's lock, and one thread is fastest
SAMPLE = 100  # images whose size is looked at to estimate that of all


class DamagedImageError(ValueError):
    """An image file cannot be read; the text says which, why, and how to go on."""


def refusal(problem: str) -> DamagedImageError:
    """The error to raise for a damaged image: what `read` says of it, and how to go on."""
    return DamagedImageError(
        f"{problem}: repair or delete it, or leave out all such images with "
        "load_data(..., skip_damaged=True)."
    )


def decode(paths: list[str], size: int | None, skip_damaged: bool) -> tuple[Tensor, dict[str, str]]:
    """All images in one tensor, in the order of `paths`, with a progress bar.

    Args:
        size: None for images that all have one size; else they are scaled until the shorter side
            has `size` pixels, and their middle is cut out, size x size.

    Returns:
        uint8 [N, H, W, C], C = 1 if all images are grey, else 3, black where an image is damaged;
        and {index: what is wrong} of the damaged ones.

    Raises:
        DamagedImageError: an image cannot be read, and skip_damaged is False.
        ValueError: images of different sizes, and no `size`.
    """
    first, original = _first_size(paths)
    width, height = (size, size) if size else original
    threads = usable_cores() if original[0] * original[1] >= SMALL else 1
    images = np.zeros((len(paths), height, width, 3), np.uint8)

    def fill(start: int) -> tuple[bool, dict[int, str]]:
        all_grey, damaged = True, {}
        for i in range(start, min(start + CHUNK, len(paths))):
            try:
                image = read(paths[i], size)
            except DamagedImageError as error:
                if not skip_damaged:
                    raise refusal(str(error)) from error
                damaged[i] = str(error)
                continue
            if image.size != (width, height):
                raise _differ(first, (width, height), paths[i], image.size)
            all_grey &= image.mode == "L"
            images[i] = image.convert("RGB")
        return all_grey, damaged

    grey, damaged = True, {}
    bar = tqdm(total=len(paths), desc="decoding", unit=" images")
    with bar, ThreadPoolExecutor(threads) as pool:
        for all_grey, problems in pool.map(fill, range(0, len(paths), CHUNK)):
            grey &= all_grey
            damaged |= problems
            bar.update(min(CHUNK, len(paths) - bar.n))
    return torch.from_numpy(images[..., :1].copy() if grey else images), damaged


def decoded_bytes(paths: list[str], size: int | None) -> float:
    """How much memory `decode` needs, estimated from the headers of a few images."""
    if size:
        return 3.0 * size * size * len(paths)
    areas = []
    for path in paths[:: -(-len(paths) // SAMPLE)]:
        try:
            with Image.open(path) as image:
                areas.append(image.width * image.height)
        except Exception:  # `decode` says what is wrong
            continue
    return 3.0 * np.mean(areas) * len(paths) if areas else 0.0


def read(path: str, size: int | None = None) -> Image.Image:
    """One image, of mode "L" if it is grey, else "RGB"; with `size` scaled and cut as in `decode`.

    Raises:
        DamagedImageError: whatever goes wrong.
    """
    try:
        with Image.open(path) as image:
            if size:  # a JPEG much too big is decoded at a half, a quarter or an eighth of its size
                image.draft(None, (2 * size, 2 * size))
            image = _eight_bits(image)
        return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR) if size else image
    except MemoryError:
        raise
    except Exception as error:  # the parsers of Pillow raise all sorts of things
        problem = " ".join(str(error).split()) or type(error).__name__
        raise DamagedImageError(f"{path} cannot be read as an image ({problem})") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, of unknown range")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's convert clips to white
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")


def _first_size(paths: list[str]) -> tuple[str, tuple[int, int]]:
    """The first image that can be opened, and its (width, height)."""
    for path in paths:
        try:
            return path, read(path).size
        except DamagedImageError as error:
            last = error
    raise refusal(f"no image can be read; {last}")


def _differ(a: str, size_a: tuple[int, int], b: str, size_b: tuple[int, int]) -> ValueError:
    (wa, ha), (wb, hb) = size_a, size_b
    return ValueError(
        f"the images differ in size: {a} has {wa}x{ha} pixels, {b} has {wb}x{hb}. "
        f"Pass size=..., such as load_data(..., size={min(ha, wa)}), to bring all to one."
    )
