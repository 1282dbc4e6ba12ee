"""Runs in folders: resumed bit for bit (proofs/test_kills.py kills them); never lost, never mixed up."""

import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from marks import slow_but_the_first
from torch import nn

import depl0kit as dk
from depl0kit.data.loading import Data
from depl0kit.gates.posteriors import POSTERIORS
from depl0kit.training.runs import recording

CONFIG = dk.TrainConfig(epochs=4, fine_tune_epochs=1, lam=8.0, warmup=0, ramp=1, batch_size=16, augment=True)


@pytest.fixture(scope="module")
def few() -> Data:
    """64 training images: 4 steps an epoch."""
    data = dk.load_data("digits")
    return replace(data, train=data.train.take(64), val=data.val.take(32), test=data.test.take(32))


def net(posterior="mean_field", seed=0) -> dk.GatedModel:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2))
    layers += (nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10))
    return dk.GatedModel(nn.Sequential(*layers), posterior, example=torch.zeros(1, 1, 8, 8))


def train(few, out, config=CONFIG, network=None) -> dk.training.runs.Run:
    return dk.train(network or net(), few, config, progress=False, out=out)


@pytest.fixture(scope="module")
def undisturbed(few, tmp_path_factory) -> Callable[..., tuple[dk.training.runs.Run, Path]]:
    """A run that nothing stopped, by its posterior, and its folder; each is trained once."""

    @cache
    def trained(posterior: str = "mean_field") -> tuple[dk.training.runs.Run, Path]:
        out = tmp_path_factory.mktemp(posterior)
        return train(few, out, network=net(posterior)), out

    return trained


def state(run: dk.training.runs.Run) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in run.net.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(history: pd.DataFrame) -> pd.DataFrame:
    return history.drop(columns="seconds")


class Killed(BaseException):
    """Nothing catches it, as nothing catches a SIGKILL."""


def train_until(few, out, steps: int, posterior="mean_field", monkeypatch=None) -> None:
    """Train, and die after so many steps: without a chance to write anything more."""
    trainer = dk.Trainer(net(posterior), few, CONFIG)
    loop = recording.recorded(trainer, out)
    for _ in range(steps):
        next(loop)
    with monkeypatch.context() as patch:
        patch.setattr(recording._Record, "end", lambda *_: None)
        loop.close()


# --- resume ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", slow_but_the_first(POSTERIORS))
@pytest.mark.parametrize("steps", [1, 9, 18])  # in the first, the third and the fine-tuning epoch
def test_a_resumed_run_ends_with_the_same_bits(few, undisturbed, tmp_path, monkeypatch, posterior, steps):
    whole, out = undisturbed(posterior)
    train_until(few, tmp_path / "cut", steps, posterior, monkeypatch)
    torch.rand(3), random.random()  # another session, which begins with other weights
    resumed = train(few, tmp_path / "cut", network=net(posterior, seed=7))
    assert same(state(resumed), state(whole))
    assert timeless(resumed.history).equals(timeless(whole.history))
    assert resumed.gates.equals(whole.gates)
    assert [m.epoch for m in resumed.moments] == [m.epoch for m in whole.moments]
    files = [dk.RunFolder(folder) for folder in (out, tmp_path / "cut")]
    a, b = (f.latest_checkpoint() for f in files)
    assert same(a.tensors, b.tensors) and a.numbers == b.numbers and a.epoch == 5
    assert timeless(files[0].history()).equals(timeless(files[1].history()))
    assert all(np.array_equal(x, y) for x, y in zip(files[0].gates(), files[1].gates(), strict=True))


def test_a_folder_changes_nothing_in_the_numbers(few, undisturbed):
    with_folder, without = undisturbed()[0], train(few, None)
    assert same(state(with_folder), state(without))
    assert timeless(with_folder.history).equals(timeless(without.history))


def test_an_interrupted_run_keeps_its_finished_epochs_and_resumes(few, undisturbed, tmp_path):
    trainer = dk.Trainer(net(), few, CONFIG)
    loop = recording.recorded(trainer, tmp_path / "cut")
    for _ in range(11):  # into the third epoch
        next(loop)
    loop.close()
    folder = dk.RunFolder(tmp_path / "cut")
    assert folder.status()["state"] == "interrupted"
    assert folder.history().epoch.tolist() == [1, 2] and folder.latest_checkpoint().epoch == 2
    assert folder.gates()[0].max() == 2  # nothing of the third
    loaded = dk.load_run(tmp_path / "cut", net())
    assert same(state(loaded), state(trainer.run)) and loaded.status == "interrupted"
    assert same(state(train(few, tmp_path / "cut")), state(undisturbed()[0]))


