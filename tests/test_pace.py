"""A run that is slowed down, or lasts until Stop: the same numbers, and nothing waits too long."""

import threading
import time
from dataclasses import replace

import pytest
import torch

import depl0kit as dk
from depl0kit import schedules
from depl0kit.data import Data, Split
from depl0kit.recording import recorded

CONFIG = dk.TrainConfig(epochs=3, lam=6.0)
SECONDS = ["seconds"]  # how long an epoch took


@pytest.fixture(scope="module")
def few() -> Data:
    data = dk.load_data("digits")
    train = data.train
    return replace(data, train=Split(train.images[:256], train.labels[:256], train.mean, train.std))


def trainer(data, config=CONFIG) -> dk.Trainer:
    torch.manual_seed(0)
    model = dk.make_model("small", 1, 10, (8, 8))
    return dk.Trainer(dk.GatedModel(model, example=data.example), data, config)


def whole(data, folder, config=CONFIG, **asked) -> dk.Trainer:
    """A run to its end, with requests that lie in its folder from the start."""
    made = trainer(data, config)
    if asked:
        folder.mkdir()
        dk.RunFolder(folder).ask(**asked)
    for _ in recorded(made, folder):
        pass
    return made


def assert_same_run(a: dk.Trainer, b: dk.Trainer) -> None:
    assert a.run.history.drop(columns=SECONDS).equals(b.run.history.drop(columns=SECONDS))
    assert a.run.gates.equals(b.run.gates)
    pairs = zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)


def test_speed_takes_time_and_changes_no_number(few, tmp_path):
    fast = whole(few, tmp_path / "fast")
    start = time.monotonic()
    slow = whole(few, tmp_path / "slow", speed=2.0)
    assert time.monotonic() - start > 0.9 * (3 - 1 / slow.steps_per_epoch) / 2
    assert_same_run(fast, slow)
    assert dk.RunFolder(tmp_path / "slow").status()["speed"] == 2


@pytest.mark.parametrize(("asked", "ends"), [({"speed": None}, "finished"), ({"state": "stop"}, "stopped")])
def test_a_slow_run_hears_what_is_asked_while_it_waits(few, tmp_path, asked, ends):
    """After its first step it would wait for minutes."""
    made, folder = trainer(few), dk.RunFolder(tmp_path)
    folder.ask(speed=0.001)
    threading.Timer(0.5, lambda: folder.ask(**asked)).start()
    start = time.monotonic()
    for _ in recorded(made, tmp_path):
        pass
    assert 0.4 < time.monotonic() - start < 30
    assert folder.status()["state"] == made.run.status == ends


@pytest.mark.parametrize("name, value", [("speed", 0), ("speed", -1.0), ("speed", "fast"), ("until_stop", 1)])
def test_requests_that_no_run_takes(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        dk.RunFolder(tmp_path).ask(**{name: value})
    assert not (tmp_path / "control.json").exists()


# --- until it is stopped -------------------------------------------------------------------------


def until_epoch(made: dk.Trainer, epochs: int, steps=None) -> None:
    for _ in made if steps is None else steps:
        if len(made.run.rows) >= epochs:
            break


def test_until_stop_holds_price_and_rates_as_they_are_at_the_end_of_the_ramp(few):
    config = dk.TrainConfig(epochs=6, lam=6.0, warmup=1, ramp=2)
    plain, made = trainer(few, config), trainer(few, config)
    made.until_stop = True
    until_epoch(plain, 3)
    until_epoch(made, 12)
    first, rest = made.run.history[:3], made.run.history[3:]
    assert first.drop(columns=SECONDS).equals(plain.run.history[:3].drop(columns=SECONDS))
    assert rest.lr.nunique() == rest.gate_lr.nunique() == 1
    assert rest.lr.iloc[0] == config.lr * schedules.one_cycle(0.5)  # 3 of 6 epochs
    assert rest.gate_lr.iloc[0] == made.gate_lr
    assert len(made.run.history) == 12 and made.run.status == "running"


def test_without_it_the_run_ends_with_the_epoch_under_way(few):
    made = trainer(few, replace(CONFIG, fine_tune_epochs=1))
    made.until_stop = True
    until_epoch(made, 6)
    made.until_stop = False
    for _ in made:
        pass
    assert made.run.status == "finished" and len(made.run.rows) == 7  # that of the step under way
    assert len([m for m in made.run.moments if m.epoch > 5]) == 2  # one an epoch, not to fill the memory


def test_a_run_until_stop_resumes_with_the_same_bits(few, tmp_path):
    whole, cut = trainer(few), trainer(few)
    for made, folder in ((whole, "whole"), (cut, "cut")):
        dk.RunFolder(tmp_path / folder).path.mkdir()
        dk.RunFolder(tmp_path / folder).ask(until_stop=True)
        until_epoch(made, 7 if folder == "whole" else 5, recorded(made, tmp_path / folder))
    resumed = trainer(few)
    until_epoch(resumed, 7, recorded(resumed, tmp_path / "cut"))
    assert resumed.until_stop
    assert_same_run(whole, resumed)


# --- a run whose accuracy collapses --------------------------------------------------------------


def test_a_run_that_collapses_says_what_to_change(few, tmp_path):
    config = dk.TrainConfig(epochs=12, lam=100.0, warmup=3, ramp=0, gate_lr=0.5)
    with pytest.warns(UserWarning, match=r"fell from .* Try a smaller lam \(now 100\)") as caught:
        run = dk.train(trainer(few).net, few, config, False, tmp_path)
    assert run.history.val_accuracy.max() > 0.4 > run.history.val_accuracy.iloc[-1]
    told = str(caught[0].message)
    assert told == run.notice == dk.load_run(tmp_path).notice == dk.RunFolder(tmp_path).status()["notice"]


def test_a_sound_run_says_nothing(few, recwarn):
    run = dk.train(trainer(few).net, few, CONFIG, False)
    assert run.notice == "" and not [w for w in recwarn if "accuracy" in str(w.message)]
