"""What a run resumes from: history, gates and checkpoints go together; an interrupt doubles nothing."""

import json
import os
import shutil
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit.data.loading import Data
from depl0kit.support import files
from depl0kit.training.runs import about, checkpoints, control, journal, recording
from depl0kit.training.runs import folder as run_folder

CONFIG = dk.TrainConfig(epochs=4, lam=8.0, warmup=0, ramp=1, batch_size=16)


def net() -> dk.GatedModel:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
    return dk.GatedModel(nn.Sequential(*layers), example=torch.zeros(1, 1, 8, 8))


def train(few: Data, out: Path, config=CONFIG) -> dk.training.runs.Run:
    return dk.train(net(), few, config, progress=False, out=out)


@pytest.fixture(autouse=True)
def a_checkpoint_an_epoch(monkeypatch):
    monkeypatch.setattr(recording, "CHECKPOINT_SHARE", 1e9)


@pytest.fixture(scope="module")
def whole(few) -> dk.training.runs.Run:
    return train(few, None)


@pytest.fixture(scope="module")
def killed(few, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "CHECKPOINT_SHARE", 1e9)
        patch.setattr(recording._Record, "end_with", lambda *_: None)
        loop = recording.recorded(dk.Trainer(net(), few, CONFIG), folder)
        for _ in range(7):
            next(loop)
        loop.close()
    assert saved(folder) == [2, 3] and dk.RunFolder(folder).history().epoch.tolist() == [1, 2, 3]
    return folder


@pytest.fixture
def cut(killed, tmp_path) -> Path:
    """A folder whose process was killed in the last epoch; it has checkpoints of epochs 2 and 3."""
    return shutil.copytree(killed, tmp_path, dirs_exist_ok=True)


def saved(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("checkpoints/*.safetensors"))


def assert_same(folder: Path, run: dk.training.runs.Run, whole: dk.training.runs.Run) -> None:
    """As it was returned, as it lies in the folder."""
    for found in (run, dk.load_run(folder, net())):
        weights = zip(found.net.state_dict().values(), whole.net.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in weights)
        assert found.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
        assert [m.epoch for m in found.moments] == [m.epoch for m in whole.moments]
        assert all(
            np.array_equal(a.log_alpha, b.log_alpha)
            for a, b in zip(found.moments, whole.moments, strict=True)
        )
    assert dk.RunFolder(folder).status()["state"] == "finished"


# --- a history that is not the one the checkpoint counted --------------------------------------------


def change(name: str, how) -> None:
    return lambda folder: (folder / name).write_bytes(how((folder / name).read_bytes()))


def rows(n: int):
    """The header and n rows."""
    return lambda content: b"".join(content.splitlines(keepends=True)[: 1 + n])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


RECORD = 4 * (1 + 3 * 4)
AFTER = {  # of what came after the checkpoint; nothing that counts
    "half a row": change("history.csv", lambda c: c + b"4,0.53,0.1"),
    "another row": change("history.csv", lambda c: c + c.splitlines(keepends=True)[-1]),
    "half a moment": change("gates.f32", lambda c: c + bytes(9)),
    "a moment of an earlier time": change("gates.f32", lambda c: c + c[:RECORD]),
}
LAST = {  # of the last epoch: the checkpoint before counts
    "a byte of the history": change("history.csv", lambda c: c[:-1]),
    "the last row": change("history.csv", rows(2)),
    "a digit of the last row": change(
        "history.csv", lambda c: c[:-2] + b"7\n" if c[-2:-1] != b"7" else c[:-2] + b"8\n"
    ),
    "the last moment": change("gates.f32", lambda c: c[: -3 * RECORD]),
    "a byte of the last moment": change("gates.f32", lambda c: c[: 6 * RECORD - 1] + b"@" + c[6 * RECORD :]),
}
ALL = {
    "all rows": change("history.csv", lambda _: b""),
    "the header": change("history.csv", lambda c: c[c.index(b"\n") + 1 :]),
    "a row twice": change("history.csv", lambda c: rows(1)(c) + rows(3)(c)[len(rows(0)(c)) :]),
    "all moments": change("gates.f32", lambda _: b""),
    "the file of the history": lambda folder: (folder / "history.csv").unlink(),
    "the file of the gates": lambda folder: (folder / "gates.f32").unlink(),
    "the history, and a pipe came": lambda folder: pipe(folder / "history.csv"),
    "line ends": change("history.csv", lambda c: c.replace(b"\n", b"\r\n")),
}