def test_a_finished_run_is_returned_at_once(few, tmp_path):
    first = train(few, tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.safetensors")}
    again = train(few, tmp_path)
    assert again.status == "finished" and same(state(first), state(again))
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*.safetensors")}
    assert timeless(again.history).equals(timeless(first.history))


# --- what is in the folder --------------------------------------------------------------------------


def test_load_run_rebuilds_networks_of_make_model(tmp_path):
    data = dk.load_data("digits")
    torch.manual_seed(0)
    model = dk.make_model("small", 1, 10, (8, 8))
    shape = dk.HardConcrete(temperature=0.5, test_rule="median")
    network = dk.GatedModel(model, "backward", data.example, sampling="batch", hard_concrete=shape)
    run = dk.train(network, data, dk.TrainConfig(epochs=1, temperature=0.6), False, tmp_path)
    loaded = dk.load_run(tmp_path)
    with_numbers = replace(run.config, warmup=2 / 15, ramp=0.2)  # of the one epoch, as they were
    assert loaded.net.describe() == run.net.describe() and loaded.config == with_numbers
    assert loaded.net.posterior.temperature == 0.6
    assert loaded.history.equals(run.history) and loaded.gates.equals(run.gates)
    assert same(state(loaded), state(run))
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(data.example), run.net.eval()(data.example))


def test_other_networks_must_be_given(few, tmp_path):
    run = train(few, tmp_path)
    with pytest.raises(ValueError, match="pass net="):
        dk.load_run(tmp_path)
    assert same(state(dk.load_run(tmp_path, net())), state(run))
    other = dk.GatedModel(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), example=torch.zeros(1, 4)
    )
    with pytest.raises(ValueError, match="another network"):
        dk.load_run(tmp_path, other)


def test_the_environment_names_versions_device_and_each_session(few, tmp_path, monkeypatch):
    train_until(few, tmp_path, 5, monkeypatch=monkeypatch)
    train(few, tmp_path)
    sessions = json.loads((tmp_path / "environment.json").read_text())["sessions"]
    assert len(sessions) == 2
    assert sessions[0]["torch"] == torch.__version__ and sessions[0]["device"] == "cpu"
    assert {"python", "depl0kit", "git_commit", "command", "host", "started"} <= sessions[1].keys()


def test_two_checkpoints_are_kept(few, tmp_path):
    train(few, tmp_path)
    assert 1 <= len(list((tmp_path / "checkpoints").iterdir())) <= 2


def test_no_unfinished_file_is_left(few, tmp_path):
    train(few, tmp_path)
    assert not list(tmp_path.rglob(".unfinished*"))


@pytest.mark.parametrize(
    ("error", "ends"), [(KeyboardInterrupt(), "interrupted"), (RuntimeError("no more"), "failed")]
)
def test_what_ends_a_paused_run_is_noted(few, tmp_path, monkeypatch, error, ends):
    folder = dk.RunFolder(tmp_path)
    long = replace(CONFIG, epochs=500)  # or it is over before the folder is looked at again
    loop = recording.recorded(dk.Trainer(net("mean_field"), few, long), tmp_path)
    next(loop)
    folder.ask(state="pause")

    def wait(_seconds):
        assert folder.status()["state"] == "paused"
        raise error

    monkeypatch.setattr(recording.time, "sleep", wait)
    with pytest.raises(type(error)):
        for _ in loop:
            pass
    assert folder.status()["state"] == ends


# --- damage ----------------------------------------------------------------------------------------


@pytest.fixture
def with_two_checkpoints(few, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(recording, "CHECKPOINT_SHARE", 1e9)  # one an epoch
    train_until(few, tmp_path, 15, monkeypatch=monkeypatch)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "epoch-00002.safetensors",
        "epoch-00003.safetensors",
    ]
    return tmp_path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    few, undisturbed, with_two_checkpoints, damage
):
    damage(with_two_checkpoints / "checkpoints" / "epoch-00003.safetensors")
    with pytest.warns(UserWarning, match=r"epoch-00003.*damaged.*before it"):
        resumed = train(few, with_two_checkpoints)
    assert same(state(resumed), state(undisturbed()[0]))
    assert dk.RunFolder(with_two_checkpoints).history().epoch.tolist() == [1, 2, 3, 4, 5]


