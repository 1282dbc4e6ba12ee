"""The notebooks as files; `browser/` runs them."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from depl0kit import TrainConfig
from depl0kit.gates.posterior import BOUND

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WIDTH = 107  # characters of code that JupyterLab shows at 1280 pixels, beside its list of files
EXPLORER = re.compile(r"\b(\w+Explorer|Monitor)\(")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def test_all_lessons_are_there():
    assert [path.stem[:2] for path in NOTEBOOKS] == [
        "00",
        "01",
        "02",
        "03",
        "04",
        "05",
        "06",
        "07",
        "08",
        "09",
    ]


@each
def test_file_is_valid_and_holds_no_results(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # no more (the version of Python differs between machines: see tools/jupyter), and as kernels call it
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert [c.outputs or c.execution_count for c in cells(path) if c.outputs or c.execution_count] == []


@each
def test_file_is_as_jupyterlab_saves_it(path):
    """Or the first saving would change all of it."""
    notebook = json.loads(path.read_text())
    assert path.read_text() == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


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


def test_lessons_lead_to_each_other_and_the_welcome_to_all():
    def links(path: Path, only_last: bool) -> list[str]:
        texts = [c.source for c in cells(path, "markdown")]
        return re.findall(r"\]\((\d\d_\w+\.ipynb)\)", "\n".join(texts[-only_last:]))

    names = [path.name for path in NOTEBOOKS]
    assert set(names[1:]) <= set(links(NOTEBOOKS[0], only_last=False))
    for i, path in enumerate(NOTEBOOKS):
        neighbours = {*names[max(0, i - 1) : i], *names[i + 1 : i + 2]}
        assert neighbours <= set(links(path, only_last=True)), path.name


def source(cell_id: str) -> str:
    (path,) = FOLDER.glob(f"{cell_id[:2]}_*.ipynb")
    (cell,) = [c for c in nbformat.read(path, as_version=4).cells if c.id == cell_id]
    return cell.source


def test_texts_on_the_warm_up_say_what_the_settings_do():
    welcome, twelve = TrainConfig(epochs=20), TrainConfig(epochs=12)
    assert 2 < welcome.warmup_epochs < 3 and welcome.ramp_epochs == pytest.approx(4)
    assert "takes 2/15 of the run, here less than three epochs. Over the next four" in source("00-16")
    assert [round(n) for n in (twelve.warmup_epochs, twelve.ramp_epochs)] == [2, 2]
    assert "first 2/15 of the epochs" in source("02-14") and "the next 3/15: of twelve" in source("02-14")


def test_lesson_05_sets_gates_as_far_as_the_bound_lets_it():
    (most,) = set(re.findall(r"-?(\d\.\d+)(?=[,)])", source("05-16").split("torch.where")[1].split("\n")[0]))
    assert 0.99 * BOUND < float(most) < BOUND
    assert f"{BOUND:.3f}" in source("05-16")
