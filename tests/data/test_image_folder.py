"""Folders of images: the layouts, the cache, damaged files, and what is said when something is wrong."""

import os
import signal
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS

from depl0kit.data import Data, decoding, folder_splits, image_folder, load_data
from depl0kit.data import loading as dk_data
from depl0kit.data.decoding import DamagedImageError
from depl0kit.data.files import DataNotFoundError
from depl0kit.data.splits import MemorySplit, Split
from depl0kit.data.streaming import StreamedSplit

CLASSES = ("ape", "bee", "cat")
SIZE = (9, 7)  # width, height: not square, so that they cannot be mixed up


def write(path: Path, number: int, size: tuple[int, int] = SIZE, mode: str = "RGB") -> None:
    """An image that has its number in the first pixel."""
    width, height = size
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    pixels[0, 0] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def fill(folder: Path, part: str, per_class: int, first: int = 0, **kwargs) -> None:
    for c, name in enumerate(CLASSES):
        for i in range(per_class):
            number = first + c * per_class + i
            write(folder / part / name / f"{number:03d}.png", number, **kwargs)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "pets"


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


def quietly(folder: Path | str, root: Path, **kwargs) -> Data:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_data(folder, root, **kwargs)


def numbers(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


def error_of(folder: Path, root: Path, kind: type = ValueError, **kwargs) -> str:
    with pytest.raises(kind) as caught:
        load_data(folder, root, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- layouts


LAYOUTS = {  # part: images per class; and how many train, val and test then have
    "all three": ({"train": 10, "val": 2, "test": 3}, (30, 6, 9)),
    "test": ({"train": 10, "test": 3}, (27, 3, 9)),
    "val": ({"train": 10, "val": 2}, (27, 3, 6)),
    "train": ({"train": 10}, (21, 3, 6)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_three_splits_of_all_images(folder, root, layout):
    parts, sizes = LAYOUTS[layout]
    first = 0
    for part, per_class in parts.items():
        fill(folder, part, per_class, first)
        first += 3 * per_class
    data = quietly(folder, root)
    assert (data.name, data.classes, data.image_size) == ("pets", CLASSES, (7, 9))
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    seen = [n for split in (data.train, data.val, data.test) for n in numbers(split)]
    assert sorted(seen) == list(range(first))
    for split in (data.train, data.val, data.test):
        assert torch.bincount(split.labels).unique().numel() == 1  # all classes alike
        assert split.images.is_contiguous(memory_format=torch.channels_last)
        for image, label, number in zip(split.images, split.labels, numbers(split), strict=True):
            (path,) = folder.glob(f"*/*/{number:03d}.png")
            assert path.parent.name == CLASSES[label]
            assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(path)))


def test_val_alone_is_what_is_reported_on(folder, root):
    fill(folder, "train", 10)
    fill(folder, "val", 2, 100)
    assert sorted(numbers(quietly(folder, root).test)) == list(range(100, 106))


def test_the_split_depends_on_the_names_alone(folder, root, tmp_path):
    fill(folder, "train", 10)
    first = quietly(folder, root)
    for path in sorted((folder / "train").rglob("*.png"), reverse=True):  # written in another order
        copy = tmp_path / "copy" / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    assert numbers(quietly(tmp_path / "copy", root).val) == numbers(first.val)


def test_directories_within_a_class_and_hidden_and_other_files(folder, root):
    fill(folder, "train", 5)
    write(folder / "train" / "bee" / "images" / "099.PNG", 99)
    for name in (".hidden.png", "._001.png", "notes.txt"):
        (folder / "train" / "bee" / name).write_bytes(b"no image")
    (folder / "train" / ".cache").mkdir()
    with pytest.warns(UserWarning, match=r"^1 entries of .* left out.*: train/bee/notes\.txt\.$"):
        data = load_data(folder, root)
    assert sum(map(len, (data.train, data.val, data.test))) == 16
    (split,) = [s for s in (data.train, data.val, data.test) if 99 in numbers(s)]
    assert split.labels[numbers(split).index(99)] == 1


# ---- pixels


@pytest.mark.parametrize("original", [(40, 30), (30, 40), (6, 5), (12, 12)])
def test_size_scales_the_shorter_side_and_cuts_the_middle(folder, root, original):
    fill(folder, "train", 4, size=original)
    data = quietly(folder, root, size=12)
    assert data.image_size == (12, 12)
    listed = folder_splits.listing(folder).paths()
    first = Image.open(listed[0])
    expected = ImageOps.fit(first, (12, 12), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train.images[0].permute(1, 2, 0), expected)


def test_big_photographs_decoded_at_a_fraction_of_their_size_look_the_same(tmp_path):
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((600, 500), Image.Resampling.BICUBIC).save(
        tmp_path / "big.jpg", quality=95
    )
    whole = ImageOps.fit(Image.open(tmp_path / "big.jpg"), (24, 24), Image.Resampling.BILINEAR)
    result = decoding.read(tmp_path / "big.jpg", 24)
    assert result.size == (24, 24)
    difference = np.abs(np.asarray(result).astype(int) - np.asarray(whole).astype(int))
    assert difference.mean() < 3 and difference.max() < 16


def test_images_of_different_sizes_need_a_size(folder, root):
    fill(folder, "train", 4)
    write(folder / "train" / "cat" / "odd.png", 1, (5, 20))
    text = error_of(folder, root)
    assert "9x7" in text and "5x20" in text and "odd.png" in text and "size=" in text
    assert quietly(folder, root, size=6).image_size == (6, 6)


def test_all_grey_images_have_one_channel_and_mixed_ones_three(folder, root):
    fill(folder, "train", 4, mode="L")
    grey = quietly(folder, root)
    assert grey.in_channels == 1
    path = folder_splits.listing(folder).paths()[0]
    assert np.array_equal(grey.train.images[0, 0], np.asarray(Image.open(path)))
    write(folder / "train" / "cat" / "colour.png", 1)
    mixed = quietly(folder, root)
    assert mixed.in_channels == 3 and len(mixed.train) + len(mixed.val) + len(mixed.test) == 13


def test_other_kinds_of_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    colour = Image.fromarray(pixels).convert("RGB")
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    colour.convert("P").save(tmp_path / "palette.png")
    colour.convert("CMYK").save(tmp_path / "cmyk.jpg")
    colour.convert("1").save(tmp_path / "bits.png")
    Image.fromarray(pixels[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(-pixels[..., 0].astype(np.int32)).save(tmp_path / "negative.tif")
    modes = {name: decoding.read(tmp_path / name).mode for name in ("palette.png", "cmyk.jpg", "bits.png")}
    assert modes == {"palette.png": "RGB", "cmyk.jpg": "RGB", "bits.png": "L"}
    with pytest.raises(DamagedImageError, match=r"float\.tif .*floating-point"):
        decoding.read(tmp_path / "float.tif")
    with pytest.raises(DamagedImageError, match=r"negative\.tif .*negative numbers"):
        decoding.read(tmp_path / "negative.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "stored"),  # what a camera stores of the upright image, by the EXIF standard
    [
        *((1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (4, np.flipud)),
        *((5, lambda a: a.T), (6, np.rot90), (7, lambda a: np.rot90(a.T, 2)), (8, lambda a: np.rot90(a, -1))),
    ],
)
def test_photographs_stand_upright(tmp_path, suffix, orientation, stored):
    upright = np.linspace(0, 250, 16 * 24).reshape(16, 24).astype(np.uint8)
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    path = tmp_path / f"photo.{suffix}"
    lossless = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored(upright))).save(path, exif=exif, **lossless)
    shown = np.asarray(decoding.read(path).convert("L")).astype(int)
    assert shown.shape == upright.shape and np.abs(shown - upright).max() < 6


def test_a_damaged_note_of_a_camera_is_no_damaged_image(tmp_path, monkeypatch):
    Image.new("L", (4, 3), 7).save(tmp_path / "a.png")

    def broken(image):
        raise SyntaxError("not a TIFF header")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert np.asarray(decoding.read(tmp_path / "a.png")).max() == 7


def hidden_colours() -> np.ndarray:
    """RGBA: a red pixel, one that is transparent, and one that is half so; all three are red below."""
    return np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8)


def test_transparent_parts_are_white_whatever_lies_below_them(tmp_path):
    rgba = Image.fromarray(hidden_colours())
    rgba.save(tmp_path / "alpha.png")
    rgba.save(tmp_path / "alpha.webp", lossless=True, exact=True)
    rgba.save(tmp_path / "alpha.tif")
    for name in ("alpha.png", "alpha.webp", "alpha.tif"):
        shown = np.asarray(decoding.read(tmp_path / name)).tolist()
        assert shown == [[[200, 0, 0], [255, 255, 255], [244, 204, 204]]], name
    grey = Image.fromarray(hidden_colours()[..., [0, 3]])
    grey.save(tmp_path / "grey.png")
    assert decoding.read(tmp_path / "grey.png").mode == "L"
    assert np.asarray(decoding.read(tmp_path / "grey.png")).tolist() == [[200, 255, 244]]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparent_colours_of_palettes_and_of_grey_images_are_white(tmp_path, suffix):
    palette = Image.new("P", (3, 1))
    palette.putpalette([200, 0, 0, 0, 99, 0])
    palette.putdata([0, 1, 0])
    palette.save(tmp_path / f"palette.{suffix}", transparency=1)
    shown = np.asarray(decoding.read(tmp_path / f"palette.{suffix}")).tolist()
    assert shown == [[[200, 0, 0], [255, 255, 255], [200, 0, 0]]]
    for values in (np.array([[9, 40]], np.uint8), np.array([[9 * 257, 40 * 257]], np.uint16)):
        Image.fromarray(values).save(tmp_path / "grey.png", transparency=int(values[0, 1]))
        assert np.asarray(decoding.read(tmp_path / "grey.png")).tolist() == [[9, 255]]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_numbers_of_16_bits_become_8_by_the_whole_range(tmp_path, suffix):
    values = np.arange(0, 65536, 13)[:-1].astype(np.uint16).reshape(71, 71)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(path)
    assert decoding.depth([str(path)]) == 16
    assert np.array_equal(decoding.read(path), (values / 257).round())


@pytest.mark.parametrize(("bits", "brightest"), [(8, 90), (8, 255), (10, 1000), (12, 4095), (14, 9000)])
@pytest.mark.parametrize("stream", [False, True])
def test_a_small_range_of_16_bits_is_brought_to_8_in_the_same_way_in_every_image(
    folder, root, bits, brightest, stream
):
    """And not each by its own: a dark image of a bright folder stays dark."""
    for c in CLASSES:
        (folder / "train" / c).mkdir(parents=True)
        for i in range(4):
            values = np.linspace(0, brightest, 12 * 12).reshape(12, 12) / (1 if i else 4)
            Image.fromarray(values.astype(np.uint16)).save(folder / "train" / c / f"{i}.png")
    data = quietly(folder, root, stream=stream, size=12)
    files = folder_splits.listing(folder).splits
    for part, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        for i, name in enumerate(files[part].paths):
            path = folder / os.fsdecode(name)
            expected = (np.asarray(Image.open(path)) * (255 / (2**bits - 1))).round()
            shown = decoding.read(path, bits=split.bits) if stream else split.images[i, 0]
            assert np.array_equal(shown, expected)


def png_of_16_bits(path: Path, numbers: np.ndarray) -> None:
    """Colours, [H, W, 3], which Pillow cannot write."""
    height, width, _ = numbers.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in numbers)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, part in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        content += struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
    path.write_bytes(content)


def test_colours_of_16_bits_have_their_upper_8_bits_and_are_refused_where_these_are_empty(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 65536, (9, 7, 3))
    path = tmp_path / "deep.png"
    png_of_16_bits(path, numbers)
    bits = decoding.depth([str(path)])
    assert bits == 16 and np.array_equal(decoding.read(path, bits=bits), numbers >> 8)
    png_of_16_bits(path, numbers >> 4)
    assert decoding.depth([str(path)]) == 12
    with pytest.raises(DamagedImageError, match=r"deep\.png .*only the upper 8 bits"):
        decoding.read(path, bits=12)


def test_formats_that_phones_and_browsers_write_are_read(folder, root):
    """gif, jfif and avif were left out without a word."""
    for c in CLASSES:
        (folder / "train" / c).mkdir(parents=True)
        for i, suffix in enumerate(("gif", "jfif", "JPE", "avif", "tga", "jp2")):
            image = Image.new("RGB", (8, 8), (40 * i, 0, 0))
            image.save(folder / "train" / c / f"{i}.{suffix}", "JPEG" if suffix == "JPE" else None)
    data = quietly(folder, root)
    assert len(data.train) + len(data.val) + len(data.test) == 18


def test_the_endings_are_those_of_torchvision_and_of_pillow_but_for_what_it_cannot_draw():
    endings = set(decoding.suffixes())
    assert endings > {*IMG_EXTENSIONS, ".gif", ".jfif", ".avif"}
    assert not endings & {".eps", ".ps", ".mpg", ".h5", ".pdf", ".txt", ".wmf"}


def test_an_eps_by_another_name_starts_no_ghostscript(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "a.png").write_bytes(eps)
    assert Image.open(tmp_path / "a.png").format == "EPS"
    with pytest.raises(DamagedImageError, match="cannot identify"):
        decoding.read(tmp_path / "a.png")


def test_what_is_left_out_is_named_in_one_warning(folder, root):
    fill(folder, "train", 4)
    for name in ("bee/x.heic", "bee/clip.mpg", "readme.txt"):
        (folder / "train" / name).write_bytes(b"?")
    with pytest.warns(UserWarning) as caught:
        load_data(folder, root)
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("3 entries of") and "\n" not in text
    for name in ("train/bee/x.heic", "train/bee/clip.mpg", "train/readme.txt"):
        assert name in text


# ---- links


def test_a_broken_link_is_a_damaged_image(folder, root):
    fill(folder, "train", 10)
    bad = folder / "train" / "bee" / "014.png"
    bad.unlink()
    bad.symlink_to(folder / "gone.png")
    text = error_of(folder, root, DamagedImageError)
    assert str(bad) in text and "No such file" in text and "skip_damaged=True" in text
    for _ in "ab":  # decoded, and from the cache
        with pytest.warns(UserWarning, match=f"1 images cannot be read and are left out: {bad}"):
            data = load_data(folder, root, skip_damaged=True)
        assert sum(map(len, (data.train, data.val, data.test))) == 29
    write(folder / "gone.png", 14)  # mended: a change that the cache must see
    assert sum(len(s) for s in vars(quietly(folder, root)).values() if isinstance(s, Split)) == 30


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "bee/deeper"])
def test_a_circle_of_links_ends(folder, root, target):
    fill(folder, "train", 4)
    (folder / "train" / "bee" / "deeper").mkdir()
    link = folder / "train" / "bee" / "deeper" / "round"
    link.symlink_to(folder / "train" / target if target == "bee/deeper" else Path("..") / target)
    with pytest.warns(UserWarning, match=r"1 entries .* left out.*: train/bee/deeper/round\.$"):
        data = load_data(folder, root)
    assert sum(map(len, (data.train, data.val, data.test))) == 12