def test_a_row_that_was_being_written_is_dropped(few, with_two_checkpoints):
    with (with_two_checkpoints / "history.csv").open("a") as file:
        file.write("4,0.53,0.1")
    with (with_two_checkpoints / "gates.f32").open("ab") as file:
        file.write(b"\x00" * 9)
    folder = dk.RunFolder(with_two_checkpoints)
    assert folder.history().epoch.tolist() == [1, 2, 3]  # also for those who only look
    train(few, with_two_checkpoints)
    assert folder.history().epoch.tolist() == [1, 2, 3, 4, 5]
    assert folder.gates()[0][-1] == 5 and (np.diff(folder.gates()[0]) > 0).all()


def test_reading_an_untrusted_checkpoint_executes_nothing(few, with_two_checkpoints, tmp_path):
    bomb = with_two_checkpoints / "checkpoints" / "epoch-00003.safetensors"
    content = io.BytesIO()
    torch.save({"net": Bomb(tmp_path / "exploded")}, content)
    bomb.write_bytes(content.getvalue())
    with pytest.warns(UserWarning, match="damaged"):
        train(few, with_two_checkpoints)
    assert not (tmp_path / "exploded").exists()
    content.seek(0)
    torch.load(content, weights_only=False)  # as others would read it
    assert (tmp_path / "exploded").exists()


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.open, (str(self.path), os.O_CREAT | os.O_EXCL)


LIMITED = """
import resource, signal, sys, torch, depl0kit as dk
from depl0kit.training.runs import recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recording.CHECKPOINT_SHARE = 1e9
data = dk.load_data("digits")
torch.manual_seed(0)
net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=data.example)
trainer = dk.Trainer(net, data, dk.TrainConfig(epochs=3, lam=8.0))
loop = recording.recorded(trainer, sys.argv[1])
for step, _ in enumerate(loop):
    if step == 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""


@pytest.mark.slow
def test_a_full_disk_is_explained_and_loses_nothing(tmp_path):
    """No file may grow beyond 100 kB from the second epoch on: a checkpoint is larger."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr.splitlines()[-1] and "make room" in done.stderr
    folder = dk.RunFolder(tmp_path)
    assert folder.latest_checkpoint().epoch == 1 and not list(tmp_path.rglob(".unfinished*"))
    data = dk.load_data("digits")
    torch.manual_seed(0)
    network = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=data.example)
    run = dk.train(network, data, dk.TrainConfig(epochs=3, lam=8.0), False, tmp_path)
    assert run.history.epoch.tolist() == [1, 2, 3]


# --- one run, one process, one configuration -------------------------------------------------------


def test_a_second_process_is_refused(few, tmp_path):
    loop = recording.recorded(dk.Trainer(net(), few, CONFIG), tmp_path)
    next(loop)
    with pytest.raises(RuntimeError, match="another process is training"):
        train(few, tmp_path)
    loop.close()
    assert train(few, tmp_path).status == "finished"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lam": 9.0}, "train.lam = 8.0, not 9.0"),
        ({"epochs": 5}, "train.epochs"),
        ({"seed": 1}, "train.seed"),
    ],
)
def test_other_settings_are_refused_by_name(few, tmp_path, change, field):
    train(few, tmp_path)
    with pytest.raises(ValueError, match=field.replace(".", r"\.")):
        train(few, tmp_path, replace(CONFIG, **change))


def test_another_network_or_data_set_is_refused_by_name(few, tmp_path):
    train(few, tmp_path)
    with pytest.raises(ValueError, match=r"net\.posterior\.family = 'MeanField', not 'Dependency'"):
        train(few, tmp_path, network=net("forward"))
    with pytest.raises(ValueError, match=r"data\.train = 64, not 1200"):
        train(dk.load_data("digits"), tmp_path)


