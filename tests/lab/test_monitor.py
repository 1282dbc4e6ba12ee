"""Watching a run through its folder: what grows is shown, what is asked for arrives."""

import shutil
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit.channels import Channels
from depl0kit.data.loading import Data
from depl0kit.lab.networks import channels_of
from depl0kit.training.runs.recording import recorded
from depl0kit.training.runs.view import RunView


def until(done, what: str, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def few() -> Data:
    data = dk.load_data("digits")
    return replace(data, train=data.train.take(256))


def trainer(few, epochs=3) -> dk.Trainer:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
    net = dk.GatedModel(nn.Sequential(*layers), example=torch.zeros(1, 1, 8, 8))
    return dk.Trainer(net, few, dk.TrainConfig(epochs=epochs, lam=7.0))


@pytest.fixture
def monitor(tmp_path):
    monitor = dk.lab.Monitor(tmp_path / "run")
    yield monitor
    monitor.close()


def line(monitor) -> str:
    return monitor._line.value


def test_it_waits_for_a_training_and_then_shows_it_to_the_end(monitor, few, tmp_path):
    assert "waiting for a run" in line(monitor) and monitor.figure.png
    waiting = monitor.figure.png
    for _ in recorded(trainer(few), tmp_path / "run"):
        pass
    until(lambda: "finished: epoch 3.0 of 3" in line(monitor), "the end is shown")
    until(lambda: len(monitor.view.history) == 3, "all epochs")
    assert monitor.figure.png != waiting and monitor.error is None
    times, prob_open = monitor.view.gates.columns()
    assert times[-1] == 3 and prob_open.shape == (len(times), 14)
    assert "image/png" in monitor._repr_mimebundle_()


@pytest.mark.slow
def test_the_picture_follows_a_run_that_grows(monitor, few, tmp_path):
    steps = recorded(trainer(few), tmp_path / "run")
    pictures = []
    for epoch in (1, 2):
        while len(dk.RunFolder(tmp_path / "run").history()) < epoch:
            next(steps)
        until(lambda epoch=epoch: len(monitor.view.history) >= epoch, "the epoch is read")
        with monitor._lock:  # no look is under way
            pictures.append(monitor.figure.png)
    steps.close()
    assert pictures[0] != pictures[1]


def test_a_view_that_looks_on_knows_what_a_new_one_reads(few, tmp_path):
    """While the run grows, is cut off within an epoch, resumes, and is begun anew."""
    folder = dk.RunFolder(tmp_path / "run")
    view = RunView(folder)

    def look_after(steps: int, loop) -> None:
        for _ in range(steps):
            next(loop)
        view.look()
        new = RunView(folder)
        new.look()
        pd.testing.assert_frame_equal(view.history, new.history)
        np.testing.assert_array_equal(view.gates.columns()[1], new.gates.columns()[1])

    loop = recorded(trainer(few, epochs=5), folder.path)
    for _ in range(6):
        look_after(2, loop)  # four steps are an epoch
    loop.close()
    loop = recorded(trainer(few, epochs=5), folder.path)
    look_after(3, loop)
    look_after(3, loop)
    assert len(view.history) == 3
    loop.close()
    shutil.rmtree(folder.path)
    view.look()
    look_after(5, recorded(trainer(few), folder.path))
    assert len(view.history) == 1


def test_moved_sliders_and_buttons_reach_the_folder(monitor, few, tmp_path):
    steps, folder = recorded(trainer(few, 50), tmp_path / "run"), monitor.folder
    next(steps)
    until(lambda: monitor.controls["lam"].value == 7, "the sliders stand where the run is")
    assert not (tmp_path / "run" / "control.json").exists()  # nothing was moved
    monitor.controls["temperature"].value = 0.5
    time.sleep(0.06)  # until the training looks again
    next(steps), next(steps)
    assert (folder.status()["temperature"], folder.status()["lam"]) == (0.5, 7)
    monitor.stop()
    time.sleep(0.06)
    for _ in steps:
        pass
    assert folder.status()["state"] == "stopped"


@pytest.mark.slow
def test_controls_follow_what_others_ask_for(monitor, few, tmp_path):
    """Also while one of them has just been moved here."""
    steps = recorded(trainer(few, 50), tmp_path / "run")
    next(steps)
    until(lambda: monitor.controls["lam"].value == 7, "the sliders stand where the run is")
    monitor.controls["gate_lr"].value = 0.2
    dk.RunFolder(tmp_path / "run").ask(lam=300.0, temperature=0.5, until_stop=True)
    time.sleep(0.06)
    next(steps)
    until(lambda: monitor.controls["lam"].value == 300, "a price outside the slider's range")
    shown = {name: monitor.controls[name].value for name in ("temperature", "gate_lr", "until_stop")}
    assert shown == {"temperature": 0.5, "gate_lr": 0.2, "until_stop": True}
    until(lambda: "until Stop" in line(monitor), "the line says so, too")
    steps.close()


@pytest.mark.slow
def test_a_slider_that_was_moved_here_follows_others_again(monitor, few, tmp_path):
    steps, folder = recorded(trainer(few, 50), tmp_path / "run"), dk.RunFolder(tmp_path / "run")
    next(steps)
    until(lambda: monitor.controls["lam"].value == 7, "the sliders stand where the run is")
    for lam in (30.0, 60.0):
        if lam == 30:
            monitor.controls["lam"].value = lam
        else:
            folder.ask(lam=lam)
        time.sleep(0.06)
        next(steps)
        until(
            lambda lam=lam: folder.status()["lam"] == lam == monitor.controls["lam"].value, "both are there"
        )
        time.sleep(0.5)  # some looks
    steps.close()


@pytest.mark.slow
def test_a_slider_does_not_jump_back_while_the_run_is_slow_to_obey(monitor, few, tmp_path):
    steps = recorded(trainer(few, 50), tmp_path / "run")
    next(steps)
    until(lambda: monitor.controls["lam"].value == 7, "the sliders stand where the run is")
    for lam in (20.0, 30.0, 40.0):  # a drag; nothing is obeyed before the next step
        monitor.controls["lam"].value = lam
        time.sleep(0.3)
        assert monitor.controls["lam"].value == lam
    next(steps)
    until(lambda: monitor.folder.status()["lam"] == 40, "it obeys")
    assert monitor.controls["lam"].value == 40
    steps.close()


@pytest.mark.slow
def test_after_the_end_nothing_can_be_moved_and_the_line_says_why(monitor, few, tmp_path):
    for _ in recorded(trainer(few, 1), tmp_path / "run"):
        pass
    until(lambda: "finished" in line(monitor), "the end is shown")
    parts = [*monitor.controls.values(), *monitor._buttons]
    until(lambda: all(part.disabled for part in parts), "nothing can be moved")
    assert "The sliders have no effect now" in line(monitor)
    steps = recorded(trainer(few, 1), tmp_path / "run")  # finished: it ends at once, and stays so
    assert list(steps) == []
    longer = recorded(trainer(few, 9), tmp_path / "other")
    next(longer)
    monitor._watch_folder(dk.RunFolder(tmp_path / "other"))
    until(lambda: not any(part.disabled for part in parts), "a run that runs can be steered")
    longer.close()


def test_close_ends_its_thread_and_a_second_of_the_name_replaces_the_first(tmp_path):
    def threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("depl0kit-watch-mine")]

    first = dk.lab.Monitor(tmp_path, name="mine")
    second = dk.lab.Monitor(tmp_path, name="mine")
    assert len(threads()) == 1
    second.close()
    first.close()
    assert not threads()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "waiting for a run"),
        ('{"state": "running", "epoch": [], "lam": null}', "waiting for a run"),
        (
            '{"state": "paused", "epoch": 1.5, "error": "", "images_per_second": 9, "seconds_left": null, '
            '"updated": 0}',
            "paused: epoch 1.5, 9 images/s",
        ),
    ],
)
def test_a_status_that_was_edited_is_no_traceback(monitor, few, tmp_path, text, says):
    for _ in recorded(trainer(few, 1), tmp_path / "run"):
        pass
    until(lambda: "finished" in line(monitor), "the end is shown")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (tmp_path / "run" / "status.json").write_text(text)
        until(lambda: says in line(monitor), says)
    assert "Error" not in line(monitor)


