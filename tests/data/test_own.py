"""Data of tensors, arrays and data sets of one's own; and what is refused, in one sentence."""

import doctest

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import depl0kit as dk
from depl0kit.data import own

N = 40
LABELS = torch.arange(N) % 4


def colours(n: int = N) -> torch.Tensor:
    """uint8 [n, 3, 6, 5], pixel [0, 0, 0] of image i is i."""
    images = torch.randint(
        0, 256, (n, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    images[:, 0, 0, 0] = torch.arange(n)
    return images


class Items(Dataset):
    """A data set of the user's own."""

    classes = ("ape", "bee", "cat", "dog")

    def __init__(self, images, labels=LABELS):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def parts(data: dk.data.Data) -> tuple[dk.data.Split, ...]:
    return data.train, data.val, data.test


# ---- what is taken


SOURCES = {
    "tensors": lambda x: (x, LABELS),
    "arrays": lambda x: (x.numpy(), LABELS.numpy()),
    "arrays, channels last": lambda x: (x.permute(0, 2, 3, 1).numpy(), LABELS.tolist()),
    "whole numbers of another type": lambda x: (x.numpy().astype(">i4"), LABELS.numpy().astype(np.float64)),
    "a data set of torch": lambda x: TensorDataset(x, LABELS),
    "a subset": lambda x: Subset(TensorDataset(x, LABELS), range(N)),
    "tensors one by one": lambda x: Items(x),
    "arrays one by one": lambda x: Items(x.permute(0, 2, 3, 1).numpy(), LABELS.tolist()),
    "PIL images": lambda x: Items([Image.fromarray(i.permute(1, 2, 0).numpy()) for i in x]),
    "a list of pairs": lambda x: list(zip(x, LABELS, strict=True)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_each_image_once_with_its_label(source):
    data = dk.make_data(SOURCES[source](colours()))
    assert [len(split) for split in parts(data)] == [28, 4, 8]
    images, labels = (torch.cat([getattr(s, name) for s in parts(data)]) for name in ("images", "labels"))
    number = images[:, 0, 0, 0].long()
    assert sorted(number.tolist()) == list(range(N)) and images.dtype == torch.uint8
    assert torch.equal(images, colours()[number]) and torch.equal(labels, LABELS[number])
    for split in parts(data):  # all classes in their proportions
        assert split.labels.bincount().unique().numel() == 1
        assert split.images.is_contiguous(memory_format=torch.channels_last)
    names = (
        "0 1 2 3"
        if source not in ("tensors one by one", "arrays one by one", "PIL images")
        else "ape bee cat dog"
    )
    assert data.classes == tuple(names.split())


@pytest.mark.parametrize(("val", "test", "sizes"), [
    (False, False, (28, 4, 8)), (True, False, (32, 12, 8)), (False, True, (36, 4, 12)),
    (True, True, (40, 12, 12)),
])  # fmt: skip
def test_what_is_given_is_kept_and_the_rest_cut_off_train(val, test, sizes):
    given = colours(12), LABELS[:12]
    data = dk.make_data((colours(), LABELS), given if val else None, given if test else None)
    assert tuple(map(len, parts(data))) == sizes
    for split, is_given in ((data.val, val), (data.test, test)):
        assert not is_given or (torch.equal(split.images, given[0]) and torch.equal(split.labels, given[1]))
    again = dk.make_data((colours(), LABELS), given if val else None, given if test else None)
    assert all(torch.equal(a.images, b.images) for a, b in zip(parts(data), parts(again), strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_floating_point_images_keep_their_range(dtype):
    images = torch.randn(N, 2, 6, 5, generator=torch.Generator().manual_seed(0)).mul(50).add(7).to(dtype)
    data = dk.make_data((images, LABELS))
    x = torch.cat([x for x, _ in data.train.batches(5)])
    assert x.dtype == torch.float32 and data.train.images.dtype == torch.float32
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5)
    expected = (data.train.images - data.train.mean.view(1, 2, 1, 1)) / data.train.std.view(1, 2, 1, 1)
    assert torch.allclose(x, expected, atol=1e-5)


def test_images_in_0_to_1_are_those_in_0_to_255():
    whole, real = (dk.make_data((x, LABELS)) for x in (colours(), colours() / 255))
    for a, b in zip(whole.test.batches(8), real.test.batches(8), strict=True):
        assert torch.allclose(a[0], b[0], atol=1e-4)


def test_grey_images_have_one_channel_and_a_constant_one_is_finite():
    grey = dk.make_data((torch.zeros(N, 6, 5), LABELS))
    assert grey.train.shape == (1, 6, 5) and grey.example.isfinite().all()
    pil = [Image.new("L", (5, 6), i) for i in range(N)]
    assert dk.make_data(Items(pil)).train.shape == (1, 6, 5)


@pytest.mark.parametrize("as_float", [False, True])
def test_a_network_trains_on_it(as_float):
    images = colours() / 9 if as_float else colours()
    data = dk.make_data((images, LABELS))
    net = dk.GatedModel(dk.make_model("small", 3, 4, (6, 5)), example=data.example)
    run = dk.train(net, data, dk.TrainConfig(epochs=1, batch_size=8, augment=True), progress=False)
    assert np.isfinite(run.history.train_loss).all()
    assert len(dk.plots.images(data.train, 3)) == 4


def test_the_caller_keeps_their_tensors():
    images = colours()
    before = images.clone()
    data = dk.make_data((images, LABELS), (images, LABELS))
    list(data.val.batches(8, torch.Generator(), True))
    assert torch.equal(images, before)


def test_the_examples_in_the_docstrings():
    for module in (own, dk.data.loading):
        result = doctest.testmod(module, extraglobs={"torch": torch})
        assert result.attempted and not result.failed


# ---- what is refused


class Fails(Items):
    def __getitem__(self, i):
        raise KeyError("no such column")


def spoilt(i: int, value: float) -> torch.Tensor:
    images = torch.rand(N, 3, 6, 5)
    images[i, 0, 1, 2] = value
    return images


X = colours()
REFUSED = {
    "no labels": ((X,), "train must be .images, labels. or a data set"),
    "images alone": ((X), "its item 0 is a Tensor of 3 entries"),
    "too few labels": ((X, LABELS[:-1]), "40 images, 39 labels"),
    "one side too few": ((X[0, 0], LABELS), r"images of train must have the shape \[C, H, W\].* got \[5\]"),
    "no pixels": ((X[:, :, :0], LABELS), r"got \[3, 0, 5\]"),
    "NaN": ((spoilt(7, float("nan")), LABELS), "image 7 of train has NaN or infinity"),
    "infinity": (Items(spoilt(3, float("inf"))), "image 3 of train has NaN or infinity"),
    "too bright": ((X.long() + 300, LABELS), r"images of train must lie in 0\.\.255 .*got"),
    "negative pixels": ((X.numpy().astype(int) - 300, LABELS), r"must lie in 0\.\.255 .*got -"),
    "text": ((X, ["a"] * N), "labels of train must be a tensor or an array of numbers"),
    "complex": ((X + 1j, LABELS), "images of train must be a tensor or an array of numbers"),
    "one-hot": ((X, torch.eye(4)[LABELS]), r"got shape \[40, 4\]: take .argmax\(1\)"),
    "not whole": ((X, LABELS + 0.5), "labels of train must be whole numbers, got 0.5"),
    "NaN as a label": ((X, LABELS * float("nan")), "labels of train must be whole numbers, got nan"),
    "from 1": ((X, LABELS + 1), "got 4 different labels from 1 to 4: number the classes from 0"),
    "negative": ((X, LABELS - 1), "labels from -1 to 2"),
    "a gap": ((X, LABELS * 10**12), "4 different labels from 0 to 3000000000000"),
    "more than names": (Items(X, LABELS * 2), r"labels of train must lie in 0\.\.3, got 4"),
    "empty": ((X[:0], LABELS[:0]), "got 0 images"),
    "an empty data set": ([], "at least one image"),
    "too few to split": ((X[:2], LABELS[:2]), "2 training images are too few"),
    "a loader": (DataLoader(TensorDataset(X, LABELS)), "pass its .dataset"),
    "other sizes": (
        Items([X[0], X[1, :, :5]], [0, 1]),
        r"image 1 of train is \[3, 5, 5\] .*image 0 \[3, 6, 5\]",
    ),
    "other types": (Items([X[0], X[1] / 2], [0, 1]), "image 1 of train is .*float32, image 0 .*uint8"),
    "an error inside": (Fails(X), "item 0 of train cannot be read .KeyError: 'no such column'"),
    "None": (None, "train must be"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named_in_one_sentence(what):
    train, text = REFUSED[what]
    with pytest.raises(ValueError, match=text) as caught:
        dk.make_data(train)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize(("val", "text"), [
    ((X[:, :, :5], LABELS), r"images of val are \[3, 5, 5\] of uint8, those of train \[3, 6, 5\]"),
    ((X / 2, LABELS), "images of val are .*float32, those of train .*uint8"),
    ((X, LABELS + 1), r"labels of val must lie in 0\.\.3, got 4"),
    ((X[:0], LABELS[:0]), "val must have images"),
])  # fmt: skip
def test_parts_that_differ_are_refused(val, text):
    with pytest.raises(ValueError, match=text):
        dk.make_data((X, LABELS), val)


def test_what_is_too_much_for_memory_is_refused_with_a_way_out(monkeypatch):
    monkeypatch.setattr(own, "MEMORY_LIMIT", X.nbytes)
    dk.make_data(Items(X))
    monkeypatch.setattr(own, "MEMORY_LIMIT", X.nbytes - 1)
    with pytest.raises(ValueError, match=r"train would need .* GB.*dk\.load_data\(folder\) streams them"):
        dk.make_data(Items(X))
    dk.make_data((X, LABELS))  # which is in memory already


@pytest.mark.parametrize("data", [(X, LABELS), TensorDataset(X, LABELS)])
def test_train_says_how_to_make_data(data):
    net = dk.GatedModel(dk.make_model("small", 3, 4, (6, 5)), example=torch.rand(1, 3, 6, 5))
    for call in (dk.train, dk.fine_tune, dk.Trainer):
        with pytest.raises(ValueError, match=r"data must be Data .*dk\.make_data\(train\)"):
            call(net, data)
