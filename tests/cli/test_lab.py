"""`depl0kit lab`: what is copied into a folder, and that nothing that a reader wrote is written over."""

import json
import os
import sys
from pathlib import Path

import pytest

from depl0kit.cli import lab as command
from depl0kit.cli import lessons
from depl0kit.cli import program as cli
from depl0kit.support import shipped

WELCOME, RESULTS = "00_welcome.ipynb", "data/results/digits/results.parquet"


@pytest.fixture
def lab(capsys):
    """Run `lab` with these words, and copy only; give (exit status, output, errors)."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(["lab", *map(str, words), "--copy-only"])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with two small files to copy: `package(name, text)` changes one of them."""
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "package")

    def write(name: str, text: str) -> None:
        file = tmp_path / "package" / "shipped" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write(f"notebooks/{WELCOME}", "welcome 1")
    write(RESULTS, "results 1")
    return write


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files, without the notes of `lab`."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != lessons.NOTED}


def test_a_clone_gives_its_lessons_and_results(lab, tmp_path):
    out, root = tmp_path / "a b" / "ü", shipped.checkout()
    status, output, _ = lab(out)
    assert status == 0 and f"are in {out}." in output
    found = contents(out)
    for place, at in ((root / "notebooks", "."), (root / "data" / "results", "data/results")):
        wanted = [
            *place.glob("0*.ipynb"),
            *place.glob("solutions/0*.py"),
            *place.glob("*/*.parquet"),
            *place.glob("*/*.csv"),
        ]
        assert wanted and all(
            found.pop((at / path.relative_to(place)).as_posix()) == path.read_bytes() for path in wanted
        )
    assert {Path(name).name for name in found} == {"glossary.md", "lab.png", "sweep.json"}


def test_a_second_time_nothing_is_written(lab, package, tmp_path):
    out = tmp_path / "mine"
    assert "Copied: 00_welcome.ipynb, data/results" in lab(out)[1]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    status, output, _ = lab(out)
    assert status == 0 and output.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_what_was_not_changed_is_updated_and_what_was_is_kept(lab, package, tmp_path):
    out = tmp_path / "mine"
    lab(out)
    (out / WELCOME).write_text("my answer")
    status, output, _ = lab(out)
    assert status == 0 and f"Kept, as you wrote in them: {WELCOME}." in output and "newer" not in output
    package(f"notebooks/{WELCOME}", "welcome 2")
    package(RESULTS, "results 2")
    for _ in range(2):  # the second time it is still known that there is a newer one
        status, output, _ = lab(out)
        assert status == 0 and f"has newer ones: {WELCOME}." in output
        assert f"python -m depl0kit lab {out} --fresh" in output
        assert contents(out) == {WELCOME: b"my answer", RESULTS: b"results 2"}
    (out / WELCOME).rename(out / "mine.ipynb")
    assert "Copied: 00_welcome.ipynb." in lab(out)[1]
    assert contents(out) == {WELCOME: b"welcome 2", RESULTS: b"results 2", "mine.ipynb": b"my answer"}
    package(f"notebooks/{WELCOME}", "welcome 3")
    assert "Updated, as you had not changed them: 00_welcome.ipynb." in lab(out)[1]


def test_a_file_that_was_there_before_or_whose_note_is_lost_is_kept(lab, package, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / WELCOME).write_text("another lesson")
    assert f"newer ones: {WELCOME}." in lab(out)[1]
    package(RESULTS, "results 2")
    (out / lessons.NOTED).write_text('{"files": 3')
    with pytest.warns(UserWarning, match="damaged"):
        assert f"newer ones: {WELCOME}, {RESULTS}." in lab(out)[1]
    assert contents(out) == {WELCOME: b"another lesson", RESULTS: b"results 1"}


