"""JupyterLab with the settings of `make lab`: to open a lesson does not modify it, and kernels are quiet."""

import shutil
from pathlib import Path

import jupyter
import nbformat
import pytest

pytestmark = pytest.mark.browser
CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
IS_MODIFIED = f"{jupyter.PANEL}.context.model.dirty"
LANGUAGE = f"{jupyter.PANEL}.context.model.getMetadata('language_info')"
SAVED = f"async () => {{ await {jupyter.PANEL}.context.save() }}"


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """A browser, a JupyterLab's address, and its files: a checkout of its own, for its settings too."""
    checkout, home = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("home")
    shutil.copytree(CHECKOUT / "tools" / "jupyter", checkout / "tools" / "jupyter")
    (checkout / "notebooks").mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, checkout / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_CONFIG_PATH", str(checkout / "tools" / "jupyter"))
        with jupyter.jupyter_lab(checkout, home) as address:
            yield browser, address, checkout / "notebooks", home / "server.log"


@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS], ids=lambda name: f"lesson {name[:2]}")
def test_a_notebook_that_is_only_opened_is_not_modified(lab, name):
    browser, address, folder, _ = lab
    notebook = jupyter.Notebook(browser, address, f"notebooks/{name}")
    # what JupyterLab would add: it has arrived, and was there before
    notebook.page.wait_for_function(f"{LANGUAGE}?.version && {IS_MODIFIED} !== undefined")
    notebook.idle()
    assert notebook.page.evaluate(IS_MODIFIED) is False
    notebook.close()
    assert (folder / name).read_bytes() == (CHECKOUT / "notebooks" / name).read_bytes()


def test_a_change_is_kept(lab):
    """Running a cell modifies the notebook, and saving it still works."""
    browser, address, folder, _ = lab
    jupyter.write_notebook(folder / "mine.ipynb", ["6 * 7"])
    notebook = jupyter.Notebook(browser, address, "notebooks/mine.ipynb")
    notebook.run_all()
    assert notebook.page.evaluate(IS_MODIFIED) is True
    notebook.page.evaluate(SAVED)
    assert notebook.page.evaluate(IS_MODIFIED) is False
    (cell,) = nbformat.read(folder / "mine.ipynb", 4).cells
    assert cell.outputs[0].data["text/plain"] == "42"
    notebook.restart_kernel()
    notebook.run_all()
    notebook.close()


def test_kernels_do_not_warn_of_eavesdropping(lab):
    """Last, after kernels were started and one was restarted."""
    log = lab[-1].read_text()
    # "[E ": an error of the server; a kernel that is ended in the midst of a message may print a traceback
    assert "eavesdropping" not in log and "[E " not in log
