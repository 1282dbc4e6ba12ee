"""The notebooks as files; `browser/` runs them."""

import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WIDTH = 107  # characters of code that JupyterLab shows at 1280 pixels, beside its list of files
EXPLORER = re.compile(r"\b(\w+Explorer|Monitor)\(")

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


def test_lessons_lead_to_each_other_and_the_welcome_to_all():
    def links(path: Path, only_last: bool) -> list[str]:
        texts = [c.source for c in cells(path, "markdown")]
        return re.findall(r"\]\((\d\d_\w+\.ipynb)\)", "\n".join(texts[-only_last:]))

    names = [path.name for path in NOTEBOOKS]
    assert set(names[1:]) <= set(links(NOTEBOOKS[0], only_last=False))
    for i, path in enumerate(NOTEBOOKS):
        neighbours = {*names[max(0, i - 1) : i], *names[i + 1 : i + 2]}
        assert neighbours <= set(links(path, only_last=True)), path.name