def test_links_to_directories_elsewhere_are_followed(folder, root, tmp_path):
    fill(tmp_path / "store", "train", 4)
    (folder / "train").mkdir(parents=True)
    for name in CLASSES:
        (folder / "train" / name).symlink_to(tmp_path / "store" / "train" / name)
    data = quietly(folder, root)
    assert sum(map(len, (data.train, data.val, data.test))) == 12


@pytest.mark.parametrize("name", ["train/cat", "val", "train/cat itself"])
def test_a_link_that_should_be_a_directory_and_leads_nowhere_is_refused(folder, root, name):
    """Its class, or its whole part, would be missing without a word."""
    fill(folder, "train", 4)
    link = folder / name
    link.symlink_to(link if "itself" in name else folder / "gone") if not link.exists() else None
    if name == "train/cat":
        for path in link.iterdir():
            path.unlink()
        link.rmdir()
        link.symlink_to(folder / "gone")
    text = error_of(folder, root)
    assert text.startswith(f"{link} is a link to") and "which is not there: repair or delete it." in text


def test_a_link_to_itself_within_a_class_is_named(folder, root):
    fill(folder, "train", 4)
    for name in ("loop", "loop.png"):
        (folder / "train" / "bee" / name).symlink_to(folder / "train" / "bee" / name)
    with pytest.warns(UserWarning) as caught:
        load_data(folder, root, skip_damaged=True)
    texts = sorted(str(w.message) for w in caught)
    assert "1 entries" in texts[0] and "bee/loop." in texts[0]
    assert "1 images cannot be read" in texts[1] and "bee/loop.png" in texts[1]