def test_a_folder_of_another_version_is_refused(few, tmp_path):
    train(few, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"format": 1', '"format": 99'))
    for use in (lambda: train(few, tmp_path), lambda: dk.load_run(tmp_path, net())):
        with pytest.raises(ValueError, match="format 99"):
            use()


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in"):
        dk.load_run(tmp_path / "nothing")


# --- steering --------------------------------------------------------------------------------------


def steer(few, out, requests: dict[int, dict]) -> dk.training.runs.Run:
    """Train; ask the folder for `requests[step]` after that step."""
    trainer = dk.Trainer(net(), few, CONFIG)
    folder = dk.RunFolder(out)
    for step, _ in enumerate(recording.recorded(trainer, out), 1):
        if step in requests:
            folder.ask(**requests[step])
            time.sleep(0.06)  # until the next look
    return trainer.run


def test_requests_are_obeyed_by_the_next_step(few, tmp_path):
    run = steer(few, tmp_path, {9: {"lam": 33.0, "temperature": 0.5, "gate_lr": 0.02}})
    assert run.history.lam.tolist() == [8, 8, 33, 33, 33]
    assert run.history.temperature.tolist()[2:] == [0.5] * 3
    assert run.history.gate_lr[2] == pytest.approx(0.02 * 0.9375)  # by then it falls
    status = dk.RunFolder(tmp_path).status()
    assert (status["lam"], status["temperature"], status["gate_lr"]) == (33, 0.5, 0.02)


def test_a_stop_keeps_the_finished_epochs_and_is_forgotten_by_the_next_session(few, undisturbed, tmp_path):
    run = steer(few, tmp_path, {10: {"state": "stop"}})
    assert run.status == "stopped" and len(run.history) == 2
    assert dk.RunFolder(tmp_path).status()["state"] == "stopped"
    assert same(state(train(few, tmp_path)), state(undisturbed()[0]))


def test_a_request_outlives_a_kill(few, tmp_path):
    steer(few, tmp_path, {5: {"lam": 33.0}, 10: {"state": "stop"}})
    resumed = train(few, tmp_path)
    assert resumed.history.lam.tolist()[1:] == [33.0] * 4


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"lam": -1}, "lam"),
        ({"temperature": 0}, "temperature"),
        ({"state": "halt"}, "state"),
        ({"lr": 1}, "lr"),
    ],
)
def test_nonsense_is_refused_where_it_is_asked(tmp_path, request_, message):
    with pytest.raises(ValueError, match=message):
        dk.RunFolder(tmp_path).ask(**request_)
    assert not (tmp_path / "control.json").exists()


def test_a_control_file_damaged_by_hand_costs_no_training(few, tmp_path):
    trainer = dk.Trainer(net(), few, CONFIG)
    with pytest.warns(UserWarning, match="control.json is damaged"):
        for step, _ in enumerate(recording.recorded(trainer, tmp_path)):
            if step == 3:
                (tmp_path / "control.json").write_text('{"lam": 3')
                time.sleep(0.06)
    assert trainer.run.status == "finished"


def test_a_failure_is_in_the_status(few, tmp_path):
    with pytest.raises(dk.Diverged):
        train(few, tmp_path, replace(CONFIG, lr=1e20))
    status = dk.RunFolder(tmp_path).status()
    assert status["state"] == "diverged" and "loss became" in status["error"]


# ---- what is told of a run, and runs of older versions


def test_every_epoch_is_told_once_also_over_a_break(few, tmp_path, undisturbed):
    whole, _ = undisturbed()
    told = []

    def tell(row):
        told.append(row)
        if len(told) == 2:
            raise RuntimeError("no more")

    network = net()
    with pytest.raises(RuntimeError, match="no more"):
        dk.train(network, few, CONFIG, progress=False, out=tmp_path, on_epoch=tell)
    assert dk.RunFolder(tmp_path).status()["state"] == "interrupted" and len(told) == 2
    resumed = dk.train(net(), few, CONFIG, progress=False, out=tmp_path, on_epoch=told.append)
    assert all(torch.equal(t, state(whole)[name]) for name, t in state(resumed).items())
    columns = [c for c in whole.history if c != "seconds"]
    pd.testing.assert_frame_equal(pd.DataFrame(told)[columns], whole.history[columns])
    assert all(type(value) in (int, float) for row in told for value in row.values())
    told.clear()
    dk.train(net(), few, CONFIG, progress=False, out=tmp_path, on_epoch=told.append)
    assert told == []  # it was finished


@pytest.mark.parametrize(("posterior", "fed_with"), [("autoregressive", "gates"), ("forward", "log_alpha")])
def test_a_run_from_before_autoregressive_was_a_class_opens_and_resumes(few, tmp_path, posterior, fed_with):
    short = replace(CONFIG, epochs=1, fine_tune_epochs=0)
    run = dk.train(net(posterior), few, short, progress=False, out=tmp_path)
    config = tmp_path / "config.json"
    content = json.loads(config.read_text())
    content["net"]["posterior"] |= {"family": "Dependency", "condition_on": fed_with}
    config.write_text(json.dumps(content))
    again = dk.load_run(tmp_path, net(posterior))
    assert type(again.net.posterior) is type(run.net.posterior)
    assert dk.train(net(posterior), few, short, progress=False, out=tmp_path).status == "finished"
    other = "forward" if posterior == "autoregressive" else "autoregressive"
    with pytest.raises(ValueError, match="family"):
        dk.train(net(other), few, short, progress=False, out=tmp_path)
