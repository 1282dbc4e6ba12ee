"""The ground: what is declared, what is used, and what a newcomer's first commands do."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml
from chromium import find_chromium
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import answer, free_port, wait_for_port

import depl0kit

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "pytest-xdist": "xdist",
}
# by ipywidgets, JupyterLab, ipykernel, nbconvert and matplotlib, whose interface they are
BROUGHT = {"IPython", "traitlets", "jupyter_server", "zmq", "jinja2", "bs4", "PIL"}


def requirements(*groups: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for group in groups for line in group]
    return {r.name: r for r in parsed}


def pins() -> dict[str, str]:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_conda_environment_has_the_requirements_of_pyproject():
    environment = yaml.safe_load((CHECKOUT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    expected = {
        f"{CONDA_NAMES.get(name, name)}{r.specifier}"
        for name, r in requirements(PROJECT["dependencies"], EXTRAS["lab"]).items()
    }
    assert set(conda) == expected | {f"python{PROJECT['requires-python']}", "pip"}
    assert pip == {"pip": ["-e .[lab]"]}


def test_constraints_pin_every_requirement_at_an_allowed_version():
    pinned = pins()
    for name, requirement in requirements(PROJECT["dependencies"], *EXTRAS.values()).items():
        version = pinned.get(canonicalize_name(name))
        assert version is not None, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_constraints_hold_nothing_but_plain_pins():
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    unusual = [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)]
    assert not unusual, "a comment or name==version was expected (no address, no local version)"
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton", "depl0kit"))]


def imported_packages(paths) -> set[str]:
    """Top-level names of all absolute imports, nested ones too, outside the standard library."""
    names = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"depl0kit"}


def import_names(*groups: list[str]) -> set[str]:
    return {IMPORT_NAMES.get(name, name) for name in requirements(*groups)}


def test_declared_requirements_are_those_that_the_code_imports():
    files = set((CHECKOUT / "depl0kit").rglob("*.py"))
    lab = set((CHECKOUT / "depl0kit" / "lab").rglob("*.py"))
    core = PROJECT["dependencies"]
    assert imported_packages(files - lab) == import_names(core)
    assert imported_packages(lab) <= import_names(core, EXTRAS["lab"]) | BROUGHT


def test_tests_and_tools_import_only_what_is_declared():
    files = [
        path for folder in ("tests", "tools", "benchmarks") for path in (CHECKOUT / folder).rglob("*.py")
    ]
    own = {path.stem for path in files}
    declared = import_names(PROJECT["dependencies"], *EXTRAS.values()) | BROUGHT
    assert imported_packages(files) - own <= declared


@pytest.mark.slow
def test_core_imports_without_jupyter_and_without_pyplot():
    script = "import sys, json, depl0kit; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CHECKOUT)
    assert shown.returncode == 0, shown.stderr
    loaded = {m.split(".")[0] for m in json.loads(shown.stdout)} | set(json.loads(shown.stdout))
    assert not loaded & {"timm", "torch_pruning"}  # nor what tests use, or an earlier version needed
    jupyter = {"IPython", "ipywidgets", "ipykernel", "jupyterlab", "jupyter_client", "anywidget", "traitlets"}
    assert not loaded & (jupyter | {"matplotlib.pyplot"})


def test_citation_names_both_papers_and_this_version():
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert citation["version"] == depl0kit.__version__
    papers = {
        paper["identifiers"][0]["value"]: [author["family-names"] for author in paper["authors"]]
        for paper in citation["references"]
    }
    assert papers == {"arXiv:1712.01312": ["Louizos", "Welling", "Kingma"], "arXiv:2107.00070": ["Li", "Ji"]}


# ---- make_venv.sh: which Python it takes, and what it says when there is none


@pytest.fixture
def make_venv(tmp_path):
    """Run make_venv.sh with only the Pythons given as {name: shell script} on the PATH."""

    def run(pythons: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
        for name, body in pythons.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
        command = ["/bin/sh", str(CHECKOUT / "tools" / "make_venv.sh"), str(tmp_path / "venv"), *arguments]
        environment = os.environ | {"PATH": str(tmp_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


BROKEN = "exit 127"  # a pyenv shim of a version that is not selected
OLD = 'case "$*" in *--version*) echo Python 3.9.2;; *) exit 1;; esac'
NO_VENV = 'case "$*" in *ensurepip*) exit 1;; *print*) echo 3.11;; esac'
GOOD = 'case "$*" in *-m*) echo "made by $0";; *--version*) echo Python 3.12.1;; esac'


def test_make_venv_takes_the_first_python_that_runs(make_venv):
    done = make_venv({"python3.12": BROKEN, "python3.11": GOOD, "python3": OLD})
    assert done.returncode == 0, done.stderr
    assert "made by" in done.stdout and "python3.11" in done.stdout


@pytest.mark.parametrize(
    ("pythons", "arguments", "says"),
    [
        ({}, [], "No Python 3.11 or newer was found"),
        ({"python3.12": BROKEN, "python3": OLD}, [], "No Python 3.11 or newer was found"),
        ({"python3": NO_VENV}, [], "sudo apt install python3.11-venv"),
        ({"python3": GOOD, "python3.9": OLD}, ["python3.9"], "PYTHON=python3.9 cannot be used"),
        ({"python3": GOOD}, ["/nowhere/python"], "it does not run"),
    ],
)
def test_make_venv_says_what_to_install(make_venv, pythons, arguments, says):
    done = make_venv(pythons, *arguments)
    assert done.returncode == 1
    assert says in done.stderr


def test_chromium_is_found_by_name_and_by_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert find_chromium() is None
    for name in ("google-chrome", "my-chrome"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert find_chromium() == str(tmp_path / "google-chrome")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "my-chrome"))
    assert find_chromium() == str(tmp_path / "my-chrome")
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    assert find_chromium() is None


# ---- make lab


@contextmanager
def lab(*options: str, **environment: str) -> Iterator[int]:
    """`make lab` in this environment, under way on a port."""
    port = free_port()
    installed = f"--old-file={sys.prefix}/.installed-lab"  # so that nothing is installed
    command = ["make", "lab", installed, f"VENV={sys.prefix}", f"PORT={port}", *options]
    server = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_port(port, server)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


@pytest.fixture
def fetch():
    """Start `make lab OPEN=0`; give a function from a path to what is served."""

    with lab("OPEN=0", JUPYTER_TOKEN="test") as port:
        yield partial(answer, port)


@pytest.mark.slow
def test_the_browser_is_opened_with_a_code_that_works_once(tmp_path):
    """Others on the machine can read the command line of a browser."""
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$*" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o700)
    with lab(BROWSER=str(browser), JUPYTER_TOKEN="the-token"):
        deadline = time.monotonic() + 60
        while not opened.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        address = opened.read_text().strip()
        assert "/lab/tree/notebooks/00_welcome.ipynb?token=" in address and "the-token" not in address
        reader, other = (urllib.request.build_opener(urllib.request.HTTPCookieProcessor()) for _ in range(2))
        assert "jupyter-config-data" in reader.open(address, timeout=30).read().decode()
        assert "jupyter-config-data" in reader.open(address, timeout=30).read().decode()  # by its cookie
        assert "/login" in other.open(address, timeout=30).geturl()


@pytest.mark.slow
def test_make_lab_serves_the_welcome_notebook_and_asks_nothing(fetch):
    assert "00_welcome.ipynb" in fetch("/lab/tree/notebooks/00_welcome.ipynb")
    notebook = json.loads(fetch("/api/contents/notebooks/00_welcome.ipynb"))
    assert notebook["type"] == "notebook" and notebook["content"]["cells"]
    settings = json.loads(fetch("/lab/api/settings/@jupyterlab/apputils-extension:notification"))
    defaults = {name: value["default"] for name, value in settings["schema"]["properties"].items()}
    assert defaults["fetchNews"] == "false" and defaults["checkForUpdates"] is False
    assert json.loads(fetch("/lab/api/workspaces"))["workspaces"]["ids"] == []  # no tabs of last time


# ---- make notebooks


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """A small notebook with a formula, a hidden answer and a widget, executed to HTML."""
    folder = tmp_path_factory.mktemp("notebooks")
    widget = [
        "import ipywidgets",
        "from IPython.display import display",
        "slider = ipywidgets.FloatSlider()",
        f"picture = {PIXEL!r}",
        "display(slider._repr_mimebundle_() | {'image/png': picture}, raw=True)",
        "display(slider._repr_mimebundle_() | {'text/plain': 'a bar at 0%'}, raw=True)",
    ]
    text = "Price $\\frac{a}{b}$\n\n<details><summary>Answer</summary>\n\nhidden\n\n</details>\n\nafter"
    cells = [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": text}]
    code = {"cell_type": "code", "id": "b", "metadata": {}, "outputs": [], "execution_count": None}
    cells.append(code | {"source": "\n".join(widget)})
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "lesson.ipynb").write_text(json.dumps(notebook))
    tool = CHECKOUT / "tools" / "execute_notebooks.py"
    command = [sys.executable, str(tool), "--out", str(folder), str(folder / "lesson.ipynb")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder / "lesson.html").read_text()


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.mark.slow
def test_page_shows_the_picture_of_a_widget(page):
    assert f"data:image/png;base64,{PIXEL}" in re.sub(r"\s", "", page)
    assert "widget-view" not in page and "widget-state" not in page
    assert ">a bar at 0%" not in page  # without a picture it would stand still for ever


@pytest.mark.slow
def test_page_fetches_nothing(page):
    assert "<script" not in page
    assert not re.findall(r"""\bsrc(?:set)?=["'](?!data:)[^"']+|<link[^>]+>|@import[^;]+""", page)
    assert not re.findall(r"url\(\s*[\"']?(?:https?:)?//", page)


@pytest.mark.slow
def test_page_shows_formulas_and_hides_answers(page):
    assert "<mfrac>" in page
    details = page[page.index("<details>") : page.index("</details>")]
    assert "hidden" in details and "after" not in details


@pytest.mark.slow
def test_a_failing_notebook_fails_the_command(tmp_path):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [cell | {"source": "1 / 0"}]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "broken.ipynb").write_text(json.dumps(notebook))
    tool = CHECKOUT / "tools" / "execute_notebooks.py"
    command = [sys.executable, str(tool), "--out", str(tmp_path), str(tmp_path / "broken.ipynb")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "broken" in done.stderr and "ZeroDivisionError" in done.stderr