def test_what_is_no_file_is_not_read(folder, root):
    """To open a FIFO would wait for ever."""
    fill(folder, "train", 4)
    os.mkfifo(folder / "train" / "bee" / "pipe.png")
    with pytest.warns(UserWarning, match=r"left out.*pipe\.png"):
        load_data(folder, root)


def test_many_threads_keep_the_order(folder, monkeypatch):
    monkeypatch.setattr(decoding, "usable_cores", lambda: 8)
    monkeypatch.setattr(decoding, "SMALL", 0)
    monkeypatch.setattr(decoding, "CHUNK", 3)
    fill(folder, "train", 40)
    paths = folder_splits.listing(folder).paths()
    images, damaged = decoding.decode(paths, None, False)
    assert images[:, 0, 0, 0].tolist() == [int(Path(p).stem) for p in paths] and not damaged


# ---- the cache


def no_decoding(monkeypatch):
    def refuse(*args):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(image_folder, "decode", refuse)


def caches(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "folders").iterdir())


def test_the_second_load_decodes_nothing(folder, root, monkeypatch):
    fill(folder, "train", 10)
    first = quietly(folder, root)
    no_decoding(monkeypatch)
    again = quietly(folder, root)
    for a, b in zip((first.train, first.val, first.test), (again.train, again.val, again.test), strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    monkeypatch.chdir(folder.parent)
    quietly("pets", root)  # the same folder by another path
    assert len(caches(root)) == 1 and caches(root)[0].startswith("pets-")


def touch(folder: Path) -> None:
    path = folder / "train" / "bee" / "011.png"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


CHANGES = {
    "another image": lambda f: write(f / "train" / "bee" / "011.png", 200, (9, 7)),
    "a newer image": touch,
    "one more": lambda f: write(f / "train" / "bee" / "new.png", 200),
    "one less": lambda f: (f / "train" / "bee" / "011.png").unlink(),
    "renamed": lambda f: (f / "train" / "bee" / "011.png").rename(f / "train" / "bee" / "x.png"),
    "another class": lambda f: (f / "train" / "bee" / "011.png").rename(f / "train" / "cat" / "011.png"),
    "a class renamed": lambda f: (f / "train" / "bee").rename(f / "train" / "emu"),
    "a test split": lambda f: [write(f / "test" / name / f"{c}.png", c) for c, name in enumerate(CLASSES)],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_the_folder_makes_a_new_cache_in_place_of_the_old(folder, root, change):
    fill(folder, "train", 10)
    quietly(folder, root)
    before = caches(root)
    CHANGES[change](folder)
    data = quietly(folder, root)
    assert len(caches(root)) == 1 and caches(root) != before
    listed = folder_splits.listing(folder)
    assert data.classes == listed.classes
    expected = [np.asarray(Image.open(p))[0, 0, 0] for p in listed.paths()]
    assert numbers(data.train) + numbers(data.val) + numbers(data.test) == expected


def test_a_cache_of_another_way_to_decode_is_not_used(folder, root, monkeypatch):
    fill(folder, "train", 4)
    quietly(folder, root)
    monkeypatch.setattr(image_folder, "FORMAT", image_folder.FORMAT - 1)
    no_decoding(monkeypatch)
    with pytest.raises(AssertionError, match="an image was decoded"):
        quietly(folder, root)


def test_each_size_and_each_folder_has_its_own_cache(folder, root, tmp_path):
    fill(folder, "train", 4)
    fill(tmp_path / "elsewhere" / "pets", "train", 4)
    sizes = (None, 5, 6)
    for where in (folder, tmp_path / "elsewhere" / "pets"):
        assert [quietly(where, root, size=s).image_size[0] for s in sizes] == [7, 5, 6]
    assert len(caches(root)) == 6


def test_a_damaged_cache_is_named_and_rebuilt(folder, root):
    fill(folder, "train", 4)
    first = quietly(folder, root)
    cache = root / "folders" / caches(root)[0]
    content = bytearray(cache.read_bytes())
    content[-3] ^= 1
    cache.write_bytes(content)
    with pytest.warns(UserWarning, match=f"cache {cache} is damaged: expected the checksum"):
        again = load_data(folder, root)
    assert torch.equal(again.test.labels, first.test.labels)
    quietly(folder, root)


def test_a_root_that_cannot_be_written_is_no_obstacle(folder, tmp_path):
    fill(folder, "train", 4)
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cache .* cannot be written"):
        assert len(load_data(folder, tmp_path / "file").train) == 9


KILLED_WHILE_WRITING = """
import os, signal, sys
from depl0kit.data import loading as data
from depl0kit.support import files
def killed(tensors, path, notes):
    path.write_bytes(b"half a cache")
    os.kill(os.getpid(), signal.SIGKILL)
files.save_file = killed
data.load_data(sys.argv[1] + os.sep, sys.argv[2])
"""


@pytest.mark.slow
def test_a_kill_while_the_cache_is_written_leaves_no_half_of_it(folder, root):
    fill(folder, "train", 4)
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(folder), str(root)]
    shown = subprocess.run(command, cwd=Path(dk_data.__file__).parents[2], capture_output=True, text=True)
    assert shown.returncode == -signal.SIGKILL, shown.stderr
    assert not list((root / "folders").glob("*.safetensors"))
    assert len(quietly(folder, root).train) == 9
    quietly(folder, root)


# ---- damaged images


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:90])


