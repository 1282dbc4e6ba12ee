"""Splits that are read from their files: the same images, labels, shares and augmentation, whoever reads."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from depl0kit.data import Data, load_data
from depl0kit.data.decoding import DamagedImageError
from depl0kit.data.files import DataNotFoundError
from depl0kit.data.streaming import StreamedSplit

WNIDS = ("n01440764", "n01443537")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A small ImageNet: 2 classes of 20 + 3 photographs of various sizes; one is grey."""
    root = tmp_path_factory.mktemp("root")
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 3)):
        for wnid in WNIDS:
            folder = root / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = random.integers(30, 90, 2)
                coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
                image = coarse.resize((int(width), int(height)))
                (image.convert("L") if i == 1 else image).save(folder / f"{wnid}_{i}.JPEG")
    return root


@pytest.fixture(scope="module")
def data(root) -> Data:
    """Without worker processes, which take seconds to start."""
    data = load_data("imagenet", root, size=28)
    return replace(data, **{p: replace(getattr(data, p), workers=0) for p in ("train", "val", "test")})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(x: torch.Tensor) -> torch.Tensor:
    """uint8 [B, C, H, W] of normalised images."""
    return ((x * STD.view(1, 3, 1, 1) + MEAN.view(1, 3, 1, 1)) * 255).round().to(torch.uint8)


def photograph(split: StreamedSplit, i: int) -> Image.Image:
    return Image.open(split.folder / split.files.paths[i].decode()).convert("RGB")


def plainly(split: StreamedSplit, i: int) -> torch.Tensor:
    scaled = v2.CenterCrop(28)(v2.Resize(32)(photograph(split, i)))
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1)


def assert_same(a, b) -> None:
    for (x, y), (v, w) in zip(a, b, strict=True):
        assert torch.equal(x, v) and torch.equal(y, w)


# ---- the splits


def test_val_becomes_test_and_a_tenth_of_train_val(data):
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 6)
    assert (data.classes, data.image_size, data.in_channels) == (WNIDS, (28, 28), 3)
    for part, split in (("train", data.train), ("train", data.val), ("val", data.test)):
        assert torch.bincount(split.labels).unique().numel() == 1
        for path, label in zip(split.files.paths.tolist(), split.labels, strict=True):
            assert path.decode().startswith(f"{part}/{WNIDS[label]}/")
    paths = np.concatenate([data.train.files.paths, data.val.files.paths])
    assert len(set(paths.tolist())) == 40


def test_imagenet_is_streamed_at_224_pixels(root):
    data = load_data("imagenet", root)
    assert isinstance(data.train, StreamedSplit) and data.image_size == (224, 224)
    assert len(repr(data)) < 200 and "StreamedSplit(36 images of 3x224x224" in repr(data.train)
    in_memory = load_data("imagenet", root, size=28, stream=False)
    assert in_memory.train.images.shape == (36, 3, 28, 28)


