"""The package without a clone: what a wheel holds, and that lessons run from it in an empty folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from sysconfig import get_path

import nbformat
import pytest
from execute_notebooks import SETTINGS
from servers import answer, free_port, wait_for_port

CHECKOUT = Path(__file__).resolve().parents[1]
LESSONS = sorted(path.stem for path in (CHECKOUT / "notebooks").glob("*.ipynb"))
MEGABYTES = 12
FIRST = {"00_welcome", "06_accuracy_vs_flops"}  # that `make test` runs; `make proofs` runs all
# runs a notebook with the Python, and thus the package, of whoever runs this
EXECUTE = f"""
import sys, nbformat
from nbclient import NotebookClient
from traitlets.config import Config
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, kernel_name="python3", timeout=250, config=Config({SETTINGS!r})).execute()
nbformat.write(notebook, sys.argv[1])
"""
WHERE = "import json, depl0kit as dk; print(json.dumps([dk.__file__, str(dk.data.loading.data_root())]))"

pytestmark = pytest.mark.slow


def without_checkout(*first: Path, **more: str) -> dict[str, str]:
    """The environment of a process that imports depl0kit from `first`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPL0KIT_")}
    return environment | {"PYTHONPATH": os.pathsep.join(map(str, first))} | more


def backend(source: Path, kind: str, out: Path) -> Path:
    """A "wheel", "sdist" or "editable" of the folder `source`, as pip builds it, without a network."""
    call = f"from setuptools import build_meta as b; print(b.build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", call], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout in which somebody has worked: with files that are in no wheel."""
    root = tmp_path_factory.mktemp("source")
    nothing = shutil.ignore_patterns("__pycache__")
    for name in ("depl0kit", "notebooks", "data/results", "tools/jupyter"):
        shutil.copytree(CHECKOUT / name, root / name, ignore=nothing)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, root)
    for name in (
        *("notebooks/mine.ipynb", "notebooks/runs/x/history.csv", "data/results/digits/runs/x/result.json"),
        *("notebooks/solutions/__pycache__/a.pyc", "data/cifar-10-python.tar.gz"),
        *("build/lib/depl0kit/gone.py", "build/lib/depl0kit/shipped/notebooks/99_gone.ipynb"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    return root


@pytest.fixture(scope="session")
def wheel(source, tmp_path_factory) -> Path:
    """The wheel that pip builds."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run([*command, "-w", str(out), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder into which pip installed the wheel; its requirements are those of this Python."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site)]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def depl0kit(installed, tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Run the console script in an empty folder, which is the home folder too."""

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(installed / "bin" / "depl0kit"), *words]
        environment = without_checkout(installed, HOME=str(tmp_path))
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def copied(installed, tmp_path_factory) -> Path:
    """The lessons, as the installed package copies them."""
    folder = tmp_path_factory.mktemp("copied")
    command = [sys.executable, "-m", "depl0kit", "lab", str(folder), "--copy-only"]
    environment = without_checkout(installed)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


# ---- what is in it


def shipped(folder: str) -> dict[str, bytes]:
    """What git has of a folder of this checkout; of a copy without git, all that is not made by tests."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=CHECKOUT, capture_output=True, text=True)
    names = listed.stdout.split() or [
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / folder).rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return {f"depl0kit/shipped/{name}": (CHECKOUT / name).read_bytes() for name in names}


def test_a_wheel_holds_the_code_the_lessons_and_the_results_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    wanted = shipped("notebooks") | shipped("data/results") | shipped("tools/jupyter")
    assert len(wanted) > 20 and {name: found.get(name) for name in wanted} == wanted
    code = {p.relative_to(CHECKOUT).as_posix() for p in (CHECKOUT / "depl0kit").rglob("*.*") if p.is_file()}
    code = {name for name in code if "__pycache__" not in name}
    assert found.keys() == wanted.keys() | code
    assert wheel.stat().st_size < MEGABYTES * 1e6
    assert f"pip install './{wheel.name}[lab]'" in (CHECKOUT / "README.md").read_text(encoding="utf-8")


def test_a_source_distribution_makes_the_same_wheel(source, wheel, tmp_path):
    with tarfile.open(backend(source, "sdist", tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = backend(unpacked, "wheel", tmp_path)
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(wheel) as other:
        assert {i.filename: i.CRC for i in one.infolist()} == {i.filename: i.CRC for i in other.infolist()}


def test_an_editable_installation_uses_the_folders_of_the_clone(source, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(backend(source, "editable", tmp_path)) as archive:
        archive.extractall(site)
    assert not list(site.rglob("*.ipynb"))
    assert not (source / "depl0kit" / "shipped").exists()
    read = "dk.load_results('digits'); print(dk.support.shipped.shipped('notebooks'))"
    code = f"import site; site.addsitedir({str(site)!r}); {WHERE}; {read}"
    environment = without_checkout(site, Path(get_path("purelib")))
    command = [sys.executable, "-S", "-c", code]  # -S: without what this Python has as editable itself
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    places, lessons = done.stdout.splitlines()
    assert json.loads(places) == [str(source / "depl0kit" / "__init__.py"), str(source / "data")]
    assert lessons == str(source / "notebooks")


# ---- what it does without a clone


def test_an_installed_package_keeps_data_in_the_home_folder(installed, tmp_path):
    (installed / "pyproject.toml").touch()  # as in a project that keeps its packages beside this file
    environment = without_checkout(installed, HOME=str(tmp_path))
    command = [sys.executable, "-c", WHERE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    (installed / "pyproject.toml").unlink()
    package, data = json.loads(done.stdout)
    assert package == str(installed / "depl0kit" / "__init__.py")
    assert data == str(tmp_path / ".cache" / "depl0kit")


def test_lessons_are_copied_and_edits_are_kept(depl0kit, tmp_path):
    done = depl0kit("lab", "a b/ü", "--copy-only")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "a b" / "ü"
    assert sorted(path.stem for path in folder.glob("*.ipynb")) == LESSONS
    assert sorted(path.stem for path in (folder / "solutions").iterdir()) == LESSONS
    results = {path.name for path in (folder / "data" / "results").iterdir()}
    assert results == {path.name for path in (CHECKOUT / "data" / "results").iterdir()}
    (folder / "00_welcome.ipynb").write_text("mine")
    done = depl0kit("lab", "a b/ü", "--copy-only")
    assert "Kept, as you wrote in them: 00_welcome.ipynb." in done.stdout
    assert (folder / "00_welcome.ipynb").read_text() == "mine"
    assert depl0kit("lab", "a b/ü", "--copy-only", "--fresh").returncode == 0
    fresh = tmp_path / "a b" / "ü-2" / "00_welcome.ipynb"
    assert fresh.read_bytes() == (CHECKOUT / "notebooks" / "00_welcome.ipynb").read_bytes()


@pytest.mark.parametrize(
    "lesson", [name if name in FIRST else pytest.param(name, marks=pytest.mark.proofs) for name in LESSONS]
)
@pytest.mark.timeout(600)  # it trains, perhaps on a busy machine
def test_a_lesson_runs_alone_in_an_empty_folder(installed, copied, tmp_path, lesson):
    alone = tmp_path / "alone"
    alone.mkdir()
    notebook = nbformat.read(copied / f"{lesson}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("dk.__file__"))
    nbformat.write(notebook, alone / f"{lesson}.ipynb")
    private = {"HOME": str(tmp_path), "DEPL0KIT_DATA": str(tmp_path / "cache")}
    command = [sys.executable, "-c", EXECUTE, f"{lesson}.ipynb"]
    environment = without_checkout(installed, **private, IPYTHONDIR=str(tmp_path / "ipython"))
    done = subprocess.run(command, cwd=alone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    last = nbformat.read(alone / f"{lesson}.ipynb", as_version=4).cells[-1]
    assert str(installed / "depl0kit") in last.outputs[0].data["text/plain"]


def test_lab_opens_jupyterlab_in_the_folder(installed, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "depl0kit", "lab", "mine", "--no-browser", f"--port={port}"]
    environment = without_checkout(installed, HOME=str(tmp_path), JUPYTER_TOKEN="test", TMPDIR=str(tmp_path))
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, server)
        served = json.loads(answer(port, "/api/contents"))
        assert "00_welcome.ipynb" in {entry["name"] for entry in served["content"]}
        assert "00_welcome.ipynb" in answer(port, "/lab/tree/00_welcome.ipynb")
        settings = json.loads(answer(port, "/lab/api/settings/@jupyterlab/apputils-extension:notification"))
        assert settings["schema"]["properties"]["fetchNews"]["default"] == "false"  # as `make lab` sets it
        assert list(tmp_path.glob("depl0kit-lab-*"))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
    assert not list(tmp_path.glob("depl0kit-lab-*"))  # it leaves nothing behind
