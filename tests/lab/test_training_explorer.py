"""Live training without a browser: the thread obeys, nothing is left behind, errors are one line."""

import gc
import threading
import time
import weakref

import pytest
import torch
from ipywidgets.widgets.widget import _instances

import depl0kit as dk
from depl0kit.data import Data, MemorySplit
from depl0kit.lab import DependencyExplorer, TrainingExplorer
from depl0kit.lab.live.explorer import CLOSED


@pytest.fixture(scope="module")
def data() -> Data:
    rng = torch.Generator().manual_seed(0)

    def split(n: int) -> MemorySplit:
        labels = torch.arange(n) % 3
        images = torch.randint(0, 100, (n, 1, 8, 8), generator=rng) + 50 * labels[:, None, None, None]
        return MemorySplit(images.to(torch.uint8), labels, torch.tensor([0.4]), torch.tensor([0.2]))

    return Data("tiny", split(128), split(48), split(48), ("a", "b", "c"), (0.4,), (0.2,))


@pytest.fixture
def explorer(data):
    def make():
        torch.manual_seed(0)
        return dk.GatedModel(dk.make_model("small", 1, 3, (8, 8)), example=data.example)

    made = []

    def new(**settings) -> TrainingExplorer:
        config = dk.TrainConfig(**{"epochs": 400, "batch_size": 32} | settings)
        made.append(TrainingExplorer(make, data, config, name="test", seconds=None))
        return made[-1]

    new.made = made
    yield new
    for e in made:
        e.close()


def until(condition, what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def state(e: TrainingExplorer) -> str:
    """As its line says."""
    return e._line.value.split(">")[1].split(":")[0]


def watchers() -> int:
    return sum(t.name == "depl0kit-watch-test" for t in threading.enumerate())


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "depl0kit-test"]


def test_train_pause_go_on_and_stop(explorer):
    e = explorer()
    first = e.figure.png
    assert state(e) == "ready" and not workers()
    e.train()
    until(lambda: len(e.run.rows) >= 2 and e.figure.png != first, "two epochs and another picture")
    e.pause()
    time.sleep(0.1)  # the step under way
    epoch = e.trainer.epoch
    time.sleep(0.2)
    assert e.trainer.epoch == epoch and "paused" in e._line.value
    e.train()
    until(lambda: e.trainer.epoch > epoch, "training continues")
    e.stop()
    assert state(e) == "stopped" and not workers()
    assert e.run.status == "stopped" and len(e.run.rows) >= 2


@pytest.mark.slow
def test_stop_before_train_and_train_after_it(explorer):
    e = explorer(epochs=1)
    e.stop()
    assert state(e) == "ready" and not workers()
    e.train()
    until(lambda: state(e) == "finished", "a whole training")
    assert len(e.run.rows) == 1


@pytest.mark.slow
def test_reset_while_training_starts_from_the_same_weights(explorer):
    e = explorer()
    start = {name: t.clone() for name, t in e.net.state_dict().items()}
    for _ in range(3):
        e.train()
        until(lambda: e.trainer.epoch > 0, "a step")
        e.reset()
        assert all(torch.equal(t, start[name]) for name, t in e.net.state_dict().items())


@pytest.mark.slow
def test_finishes_and_keeps_the_run(explorer):
    e = explorer(epochs=2)
    e.train()
    until(lambda: not workers(), "the thread ends")
    assert e.run.status == "finished" and list(e.run.history.epoch) == [1, 2]
    until(lambda: "finished: epoch 2.0 of 2" in e._line.value, "the line")


@pytest.mark.slow
def test_last_picture_shows_the_end(explorer):
    e = explorer(epochs=3)
    e.train()
    until(lambda: not workers(), "the thread ends")
    until(lambda: state(e) == "finished", "the last look")
    shown = e.figure.png
    e._stale = True
    e.redraw()
    assert e.figure.png == shown


def test_sliders_act_on_the_running_training(explorer):
    e = explorer(lam=1.0, warmup=0, ramp=0)
    e.train()
    until(lambda: e.run.rows, "an epoch")
    e.controls["lam"].value = 100.0
    e.controls["temperature"].value = 0.4
    trainer = e.trainer
    until(lambda: trainer.lam == 100 and trainer.temperature == 0.4, "both are used", 0.3)
    until(lambda: "λ 100  β 0.40" in e._line.value, "both are shown", 0.4)
    seen = len(e.run.rows)
    until(lambda: len(e.run.rows) > seen + 1, "an epoch with the new price")
    assert e.run.rows[-1]["lam"] == 100 and e.run.rows[0]["lam"] == 1


