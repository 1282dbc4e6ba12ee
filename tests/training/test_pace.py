"""A run that is slowed down, or lasts until Stop: the same numbers, and nothing waits too long."""

import threading
import time
from dataclasses import replace

import pytest
import torch

import depl0kit as dk
from depl0kit.data.loading import Data
from depl0kit.training.collapse import collapse_notice
from depl0kit.training.rates import one_cycle
from depl0kit.training.runs.control import LOOK_SECONDS
from depl0kit.training.runs.recording import recorded

CONFIG = dk.TrainConfig(epochs=3, lam=6.0)
SECONDS = ["seconds"]  # how long an epoch took


@pytest.fixture(scope="module")
def few() -> Data:
    data = dk.load_data("digits")
    return replace(data, train=data.train.take(256), val=data.val.take(64), test=data.test.take(64))


def trainer(data, config=CONFIG) -> dk.Trainer:
    torch.manual_seed(0)
    model = dk.make_model("small", 1, 10, (8, 8))
    return dk.Trainer(dk.GatedModel(model, example=data.example), data, config)


def whole(data, folder, config=CONFIG, **asked) -> dk.Trainer:
    """A run to its end, with requests after its first step."""
    made = trainer(data, config)
    steps = recorded(made, folder)
    next(steps)
    dk.RunFolder(folder).ask(**asked)
    time.sleep(LOOK_SECONDS)  # the next step looks again
    for _ in steps:
        pass
    return made


def assert_same_run(a: dk.Trainer, b: dk.Trainer) -> None:
    assert a.run.history.drop(columns=SECONDS).equals(b.run.history.drop(columns=SECONDS))
    assert a.run.gates.equals(b.run.gates)
    pairs = zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)


def test_speed_takes_time_and_changes_no_number(few, tmp_path):
    fast = whole(few, tmp_path / "fast", speed=None)
    start = time.monotonic()
    slow = whole(few, tmp_path / "slow", speed=2.0)
    steps = 3 * slow.steps_per_epoch - 2  # at that speed; it is heard of after the second at the latest
    assert time.monotonic() - start > 0.9 * steps / slow.steps_per_epoch / 2
    assert_same_run(fast, slow)
    status = dk.RunFolder(tmp_path / "slow").status()
    # epochs of four steps: a step more or less between two looks is much
    assert status["speed"] == 2 and 1 < status["images_per_second"] / 256 < 4


@pytest.mark.slow
def test_each_session_begins_as_fast_as_it_can(few, tmp_path):
    """Code without buttons takes no notice of the speed that somebody chose to watch an earlier session."""
    made, folder = trainer(few), dk.RunFolder(tmp_path)
    steps = recorded(made, tmp_path)
    next(steps)
    folder.ask(speed=0.001, lam=9.0)
    steps.close()
    start = time.monotonic()
    again = trainer(few)
    run = dk.train(again.net, few, CONFIG, False, tmp_path)
    assert time.monotonic() - start < 30 and run.status == "finished"
    assert run.history.lam.tolist() == [9.0] * 3 and folder.status()["speed"] is None


@pytest.mark.slow
def test_until_stop_ends_with_a_stop_and_outlives_a_kill(few, tmp_path):
    folder = dk.RunFolder(tmp_path)
    steps = recorded(trainer(few), tmp_path)
    next(steps)
    folder.ask(until_stop=True)
    for _ in steps:
        if len(folder.history()) >= 5:
            break
    resumed = trainer(few)
    steps = recorded(resumed, tmp_path)
    until_epoch(resumed, 7, steps)
    assert resumed.until_stop
    folder.ask(state="stop")
    for _ in steps:
        pass
    last = trainer(few)
    for _ in recorded(last, tmp_path):
        pass
    assert last.run.status == "finished" and not last.until_stop


@pytest.mark.parametrize(("asked", "ends"), [({"speed": None}, "finished"), ({"state": "stop"}, "stopped")])
def test_a_slow_run_hears_what_is_asked_while_it_waits(few, tmp_path, asked, ends):
    """After its second step at the latest it would wait for minutes."""
    made, folder = trainer(few), dk.RunFolder(tmp_path)
    steps = recorded(made, tmp_path)
    next(steps)
    folder.ask(speed=0.001)
    threading.Timer(0.5, lambda: folder.ask(**asked)).start()
    start = time.monotonic()
    for _ in steps:
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


