"""Data sets by name or folder: `load_data` is the table of the sources, and says where files are kept.

A further data set is one more function `root -> Data` in `SOURCES`.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..support import checked, checks
from ..support.shipped import checkout
from . import cifar, digits, fashion_mnist, image_folder
from .data_set import Data

SOURCES: dict[str, Callable[[Path], Data]] = {
    "digits": digits.load,
    "fashion_mnist": fashion_mnist.load,
    "cifar10": partial(cifar.load, "cifar10"),
    "cifar100": partial(cifar.load, "cifar100"),
}
DATA_SETS = (*SOURCES, "imagenet")  # by name


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

    Example:
        >>> load_data("digits").train
        MemorySplit(1200 images of 1x8x8 on cpu)
    """
    options, root = (size, skip_damaged, stream), data_root(root)
    if is_folder(name_or_folder):
        return image_folder.load(Path(name_or_folder).expanduser(), root, *options)
    if name_or_folder == "imagenet":
        return image_folder.imagenet(root, *options)
    try:
        source = SOURCES[checks.one_of("data set", name_or_folder, DATA_SETS)]
    except ValueError as error:
        hint = f"For a folder of images pass its path, such as './{name_or_folder}'."
        raise ValueError(f"{error} {hint}") from None
    if options != (None, False, None):
        raise ValueError(
            f"size, skip_damaged and stream are for folders of images, not for {name_or_folder!r}."
        )
    return source(root)


def is_folder(name_or_folder: str | Path) -> bool:
    """Whether `load_data` takes it for a folder, and not for a name."""
    if isinstance(name_or_folder, Path) or name_or_folder in DATA_SETS:
        return isinstance(name_or_folder, Path)
    has_separator = any(s in name_or_folder for s in (os.sep, os.altsep or os.sep))
    return has_separator or Path(name_or_folder).expanduser().is_dir()


@checked
def data_root(root: str | Path | None = None) -> Path:
    """The folder of the data sets: `root`, else $DEPL0KIT_DATA, else data/ of the clone that the
    package runs from, else ~/.cache/depl0kit."""
    clone = checkout()
    default = clone / "data" if clone else "~/.cache/depl0kit"
    return Path(root or os.environ.get("DEPL0KIT_DATA") or default).expanduser()
