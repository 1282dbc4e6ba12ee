"""Every lesson in JupyterLab: run from top to bottom, and its explorers used by key and by mouse."""

import re
import sys
from pathlib import Path

import jupyter
import nbformat
import pytest
from jupyter import until
from live import epoch, state, train
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MEBIBYTES = 1536  # of a lesson's kernel
HANGS = 600  # seconds: far more than any lesson needs; benchmarks/lessons.py measures that
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
    "TrainingExplorer": ["Price λ", "Temperature β", "Gate lr", "Epochs a second"],
    "ChannelExplorer": ["Open channels"],
    "CollinearExplorer": ["Correlation"],
    "SeriesExplorer": ["Gain g"],
    "TradeoffExplorer": ["Run"],
    "Monitor": ["Price λ", "Temperature β", "Gate lr", "Epochs a second"],
}
MOVES = {  # how a slider is moved, where not a little to the right
    "ChannelExplorer": {"key": "ArrowLeft", "back": "ArrowRight", "by": -40},  # it starts at the right
    "TradeoffExplorer": {"by": 200},  # a sweep may have few runs, far apart
}
TRAINS = {"TrainingExplorer"}
REMEMBERS = {"SeriesExplorer"}  # what it shows depends on the way there
WATCHES = {"Monitor"}  # the others only draw


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


def each(kinds: set[str]) -> pytest.MarkDecorator:
    cases = [found for found in explorers() if found[2] in kinds]
    return pytest.mark.parametrize(("lesson", "index", "kind"), cases, ids=str)


each_lesson = pytest.mark.parametrize("lesson", [path.stem for path in NOTEBOOKS])


@pytest.fixture(scope="module")
def lessons(open_notebook, tmp_path_factory):
    """`lessons(name)`: that lesson in its window, run from top to bottom when it is first asked for.

    One at a time: a window costs the machine something even where nothing happens in it.
    """
    opened: dict[str, jupyter.Notebook] = {}
    folder = tmp_path_factory.mktemp("lessons")

    def close() -> None:
        while opened:
            opened.popitem()[1].close()

    def run(name: str) -> jupyter.Notebook:
        if name not in opened:
            close()
            opened[name] = open_notebook(copy_of(name, folder))
            opened[name].run_all(HANGS)  # an error in a cell fails here
        return opened[name]

    yield run
    close()


def copy_of(name: str, folder: Path) -> Path:
    """A lesson that reaches no other machine, and says at its end how much memory it took."""
    file = f"{name}.ipynb"
    lesson = nbformat.read(FOLDER / file, as_version=4)
    first = next(cell for cell in lesson.cells if cell.cell_type == "code")
    first.source = OFFLINE + first.source
    lesson.cells.append(nbformat.v4.new_code_cell(PEAK))
    nbformat.write(lesson, folder / file)
    return folder / file


@each_lesson
def test_lesson_runs_in_its_memory_and_shows_its_figures(lessons, lesson):
    notebook = lessons(lesson)
    *cells, _ = notebook.code()
    bare = [c["source"] for c in cells if PICTURE.search(c["source"]) and "image/png" not in c["shows"]]
    assert bare == []
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


@each(WATCHES)
def test_run_all_leaves_the_run_that_the_monitor_shows_alone(lessons, lesson, index, kind):
    """The lesson kills a run, but not this one."""
    view = lessons(lesson).explorer(index)
    until(lambda: state(view) in ("running", "finished"), "it runs, or has ended well")
    until(lambda: state(view) == "finished", "its end", 60)
    assert epoch(view) == 60


@each({"ChannelExplorer"})
def test_channels_are_dragged_in_the_picture(lessons, lesson, index, kind):
    view = lessons(lesson).explorer(index)
    start, line = view.settle(), view.line.inner_text()
    view.image.scroll_into_view_if_needed()
    box = view.image.bounding_box()
    x, y = box["x"] + 0.83 * box["width"], box["y"] + 0.83 * box["height"]  # the band inside the last block
    view.page.mouse.move(x, y)
    view.page.mouse.down()
    chosen = view.changed(start, "a press")
    expect(view.line).to_have_text(line)
    view.page.mouse.move(x, y + 50, steps=10)
    dragged = view.changed(chosen, "dragging a band")
    view.page.mouse.up()
    expect(view.line).not_to_have_text(line)
    group = view.root.locator("select")
    assert group.evaluate("s => s.options[s.selectedIndex].text") == "blocks.8.conv1"
    assert 1 <= int(view.shown("Open channels")) < 40  # of 64
    view.page.mouse.move(x, y, steps=5)  # released: it does not follow any more
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
    view.press("Epochs a second", "End")
    until(lambda: state(view) == "finished", "finished", 120)
    assert epoch(view) == float(re.search(r"of (\d+)", view.line.inner_text())[1])
    assert re.search(r"accuracy 0\.9\d+.*MACs kept \d\d?%", view.line.inner_text())
    view.changed(start, "training")
    view.button("Reset").click()
    view.becomes(start, "Reset")


@each_lesson
def test_lesson_left_no_errors(lessons, lesson):
    """Last of the lesson's tests, so that it hears of what its explorers did."""
    notebook = lessons(lesson)
    assert (notebook.errors(), notebook.console) == ([], [])
