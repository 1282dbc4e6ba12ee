"""Train, Pause, Stop, Reset and moved sliders, in a run of this kernel and in one of another process."""

import jupyter
import pytest
from jupyter import until
from live import epoch, goes_on, state, train

pytestmark = pytest.mark.browser
SETUP = """import threading
import torch
import depl0kit as dk
torch.set_num_threads(1)
data = dk.load_data("digits")
def make_net():
    torch.manual_seed(0)
    return dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), "mean_field", example=data.example)"""
LIVE = 'dk.lab.TrainingExplorer(make_net, data, dk.TrainConfig(lam=16, epochs=2000), name="live")'
THREADS = "sorted(t.name for t in threading.enumerate() if t.name.startswith('depl0kit-'))"
SHOWS, ELSEWHERE, COUNTS = 1, 2, 3  # cells of the notebook that trains


@pytest.fixture(scope="module")
def live(open_notebook, tmp_path_factory):
    """A training too long to end by itself."""
    path = tmp_path_factory.mktemp("written") / "live.ipynb"
    jupyter.write_notebook(path, [SETUP, LIVE, "6 * 7", THREADS])
    notebook = open_notebook(path)
    notebook.run_all()
    yield notebook
    assert notebook.console == []
    notebook.close()


@pytest.fixture
def training(live):
    """Its explorer, after Reset."""
    view = live.explorer(SHOWS)
    view.button("Reset").click()
    until(lambda: state(view) == "ready", "ready after Reset")
    view.settle()
    return view


def test_slider_acts_on_the_running_loop(training):
    train(training)
    training.press("Price λ", "ArrowRight", times=3)
    price = training.shown("Price λ")
    assert float(price) > 16
    until(lambda: f"λ {price} " in training.line.inner_text(), "the new price is in force")
    goes_on(training)


def test_pause_holds_and_train_goes_on(training):
    train(training)
    training.button("Pause").click()
    until(lambda: state(training) == "paused", "paused")
    training.settle(quiet=1)  # four pictures would have come, had it gone on
    held = epoch(training)
    assert state(training) == "paused" and held > 0
    train(training)
    assert held < epoch(training) < held + 100


def test_stop_ends_and_keeps_the_picture(live, training):
    start = training.settle()
    train(training)
    training.button("Stop").click()
    until(lambda: state(training) == "stopped", "stopped")
    last = training.settle(quiet=1)
    assert last != start and state(training) == "stopped"
    live.run_cell(COUNTS)
    until(lambda: live.text(COUNTS) == "['depl0kit-watch-live']", "no training is left")
    assert training.pixels() == last
    train(training)  # anew


def test_reset_while_running_brings_back_the_first_picture(training):
    start = training.settle()
    train(training)
    training.press("Price λ", "End")
    training.button("Reset").click()
    training.becomes(start, "Reset")
    until(lambda: state(training) == "ready", "ready after Reset")  # the line follows the picture
    until(lambda: training.shown("Price λ") == "16", "the slider is back")


def test_another_cell_runs_meanwhile(live, training):
    train(training)
    live.page.evaluate(f"i => {jupyter.CODE}[i].model.clearExecution()", ELSEWHERE)
    live.run_cell(ELSEWHERE)
    until(lambda: live.text(ELSEWHERE) == "42", "the answer of another cell")
    goes_on(training)


def test_cell_run_again_leaves_one_worker(live, training):
    train(training)
    live.run_cell(SHOWS)
    until(lambda: state(live.explorer(SHOWS)) == "ready", "a new explorer")
    train(live.explorer(SHOWS))
    live.run_cell(COUNTS)
    one_of_each = "['depl0kit-live', 'depl0kit-watch-live']"
    until(lambda: live.text(COUNTS) == one_of_each, "one training and one that looks on")


def test_restart_and_run_all_leave_a_fresh_explorer(live, training):
    start = training.settle()
    train(training)
    live.restart_kernel()
    live.run_all()
    view = live.explorer(SHOWS)
    view.becomes(start, "a restart")
    assert state(view) == "ready"
    train(view)


def test_check_fails_where_train_does_nothing(open_notebook, tmp_path):
    """Negative control: with a run that does not start, the check above must see it."""
    deaf = SETUP + "\ndk.lab.TrainingExplorer._begin_training = lambda self: None"
    jupyter.write_notebook(tmp_path / "idle.ipynb", [deaf, LIVE])
    notebook = open_notebook(tmp_path / "idle.ipynb")
    try:
        notebook.run_all()
        with pytest.raises(AssertionError, match="running"):
            train(notebook.explorer(SHOWS), timeout=4)
    finally:
        notebook.close()


STEER = """import time
from depl0kit.cli import start
import depl0kit as dk
process = start("small-digits", "runs-x", epochs=2000, device="cpu")
dk.lab.Monitor("runs-x")"""


def test_monitor_steers_another_process(open_notebook, tmp_path):
    jupyter.write_notebook(tmp_path / "watch.ipynb", [STEER, "process.wait(20)"])
    notebook = open_notebook(tmp_path / "watch.ipynb")
    try:
        notebook.run_cell(0)
        view = notebook.explorer(0)
        goes_on(view, 60)
        view.press("Price λ", "End")
        until(lambda: "λ 100 " in view.line.inner_text(), "the new price is in force")
        view.button("Pause").click()
        until(lambda: state(view) == "paused", "paused")
        view.settle(quiet=1)
        view.button("Resume").click()
        goes_on(view)
        view.button("Stop").click()
        until(lambda: state(view) == "stopped", "stopped")
        notebook.run_cell(1)
        until(lambda: notebook.text(1) == "0", "the process has ended well")
    finally:
        notebook.close()