def test_imagenet_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(DataNotFoundError) as caught:
        load_data("imagenet", tmp_path)
    for part in (
        "register at image-net.org",
        str(tmp_path / "imagenet"),
        "train/<wnid>/*.JPEG",
        "val/<wnid>",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- batches


def test_in_order_every_image_is_scaled_and_cut_as_usual(data):
    seen = 0
    for x, y in data.test.batches(4):
        assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
        for image, label in zip(pixels(x), y, strict=True):
            assert torch.equal(image, plainly(data.test, seen)) and label == data.test.labels[seen]
            seen += 1
    assert seen == 6


def test_shuffled_without_augmentation_the_same_images_come_in_another_order(data):
    plain = pixels(torch.cat([x for x, _ in data.train.batches(9)]))
    order = torch.randperm(36, generator=seeded())[:32]
    batches = list(data.train.batches(8, seeded()))
    assert [len(y) for _, y in batches] == [8] * 4  # the last 4 are left out
    assert torch.equal(pixels(torch.cat([x for x, _ in batches])), plain[order])
    assert torch.equal(torch.cat([y for _, y in batches]), data.train.labels[order])


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_are_the_whole(data, augment, world):
    whole = list(data.train.batches(8, seeded(), augment))
    shares = [list(data.train.batches(8, seeded(), augment, (r, world))) for r in range(world)]
    assert_same(whole, [map(torch.cat, zip(*parts, strict=True)) for parts in zip(*shares, strict=True)])
    labels = [y for r in range(world) for _, y in data.train.batches(5, part=(r, world))]
    assert torch.equal(torch.cat(labels), data.train.labels)


def test_augmentation_depends_on_generator_and_image_alone(data):
    """Not on the batch an image comes in: then it could depend on who reads it."""
    eights = torch.cat([x for x, _ in data.train.batches(8, seeded(), True)])
    sixes = torch.cat([x for x, _ in data.train.batches(6, seeded(), True)])
    assert torch.equal(eights, sixes[:32])
    g = seeded()
    first, second = (torch.cat([x for x, _ in data.train.batches(36, g, True)]) for _ in "ab")
    assert torch.equal(first[:32], eights) and not torch.equal(first, second)


def test_an_augmented_image_is_a_part_of_its_own_photograph(data):
    """Exactly what torchvision's transforms make of it from the seed of epoch and image."""
    order = torch.randperm(36, generator=(g := seeded()))
    epoch = int(torch.randint(2**62, (), generator=g))
    x = pixels(next(data.train.batches(36, seeded(), True))[0])
    transform = v2.Compose([v2.RandomResizedCrop(28), v2.RandomHorizontalFlip()])
    for image, i in zip(x, order.tolist(), strict=True):
        torch.manual_seed(epoch + i)
        expected = np.array(transform(photograph(data.train, i)))
        assert np.array_equal(image.permute(1, 2, 0), expected)


def test_reading_leaves_the_global_generator_alone(data):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(data.train.batches(8, seeded(), True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_example_and_the_device(data):
    assert torch.equal(data.example, next(data.train.batches(1))[0])
    moved = data.to("meta")
    assert moved.train.labels.device.type == "meta" and data.train.labels.device.type == "cpu"
    x, y = next(moved.train.batches(4, seeded(), True))
    assert (x.device.type, y.device.type, x.shape) == ("meta", "meta", (4, 3, 28, 28))


def test_bad_arguments_are_refused_at_once(data):
    with pytest.raises(ValueError, match="needs a random state"):
        data.train.batches(4, augment=True)
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        data.train.batches(0)


@pytest.mark.slow
def test_workers_change_nothing(data):
    """And their errors come through whole."""
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for workers in (1, 2, None):
        split = replace(data.train, workers=workers)
        assert_same(split.batches(8, seeded(), True), data.train.batches(8, seeded(), True))
        assert_same(split.batches(10), data.train.batches(10))
    assert torch.equal(torch.get_rng_state(), state)


# ---- damaged images


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_damaged_image_is_named_and_left_out_on_request(root, data, tmp_path, workers):
    whole = list(data.test.batches(4))
    folder = tmp_path / "imagenet"
    for path in (root / "imagenet").rglob("*.JPEG"):
        copy = folder / path.relative_to(root / "imagenet")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    bad = folder / data.test.files.paths[2].decode()
    bad.write_bytes(bad.read_bytes()[:100])
    test = replace(load_data("imagenet", tmp_path, size=28).test, workers=workers)
    with pytest.raises(DamagedImageError) as caught:
        list(test.batches(4))
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    assert "skip_damaged=True" in str(caught.value)
    skipping = load_data("imagenet", tmp_path, size=28, skip_damaged=True).test
    with pytest.warns(UserWarning, match=f"{bad} cannot be read .* left out"):
        batches = list(replace(skipping, workers=workers).batches(4))
    keep = torch.tensor([True, True, False, True])
    assert_same(batches, [(whole[0][0][keep], whole[0][1][keep]), whole[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sizes = Counter(len(y) for _, y in replace(skipping, workers=workers).batches(1))
    assert sizes == {1: 5}  # and no empty batch
