"""A small CIFAR in torchvision's format: where it is found, what is refused; no pickle runs unchecked.

Nothing here needs the internet: torchvision's own download code runs against a server of this test.
"""

import hashlib
import io
import pickle
import tarfile
import threading
import warnings
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from depl0kit.data import Data, cifar, load_data
from depl0kit.data.files import DataNotFoundError

SOURCES = {"cifar10": CIFAR10, "cifar100": CIFAR100}
PER_BATCH, TEST = {"cifar10": 40, "cifar100": 1000}, {"cifar10": 30, "cifar100": 200}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def pickled(name: str, file: str, images: int) -> bytes:
    """A batch as the authors wrote them: protocol 2, and the planes of an image one after the other."""
    pixels = np.random.default_rng(len(file)).integers(0, 256, (images, 3072), dtype=np.uint8)
    classes = 10 if name == "cifar10" else 100
    key = "labels" if name == "cifar10" else "fine_labels"
    labels = [i % classes for i in range(images)]
    content = {"data": pixels, key: labels, "filenames": [f"{i}.png" for i in range(images)]}
    if name == "cifar100":
        content["coarse_labels"] = [i % 20 for i in range(images)]
    return pickle.dumps(content, protocol=2)


@cache
def small_files(name: str) -> dict[str, bytes]:
    source = SOURCES[name]
    files = {file: pickled(name, file, PER_BATCH[name]) for file, _ in source.train_list}
    files |= {file: pickled(name, file, TEST[name]) for file, _ in source.test_list}
    classes = [f"class {i}" for i in range(10 if name == "cifar10" else 100)]
    return files | {source.meta["filename"]: pickle.dumps({source.meta["key"]: classes}, protocol=2)}


@cache
def small_archive(name: str) -> bytes:
    return packed(SOURCES[name], small_files(name))


