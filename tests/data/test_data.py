"""Splits, batches, and what happens to data files that are missing, damaged or half downloaded.

Nothing here needs the internet: torchvision's own download code runs against a server of this test.
"""

import gzip
import hashlib
import struct
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import FashionMNIST

from depl0kit.data import data_set, fashion_mnist, splits
from depl0kit.data import loading as dk_data
from depl0kit.data.files import DataNotFoundError
from depl0kit.data.loading import Data, data_root, load_data
from depl0kit.data.splits import MemorySplit
from depl0kit.support import shipped

DEBIAN = fashion_mnist.DEBIAN_FOLDER
TRAIN, TEST, SIZE = 240, 30, (6, 5)  # a small Fashion-MNIST; not square, so that H and W cannot be mixed up
SHAPES = {
    "train_images": ("train-images-idx3-ubyte", (TRAIN, *SIZE)),
    "train_labels": ("train-labels-idx1-ubyte", (TRAIN,)),
    "test_images": ("t10k-images-idx3-ubyte", (TEST, *SIZE)),
    "test_labels": ("t10k-labels-idx1-ubyte", (TEST,)),
}
IMAGES = "train-images-idx3-ubyte"


# ---- a small Fashion-MNIST, and the places it can come from


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The four idx files, unpacked, by name. Pixel [0, 0] of image i is i, so that each is unique."""
    random = np.random.default_rng(0)
    content = {}
    for file, shape in SHAPES.values():
        values = random.integers(0, 256, shape, dtype=np.uint8)
        if len(shape) == 1:
            values = (np.arange(shape[0]) % 10).astype(np.uint8)
        else:
            values[:, 0, 0] = np.arange(shape[0])
        content[file] = idx(values)
    return content


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """Small shapes, no Debian package, no environment, and a download that reaches nobody."""
    monkeypatch.setattr(fashion_mnist, "FILES", SHAPES)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "no-debian-here")
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:1/"])
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DEPL0KIT_DATA", raising=False)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def raw(root) -> Path:
    return root / "FashionMNIST" / "raw"


def write(folder: Path, files: dict[str, bytes], packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


class Server:
    """Serves the .gz files; `faults[name]` is a list of functions that spoil one answer each."""

    def __init__(self, files: dict[str, bytes]):
        self.files = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
        self.faults: dict[str, list] = {}
        self.served: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):
                name = handler.path.strip("/")
                content = self.files[name]
                handler.send_response(200)
                if handler.headers["Method"] == "HEAD":  # how torchvision looks for redirections
                    return handler.end_headers()
                self.served.append(name)
                handler.send_header("Content-Length", str(len(content)))  # also of what is cut off
                handler.end_headers()
                faults = self.faults.get(name)
                handler.wfile.write(faults.pop(0)(content) if faults else content)

            def log_message(handler, *args):
                """Be quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/"

    @property
    def resources(self) -> list[tuple[str, str]]:
        return [(name, hashlib.md5(content).hexdigest()) for name, content in self.files.items()]


@pytest.fixture
def server(files, monkeypatch):
    server = Server(files)
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    monkeypatch.setattr(FashionMNIST, "resources", server.resources)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def quietly(root: Path) -> Data:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_data("fashion_mnist", root)


def assert_is_the_small_set(data: Data, files: dict[str, bytes]) -> None:
    """Every image of the files is there once, with its own label."""
    assert (len(data.train), len(data.val), len(data.test)) == (TRAIN - TRAIN // 12, TRAIN // 12, TEST)
    images = torch.cat([data.train.images, data.val.images])
    labels = torch.cat([data.train.labels, data.val.labels])
    number = images[:, 0, 0, 0].long()
    assert sorted(number.tolist()) == list(range(TRAIN))
    assert torch.equal(labels, number % 10)
    original = np.frombuffer(files[IMAGES], np.uint8, offset=16).reshape(TRAIN, 1, *SIZE)
    assert np.array_equal(images.numpy(), original[number.numpy()])
    original = np.frombuffer(files["t10k-images-idx3-ubyte"], np.uint8, offset=16).reshape(TEST, 1, *SIZE)
    assert np.array_equal(data.test.images.numpy(), original)
    assert torch.equal(data.test.labels, torch.arange(TEST) % 10)


# ---- digits and the splits


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


def test_digits_has_the_promised_sizes_and_types(digits):
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1200, 240, 357)
    assert digits.classes == tuple("0123456789")
    assert (digits.in_channels, digits.image_size, digits.num_classes) == (1, (8, 8), 10)
    for split in (digits.train, digits.val, digits.test):
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
        assert split.images.shape == (len(split), 1, 8, 8) and split.labels.shape == (len(split),)