@pytest.mark.parametrize("damage", AFTER)
def test_what_follows_the_checkpoint_is_written_anew(few, whole, cut, damage, recwarn):
    AFTER[damage](cut)
    assert_same(cut, train(few, cut), whole)
    assert not [w for w in recwarn if "counted" in str(w.message)]


@pytest.mark.parametrize("damage", LAST)
def test_a_shorter_history_resumes_from_the_checkpoint_before(few, whole, cut, damage):
    LAST[damage](cut)
    with pytest.warns(UserWarning, match="are not those that the checkpoint of epoch 3 counted"):
        assert_same(cut, train(few, cut), whole)


@pytest.mark.parametrize("damage", ALL)
def test_a_history_that_no_checkpoint_counted_is_refused(few, cut, damage):
    ALL[damage](cut)
    before = content(cut)
    with (
        pytest.warns(UserWarning, match="counted"),
        pytest.raises(ValueError, match=r"cannot be resumed.*another folder, or delete"),
    ):
        train(few, cut)
    assert content(cut).items() >= before.items()  # nothing of it is lost


def content(folder: Path) -> dict[str, bytes]:
    kept = [folder / "history.csv", folder / "gates.f32", *folder.glob("checkpoints/*")]
    return {str(path): path.read_bytes() for path in kept if path.is_file()}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_history_without_a_sound_checkpoint_is_refused(few, cut, damage):
    for path in cut.glob("checkpoints/*"):
        damage(path)
    before = content(cut)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the damaged ones
        with pytest.raises(ValueError, match=r"cannot be resumed.*another folder, or delete"):
            train(few, cut)
    assert content(cut) == before


def test_a_history_without_its_settings_is_refused(few, cut):
    (cut / "config.json").unlink()
    before = content(cut)
    with pytest.raises(ValueError, match=r"holds a history but no config\.json.*another folder, or delete"):
        train(few, cut)
    assert content(cut) == before and not (cut / "config.json").exists()


def test_a_finished_run_that_lost_a_byte_is_finished_again(few, whole, tmp_path):
    train(few, tmp_path)
    change("history.csv", lambda c: c[:-1])(tmp_path)
    with pytest.warns(UserWarning, match="lost, perhaps because the folder was copied"):
        assert len(dk.load_run(tmp_path, net()).rows) == 3
    with pytest.warns(UserWarning, match="checkpoint of epoch 4 counted"):
        assert_same(tmp_path, train(few, tmp_path), whole)


def test_checkpoints_of_earlier_versions_resume(few, whole, cut):
    for path in cut.glob("checkpoints/*"):
        forget_marks(path)
    change("history.csv", lambda c: c + b"4,0.53,0.1")(cut)
    assert_same(cut, train(few, cut), whole)


def test_a_shorter_history_is_found_in_those_of_earlier_versions_too(few, whole, cut):
    for path in cut.glob("checkpoints/*"):
        forget_marks(path)
    change("history.csv", rows(2))(cut)
    with pytest.warns(UserWarning, match="checkpoint of epoch 3 counted"):
        assert_same(cut, train(few, cut), whole)


def forget_marks(path: Path) -> None:
    tensors, notes = files.read_tensors(path)
    files.write_tensors(path, tensors, {name: notes[name] for name in ("epoch", "numbers")})


def test_checkpoints_after_the_one_that_counts_are_deleted(few, cut, monkeypatch):
    """Or a damaged one would be kept as the newest for ever, and sound ones deleted in its place."""
    (cut / "checkpoints" / "epoch-00099.safetensors").write_bytes(b"no checkpoint")
    with pytest.warns(UserWarning, match="epoch-00099"):
        train(few, cut)
    assert saved(cut) == [3, 4]


def test_more_than_99999_epochs_are_in_order(tmp_path):
    folder = dk.RunFolder(tmp_path)
    for epoch in (99_998, 99_999, 100_000, 100_001):
        folder.save(checkpoints.Checkpoint(epoch, {"net.x": torch.ones(1)}, {}))
    assert folder.latest_checkpoint().epoch == 100_001 and saved(tmp_path) == [100_000, 100_001]


def test_a_trainer_that_has_begun_without_a_folder_keeps_its_history_there(few, whole, tmp_path):
    trainer = dk.Trainer(net(), few, CONFIG)
    for _ in zip(range(5), trainer, strict=False):
        pass
    loop = recording.recorded(trainer, tmp_path)
    next(loop)
    loop.close()
    assert_same(tmp_path, train(few, tmp_path), whole)


