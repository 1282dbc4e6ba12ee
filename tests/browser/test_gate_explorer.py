"""The gate explorer in JupyterLab: every slider by key and by mouse, buttons, screens."""

import jupyter
import pytest
from jupyter import until
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
EXPLORER = "from depl0kit.lab import GateExplorer\nexplorer = GateExplorer()\nexplorer"
SLIDERS = ["Location log α", "Temperature β", "Stretch γ", "Stretch ζ"]


@pytest.fixture(scope="module")
def notebook(open_notebook, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "gate.ipynb"
    jupyter.write_notebook(path, [EXPLORER, "explorer.error"])
    notebook = open_notebook(path)
    notebook.run_all()
    yield notebook
    notebook.close()


@pytest.fixture
def explorer(notebook):
    view = notebook.explorer(0)
    view.button("Reset").click()
    view.settle()
    return view


def test_all_sliders_are_there(explorer):
    assert explorer.labels() == SLIDERS
    for label in SLIDERS:  # screen readers hear the name too
        expect(explorer.slider(label)).to_have_attribute("aria-label", label)


@pytest.mark.parametrize("label", SLIDERS)
def test_slider_changes_the_picture_and_brings_it_back(explorer, label):
    explorer.check_slider(label)


def test_reset_restores_picture_line_and_sliders(explorer):
    start, line = explorer.settle(), explorer.line.inner_text()
    for label in SLIDERS:
        explorer.press(label, "ArrowRight", times=2)
    explorer.changed(start, "moving every slider")
    expect(explorer.line).not_to_have_text(line)
    explorer.button("Reset").click()
    explorer.becomes(start, "Reset")
    until(lambda: explorer.shown("Location log α") == "0.0", "the slider is back")
    assert explorer.line.inner_text() == line


def test_new_noise_draws_other_samples(explorer):
    before = explorer.settle()
    explorer.button("New noise").click()
    explorer.changed(before, "New noise")


def test_nothing_went_wrong_on_the_way(notebook):
    notebook.run_cell(1)
    notebook.idle()
    assert notebook.text(1) == ""  # explorer.error is None
    assert not notebook.errors() and notebook.console == []


def test_picture_has_the_pixels_of_the_screen(notebook, open_notebook, tmp_path):
    jupyter.write_notebook(tmp_path / "sharp.ipynb", [EXPLORER])
    sharp = open_notebook(tmp_path / "sharp.ipynb", pixel_ratio=2)
    try:
        sharp.run_all()
        view, plain = sharp.explorer(0), notebook.explorer(0)
        assert view.settle() and plain.settle()
        # the same width on the page, but for a scroll bar
        assert view.picture_size()[0] == pytest.approx(2 * plain.picture_size()[0], rel=0.03)
    finally:
        sharp.close()


def test_check_fails_where_a_slider_does_nothing(open_notebook, tmp_path):
    """Negative control: with its observers removed, the check above must see that nothing moves."""
    deaf = "[control.unobserve_all('value') for control in explorer.controls.values()];"
    jupyter.write_notebook(tmp_path / "deaf.ipynb", [EXPLORER, deaf])
    notebook = open_notebook(tmp_path / "deaf.ipynb")
    try:
        notebook.run_all()
        with pytest.raises(AssertionError, match="another picture after ArrowRight"):
            notebook.explorer(0).check_slider(SLIDERS[0], timeout=5)
    finally:
        notebook.close()


COUNT = """from ipywidgets.widgets.widget import _instances
turn = globals().get("turn", 0) + 1
turn, len(_instances)"""


def test_a_cell_that_is_run_again_leaves_nothing_behind(open_notebook, tmp_path):
    """What an earlier run of it has made is closed; what other cells have made stays."""
    cells = ["from depl0kit.lab import GateExplorer\nother = GateExplorer()", "GateExplorer()", COUNT]
    jupyter.write_notebook(tmp_path / "again.ipynb", cells)
    notebook = open_notebook(tmp_path / "again.ipynb")

    def widgets(turn: int) -> int:
        until(lambda: notebook.text(2).startswith(f"({turn}, "), "widgets are counted")
        return int(notebook.text(2).strip("()").split(", ")[1])

    notebook.run_all()
    first = widgets(1)
    assert first > 20
    for _ in range(3):
        notebook.run_cell(1)
    notebook.run_cell(2)
    assert widgets(2) == first
    notebook.explorer(1).check_slider("Location log α")
    notebook.close()
