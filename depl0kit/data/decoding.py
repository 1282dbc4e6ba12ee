"""Image files as pixels: one file, or many in parallel threads into one tensor.

Images are read as a viewer shows them. They are turned upright, as the camera's note (EXIF) says. Transparent
parts become white, because the colours below them have no meaning. Numbers of more than 8 bits are scaled to
8, by one factor for the whole folder (`depth`): equal numbers are equally bright in all its images.

Threads are used because Pillow lets other threads run while it decodes and scales; new processes would run a
user's script again.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from ..support.device import usable_cores

CHUNK = 64  # images that a thread takes at a time
SMALL = 96 * 96  # pixels; below, most of the work holds Python's lock, and one thread is fastest
SAMPLE = 100  # images that are looked at to estimate the size and the depth of all
# Pillow knows these by name only, or (EPS) would start another program to draw them
NOT_READ = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
WITH_ALPHA = ("RGBA", "RGBa", "LA", "PA")
ORIENTATION = 0x0112  # in EXIF


class DamagedImageError(ValueError):
    """An image file cannot be read; the text says which, why, and what to do."""


def refusal(problem: str) -> DamagedImageError:
    """The error to raise for a damaged image: what `read` says of it, and what to do."""
    return DamagedImageError(
        f"{problem}: repair or delete it, or leave out all such images with "
        "load_data(..., skip_damaged=True)."
    )


def formats() -> list[str]:
    """The formats that are read: all that Pillow and its plugins can read here."""
    Image.init()
    return [name for name in Image.OPEN if name not in NOT_READ]


def suffixes() -> tuple[str, ...]:
    """How the names of image files end, in lower case."""
    readable = formats()
    return tuple(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def decode(
    paths: list[str], size: int | None, skip_damaged: bool, bits: int = 16
) -> tuple[Tensor, dict[int, str]]:
    """All images in one tensor, in the order of `paths`, with a progress bar.

    Options and errors are those of `loading.load_data`; `bits`: see `depth`.

    Returns:
        uint8 [N, H, W, C], C = 1 if all images are grey, else 3, black where an image is damaged;
        and {index: what is wrong} of the damaged ones.
    """
    first, original = _first_size(paths)
    size_of_all = (size, size) if size else original
    images = np.zeros((len(paths), *reversed(size_of_all), 3), np.uint8)
    damaged: dict[int, str] = {}

    def fill(i: int) -> bool:
        """Decode one image; returns whether it is grey."""
        try:
            image = read(paths[i], size, bits)
        except DamagedImageError as error:
            if not skip_damaged:
                raise refusal(str(error)) from error
            damaged[i] = str(error)
            return True
        if image.size != size_of_all:
            raise _differ(first, size_of_all, paths[i], image.size)
        images[i] = image.convert("RGB")
        return image.mode == "L"

    threads = usable_cores() if original[0] * original[1] >= SMALL else 1
    grey = all(_in_threads(threads, fill, len(paths)))
    return torch.from_numpy(images[..., :1].copy() if grey else images), dict(sorted(damaged.items()))


def _in_threads(threads: int, fill: Callable[[int], bool], count: int) -> list[bool]:
    """What `fill` returns for 0 .. count-1, with a progress bar."""
    chunks = [range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda chunk: [fill(i) for i in chunk], chunks)
        bar = tqdm(done, "decoding", len(chunks), unit=f" x {CHUNK} images")
        return [result for chunk in bar for result in chunk]


def decoded_bytes(paths: list[str], size: int | None) -> float:
    """How much memory `decode` needs, estimated from the headers of a few images."""
    if size:
        return 3.0 * size * size * len(paths)
    areas = []
    for path in paths[:: -(-len(paths) // SAMPLE)]:
        try:
            with _opened(path) as image:
                areas.append(image.width * image.height)
        except Exception:  # `decode` says what is wrong
            continue
    return 3.0 * np.mean(areas) * len(paths) if areas else 0.0


def depth(paths: list[str]) -> int:
    """How many bits are used by images with more than 8; 16 if there is none in a sample of the files.

    Cameras and scanners write numbers of 10, 12 or 14 bits into files of 16. Read as 16 bits, these images
    would be nearly black.
    """
    brightest = [number for path in paths[:: -(-len(paths) // SAMPLE)] for number in _brightest(path)]
    return max(8, max(brightest).bit_length()) if brightest else 16


def _brightest(path: str) -> list[int]:
    """The highest number in an image with more than 8 bits; none for any other."""
    try:
        with _opened(path) as image:
            if image.mode.startswith("I"):
                return [int(np.asarray(image).max())]
            return [257 * int(np.asarray(image)[..., :3].max())] if _has_deep_colours(image) else []
    except Exception:  # `read` says what is wrong
        return []


def read(path: str, size: int | None = None, bits: int = 16) -> Image.Image:
    """One image, of mode "L" if it is grey, else "RGB"; with `size` scaled, and its middle cut out.

    DamagedImageError says why it cannot be read. `bits`: see `depth`; what is brighter becomes white.
    """
    try:
        with _opened(path) as image:
            if size:  # a JPEG much too big is decoded at a half, a quarter or an eighth of its size
                image.draft(None, (2 * size, 2 * size))
            image = as_seen(image, bits)
        return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR) if size else image
    except MemoryError:
        raise
    except Exception as error:  # the parsers of Pillow raise errors of many types
        problem = " ".join(str(error).split()) or type(error).__name__
        raise DamagedImageError(f"{path} cannot be read as an image ({problem})") from error


def as_seen(image: Image.Image, bits: int = 16) -> Image.Image:
    """What a viewer shows, of mode "L" if it is grey, else "RGB"; not of pixels of unknown range."""
    seen = _eight_bits(image, bits)
    try:
        held = image.getexif().get(ORIENTATION, 1)  # how the camera was held, 1 to 8
    except Exception:  # a damaged note; the pixels may be sound
        held = 1
    if held == 1:
        return seen
    seen.getexif()[ORIENTATION] = held
    return ImageOps.exif_transpose(seen)


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, of unknown range")
    if image.mode.startswith("I"):
        return _scaled(np.asarray(image), bits, image.info.get("transparency"))
    if bits < 16 and _has_deep_colours(image):
        raise ValueError(
            "of 16-bit colours only the upper 8 bits are read, which this folder leaves empty: save it with 8"
        )
    grey = image.mode in ("1", "L", "LA")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("L" if grey else "RGB")


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether Pillow leaves the lower half of 16 bits a colour away."""
    return image.format in ("PNG", "TIFF") and any(";16" in str(tile[3]) for tile in image.tile)


def _scaled(numbers: np.ndarray, bits: int, transparent: int | None) -> Image.Image:
    """Grey numbers of so many bits as 8 bits; `transparent`: the number that stands for it."""
    if numbers.min() < 0:
        raise ValueError("it has negative numbers, of unknown range")
    grey = np.minimum(numbers * (255 / (2**bits - 1)), 255).round().astype(np.uint8)
    return Image.fromarray(np.where(numbers == transparent, np.uint8(255), grey))


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """By its content, not by its name: by its name Pillow 13 maps some files into memory, and garbles those
    TIFFs that are to be turned by a quarter."""
    with open(path, "rb") as file, Image.open(file, formats=formats()) as image:
        yield image


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
