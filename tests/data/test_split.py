"""One interface for images in memory and in files: the same assertions hold for both."""

from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import depl0kit as dk
from depl0kit.data import Data, MemorySplit, Split, load_data
from depl0kit.data.streaming import StreamedSplit

CLASSES = ("ape", "bee")
FORMS = {"memory": (False, MemorySplit), "streamed": (True, StreamedSplit)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of 14x14: 10 for training and 5 for each other split, of each class."""
    folder, random = tmp_path_factory.mktemp("sets") / "pets", np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 5), ("test", 5)):
        for name in CLASSES:
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (14, 14, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    """Processes that read take seconds to start."""
    monkeypatch.setattr(StreamedSplit, "_workers", lambda *_: 0)


@pytest.fixture(params=FORMS)
def data(request, folder) -> Data:
    stream, form = FORMS[request.param]
    data = load_data(folder, folder.parent, size=14, stream=stream)
    assert isinstance(data.train, Split) and isinstance(data.train, form)
    return data


def pixels(split: Split) -> torch.Tensor:
    """uint8 [N, C, H, W] of the batches."""
    x = torch.cat([x for x, _ in split.batches(7)])
    return ((x * split.std.view(1, -1, 1, 1) + split.mean.view(1, -1, 1, 1)) * 255).round().to(torch.uint8)


def test_images_are_those_of_the_batches(data):
    images = data.train.images
    assert images.dtype == torch.uint8 and images.shape == (len(data.train), *data.train.shape)
    assert torch.equal(images, pixels(data.train))


def test_the_example_is_the_first_image(data):
    assert torch.equal(data.train.example, next(data.train.batches(1))[0])


def test_take_has_all_classes_and_each_image_with_its_label(data):
    """Also where a split lies class after class, as here: the first 8 would be of one."""
    few = data.train.take(8)
    assert type(few) is type(data.train) and len(few) == 8
    assert few.labels.bincount().tolist() == [4, 4]
    all_images, places = data.train.images, set()
    for image, label in zip(few.images, few.labels, strict=True):
        (place,) = (all_images == image).flatten(1).all(1).nonzero().flatten().tolist()
        assert data.train.labels[place] == label
        places.add(place)
    assert len(places) == 8
    assert torch.equal(pixels(few), few.images)


def test_take_has_the_first_images_where_classes_are_mixed(data):
    mixed = data.train.take(8)  # and so its own first images are mixed, too
    assert torch.equal(mixed.take(3).images, mixed.images[:3])
    assert torch.equal(mixed.take(3).labels, mixed.labels[:3])


def test_take_of_more_than_there_are_is_all_in_their_order(data):
    assert torch.equal(data.val.take(99).images, data.val.images)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        data.val.take(0)


def test_to_moves_what_batches_are_made_of(data):
    moved = data.train.to("meta")
    assert {moved.labels.device.type, moved.mean.device.type, moved.std.device.type} == {"meta"}
    assert data.train.labels.device.type == "cpu"
    x, y = next(moved.batches(4, torch.Generator(), True))
    assert (x.device.type, y.device.type, x.shape) == ("meta", "meta", (4, 3, 14, 14))


@pytest.mark.parametrize("augment", [False, True])
def test_the_random_state_decides_the_batches(data, augment):
    def epoch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        batches = data.train.batches(6, torch.Generator().manual_seed(seed), augment)
        return tuple(map(torch.cat, zip(*batches, strict=True)))

    (x, y), (again, _), (other, _) = epoch(0), epoch(0), epoch(1)
    assert len(y) == 18 and torch.equal(x, again) and not torch.equal(x, other)


def test_the_figure_of_images(data):
    ax = plt.Figure().subplots()
    mosaic, *labels = dk.plots.images(data.train, 6, ax)
    assert [text.get_text() for text in labels] == [str(int(i)) for i in data.train.take(6).labels]
    shown = np.asarray(mosaic.get_array())
    first = data.train.take(6).images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(shown[1:15, 1:15], first)


def test_a_damaged_image_is_black_in_images_on_request(folder, tmp_path):
    for path in folder.rglob("*.png"):
        copy = tmp_path / "pets" / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    bad = tmp_path / "pets" / "test" / "ape" / "2.png"
    bad.write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"{bad} cannot be read"):
        _ = load_data(tmp_path / "pets", tmp_path, size=14, stream=True).test.images
    skipping = load_data(tmp_path / "pets", tmp_path, size=14, stream=True, skip_damaged=True)
    with pytest.warns(UserWarning, match=f"{bad} cannot be read .* left out"):
        images = skipping.test.images
    assert images.flatten(1).any(1).tolist() == [i != 2 for i in range(10)]


class Here(Executor):
    def submit(self, call, *arguments) -> Future:
        done = Future()
        done.set_result(call(*arguments))
        return done


def test_a_sweep_takes_some_images_of_a_streamed_folder(folder, tmp_path, monkeypatch):
    small = partial(load_data, size=14, stream=True)  # as one that is too large for memory, but faster
    monkeypatch.setattr(dk.comparison.sweeps.job, "load_data", small)
    counted = []
    monkeypatch.setattr(StreamedSplit, "__len__", lambda s: counted.append(len(s.labels)) or len(s.labels))
    grid = dk.Grid(
        methods=("dense",), seeds=(0,), data=(str(folder),), train_images=6,
        train=dk.TrainConfig(epochs=1, batch_size=3),
    )  # fmt: skip
    results = dk.sweep(grid, tmp_path / "swept", Here(), progress=False)
    assert results.error.tolist() == [""] and results.data.tolist() == [str(folder)]
    assert 6 in counted  # the training split that was trained on
