"""Every lesson in JupyterLab: run from top to bottom, its explorers used by key and by mouse, live training."""

import os
import re
import sys
import time
from pathlib import Path

import jupyter
import nbformat
import pytest
from jupyter import until
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
SECONDS, MEBIBYTES = 90, 1536  # of a lesson and its kernel, on 2 cores without a GPU
SHARE = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # lessons that run at a time share the cores
# put before a lesson: whoever calls another machine learns that there is none
OFFLINE = """import socket
connect = socket.socket.connect
def local(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"no network in this test, wanted {address}")
    return connect(self, address)
socket.socket.connect = local
"""
# put after it: the most memory that its kernel has held (getrusage would count its parent's too)
PEAK = "import re; print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
PICTURE = re.compile(r"\b(\w+Explorer|Monitor)\(|plt\.subplots\(")
SLIDERS = {
    "GateExplorer": ["Location log α", "Temperature β", "Stretch γ", "Stretch ζ"],
    "DependencyExplorer": ["Coupling", "Push"],
    "TrainingExplorer": ["Price λ", "Temperature β", "Gate lr"],
    "ChannelExplorer": ["Open channels"],
    "CollinearExplorer": ["Correlation"],
    "SeriesExplorer": ["Gain g"],
    "TradeoffExplorer": ["Run"],
    "Monitor": ["Price λ", "Temperature β", "Gate lr"],
}
MOVES = {  # how a slider is moved, where not a little to the right
    "ChannelExplorer": {"key": "ArrowLeft", "back": "ArrowRight", "by": -40},  # it starts at the right
    "TradeoffExplorer": {"by": 200},  # a sweep may have few runs, far apart
}
TRAINS = {"TrainingExplorer"}
REMEMBERS = {"SeriesExplorer"}  # what it shows depends on the way there
WATCHES = {"Monitor"}  # the others only draw

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


def explorers() -> list[tuple[str, int, str]]:
    """(lesson, index among its code cells, class) of every explorer in the lessons."""
    found = []
    for path in NOTEBOOKS:
        code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        found += [
            (path.stem, i, match[1])
            for i, source in enumerate(code)
            if (match := re.search(r"\b(\w+Explorer|Monitor)\(", source))
        ]
    return found


def case(lesson: str, *more: object) -> object:
    """Parameters of a test; all tests of a lesson go to the worker that has run it."""
    return pytest.param(lesson, *more, marks=pytest.mark.xdist_group(lesson))


def each(kinds: set[str]) -> pytest.MarkDecorator:
    cases = [case(*found) for found in explorers() if found[2] in kinds]
    return pytest.mark.parametrize(("lesson", "index", "kind"), cases, ids=str)


each_lesson = pytest.mark.parametrize("lesson", [case(path.stem) for path in NOTEBOOKS])


@pytest.fixture(scope="module")
def lessons(open_notebook, tmp_path_factory):
    """`lessons(name)`: that lesson in its window, run from top to bottom when it is first asked for."""
    opened: dict[str, jupyter.Notebook] = {}
    folder = tmp_path_factory.mktemp("lessons")

    def run(name: str) -> jupyter.Notebook:
        if name not in opened:
            opened[name] = open_notebook(copy_of(name, folder))
            start = time.monotonic()
            opened[name].run_all(SHARE * SECONDS)  # an error in a cell fails here
            opened[name].seconds = time.monotonic() - start
        return opened[name]

    yield run
    for notebook in opened.values():
        notebook.close()