def test_a_copy_that_was_interrupted_is_completed(lab, package, tmp_path, monkeypatch):
    out = tmp_path / "mine"
    lab(out)
    package(f"notebooks/{WELCOME}", "welcome 2")
    package(RESULTS, "results 2")
    with monkeypatch.context() as patch:
        patch.setattr(lessons, "write_json", lambda *_: (_ for _ in ()).throw(OSError("disk is full")))
        assert lab(out)[0] == 1
    assert lab(out)[0] == 0
    assert json.loads((out / lessons.NOTED).read_text())["files"].keys() == {WELCOME, RESULTS}
    package(f"notebooks/{WELCOME}", "welcome 3")
    lab(out)
    assert contents(out) == {WELCOME: b"welcome 3", RESULTS: b"results 2"}


@pytest.mark.parametrize("name", ["mine", "."])
def test_fresh_takes_a_free_name_beside_the_folder(lab, package, tmp_path, monkeypatch, name):
    start = tmp_path / "start"
    start.mkdir()
    monkeypatch.chdir(start)
    lab(name)
    (start / name / WELCOME).write_text("my answer")
    for number in (2, 3):
        assert lab(name, "--fresh")[0] == 0
        beside = Path(f"mine-{number}") if name == "mine" else tmp_path / f"start-{number}"
        assert contents(beside) == {WELCOME: b"welcome 1", RESULTS: b"results 1"}
    assert (start / name / WELCOME).read_text() == "my answer"


def test_fresh_takes_the_folder_itself_if_it_is_free(lab, package, tmp_path):
    lab(tmp_path / "mine", "--fresh")
    assert sorted(path.name for path in tmp_path.glob("mine*")) == ["mine"]


def test_the_folder_is_named_once(lab, package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lab()[0] == 0 and (tmp_path / "depl0kit-lessons" / WELCOME).is_file()


# ---- what goes wrong


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("file", "file is a file, not a folder"),
        ("file/lessons", "file is a file, not a folder"),
        ("taken", "data is a file, not a folder"),
        ("filled", f"{WELCOME} is a folder, and a file of that name is to be copied: rename the folder."),
    ],
)
def test_a_folder_that_cannot_be_is_told_in_a_line(lab, package, tmp_path, monkeypatch, word, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "filled" / WELCOME).mkdir(parents=True)
    for name in ("file", "taken/data"):
        (tmp_path / name).write_text("a file")
    status, _, errors = lab(word)
    assert status == 2 and says in errors and errors.count("\n") == 1


def test_a_folder_without_permission_is_told_in_a_line(lab, package, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    status, _, errors = lab(tmp_path / "mine")
    assert status == 2 and f"no file can be made in {tmp_path}" in errors
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("folder", [shipped.checkout(), shipped.checkout() / "notebooks"])
def test_the_lessons_of_a_clone_are_not_copied_onto_themselves(lab, folder):
    status, _, errors = lab(folder)
    assert status == 2 and "choose another folder, or run `make lab`" in errors
    assert not (folder / lessons.NOTED).exists()


def test_without_jupyterlab_it_says_what_to_install(lab, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "jupyterlab" else name)
    assert cli.main(["lab", str(tmp_path / "mine")]) == 1
    assert 'jupyterlab: pip install "depl0kit[lab]"' in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
    assert lab(tmp_path / "mine")[0] == 0  # to copy needs none of it


class Became(BaseException):
    """This process would now be JupyterLab; the text is its command."""


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_jupyterlab_gets_the_settings_of_make_lab(package, tmp_path, monkeypatch, platform):
    def execute(_: str, words: list[str]):
        raise Became(*words[2:])

    def run_module(name: str, **_: object):
        raise Became(name, *sys.argv[1:])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "own")
    monkeypatch.setattr(sys, "argv", ["depl0kit"])
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setattr(command.runpy, "run_module", run_module)
    with pytest.raises(Became) as became:
        cli.main(["lab", "mine", "--no-browser", "--port", "8888"])
    assert became.value.args == ("jupyterlab", "--no-browser", "--port=8888", "--ServerApp.port_retries=0")
    assert Path.cwd() == tmp_path / "mine"
    settings = str(tmp_path / "package" / "shipped" / "tools/jupyter")
    assert os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep) == [settings, "own"]
