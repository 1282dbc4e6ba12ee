"""Shares of several processes, and augmentation: what N processes see together is what one sees."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from depl0kit.data.batches import draw_moves, move
from depl0kit.data.splits import MemorySplit, Split

MEAN, STD = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])


def numbered(n: int, height: int = 16, width: int = 12) -> Split:
    """Label i for image i."""
    g = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=g)
    return MemorySplit(images.contiguous(memory_format=torch.channels_last), torch.arange(n), MEAN, STD)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collected(split: Split, *args, **kwargs) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(split.batches(*args, **kwargs))


# ---- shares


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 5), st.booleans())
def test_the_shares_of_a_shuffled_batch_are_the_batch(n, batch_size, world, augment):
    split = numbered(n, 8, 8)
    if min(n, batch_size) < world:
        with pytest.raises(ValueError, match=f"cannot be shared by {world} processes"):
            split.batches(batch_size, seeded(), part=(0, world))
        return
    whole = collected(split, batch_size, seeded(), augment)
    shares = [collected(split, batch_size, seeded(), augment, (r, world)) for r in range(world)]
    for (x, y), *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([p[0] for p in parts]), x)
        assert torch.equal(torch.cat([p[1] for p in parts]), y)
        sizes = [len(p[1]) for p in parts]
        assert max(sizes) - min(sizes) <= 1  # nobody waits for the others


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 5))
def test_without_a_generator_all_processes_together_see_each_image_once(n, batch_size, world):
    shares = [collected(numbered(n), batch_size, part=(r, world)) for r in range(world)]
    labels = [y for share in shares for _, y in share]
    assert torch.cat(labels).tolist() == list(range(n))
    assert all(0 < len(y) <= batch_size for y in labels)


def test_a_share_leaves_the_generator_where_the_whole_leaves_it():
    split, a, b = numbered(20), seeded(), seeded()
    for _ in range(3):  # the ranks stay together over the epochs
        collected(split, 8, a, True)
        collected(split, 8, b, True, (1, 4))
        assert torch.equal(a.get_state(), b.get_state())


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0), (0.5, 2), 3, (1,), (True, 2), None])
def test_a_bad_part_is_refused_at_once(part):
    with pytest.raises(ValueError, match="part"):
        numbered(9).batches(4, seeded(), part=part)


# ---- augmentation


def moved_by_pillow(pixels: np.ndarray, down: int, right: int, flip: int) -> np.ndarray:
    """The plain way: pad with black, crop, mirror."""
    pad = pixels.shape[0] // 8
    height, width = pixels.shape[:2]
    image = ImageOps.expand(Image.fromarray(pixels), pad, fill=0)
    image = image.crop((pad - right, pad - down, pad - right + width, pad - down + height))
    return np.asarray(ImageOps.mirror(image) if flip else image)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_moves_are_those_of_pillow(height, width, seed):
    g = seeded(seed)
    pixels = torch.randint(0, 256, (7, height, width, 3), dtype=torch.uint8, generator=g)
    moves = draw_moves(7, height // 8, g)
    for image, (down, right, flip), result in zip(pixels, moves.tolist(), move(pixels, moves), strict=True):
        assert np.array_equal(result, moved_by_pillow(image.numpy(), down, right, flip))


def test_augmented_batches_are_moved_images_in_the_usual_order():
    """Of the same order as without, normalised, black at the rim: each image is one of its moves."""
    split = numbered(40, 16, 12)
    plain, augmented = collected(split, 16, seeded()), collected(split, 16, seeded(), True)
    different = 0
    for (a, y), (b, z) in zip(plain, augmented, strict=True):
        assert torch.equal(y, z)
        assert b.dtype == torch.float32 and b.is_contiguous(memory_format=torch.channels_last)
        pixels = b * STD.view(1, 3, 1, 1) + MEAN.view(1, 3, 1, 1)
        pixels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for image, label in zip(pixels, y.tolist(), strict=True):
            original = split.images[label].permute(1, 2, 0).numpy()
            all_moves = [(d, r, f) for d in range(-2, 3) for r in range(-2, 3) for f in (0, 1)]
            assert any(np.array_equal(image, moved_by_pillow(original, *m)) for m in all_moves)
        different += (a != b).any((1, 2, 3)).sum()
    assert different > 25


def test_all_moves_occur_equally_often():
    moves = draw_moves(50_000, 4, seeded())
    for column, low, values in ((0, -4, 9), (1, -4, 9), (2, 0, 2)):
        share = torch.bincount(moves[:, column] - low, minlength=values) / len(moves)
        assert len(share) == values and (share - 1 / values).abs().max() < 0.01
    together = torch.corrcoef(moves.T.double()) - torch.eye(3)
    assert together.abs().max() < 0.02  # independent of each other


def test_augmentation_follows_the_generator_alone():
    split = numbered(32)
    torch.manual_seed(1)
    first = [torch.cat([x for x, _ in split.batches(8, g, augment=True)]) for g in [seeded()] for _ in "ab"]
    torch.manual_seed(2)
    again = [torch.cat([x for x, _ in split.batches(8, g, augment=True)]) for g in [seeded()] for _ in "ab"]
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])  # the next epoch is another


def test_tiny_images_are_only_mirrored():
    split = numbered(64, 4, 4)
    for x, y in split.batches(64, seeded(), augment=True):
        plain = torch.cat([x for x, _ in split.batches(64)])[y]
        mirrored = plain.flip(3)
        same, flipped = ((x == other).all(1).all(1).all(1) for other in (plain, mirrored))
        assert (same | flipped).all() and same.any() and flipped.any()


def test_augmentation_without_a_generator_is_refused_at_once():
    with pytest.raises(ValueError, match="augment=True needs a random state"):
        numbered(9).batches(4, augment=True)


def test_augmentation_waits_for_no_device():
    """On "meta" there are no values: whoever looked at one would fail."""
    split = numbered(32).to("meta")
    shapes = [(tuple(x.shape), x.device.type) for x, _ in split.batches(8, seeded(), True, (1, 2))]
    assert shapes == [((4, 3, 16, 12), "meta")] * 4