def network_of(monitor) -> Channels | None:
    """Of the map that is drawn; None if there are bars."""
    texts = {text for ax in monitor.figure.axes for text in (ax.get_title("left"),)}
    drawn = "Map of the network" in texts
    assert drawn != bool(texts & {"Open channels", "Open channels (line: expected)"})
    return monitor.figure.axes[0].network_map.channels if drawn else None


def test_it_shows_the_map_of_a_network_that_it_can_make_and_bars_of_others(monitor, few, tmp_path):
    for _ in recorded(trainer(few, 1), tmp_path / "run"):
        pass
    until(lambda: "finished" in line(monitor), "the end is shown")
    with monitor._lock:
        assert network_of(monitor) is None
    net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=few.example, scope="all")
    other = dk.RunFolder(tmp_path / "other")
    for _ in recorded(dk.Trainer(net, few, dk.TrainConfig(epochs=1)), other.path):
        pass
    monitor._watch_folder(other)
    until(lambda: monitor.view.about is not None and monitor.view.gates.last(), "it has looked")
    with monitor._lock:
        monitor._stale = True
        monitor.redraw()
        assert network_of(monitor).dense_cost == net.dense_cost
        shown = [text for a in monitor.figure.axes[0].collections for text in getattr(a, "texts", ())]
        expected = [f"{p.sum():.0f}/{len(p)}" for p in net.posterior.prob_open()]
    assert [text for text in shown if "/" in text] == expected


