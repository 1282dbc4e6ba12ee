"""Tensors, arrays and data sets of one's own as `Data`."""

from contextlib import suppress

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..support import checked, checks
from .data_set import MEMORY_LIMIT, Data, Part, in_memory, picked
from .decoding import as_seen
from .splits import PARTS, cut_off

ALIKE = "bring all to one shape and type"


@checked
def make_data(train: object, val: object = None, test: object = None) -> Data:
    """Make data of tensors, arrays or data sets.

    Each part is a pair (images, labels) of tensors or arrays, or any map-style data set: an object with
    `__len__` and a `__getitem__` that returns (image, label), such as those of torchvision.

    Images are [N, C, H, W] or, grey, [N, H, W]; arrays may also be [N, H, W, C] with C at most 4. Those of a
    data set are the same without N, or PIL images, which are read as `load_data` reads files. Whole numbers
    lie in 0..255; floating-point numbers may have any range. Labels are whole numbers, counted from 0. The
    classes have the names in `train.classes`, if there are any.

    A data set is read once and kept in memory, so it should have no random transforms: use
    `TrainConfig(augment=True)`. One that needs more than 4 GB, len(train) times its first image, is refused.

    Args:
        train: trained on.
        val: models are chosen on it; None takes a tenth of train, at random with a fixed seed, all classes in
            their proportions.
        test: reported on; None takes a fifth of train in the same way.

    Raises:
        ValueError: something else than the above; the text names it.

    Example:
        >>> images, labels = torch.rand(100, 28, 28), torch.arange(100) % 10
        >>> make_data((images, labels))
        Data(own: 70 train, 10 val, 20 test images of 1x28x28; 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    if train is None:
        raise ValueError("train must be (images, labels) or a data set, got None.")
    given = {name: part for name, part in zip(PARTS, (train, val, test), strict=True) if part is not None}
    parts = {name: _part(name, part) for name, part in given.items()}
    classes = _classes(train, parts["train"][1])
    for name, part in parts.items():
        _check_alike(name, part, parts["train"], len(classes))
    indices = cut_off(parts["train"][1], "val" not in parts, "test" not in parts)
    cut = dict(zip(PARTS, picked(*parts.pop("train"), *indices), strict=True))
    return in_memory("own", classes, *(cut | parts).values())


def _part(name: str, part: object) -> Part:
    """Images, uint8 or float32 [N, C, H, W], and labels, int64 [N]."""
    images, labels = part if isinstance(part, tuple) and len(part) == 2 else _read(name, part)
    images, labels = _images(f"images of {name}", images), _labels(name, labels)
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"{name} must have images and a label for each, got {len(images)} images, {len(labels)} labels."
        )
    if not (finite := images.isfinite().flatten(1).all(1)).all():
        raise ValueError(f"image {finite.int().argmin()} of {name} has NaN or infinity: leave it out.")
    return images, labels


def _check_alike(name: str, part: Part, train: Part, classes: int) -> None:
    """Refuse labels that are no classes, and images that differ from those of train."""
    (images, labels), (first, _) = part, train
    wrong = f"labels of {name} must lie in 0..{classes - 1}, got {{}}: number the classes from 0."
    _refuse(labels, (labels < 0) | (labels >= classes), wrong)
    if images.shape[1:] != first.shape[1:] or images.dtype != first.dtype:
        raise ValueError(
            f"images of {name} are {_kind(images[0])}, those of train {_kind(first[0])}: {ALIKE}."
        )


def _refuse(values: Tensor, wrong: Tensor, text: str) -> None:
    """Raise a ValueError of this text, with the first value that is wrong in its place."""
    if wrong.any():
        raise ValueError(text.format(f"{values[wrong][0]:.10g}"))


def _kind(image: Tensor) -> str:
    return f"{list(image.shape)} of {image.dtype}".replace("torch.", "")


def _classes(dataset: object, labels: Tensor) -> tuple[str, ...]:
    """The names of the classes in a data set, or in the one that it is a subset of; else their numbers."""
    while hasattr(dataset, "dataset") and not hasattr(dataset, "classes"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(names)
    found = labels.unique().tolist()
    if found != list(range(len(found))):
        raise ValueError(
            f"labels of train must be 0, 1, 2, ... with an image of each class, got {len(found)} different "
            f"labels from {found[0]} to {found[-1]}: number the classes from 0."
        )
    return tuple(map(str, found))


def _images(what: str, value: object) -> Tensor:
    """uint8 or float32 [N, C, H, W]."""
    images = _numbers(what, value)
    shape = images.shape
    if images.dim() == 3:
        images = images.unsqueeze(1)
    elif images.dim() == 4 and not isinstance(value, Tensor) and shape[3] <= 4 < shape[1]:
        images = images.permute(0, 3, 1, 2)
    if images.dim() != 4 or 0 in shape[1:]:
        raise ValueError(f"{what} must have the shape [C, H, W] or [H, W] each, got {list(shape[1:])}.")
    if images.dtype == torch.uint8 or not images.numel():
        return images
    if images.dtype != torch.int64:
        return images.float()
    wrong = f"{what} must lie in 0..255 where they are whole, got {{}}: make them floating-point."
    _refuse(images, (images < 0) | (images > 255), wrong)
    return images.to(torch.uint8)


def _labels(name: str, value: object) -> Tensor:
    """int64 [N]."""
    labels = _numbers(f"labels of {name}", value)
    if labels.dim() != 1:
        raise ValueError(
            f"labels of {name} must be one number an image, got shape {list(labels.shape)}: take .argmax(1) "
            "of one-hot labels."
        )
    wrong = f"labels of {name} must be whole numbers, got {{}}: number the classes from 0."
    _refuse(labels, labels.long() != labels, wrong)
    return labels.long()


def _numbers(what: str, value: object) -> Tensor:
    """On the CPU, as uint8, int64 or in floating point."""
    if isinstance(value, Tensor) and not value.is_complex():
        tensor = value.detach().cpu()
        other = tensor.dtype == torch.uint8 or tensor.is_floating_point()
        return tensor if other else tensor.long()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what} must be a tensor or an array of numbers, got {checks.shown(value)}.")
    kind = np.float32 if array.dtype.kind == "f" else np.uint8 if array.dtype == np.uint8 else np.int64
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        return torch.from_numpy(array.astype(kind))


def _read(name: str, dataset: object) -> tuple[Tensor, list]:
    """All images of a data set in one tensor, and its labels."""
    n = _length(name, dataset)
    first, _ = _item(name, dataset, 0)
    if (needed := n * first.nbytes) > MEMORY_LIMIT:
        raise ValueError(
            f"{name} would need {needed / 1e9:.1f} GB of memory, more than {MEMORY_LIMIT / 1e9:g}: use "
            "smaller images, pass tensors (images, labels), or write the images into a folder per class, "
            "from which dk.load_data(folder) streams them."
        )
    images, labels = torch.empty((n, *first.shape), dtype=first.dtype), []
    for i in range(n):
        image, label = _item(name, dataset, i)
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ValueError(f"image {i} of {name} is {_kind(image)}, image 0 {_kind(first)}: {ALIKE}.")
        images[i] = image
        labels.append(label)
    return images, labels


def _length(name: str, dataset: object) -> int:
    n = 0
    with suppress(TypeError):  # it has no length
        n = len(dataset) if hasattr(dataset, "__getitem__") else 0
    if not n:
        way_out = ": pass its .dataset" if hasattr(dataset, "dataset") else ""
        raise ValueError(
            f"{name} must be (images, labels) or a data set with at least one image, __len__ and "
            f"__getitem__, got {checks.shown(dataset)}{way_out}."
        )
    return n


def _item(name: str, dataset: object, i: int) -> tuple[Tensor, object]:
    """Image i, uint8 or float32 [C, H, W], and its label."""
    try:
        item = dataset[i]
        is_pair = isinstance(item, tuple | list) and len(item) == 2
        image, label = item if is_pair else (None, None)
        image = np.asarray(as_seen(image)) if isinstance(image, Image.Image) else image
    except Exception as error:  # of any kind: it is the user's code or image that fails
        problem = " ".join(f"{type(error).__name__}: {error}".split())[: checks.LENGTH]
        raise ValueError(f"item {i} of {name} cannot be read ({problem}).") from error
    if not is_pair:
        raise ValueError(
            f"{name} must be (images, labels) or a data set of (image, label), but its item {i} is "
            f"{checks.shown(item)}."
        )
    image = image[None] if isinstance(image, Tensor) else np.asarray(image)[None]
    return _images(f"image {i} of {name}", image)[0], checks.plain(label)