@pytest.mark.slow
def test_fine_tuning_takes_no_notice_of_until_stop_and_resumes_as_it_was(few, tmp_path):
    config = dk.TrainConfig(epochs=2, fine_tune_epochs=3, lam=6.0)
    made = trainer(few, config)
    steps = recorded(made, tmp_path)
    until_epoch(made, 3, steps)
    dk.RunFolder(tmp_path).ask(until_stop=True)
    until_epoch(made, 4, steps)
    steps.close()
    resumed = trainer(few, config)
    for _ in recorded(resumed, tmp_path):
        pass
    plain = trainer(few, config)
    for _ in plain:
        pass
    assert resumed.fine_tuning
    assert_same_run(resumed, plain)


@pytest.mark.slow
def test_a_rate_stays_as_it_is_for_the_rest_of_the_last_epoch(few):
    made = trainer(few)
    made.until_stop = True
    until_epoch(made, 5)
    next(iter(made))
    rate = made.run.history.lr.iloc[-1]
    made.until_stop = False
    for _ in made:
        pass
    assert made.run.status == "finished" and made.run.history.lr.iloc[-1] == rate


@pytest.mark.slow
def test_until_stop_holds_price_and_rates_as_they_are_at_the_end_of_the_ramp(few):
    config = dk.TrainConfig(epochs=6, lam=6.0, warmup=1, ramp=2)
    plain, made = trainer(few, config), trainer(few, config)
    made.until_stop = True
    until_epoch(plain, 3)
    until_epoch(made, 12)
    first, rest = made.run.history[:3], made.run.history[3:]
    assert first.drop(columns=SECONDS).equals(plain.run.history[:3].drop(columns=SECONDS))
    assert rest.lr.nunique() == rest.gate_lr.nunique() == 1
    assert rest.lr.iloc[0] == config.lr * one_cycle(0.5)  # 3 of 6 epochs
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


@pytest.mark.slow
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


def row(epoch: int, accuracy: float, kept: float, lam: float = 16.0) -> dict:
    return {"epoch": epoch, "val_accuracy": accuracy, "kept_macs": kept, "lam": lam}


@pytest.mark.parametrize(
    ("classes", "best", "last", "says"),
    [
        (10, row(3, 0.98, 0.9), row(9, 0.30, 0.02), "fell from 0.98 (epoch 3) to 0.30"),
        (2, row(3, 0.98, 0.9), row(9, 0.55, 0.1), "fell from 0.98 (epoch 3) to 0.55"),
        (1000, row(3, 0.60, 1.0), row(9, 0.10, 0.1), "fell from 0.60"),
        (10, row(1, 0.10, 1.0), row(9, 0.10, 0.01), "The network guesses"),
        (2, row(1, 0.50, 1.0), row(9, 0.51, 0.01), "The network guesses"),
        (10, row(3, 0.98, 0.9), row(9, 0.90, 0.02), ""),  # pruned, and well
        (2, row(3, 0.80, 0.9), row(9, 0.74, 0.04), ""),
        (10, row(3, 0.50, 1.0), row(4, 0.20, 1.0), ""),  # a dip, nothing has closed
        (1000, row(1, 0.004, 1.0), row(2, 0.001, 0.8), ""),  # has learnt nothing yet
        (10, row(1, 0.10, 1.0), row(2, 0.10, 1.0), ""),
        (3, row(3, 0.60, 0.5), row(9, 0.58, 0.3), ""),
    ],
)
def test_which_runs_have_collapsed(classes, best, last, says):
    notice = collapse_notice([best, last], classes, CONFIG)
    assert says in notice and bool(says) == bool(notice)


def test_a_notice_names_the_price_that_there_is():
    fell = [row(3, 0.98, 0.9, 0.0), row(9, 0.30, 0.02, 0.0)]
    assert "a smaller lam" not in collapse_notice(fell, 10, dk.TrainConfig(lam=0))
    assert "a larger budget" in collapse_notice(fell, 10, dk.TrainConfig(budget=0.1))


@pytest.mark.slow
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
