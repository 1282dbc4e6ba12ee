"""A class at its own speed: a second between looking and moving, any zoom, a lost kernel."""

import re
import shutil
import time
from pathlib import Path

import jupyter
import pytest
from jupyter import until
from live import epoch, state

pytestmark = pytest.mark.browser
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LOOK = 1.0  # seconds that a person looks before moving
SETUP = """import torch
import depl0kit as dk
torch.set_num_threads(1)
data = dk.load_data("digits")
def make_net():
    torch.manual_seed(0)
    return dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), "mean_field", example=data.example)"""
EXPLORER = 'dk.lab.TrainingExplorer(make_net, data, dk.TrainConfig(lam=16, epochs=20), name="class")'


def look() -> None:
    time.sleep(LOOK)


def kept(view: jupyter.ExplorerView) -> float:
    """Share of the MACs that the line tells."""
    found = re.search(r"MACs kept (\d+)%", view.line.inner_text())
    return int(found[1]) / 100 if found else 1.0


@pytest.fixture(scope="module")
def welcome(open_notebook, tmp_path_factory):
    """Lesson 00 up to its explorer, as a person runs it who stops there to play."""
    path = tmp_path_factory.mktemp("class") / "00_welcome.ipynb"
    shutil.copy(NOTEBOOKS / path.name, path)
    notebook = open_notebook(path)
    code = [cell["source"] for cell in notebook.code()]
    index = next(i for i, source in enumerate(code) if "TrainingExplorer(" in source)
    for i in range(index + 1):
        notebook.run_cell(i)
        notebook.idle()
    yield notebook.explorer(index)
    assert (notebook.errors(), notebook.console) == ([], [])
    notebook.close()


@pytest.fixture
def explorer(welcome):
    welcome.button("Reset").click()
    until(lambda: state(welcome) == "ready", "ready after Reset")
    return welcome


def test_a_whole_run_takes_half_a_minute_and_the_first_epochs_close_nothing(explorer):
    """Task 1."""
    start = time.monotonic()
    explorer.button("Train").click()
    until(lambda: epoch(explorer) > 2, "two epochs")
    assert kept(explorer) == 1.0
    until(lambda: state(explorer) == "finished", "the end", 180)
    assert time.monotonic() - start > 25  # on a slow machine more
    assert kept(explorer) < 0.4


def test_a_hand_that_looks_first_can_raise_the_price(explorer):
    """Task 2: at the end λ was moved four times, with a look before each, and the run still runs."""
    explorer.button("Train").click()
    prices = []
    for _ in range(4):
        look()
        explorer.drag("Price λ", 12)
        prices.append(float(explorer.shown("Price λ")))
        until(lambda: f"λ {prices[-1]:g} " in explorer.line.inner_text(), "the price is in force")
    assert state(explorer) == "running" and epoch(explorer) < 15
    assert prices == sorted(set(prices)) and prices[0] > 16


def test_half_of_the_channels_closed_then_off(explorer):
    """Task 3: there is time to see it, to look, and to move; what is closed mostly stays closed."""
    explorer.button("Train").click()
    until(lambda: kept(explorer) < 0.4, "half of the channels are dark", 30)  # costs fall with their square
    look()
    explorer.press("Price λ", "Home")
    until(lambda: "λ 0 " in explorer.line.inner_text(), "off")
    off, then = epoch(explorer), kept(explorer)
    assert state(explorer) == "running" and off < 17, "some epochs are left to see what happens"
    until(lambda: epoch(explorer) > off + 2, "two more epochs", 30)
    assert kept(explorer) < then + 0.2


def test_until_stop_goes_past_the_last_epoch_and_stop_ends_it(explorer):
    """Tasks 2 and 4."""
    explorer.root.get_by_text("until Stop").click()
    explorer.press("Epochs a second", "End")
    explorer.button("Train").click()
    until(lambda: epoch(explorer) > 24, "past the 20 epochs", 60)
    assert "until Stop" in explorer.line.inner_text()
    look()
    explorer.button("Pause").click()
    until(lambda: state(explorer) == "paused", "paused")
    look()
    held = epoch(explorer)
    explorer.button("Train").click()
    until(lambda: state(explorer) == "running" and epoch(explorer) > held, "it resumes")
    look()
    explorer.button("Stop").click()
    until(lambda: state(explorer) == "stopped", "stopped")
    assert re.search(r"accuracy 0\.9\d", explorer.line.inner_text())  # hours of it do not kill the network


def test_typed_numbers_are_taken_and_others_are_refused(explorer):
    explorer.type("Gate lr", "0.003")
    until(lambda: "gate lr 0.003" in explorer.line.inner_text(), "what was typed")
    explorer.type("Gate lr", "7")
    refused = explorer.box("Gate lr").evaluate("box => box.validationMessage")
    assert refused == "a number from 0.0001 to 1"
    explorer.box("Price λ").focus()
    assert explorer.shown("Gate lr") == "0.003"
    explorer.type("Price λ", "off")
    until(lambda: "λ 0 " in explorer.line.inner_text(), "a word")
    assert explorer.slider("Price λ").get_attribute("aria-valuetext") == "off"
    explorer.press("Price λ", "ArrowRight")
    assert explorer.slider("Price λ").get_attribute("aria-valuetext") == "0.5"