@pytest.mark.parametrize("name", ["small", "resnet20"])
def test_a_network_is_made_again_without_any_random_number(name):
    net = dk.GatedModel(dk.make_model(name), example=torch.zeros(1, 3, 32, 32), scope="all")
    before = torch.get_rng_state()
    channels = channels_of(net.describe())
    assert torch.equal(torch.get_rng_state(), before)
    assert str(channels.groups) == str(net.groups) and channels.dense_cost == net.dense_cost


@pytest.mark.parametrize(
    "change",
    [{"made_by": None}, {"made_by": {"name": "smal"}}, {"example": [7]}, {"groups": [["features.0", 5]]}],
)
def test_a_network_that_cannot_be_made_again_has_no_map(change):
    net = dk.GatedModel(dk.make_model("small"), example=torch.zeros(1, 3, 32, 32))
    assert channels_of(net.describe()) is not None
    assert channels_of(net.describe() | change) is None


def test_a_run_of_another_format_is_one_line(tmp_path):
    tmp_path.joinpath("config.json").write_text('{"format": 99, "version": "9.0"}')
    monitor = dk.lab.Monitor(tmp_path)
    assert "format 99" in line(monitor) and "Traceback" not in line(monitor)
    monitor.close()


@pytest.mark.slow
def test_it_steers_a_training_in_another_process(monitor, tmp_path):
    words = ["train", "small-digits", "--epochs", "500", "--device", "cpu", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([sys.executable, "-m", "depl0kit", *words])
    folder = monitor.folder
    until(lambda: "running: epoch" in line(monitor), "it runs", 60)
    monitor.controls["lam"].value = 100.0
    until(lambda: folder.status()["lam"] == 100, "the new price is in force", 3)
    monitor.pause()
    until(lambda: "paused: epoch" in line(monitor), "a pause", 3)
    monitor.resume()
    until(lambda: "running: epoch" in line(monitor), "it continues", 3)
    monitor.stop()
    assert process.wait(30) == 0
    until(lambda: "stopped: epoch" in line(monitor), "its end is shown")
    assert len(folder.history()) == folder.status()["epoch"] > 0
