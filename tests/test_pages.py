"""What `make notebooks` writes: pages that lead to each other, with a text for every picture.

`test_packaging.py` tests that they need no network, and that a notebook that fails is told of.
"""

import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure

TOOLS = Path(__file__).resolve().parents[1] / "tools"
alt_text = runpy.run_path(str(TOOLS / "figure_alt.py"))["alt_text"]
FIGURE = """import matplotlib.pyplot as plt
fig, (left, right) = plt.subplots(1, 2)
left.set_title('What is "left"')
right.set(xlabel="epoch", ylabel="accuracy");"""
EXPLORER = """import depl0kit as dk
dk.lab.GateExplorer()"""
TEXT = """[next](02_b.ipynb), [a part](02_b.ipynb#part), [solution](solutions/01_a.py),
[paper](https://example.org/x.ipynb)"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The tool at work on a notebook with a figure, an explorer and links: process, folder and page."""
    folder = tmp_path_factory.mktemp("pages")
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell(TEXT), v4.new_code_cell(FIGURE), v4.new_code_cell(EXPLORER)]
    nbformat.write(v4.new_notebook(cells=cells), folder / "01_a.ipynb")
    (folder / "solutions").mkdir()
    (folder / "solutions" / "01_a.py").write_text("solved = True\n")
    command = [sys.executable, str(TOOLS / "execute_notebooks.py"), "--out", str(folder / "out")]
    done = subprocess.run([*command, str(folder / "01_a.ipynb")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done, folder / "out", BeautifulSoup((folder / "out" / "01_a.html").read_text(), "html.parser")


@pytest.mark.slow
def test_links_lead_to_pages_and_to_files_that_are_there(run):
    _, out, page = run
    links = [link["href"] for link in page.select(".jp-RenderedMarkdown a:not(.anchor-link)")]
    assert links == ["02_b.html", "02_b.html#part", "solutions/01_a.py", "https://example.org/x.ipynb"]
    assert (out / "solutions" / "01_a.py").read_text() == "solved = True\n"


@pytest.mark.slow
def test_every_picture_has_a_text(run):
    figure, explorer = [picture["alt"] for picture in run[2].find_all("img")]
    assert figure == 'What is "left"; accuracy (upward), epoch (to the right)'
    assert explorer == "Density, distribution function and samples of one gate"


@pytest.mark.slow
def test_no_page_asks_to_run_a_cell(run):
    """What a saved notebook says in place of an explorer; a page has its picture."""
    _, _, page = run
    assert "run this cell again" not in page.text and len(page.select("img")) == 2


@pytest.mark.slow
def test_cells_are_counted_from_one_and_no_kernel_warns(run):
    done, _, page = run
    prompts = [prompt.text.strip() for prompt in page.select(".jp-InputPrompt")]
    assert [prompt for prompt in prompts if "[" in prompt] == ["In\xa0[1]:", "In\xa0[2]:"]
    assert "eavesdropping" not in done.stderr + done.stdout


def test_text_of_a_figure():
    figure = Figure()
    assert alt_text(figure) == "A figure without words"
    left, right, bar = figure.subplots(1, 3)
    left.set_title("Channels", loc="left")
    left.set(xlabel="epoch\nof 20")
    right.set(ylabel="MACs")
    assert alt_text(figure) == "Channels: epoch of 20 (to the right); MACs (upward)"
    right.set_axis_off()
    figure.suptitle("Both")
    bar.set_title("gone")
    bar.set_visible(False)
    assert alt_text(figure) == "Both; Channels: epoch of 20 (to the right)"
