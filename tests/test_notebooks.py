"""The notebooks as files, and each of them run from top to bottom in a fresh kernel."""

import os
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
import pytest
from execute_notebooks import run_cells

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WIDTH = 107  # characters of code that JupyterLab shows at 1280 pixels, beside its list of files
SECONDS, MEBIBYTES = 90, 1536  # on 2 cores without a GPU
# put after a notebook: the most memory that its kernel has held (getrusage would count its parent's too)
PEAK = "import re; print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
# put before a notebook: whoever calls another machine learns that there is none
OFFLINE = """import socket
connect = socket.socket.connect
def local(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"no network in this test, wanted {address}")
    return connect(self, address)
socket.socket.connect = local"""
EXPLORER = re.compile(r"\b(\w+Explorer|Monitor)\(")
FIGURE = re.compile(r"plt\.subplots\(")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def test_all_lessons_are_there():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06", "07", "08"]


@each
def test_file_is_valid_and_holds_no_results(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"  # or JupyterLab asks which
    assert "widgets" not in notebook.metadata
    assert [c.outputs or c.execution_count for c in cells(path) if c.outputs or c.execution_count] == []


@each
def test_ids_are_stable_and_unique(path):
    """Ids made by hand from the lesson's number: a random one would change with every saving."""
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not re.fullmatch(rf"{path.stem[:2]}-[\w-]+", name)] == []


@each
def test_lesson_is_short(path):
    assert len(nbformat.read(path, as_version=4).cells) <= 40
    code = [c.source.splitlines() for c in cells(path)]
    assert [lines for lines in code if len(lines) > 12] == []
    assert [line for lines in code for line in lines if len(line) > WIDTH] == []


@each
def test_explorers_cannot_be_deleted_by_accident(path):
    explorers = [c for c in cells(path) if EXPLORER.search(c.source)]
    assert explorers and all(c.metadata.get("deletable") is False for c in explorers)


@each
def test_links_lead_to_files_and_solution_is_there(path):
    text = "\n".join(c.source for c in cells(path, "markdown"))
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links and [link for link in links if not (FOLDER / link.split("#")[0]).is_file()] == []
    assert f"solutions/{path.stem}.py" in text and (FOLDER / "solutions" / f"{path.stem}.py").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of a kernel")
@each
def test_runs_from_top_to_bottom(path, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "notebooks")
    shutil.copytree(FOLDER.parent / "data" / "results", tmp_path / "data" / "results")
    notebook = nbformat.read(folder / path.name, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(OFFLINE))
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    start = time.perf_counter()
    run_cells(notebook, folder)  # an error in a cell is raised
    seconds = time.perf_counter() - start
    *lesson, last = [c for c in notebook.cells if c.cell_type == "code"][1:]
    for cell in lesson:
        outputs = [output.get("data", {}) for output in cell.outputs]
        assert not [output for output in cell.outputs if output.output_type == "error"]
        if EXPLORER.search(cell.source) or FIGURE.search(cell.source):
            assert any("image/png" in data for data in outputs), f"no picture: {cell.source}"
    peak = int(last.outputs[-1].text) / 1024
    print(f"{path.stem}: {seconds:.0f} s, {peak:.0f} MiB")
    assert seconds < SECONDS * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # who share the cores
    assert peak < MEBIBYTES