def packed(source: type, files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for file, content in files.items():
            member = tarfile.TarInfo(f"{source.base_folder}/{file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Small:
    """One small set, with torchvision's lists set to its MD5 sums."""

    def __init__(self, name: str, root: Path, monkeypatch):
        self.name, self.root, self.source = name, root, SOURCES[name]
        self.files, self.archive = small_files(name), small_archive(name)
        self.path = root / self.source.filename
        for attribute in ("train_list", "test_list"):
            sums = [[file, md5(self.files[file])] for file, _ in getattr(self.source, attribute)]
            monkeypatch.setattr(self.source, attribute, sums)
        meta = self.source.meta | {"md5": md5(self.files[self.source.meta["filename"]])}
        monkeypatch.setattr(self.source, "meta", meta)
        monkeypatch.setattr(self.source, "tgz_md5", md5(self.archive))
        monkeypatch.setattr(
            self.source, "url", f"http://127.0.0.1:1/{self.source.filename}"
        )  # reaches nobody

    def lay(self, content: bytes | None = None) -> None:
        self.root.mkdir(exist_ok=True)
        self.path.write_bytes(self.archive if content is None else content)

    def unpack(self) -> Path:
        folder = self.root / self.source.base_folder
        folder.mkdir(parents=True)
        for file, content in self.files.items():
            (folder / file).write_bytes(content)
        return folder

    def load(self) -> Data:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return load_data(self.name, self.root)

    def assert_same(self, data: Data) -> None:
        """What torchvision reads from the same files: all images, each with its label."""
        self.unpacked = self.root.with_name("for torchvision")
        if not self.unpacked.exists():
            with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
                archive.extractall(self.unpacked, filter="data")
        train, test = self.source(self.unpacked), self.source(self.unpacked, train=False)
        assert data.classes == tuple(train.classes)
        assert np.array_equal(data.test.images.permute(0, 2, 3, 1), test.data)
        assert data.test.labels.tolist() == test.targets
        both = [(s.images.permute(0, 2, 3, 1).numpy(), s.labels.tolist()) for s in (data.train, data.val)]
        ours = sorted((image.tobytes(), label) for x, y in both for image, label in zip(x, y, strict=True))
        expected = zip((image.tobytes() for image in train.data), train.targets, strict=True)
        assert ours == sorted(expected)
        assert len(data.val) == len(train.data) // 10
        for split in (data.train, data.val, data.test):
            assert split.images.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture(params=SOURCES)
def small(request, tmp_path, monkeypatch) -> Small:
    monkeypatch.setenv("no_proxy", "*")
    return Small(request.param, tmp_path / "root", monkeypatch)


@pytest.fixture
def ten(tmp_path, monkeypatch) -> Small:
    monkeypatch.setenv("no_proxy", "*")
    return Small("cifar10", tmp_path / "root", monkeypatch)


@pytest.fixture
def served(ten, monkeypatch):
    """Serves the archive of `ten`; `served.faults` spoil one answer each."""

    class Handler(BaseHTTPRequestHandler):
        faults, count = [], 0

        def do_GET(self):
            self.send_response(200)
            if self.headers["Method"] == "HEAD":  # how torchvision looks for redirections
                return self.end_headers()
            Handler.count += 1
            self.send_header("Content-Length", str(len(ten.archive)))  # also of what is cut off
            self.end_headers()
            self.wfile.write(self.faults.pop(0)(ten.archive) if self.faults else ten.archive)

        def log_message(self, *args):
            """Be quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setattr(ten.source, "url", f"http://127.0.0.1:{http.server_port}/{ten.source.filename}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Handler
    http.shutdown()
    thread.join()
    http.server_close()


def visible(root: Path) -> list[str]:
    """What lies there, but for the lock of a download."""
    return sorted(path.name for path in root.iterdir() if path.name != ".download.lock")


# ---- the sources


def test_from_the_archive_then_from_the_cache(small):
    small.lay()
    data = small.load()
    small.assert_same(data)
    small.path.unlink()
    again = small.load()  # only the cache is left
    small.assert_same(again)
    assert torch.equal(again.train.images, data.train.images)
    assert [p.name for p in small.root.iterdir()] == [f"{small.name}.safetensors"]  # nothing unpacked


def test_from_the_folder_that_torchvision_unpacks(small):
    small.unpack()
    small.assert_same(small.load())


def test_by_download(ten, served):
    ten.assert_same(ten.load())
    assert visible(ten.root) == ["cifar-10-python.tar.gz", "cifar10.safetensors"]
    ten.load()
    assert served.count == 1  # the second time from the cache


def test_splits_are_balanced(small):
    small.lay()
    data = small.load()
    assert torch.bincount(data.val.labels).unique().numel() == 1
    assert torch.bincount(data.train.labels).unique().numel() == 1
    assert (data.in_channels, data.image_size) == (3, (32, 32))


def test_the_real_archives_are_those_that_torchvision_knows():
    assert CIFAR10.tgz_md5 == "c58f30108f718f92721af3b95e74349a"
    assert CIFAR100.tgz_md5 == "eb9058c3a382ffc7106e4002c42a8d85"


# ---- what can go wrong


def test_offline_the_error_says_in_a_sentence_how_to_get_it(small):
    with pytest.raises(DataNotFoundError) as caught:
        load_data(small.name, small.root)
    text = str(caught.value)
    for part in (cifar.TITLES[small.name], "when online", small.source.filename, str(small.root), "refused"):
        assert part in text
    assert "\n" not in text and text.count(". ") == 0
    assert not visible(small.root)


@pytest.mark.parametrize("spoil", [lambda c: c[:-100], lambda c: b"", lambda c: c[:-1] + bytes([c[-1] ^ 1])])
def test_a_damaged_archive_is_named_set_aside_and_fetched_again(ten, served, spoil):
    spoilt = spoil(ten.archive)
    ten.lay(spoilt)
    text = f"{ten.path} is damaged: expected the MD5 sum {md5(ten.archive)}, found {md5(spoilt)}.*kept as"
    with pytest.warns(UserWarning, match=text):
        data = load_data("cifar10", ten.root)
    ten.assert_same(data)
    assert ten.path.read_bytes() == ten.archive
    assert ten.path.with_name("cifar-10-python.tar.gz.damaged").read_bytes() == spoilt


def test_a_damaged_archive_offline_is_kept_aside_and_explained(ten):
    """Somebody carried it here: what is left of it is not ours to delete."""
    cut = ten.archive[:-5]
    ten.lay(cut)
    aside = ten.path.with_name(f"{ten.path.name}.damaged")
    with (
        pytest.warns(UserWarning, match=f"is damaged.*kept as {aside.name}, and fetched again if there is a"),
        pytest.raises(DataNotFoundError, match="copy cifar-10"),
    ):
        load_data("cifar10", ten.root)
    assert visible(ten.root) == [aside.name] and aside.read_bytes() == cut


def test_a_damaged_unpacked_file_is_named_and_the_archive_used(ten):
    ten.lay()
    file = ten.unpack() / "data_batch_3"
    file.write_bytes(ten.files["data_batch_3"][:-9])
    with pytest.warns(UserWarning, match=f"{file} is damaged: expected the MD5 sum"):
        ten.assert_same(load_data("cifar10", ten.root))
    assert file.with_name("data_batch_3.damaged").read_bytes() == ten.files["data_batch_3"][:-9]


def test_an_incomplete_unpacked_folder_is_passed_over(ten):
    ten.lay()
    (ten.unpack() / "test_batch").unlink()
    ten.assert_same(ten.load())


def test_a_download_cut_off_once_is_named_and_fetched_again(ten, served):
    served.faults = [lambda content: content[:500]]
    with pytest.warns(UserWarning, match="arrived damaged: expected the MD5 sum .* in 500 bytes"):
        ten.assert_same(load_data("cifar10", ten.root))
    assert served.count == 2


def test_a_login_page_in_place_of_the_archive_is_explained(ten, served):
    served.faults = [lambda content: b"<html>Log in</html>".ljust(len(content))] * 2
    with (
        pytest.warns(UserWarning),
        pytest.raises(DataNotFoundError, match="arrived damaged: expected the MD5"),
    ):
        load_data("cifar10", ten.root)
    assert not visible(ten.root)


class Bomb:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("where", ["archive", "folder"])
def test_a_pickle_with_another_md5_sum_is_never_run(ten, tmp_path, where):
    mark = tmp_path / "executed"
    bomb = pickle.dumps({"data": Bomb(mark)}, protocol=2)
    evil = ten.files | {"data_batch_1": bomb}
    if where == "folder":
        ten.files = evil
        ten.unpack()
    else:
        ten.lay(packed(ten.source, evil))
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(DataNotFoundError):
        load_data("cifar10", ten.root)
    assert not mark.exists()
    pickle.loads(bomb)
    assert mark.exists()  # it would have been


def test_a_damaged_cache_is_named_and_rebuilt(ten):
    ten.lay()
    ten.load()
    cache = ten.root / "cifar10.safetensors"
    sound = cache.read_bytes()
    for spoilt in (
        sound[:-1] + bytes([sound[-1] ^ 1]),
        sound.replace(b"class 3", b"class 4", 1),
        b"",
        sound[:99],
    ):
        cache.write_bytes(spoilt)
        with pytest.warns(UserWarning, match=f"cache {cache} is damaged: expected .*, found"):
            ten.assert_same(load_data("cifar10", ten.root))
        ten.load()  # and is sound again