# --- an interrupt at any moment ------------------------------------------------------------------------

WRITERS = {module.__file__ for module in (recording, run_folder, about, journal, checkpoints, control, files)}


class InterruptAfter:
    """Ctrl-C at the n-th line that runs in the modules that write (in the journal: at the n-th operation)."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, frame, event, _argument):
        if frame.f_code.co_filename not in WRITERS:
            return None
        if frame.f_code.co_filename == journal.__file__:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event in ("line", "opcode"):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self

    def __enter__(self):
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(None)


@pytest.fixture(params=["a new run", "a resumed one"])
def interrupt(request, few, whole, tmp_path, tmp_path_factory):
    """Interrupts a run of 4 epochs at its n-th line, and resumes it; False if it has fewer."""
    start = None
    if request.param == "a resumed one":
        start = request.getfixturevalue("cut")
        (start / "history.csv").write_bytes((start / "history.csv").read_bytes() + b"4,0.5\n")

    def at(n: int) -> bool:
        out = tmp_path_factory.mktemp("interrupted") / "run"
        if start is not None:
            shutil.copytree(start, out)
        with InterruptAfter(n) as tracer, suppress(KeyboardInterrupt):
            train(few, out)
        assert_same(out, train(few, out), whole)
        lines = (out / "history.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4"]
        assert not list(out.rglob(".unfinished*"))
        shutil.rmtree(out)
        return tracer.left <= 0

    return at


@pytest.mark.slow
def test_an_interrupt_at_any_line_doubles_nothing(interrupt):
    tried = 0
    for n in range(1, 10**6, 211):
        if not interrupt(n):
            break
        tried += 1
    assert tried > 8


@pytest.mark.proofs
@pytest.mark.timeout(3600)
def test_interrupts_by_the_hundred_double_nothing(interrupt, request, proved):
    tried = 0
    while interrupt(1 + 3 * tried):  # every third line
        tried += 1
    assert tried > 400
    proved(f"interrupts, {request.node.callspec.id}: {tried} lines that write, resumed with the same bits")


# --- what is left behind ---------------------------------------------------------------------------------


def test_what_a_kill_left_unfinished_is_deleted_and_no_more(few, cut):
    left = [cut / ".unfinished-a", cut / "checkpoints" / ".unfinished-b"]
    for folder in left:
        folder.mkdir()
        (folder / "control.json").write_text("{")
    (cut / "mine").write_text("kept")
    loop = recording.recorded(dk.Trainer(net(), few, CONFIG), cut)
    next(loop)
    assert not any(folder.exists() for folder in left) and (cut / "mine").exists()
    (cut / ".unfinished-c").mkdir()  # of one who writes now
    folder = dk.RunFolder(cut)
    folder.tidy()
    assert (cut / ".unfinished-c").exists()
    loop.close()


def test_errors_of_the_data_are_told_as_they_are(few, tmp_path):
    class Gone(type(few.train)):
        def batches(self, *args, **more):
            yield from list(super().batches(*args, **more))[:1]
            raise OSError(116, "Stale file handle", "image.png")

        def to(self, device):
            return self

    split = few.train
    gone = Gone(split.images, split.labels, split.mean, split.std)
    with pytest.raises(OSError, match=r"Stale file handle.*image\.png") as caught:
        train(replace(few, train=gone), tmp_path)
    assert "cannot be written" not in str(caught.value)
    status = dk.RunFolder(tmp_path).status()
    assert status["state"] == "failed" and "Stale file handle" in status["error"]


def test_a_folder_that_cannot_be_written_hides_no_other_error(few, tmp_path, monkeypatch):
    trainer = dk.Trainer(net(), few, CONFIG)
    loop = recording.recorded(trainer, tmp_path)
    next(loop)

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_json", full)
    monkeypatch.setattr(trainer, "_steps", iter(()))
    with (
        pytest.warns(UserWarning, match="was not written.*No space left"),
        pytest.raises(KeyError, match="mine"),
    ):
        loop.throw(KeyError("mine"))


def test_a_full_disk_is_named_with_the_folder(few, tmp_path, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_tensors", full)
    with pytest.raises(OSError, match=f"run folder {tmp_path} cannot be written.*No space left.*make room"):
        train(few, tmp_path)


def test_notes_are_json(cut):
    _, notes = files.read_tensors(cut / "checkpoints" / "epoch-00003.safetensors")
    marks = json.loads(notes["marks"])
    assert marks["history.csv"][0] == 3 and marks["gates.f32"][1] == 3.0