def test_digits_are_those_of_scikit_learn_each_once(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    parts = (digits.train, digits.val, digits.test)
    values = torch.cat([p.images for p in parts]).double().mul(16 / 255).round().numpy().reshape(-1, 64)
    rows = np.column_stack([values, torch.cat([p.labels for p in parts]).numpy()])
    expected = np.column_stack([source.data, source.target])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))


def test_digits_splits_hold_all_classes_in_proportion(digits):
    parts = [torch.bincount(p.labels, minlength=10) for p in (digits.train, digits.val, digits.test)]
    total = sum(parts)
    for part in parts:
        assert (part - total * part.sum() / total.sum()).abs().max() <= 1.5


def test_the_split_is_the_same_every_time_and_everywhere(digits):
    again = load_data("digits")
    assert torch.equal(again.train.images, digits.train.images)
    assert torch.equal(again.test.labels, digits.test.labels)
    # of this version, so that results stay comparable with those of the next
    assert hashlib.sha256(digits.test.images.numpy().tobytes()).hexdigest()[:12] == "4f58a5e808ea"


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.data())
def test_stratified_parts_are_disjoint_and_proportional(counts, draw):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    first = draw.draw(st.integers(0, len(labels)))
    a, b = splits.stratified(labels, first, len(labels) - first)
    assert len(a) == first
    assert sorted(torch.cat([a, b]).tolist()) == list(range(len(labels)))
    expected = torch.tensor(counts) * first / len(labels)
    assert (torch.bincount(labels[a], minlength=len(counts)) - expected).abs().max() <= 1 + len(counts) / 2


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'fashion_mnist'"):
        load_data("FashionMNIST")
    with pytest.raises(ValueError, match=r"unknown data set 'digit'.*Did you mean 'digits'"):
        load_data("digit")


def test_repr_is_one_short_line(digits):
    text = repr(digits)
    assert "\n" not in text and len(text) < 150
    for part in ("digits", "1200", "240", "357", "1x8x8", "10 classes"):
        assert part in text
    assert repr(digits.val) == "MemorySplit(240 images of 1x8x8 on cpu)"


def test_to_moves_everything(digits):
    moved = digits.to("meta")
    for split in (moved.train, moved.val, moved.test):
        assert {t.device.type for t in (split.images, split.labels, split.mean, split.std)} == {"meta"}
        x, y = next(split.batches(7, torch.Generator()))
        assert (x.device.type, y.device.type) == ("meta", "meta") and x.shape == (7, 1, 8, 8)
    assert moved.name == "digits" and digits.train.images.device.type == "cpu"


# ---- batches


def random_split(n: int, channels: int = 3) -> MemorySplit:
    """Pixel 0 of image i is i; its label too."""
    g = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, channels, 5, 4), dtype=torch.uint8, generator=g)
    images[:, 0, 0, 0] = torch.arange(n)
    mean, std = torch.linspace(0.1, 0.9, channels), torch.linspace(0.2, 0.4, channels)
    return MemorySplit(images.contiguous(memory_format=torch.channels_last), torch.arange(n), mean, std)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_normalise_the_right_images(channels, shuffled):
    split = random_split(50, channels)
    for x, y in split.batches(8, torch.Generator().manual_seed(0) if shuffled else None):
        pixels = split.images[y].double() / 255
        expected = (pixels - split.mean.view(1, -1, 1, 1)) / split.std.view(1, -1, 1, 1)
        assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(x.double(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["digits", "two channels"])
def test_training_images_are_normalised_to_mean_0_and_std_1(digits, name):
    if name == "digits":
        split, mean, std = digits.train, digits.mean, digits.std
    else:
        g = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (300, 2, 6, 6), generator=g).to(torch.uint8)
        images[:, 1] //= 4
        part = images, torch.zeros(300, dtype=torch.int64)
        two = data_set.in_memory("two", ("a",), part, part, part)
        split, mean, std = two.train, two.mean, two.std
    x = torch.cat([x for x, _ in split.batches(100)]).double()
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(len(mean)).double(), atol=1e-6)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(len(std)).double(), atol=1e-6)


def test_an_empty_channel_gives_finite_numbers():
    part = torch.zeros(20, 1, 4, 4, dtype=torch.uint8), torch.zeros(20, dtype=torch.int64)
    assert torch.isfinite(data_set.in_memory("black", ("a",), part, part, part).example).all()