def copy_of(name: str, folder: Path) -> Path:
    """A lesson that reaches no other machine, and says at its end how much memory it took."""
    lesson = nbformat.read(next(path for path in NOTEBOOKS if path.stem == name), as_version=4)
    first = next(cell for cell in lesson.cells if cell.cell_type == "code")
    first.source = OFFLINE + first.source
    lesson.cells.append(nbformat.v4.new_code_cell(PEAK))
    nbformat.write(lesson, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


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


def state(view: jupyter.ExplorerView) -> str:
    return view.line.inner_text().split(":")[0]


def epoch(view: jupyter.ExplorerView) -> float:
    return float(re.search(r"epoch ([\d.]+)", view.line.inner_text())[1])


def goes_on(view: jupyter.ExplorerView, timeout: float = 30) -> None:
    """Wait until a training has run for a further half epoch."""
    until(lambda: state(view) == "running", "running", timeout)
    start = epoch(view)
    until(lambda: state(view) == "running" and epoch(view) > start + 0.5, "epochs advance", timeout)


def train(view: jupyter.ExplorerView, timeout: float = 30) -> None:
    view.button("Train").click()
    goes_on(view, timeout)


@each_lesson
def test_lesson_runs_in_its_time_and_memory_and_shows_its_figures(lessons, lesson):
    notebook = lessons(lesson)
    *cells, last = notebook.code()
    bare = [c["source"] for c in cells if PICTURE.search(c["source"]) and "image/png" not in c["shows"]]
    assert bare == []
    print(f"{lesson}: {notebook.seconds:.0f} s")
    assert notebook.seconds < SHARE * SECONDS
    if sys.platform == "linux":
        peak = int(notebook.text(len(cells))) / 1024
        print(f"{lesson}: {peak:.0f} MiB")
        assert peak < MEBIBYTES


def test_all_explorers_are_used():
    assert {kind for _, _, kind in explorers()} == set(SLIDERS)


@each(set(SLIDERS))
def test_explorer_is_there_with_picture_and_named_sliders(lessons, lesson, index, kind):
    view = lessons(lesson).explorer(index)
    assert view.settle() is not None
    assert view.picture_size()[0] > 500
    assert view.labels() == SLIDERS[kind]
    expect(view.root.locator(".depl0kit-error")).to_have_count(0)


@each(set(SLIDERS) - TRAINS - WATCHES - REMEMBERS)
def test_sliders_change_the_picture_and_bring_it_back(lessons, lesson, index, kind):
    view = lessons(lesson).explorer(index)
    if kind == "TradeoffExplorer":  # one that was filled by a sweep shows whichever run was done first
        view.button("Reset").click()
    start = view.settle()
    for label in SLIDERS[kind]:
        view.check_slider(label, **MOVES.get(kind, {}))
        view.button("Reset").click()
        view.becomes(start, "Reset")


@each(REMEMBERS)
def test_the_way_back_differs_and_reset_forgets(lessons, lesson, index, kind):
    view = lessons(lesson).explorer(index)
    start, line = view.settle(), view.line.inner_text()

    def arrive(key: str, times: int, gain: str) -> str:
        view.press("Gain g", key, times)
        until(lambda: view.line.inner_text().startswith(f"g = {gain} "), f"a gain of {gain}", 60)
        return view.line.inner_text()

    assert "mean field 0.00" in arrive("ArrowRight", 18, "12")
    there = view.settle()
    arrive("End", 1, "30")
    assert "mean field 1.00" in arrive("ArrowLeft", 36, "12")
    view.changed(there, "coming back from the other side")
    view.drag("Gain g", -30)
    until(lambda: "g = 12 " not in view.line.inner_text(), "another gain by mouse")
    view.settle()
    view.button("Reset").click()
    view.becomes(start, "Reset")
    expect(view.line).to_have_text(line)


@each({"ChannelExplorer"})
def test_channels_are_dragged_in_the_picture(lessons, lesson, index, kind):
    view = lessons(lesson).explorer(index)
    start, line = view.settle(), view.line.inner_text()
    view.image.scroll_into_view_if_needed()
    box = view.image.bounding_box()
    x, top, bottom = (box["x"] + 0.93 * box["width"], *(box["y"] + s * box["height"] for s in (0.1, 0.25)))
    view.page.mouse.move(x, top)
    view.page.mouse.down()
    view.page.mouse.move(x, bottom, steps=10)
    dragged = view.changed(start, "dragging a bar")
    view.page.mouse.up()
    expect(view.line).not_to_have_text(line)
    group = view.root.locator("select")
    assert group.evaluate("s => s.options[s.selectedIndex].text") == "blocks.8.conv1"
    assert 1 <= int(view.readout("Open channels").inner_text()) < 40  # of 64
    view.page.mouse.move(x, top, steps=5)  # released: it does not follow any more
    view.settle()
    assert view.pixels() == dragged
    view.button("Half of all").click()
    view.changed(dragged, "Half of all")
    view.button("Reset").click()
    view.becomes(start, "Reset")
    expect(view.line).to_have_text(line)


@each({"DependencyExplorer"})
@pytest.mark.parametrize(("there", "back"), [("sampled gates", "log α (paper)"), ("backward", "forward")])
def test_toggles_change_the_picture_and_bring_it_back(lessons, lesson, index, kind, there, back):
    view = lessons(lesson).explorer(index)
    start = view.settle()
    view.button(there).click()
    other = view.changed(start, there)
    view.button(back).focus()
    view.page.keyboard.press("Enter")
    view.becomes(start, back)
    view.button(there).click()
    view.becomes(other, f"{there} again")
    view.button("Reset").click()
    view.becomes(start, "Reset")


@each(TRAINS)
def test_lesson_trains_to_the_end(lessons, lesson, index, kind):
    view = lessons(lesson).explorer(index)
    start = view.settle()
    train(view)
    until(lambda: state(view) == "finished", "finished", 120)
    assert epoch(view) == float(re.search(r"of (\d+)", view.line.inner_text())[1])
    assert re.search(r"accuracy 0\.9\d+.*MACs kept \d\d?%", view.line.inner_text())
    view.changed(start, "training")
    view.button("Reset").click()
    view.becomes(start, "Reset")


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
        view.button("Go on").click()
        goes_on(view)
        view.button("Stop").click()
        until(lambda: state(view) == "stopped", "stopped")
        notebook.run_cell(1)
        until(lambda: notebook.text(1) == "0", "the process has ended well")
    finally:
        notebook.close()


@each_lesson
def test_lesson_left_no_errors(lessons, lesson):
    """Last of the lesson's tests, so that it hears of what its explorers did."""
    notebook = lessons(lesson)
    assert (notebook.errors(), notebook.console) == ([], [])


def test_slider_acts_on_the_running_loop(training):
    train(training)
    training.press("Price λ", "ArrowRight", times=3)
    price = training.readout("Price λ").inner_text()
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
    assert state(training) == "ready"
    expect(training.readout("Price λ")).to_have_text("16")


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
    """Negative control: with a training that does not start, the check above must see it."""
    deaf = SETUP + "\ndk.lab.TrainingExplorer._begin_training = lambda self: None"
    jupyter.write_notebook(tmp_path / "idle.ipynb", [deaf, LIVE])
    notebook = open_notebook(tmp_path / "idle.ipynb")
    try:
        notebook.run_all()
        with pytest.raises(AssertionError, match="running"):
            train(notebook.explorer(SHOWS), timeout=4)
    finally:
        notebook.close()