def test_reset_gives_the_first_picture_and_a_fresh_network(explorer):
    e = explorer()
    first, net = e.figure.png, e.net
    e.train()
    until(lambda: len(e.run.rows) >= 2, "two epochs")
    e.controls["lam"].value = 0.0
    e.reset()
    assert e.figure.png == first and e.net is not net and not e.run.rows and not workers()
    assert e.controls["lam"].value == 4.0 and e.trainer.lam == 4.0


@pytest.mark.slow
def test_train_after_the_end_begins_anew(explorer):
    e = explorer(epochs=1)
    e.train()
    until(lambda: state(e) == "finished", "the end")
    old = e.run
    e.train()
    until(lambda: state(e) == "finished" and e.run.rows, "the end of the second")
    assert e.run is not old and e.run.history.val_loss.equals(old.history.val_loss)


@pytest.mark.slow
def test_a_cell_run_again_leaves_one_worker_and_no_widget(explorer):
    before = len(_instances)
    first = explorer()
    alone = len(_instances) - before
    first.train()
    until(lambda: first.run.rows, "an epoch")
    second = explorer()
    assert first.run.status == "stopped" and not workers() and watchers() == 1
    assert len(_instances) - before == alone > 20
    second.train()
    assert len(workers()) == 1 and watchers() == 1
    with pytest.raises(RuntimeError, match="another one named 'test' replaced it: run its cell again"):
        first.train()
    assert second.run.status == "running" and len(workers()) == 1 and watchers() == 1
    second.close()
    assert len(_instances) == before and not workers() and not watchers()


@pytest.mark.slow
def test_an_explorer_that_is_replaced_leaves_the_memory(explorer):
    explorer().train()
    first = explorer.made.pop()
    gone = [weakref.ref(one) for one in (first, first.figure, first.trainer)]
    del first
    explorer()
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


@pytest.mark.slow
def test_an_ended_explorer_trains_again_and_a_closed_one_says_why_not(explorer, capsys):
    e = explorer(epochs=1)
    e.end()
    assert not watchers()
    e.train()
    until(lambda: state(e) == "finished", "a whole training")
    assert watchers() == 1
    e.close()
    e._ipython_display_()
    assert "HTML" in capsys.readouterr().out and "run the cell again" in CLOSED


@pytest.mark.slow
def test_controls_stay_alive_when_the_thread_ends_after_the_run(explorer, monkeypatch):
    """A look between the last status and the end of the thread must not take it for a foreign run's end."""
    e = explorer(epochs=1)
    train = e._train
    monkeypatch.setattr(e, "_train", lambda: (train(), time.sleep(0.8)))
    e.train()
    until(lambda: state(e) == "finished" and not workers(), "the end")
    assert not any(part.disabled for part in (*e.controls.values(), *e._buttons))


def test_a_refused_start_does_not_stay_in_the_way(explorer):
    with pytest.raises(ValueError, match="lam"):
        explorer(lam=-1.0)
    with pytest.raises(ValueError, match="seconds"):
        TrainingExplorer(lambda: None, dk.load_data("digits"), name="test", seconds=0)
    e = explorer(lam=300.0, epochs=1)  # beyond the slider: a run may begin anywhere
    assert e.controls["lam"].value == 300 and state(e) == "ready"


@pytest.mark.slow
def test_a_failed_training_says_why_in_one_line(explorer):
    e = explorer(lr=1e30)
    e.train()
    until(lambda: "try a smaller lr (now 1e+30)" in e._line.value, "the line")
    assert "Traceback" not in e._line.value and not workers()


def test_dependency_explorer_shows_correlation_only_where_there_is_some():
    e = DependencyExplorer()
    assert e.error is None
    start = e.figure.png

    def largest() -> float:
        return float(e.numbers(**e.state()).split("gates: ")[1].split()[0])

    for value in (0.0, 1.5, 3.0):
        e.controls["coupling"].value = value
        assert largest() < 0.15  # the paper's generator: independent, whatever its weights
    e.controls["fed_with"].value = "gates"
    assert largest() > 0.5
    e.reset()
    assert e.figure.png == start