DAMAGES = {
    "cut": cut,
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_bytes(b"<html>not found</html>"),
    "a header of another kind": lambda p: p.write_bytes(b"\xff\xd8\xff\xe0" + p.read_bytes()[4:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_is_named_and_skipped_on_request(folder, root, damage):
    fill(folder, "train", 10)
    bad = folder / "train" / "bee" / "014.png"
    DAMAGES[damage](bad)
    text = error_of(folder, root, DamagedImageError)
    assert str(bad) in text and "skip_damaged=True" in text and "repair or delete" in text
    assert not root.exists()
    with pytest.warns(UserWarning, match=f"1 images cannot be read and are left out: {bad}"):
        data = load_data(folder, root, skip_damaged=True)
    seen = numbers(data.train) + numbers(data.val) + numbers(data.test)
    assert sorted(seen) == [i for i in range(30) if i != 14]
    for split in (data.train, data.val, data.test):
        assert split.labels.tolist() == [n // 10 for n in numbers(split)]


def test_the_cache_remembers_what_was_skipped(folder, root, monkeypatch):
    fill(folder, "train", 10)
    bad = folder / "train" / "bee" / "014.png"
    cut(bad)
    with pytest.warns(UserWarning):
        load_data(folder, root, skip_damaged=True)
    no_decoding(monkeypatch)
    with pytest.warns(UserWarning, match=f"left out: {bad}"):
        load_data(folder, root, skip_damaged=True)
    assert str(bad) in error_of(folder, root, DamagedImageError)


def test_the_first_image_may_be_the_damaged_one(folder, root):
    fill(folder, "train", 10)
    cut(Path(folder_splits.listing(folder).paths()[0]))
    with pytest.warns(UserWarning, match="left out"):
        assert load_data(folder, root, skip_damaged=True).image_size == (7, 9)


def test_a_split_without_one_sound_image_is_refused(folder, root):
    fill(folder, "train", 10)
    fill(folder, "test", 2)
    for path in (folder / "test").rglob("*.png"):
        cut(path)
    assert "no image of the test split" in error_of(folder, root, skip_damaged=True)
    for path in (folder / "train").rglob("*.png"):
        cut(path)
    assert "no image can be read" in error_of(folder, root, skip_damaged=True)


# ---- what is said


def test_a_folder_that_does_not_exist(folder, root):
    fill(folder, "train", 1)
    text = error_of(folder.with_name("pest"), root, DataNotFoundError)
    assert "pest does not exist" in text and "has the folders pets" in text
    assert "does not exist either" in error_of(folder / "a" / "b", root, DataNotFoundError)


def test_a_folder_without_train(folder, root):
    fill(folder, "validation", 2)
    text = error_of(folder, root)
    assert "no train/" in text and "train/<class>/" in text


def test_train_without_classes(folder, root):
    write(folder / "train" / "1.png", 1)
    assert "no class directories" in error_of(folder, root)


def test_an_empty_class_directory(folder, root):
    fill(folder, "train", 4)
    for path in (folder / "train" / "bee").iterdir():
        path.unlink()
    text = error_of(folder, root)
    assert f"no images in {folder / 'train' / 'bee'}" in text and "delete the class" in text


def test_classes_that_differ(folder, root):
    fill(folder, "train", 4)
    fill(folder, "test", 4)
    (folder / "test" / "bee").rename(folder / "test" / "Bee")
    text = error_of(folder, root)
    assert "only train has bee" in text and "only test has Bee" in text and "move test away" in text


def test_too_few_images_to_split(folder, root):
    write(folder / "train" / "ape" / "1.png", 1)
    write(folder / "train" / "bee" / "2.png", 2)
    assert "2 training images are too few" in error_of(folder, root)


@pytest.mark.parametrize("size", [0, -1, 2.5, "32"])
def test_a_bad_size_is_refused(folder, root, size):
    assert "size must be a whole number" in error_of(folder, root, size=size)


@pytest.mark.parametrize("option", ["skip_damaged", "stream"])
def test_a_switch_that_is_no_bool_is_refused(folder, root, option):
    """ "no" would be taken for True."""
    assert f"{option} must be" in error_of(folder, root, **{option: "no"})


# ---- names and folders


def test_what_is_a_folder(folder, root, monkeypatch):
    fill(folder, "train", 4)
    monkeypatch.chdir(folder.parent)
    for way in ("pets", "./pets", Path("pets"), str(folder), f"{folder}{os.sep}"):
        assert quietly(way, root).name == "pets"
    monkeypatch.setenv("HOME", str(folder.parent))
    assert quietly("~/pets", root).name == "pets"
    with pytest.raises(ValueError, match=r"unknown data set 'pet'.*choose one of .*'cifar10'.*'\./pet'"):
        load_data("pet", root)
    with pytest.raises(ValueError, match="Did you mean 'cifar100'"):
        load_data("cifar-100", root)
    with pytest.raises(DataNotFoundError):
        load_data("./pet", root)
    with pytest.raises(DataNotFoundError):
        load_data(Path("pet"), root)


def test_a_name_goes_before_a_folder_of_that_name(folder, root, monkeypatch):
    fill(folder.with_name("digits"), "train", 4)
    monkeypatch.chdir(folder.parent)
    assert len(load_data("digits", root).train) == 1200
    assert len(quietly("./digits", root).train) == 9


@pytest.mark.parametrize("option", [{"size": 16}, {"skip_damaged": True}, {"stream": True}])
def test_options_of_folders_are_refused_for_others(option):
    with pytest.raises(ValueError, match="are for folders of images, not for 'digits'"):
        load_data("digits", **option)


# ---- when there is too much for memory


def test_what_needs_too_much_memory_is_streamed(folder, root, monkeypatch):
    fill(folder, "train", 10)
    needed = 30 * 9 * 7 * 3
    monkeypatch.setattr(image_folder, "MEMORY_LIMIT", needed)
    assert isinstance(quietly(folder, root).train, MemorySplit)
    monkeypatch.setattr(image_folder, "MEMORY_LIMIT", needed - 1)
    data = quietly(folder, root)
    assert isinstance(data.train, StreamedSplit) and data.image_size == (224, 224)
    assert isinstance(quietly(folder, root, stream=False).train, MemorySplit)
    assert isinstance(quietly(folder, root, size=2).train, MemorySplit)  # decided by the size asked for
    assert isinstance(quietly(folder, root, size=2, stream=True).train, StreamedSplit)