@pytest.fixture(scope="module")
def training(open_notebook, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "class.ipynb"
    jupyter.write_notebook(path, [SETUP, EXPLORER])
    notebook = open_notebook(path)
    notebook.run_all()
    yield notebook
    notebook.close()


GREY = ".depl0kit-explorer:is(.depl0kit-lost, .jupyter-widgets-disconnected)"


def after_the_end(notebook: jupyter.Notebook) -> str:
    """What is written over an explorer that has lost its kernel."""
    notebook.page.locator(GREY).wait_for(timeout=10_000)
    return notebook.page.locator(GREY).evaluate("node => getComputedStyle(node, '::after').content")


@pytest.mark.parametrize("end", ["restartKernel", "shutdown"])
def test_an_explorer_without_a_kernel_is_grey_and_says_what_to_do(training, end):
    view = training.explorer(1)
    view.button("Train").click()
    until(lambda: epoch(view) > 0.2, "it trains")
    assert training.page.locator(GREY).count() == 0
    training.page.evaluate(f"{jupyter.PANEL}.sessionContext.{end}()")
    assert "run this cell again" in after_the_end(training)
    visibility = view.line.evaluate("node => getComputedStyle(node).visibility")
    assert visibility == "hidden"  # "running ..." is not true any more
    icon = view.slider("Price λ").evaluate("node => getComputedStyle(node.parentElement, '::before').content")
    assert icon == "none"  # broken links would move the sliders
    if end == "shutdown":
        training.page.evaluate(f"{jupyter.PANEL}.sessionContext.startKernel()")
    training.idle()
    training.run_all()
    view = training.explorer(1)
    until(lambda: state(view) == "ready", "a new explorer")
    assert training.page.locator(GREY).count() == 0


def test_a_saved_notebook_says_how_to_get_its_explorer_back(open_notebook, tmp_path):
    jupyter.write_notebook(tmp_path / "saved.ipynb", ["import depl0kit as dk\ndk.lab.GateExplorer()"])
    notebook = open_notebook(tmp_path / "saved.ipynb")
    notebook.run_all()
    note = notebook.page.locator(".depl0kit-saved")
    notebook.explorer(0)
    assert not note.is_visible()
    notebook.page.evaluate(f"{jupyter.PANEL}.context.save()")
    until(lambda: not notebook.page.evaluate(f"{jupyter.PANEL}.context.model.dirty"), "it is saved")
    notebook.page.evaluate(f"{jupyter.PANEL}.sessionContext.shutdown()")
    notebook.page.reload()
    note.wait_for(state="visible", timeout=60_000)
    assert "run this cell again" in note.inner_text()
    notebook.page.context.close()


TEXT = """import depl0kit as dk
PROJECTOR
def draw(ax):
    ax.set_axis_off()
    return [ax.text(0.5, 0.5, "H", ha="center", transform=ax.transAxes)]
figure = dk.lab.LiveFigure(draw, (880, 320), "a", "a letter")
figure.update()
figure.picture"""
HEIGHT = """image => {
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const pen = canvas.getContext('2d');
    pen.drawImage(image, 0, 0);
    const { data, width } = pen.getImageData(0, 0, canvas.width, canvas.height);
    const rows = [];
    for (let i = 0; i < data.length; i += 4) if (data[i] < 128) rows.push(Math.floor(i / 4 / width));
    const shown = image.getBoundingClientRect().width * devicePixelRatio / image.naturalWidth;
    return rows.length ? (Math.max(...rows) - Math.min(...rows) + 1) * shown : null;
}"""
ZOOMS = 1.0, 1.25, 1.5, 2.0
SCREENS = (1280, 800), (1920, 1080)


@pytest.mark.parametrize("size", SCREENS, ids=str)
def test_text_grows_with_the_zoom_and_with_projector_on_every_screen(open_notebook, tmp_path, size):
    """A capital letter in the picture, in pixels of the screen."""
    heights = {}
    for call in ("dk.lab.projector(False)", "dk.lab.projector()"):
        jupyter.write_notebook(tmp_path / "letter.ipynb", [TEXT.replace("PROJECTOR", call)])
        notebook = open_notebook(tmp_path / "letter.ipynb", size=size)
        notebook.run_all()
        for zoom in ZOOMS:
            heights[call, zoom] = measured(notebook, size, zoom)
        notebook.close()
    normal, large = heights["dk.lab.projector(False)", 1.0], heights["dk.lab.projector()", 1.0]
    assert 9 <= normal <= 11 and 1.4 < large / normal < 1.7
    for (call, zoom), height in heights.items():
        at_first = normal if "False" in call else large
        assert abs(height - zoom * at_first) <= 1.5, (call, zoom)


def measured(notebook: jupyter.Notebook, size: tuple[int, int], zoom: float) -> float:
    """The letter's height, with the browser zoomed: fewer CSS pixels, of more screen pixels each."""
    session = notebook.page.context.new_cdp_session(notebook.page)
    width, height = (int(side / zoom) for side in size)
    screen = {"width": width, "height": height, "deviceScaleFactor": zoom, "mobile": False}
    session.send("Emulation.setDeviceMetricsOverride", screen)
    image = notebook.page.locator(".depl0kit-picture img").first
    image.scroll_into_view_if_needed()
    whole = "image => [image.clientWidth * devicePixelRatio, image.naturalWidth]"

    def settled() -> bool:
        on_screen, in_file = image.evaluate(whole)
        return abs(on_screen - in_file) <= 1.5

    until(settled, f"the picture has the pixels of the screen at {zoom}")
    return image.evaluate(HEIGHT)