def test_without_a_generator_all_images_come_in_order():
    sizes, labels = zip(*[(len(x), y) for x, y in random_split(50).batches(8)], strict=True)
    assert sizes == (8, 8, 8, 8, 8, 8, 2)
    assert torch.cat(labels).tolist() == list(range(50))


@given(st.integers(1, 60), st.integers(1, 70))
def test_shuffled_batches_are_full_and_hold_each_image_at_most_once(n, batch_size):
    labels = [y.tolist() for _, y in random_split(n).batches(batch_size, torch.Generator().manual_seed(0))]
    seen = [i for batch in labels for i in batch]
    assert len(set(seen)) == len(seen)
    if n < batch_size:
        assert sorted(seen) == list(range(n)) and len(labels) == 1
    else:
        assert {len(y) for y in labels} == {batch_size} and len(labels) == n // batch_size


def test_the_seed_decides_the_order_and_epochs_differ():
    def epochs(seed: int) -> list[list[int]]:
        rng = torch.Generator().manual_seed(seed)
        return [torch.cat([y for _, y in split.batches(10, rng)]).tolist() for _ in range(2)]

    split = random_split(50)
    assert epochs(0) == epochs(0) and epochs(0) != epochs(1)
    first, second = epochs(0)
    assert first != second and sorted(first) == sorted(second)


@pytest.mark.parametrize("batch_size", [0, -3, 2.5, True])
def test_a_bad_batch_size_is_refused_at_once(batch_size):
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
        random_split(5).batches(batch_size)


def test_the_example_is_one_normalised_image(digits):
    assert digits.example.shape == (1, 1, 8, 8)
    assert torch.equal(digits.example, next(digits.train.batches(16))[0][:1])


# ---- where data lie


def test_root_is_the_argument_then_the_environment_then_the_checkout_then_home(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "lib" / "depl0kit")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_root() == tmp_path / "home" / ".cache" / "depl0kit"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pyproject.toml").touch()
    assert data_root() == tmp_path / "lib" / "data"
    (tmp_path / "lib" / "depl0kit" / "shipped").mkdir(parents=True)  # as in a wheel: it is no clone
    assert data_root() == tmp_path / "home" / ".cache" / "depl0kit"
    monkeypatch.setenv("DEPL0KIT_DATA", "~/sets")
    assert data_root() == tmp_path / "home" / "sets"
    assert data_root("elsewhere") == Path("elsewhere")


# ---- Fashion-MNIST: the sources


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_from_its_raw_files_then_from_the_cache(files, root, raw, packed):
    write(raw, files, packed)
    data = quietly(root)
    assert_is_the_small_set(data, files)
    assert (data.image_size, data.in_channels, data.classes) == (SIZE, 1, tuple(FashionMNIST.classes))
    for file in raw.iterdir():
        file.unlink()
    again = quietly(root)  # only the cache is left
    assert_is_the_small_set(again, files)
    assert torch.equal(again.train.images, data.train.images)
    assert sorted(p.name for p in root.iterdir()) == ["FashionMNIST", "fashion_mnist.safetensors"]


def test_fashion_mnist_splits_are_balanced(files, root, raw):
    write(raw, files)
    data = quietly(root)
    assert torch.bincount(data.val.labels).tolist() == [2] * 10
    assert torch.bincount(data.train.labels).tolist() == [22] * 10


def test_fashion_mnist_from_debian(files, root, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    write(tmp_path / "debian", files)
    assert_is_the_small_set(quietly(root), files)
    assert (root / "fashion_mnist.safetensors").is_file()


def test_fashion_mnist_by_download(files, root, raw, server):
    assert_is_the_small_set(quietly(root), files)
    assert sorted(p.name for p in raw.iterdir()) == sorted(server.files)  # and nothing half done
    assert sorted(server.served) == sorted(server.files)
    quietly(root)
    assert len(server.served) == 4  # the second time from the cache


def test_the_cache_is_readable_by_all_who_may_read_the_folder(files, root, raw):
    write(raw, files)
    quietly(root)
    (root / "ordinary").touch()
    assert (root / "fashion_mnist.safetensors").stat().st_mode == (root / "ordinary").stat().st_mode


def test_a_root_that_cannot_be_written_is_no_obstacle(files, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    write(tmp_path / "debian", files)
    (tmp_path / "a_file").touch()
    with pytest.warns(UserWarning, match="cache .* cannot be written"):
        data = load_data("fashion_mnist", tmp_path / "a_file" / "root")
    assert_is_the_small_set(data, files)


# ---- Fashion-MNIST: what can go wrong


def test_without_network_the_error_tells_all_ways(root, raw):
    with pytest.raises(DataNotFoundError) as caught:
        load_data("fashion_mnist", root)
    text = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError) and "\n" not in text
    for way in ("when online", "apt-get install --reinstall dataset-fashion-mnist", f"{IMAGES}.gz", str(raw)):
        assert way in text
    assert "refused" in text and isinstance(caught.value.__cause__, RuntimeError)
    assert not (root / "fashion_mnist.safetensors").exists() and not list(raw.glob("*"))


def test_a_download_cut_off_once_is_named_and_fetched_again(files, root, server):
    server.faults[f"{IMAGES}.gz"] = [half]
    with pytest.warns(UserWarning, match=f"{IMAGES}.gz arrived damaged: expected {16 + TRAIN * 30} bytes"):
        data = load_data("fashion_mnist", root)
    assert_is_the_small_set(data, files)
    assert server.served.count(f"{IMAGES}.gz") == 2


def test_a_download_cut_off_always_is_explained(root, raw, server):
    server.faults[f"{IMAGES}.gz"] = [half] * 9
    with pytest.warns(UserWarning), pytest.raises(DataNotFoundError) as caught:
        load_data("fashion_mnist", root)
    assert f"{IMAGES}.gz arrived damaged: expected {16 + TRAIN * 30} bytes" in str(caught.value)
    assert "apt-get" in str(caught.value) and "\n" not in str(caught.value)
    assert server.served.count(f"{IMAGES}.gz") == 2 and not list(raw.glob("*"))


def test_a_login_page_in_place_of_the_file_is_explained(root, server):
    server.faults[f"{IMAGES}.gz"] = [lambda content: b"<html>Log in</html>".ljust(len(content))] * 2
    with pytest.warns(UserWarning), pytest.raises(DataNotFoundError, match="expected gzip data, found"):
        load_data("fashion_mnist", root)


def wrong_header(content: bytes) -> bytes:
    return content[:3] + b"\x02" + content[4:]


def other_count(content: bytes) -> bytes:
    return content[:4] + struct.pack(">I", TRAIN - 1) + content[8:-30]


DAMAGES = {
    "half": (half, f"expected {16 + TRAIN * 30} bytes, found {(16 + TRAIN * 30) // 2}"),
    "empty": (lambda content: b"", "found an empty file"),
    "too long": (
        lambda content: content + b"x",
        f"expected {16 + TRAIN * 30} bytes, found {17 + TRAIN * 30}",
    ),
    "rank": (wrong_header, "expected the idx header 00000803 .*found 00000802"),
    "count": (other_count, r"expected the idx header .*\(240x6x5 bytes\), found .*000000ef"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_raw_file_is_named_set_aside_and_fetched_again(files, root, raw, server, damage):
    spoil, text = DAMAGES[damage]
    write(raw, files | {IMAGES: spoil(files[IMAGES])}, packed=False)
    with pytest.warns(UserWarning, match=f"{IMAGES} is damaged: .*{text}.*kept as {IMAGES}.damaged"):
        data = load_data("fashion_mnist", root)
    assert_is_the_small_set(data, files)
    assert not (raw / IMAGES).exists() and (raw / f"{IMAGES}.gz").exists()
    assert (raw / f"{IMAGES}.damaged").read_bytes() == spoil(files[IMAGES])


@pytest.mark.parametrize("cut", [10, -4, -200])  # in the header, in the checksum, in the data
def test_a_cut_gz_file_is_named_set_aside_and_fetched_again(files, root, raw, server, cut):
    write(raw, files)
    path = raw / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.warns(
        UserWarning, match=f"{path} is damaged: expected {16 + TRAIN * 30} bytes once unpacked"
    ):
        data = load_data("fashion_mnist", root)
    assert_is_the_small_set(data, files)
    assert path.read_bytes() == server.files[path.name]


def test_a_flipped_byte_in_a_gz_file_is_found(files, root, raw, server):
    write(raw, files)
    path = raw / f"{IMAGES}.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum: the data themselves look sound
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="expected gzip data, found"):
        assert_is_the_small_set(load_data("fashion_mnist", root), files)


def test_a_label_that_is_no_class_is_refused(files, root, raw, server):
    labels = "train-labels-idx1-ubyte"
    write(raw, files | {labels: files[labels][:-1] + b"\x0a"})
    with pytest.warns(UserWarning, match=f"{labels}.gz is damaged: expected labels from 0 to 9, found 10"):
        assert_is_the_small_set(load_data("fashion_mnist", root), files)


def test_a_damaged_unpacked_file_beside_a_sound_gz_needs_no_download(files, root, raw):
    write(raw, files)
    (raw / IMAGES).write_bytes(half(files[IMAGES]))
    with pytest.warns(UserWarning, match=f"{IMAGES} is damaged"):
        assert_is_the_small_set(load_data("fashion_mnist", root), files)


def test_a_damaged_file_of_debian_is_named_with_the_remedy_and_never_deleted(
    files, root, tmp_path, monkeypatch
):
    debian = tmp_path / "debian"
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", debian)
    write(debian, files)
    path = debian / f"{IMAGES}.gz"
    path.write_bytes(half(path.read_bytes()))
    before = {p.name: p.read_bytes() for p in debian.iterdir()}
    with (
        pytest.warns(UserWarning, match=f"{path} is damaged: .*apt-get install --reinstall"),
        pytest.raises(DataNotFoundError, match="--reinstall dataset-fashion-mnist"),
    ):
        load_data("fashion_mnist", root)
    assert {p.name: p.read_bytes() for p in debian.iterdir()} == before


CACHE_DAMAGES = {
    "cut": half,
    "empty": lambda content: b"",
    "text": lambda content: b"not a cache" * 50,
    "a flipped bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    # in the header, which stays a valid one
    "a name": lambda content: content.replace(b"train_images", b"train_imagex"),
    "a shape": lambda content: content.replace(b"[240,6,5]", b"[240,5,6]"),
    "a type": lambda content: content.replace(b'"U8"', b'"I8"', 1),
    "the checksum's name": lambda content: content.replace(b"crc32", b"crc33"),
}


@pytest.mark.parametrize("damage", CACHE_DAMAGES)
def test_a_damaged_cache_is_named_and_rebuilt(files, root, raw, damage):
    write(raw, files)
    quietly(root)
    cache = root / "fashion_mnist.safetensors"
    sound = cache.read_bytes()
    cache.write_bytes(CACHE_DAMAGES[damage](sound))
    with pytest.warns(UserWarning, match=f"cache {cache} is damaged: expected .*, found.* deleted"):
        assert_is_the_small_set(load_data("fashion_mnist", root), files)
    assert cache.read_bytes() == sound
    quietly(root)


BUILD_AGAIN_AND_AGAIN = """
import sys
from pathlib import Path
from depl0kit.data import fashion_mnist
from depl0kit.data import loading as data
root = Path(sys.argv[1])
fashion_mnist.FILES = {k: (f, (2000, *s[1:])) for k, (f, s) in fashion_mnist.FILES.items()}
for _ in range(40):
    (root / "fashion_mnist.safetensors").unlink(missing_ok=True)
    for _ in range(3):
        assert data.load_data("fashion_mnist", root).train.labels.sum() == 0
"""


@pytest.mark.slow
def test_processes_that_build_the_cache_together_never_see_half_of_it(root, raw):
    blank = {
        file: idx(np.zeros((2000, 28, 28) if len(shape) == 3 else 2000, np.uint8))
        for file, shape in SHAPES.values()
    }
    write(raw, blank, packed=False)
    # a damaged cache would warn, and here a warning is an error
    command = [sys.executable, "-W", "error::UserWarning", "-c", BUILD_AGAIN_AND_AGAIN, str(root)]
    checkout = Path(dk_data.__file__).parents[2]
    processes = [subprocess.Popen(command, cwd=checkout, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    leftovers = [p.name for p in root.iterdir() if p.name.startswith(".")]
    assert (root / "fashion_mnist.safetensors").is_file() and not leftovers


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(root, monkeypatch):
    monkeypatch.undo()  # the real files and shapes
    data = quietly(root)
    assert repr(data).startswith("Data(fashion_mnist: 55000 train, 5000 val, 10000 test images of 1x28x28")
    for split, per_class in ((data.train, 5500), (data.val, 500), (data.test, 1000)):
        assert torch.bincount(split.labels).tolist() == [per_class] * 10
    assert data.mean[0] == pytest.approx(0.286, abs=1e-3) and data.std[0] == pytest.approx(0.353, abs=1e-3)
    assert hashlib.sha256(data.val.images.numpy().tobytes()).hexdigest()[:12] == "f7068fbe1185"
