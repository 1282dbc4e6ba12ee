"""`python -m depl0kit lab`: the lessons in a folder of one's own, opened in JupyterLab as `make lab` does."""

import os
import runpy
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro

from ..support import checks
from ..support.shipped import SETTINGS, shipped
from ..support.versions import version
from .lessons import Copied, copy_lessons
from .options import PROGRAM, Folder

NEEDED = ("jupyterlab", "ipywidgets", "anywidget", "seaborn")  # by lessons, of the extra `lab`
Port = Annotated[int | None, tyro.conf.arg(metavar="N")]


def lab(
    folder: Folder = Path("depl0kit-lessons"),
    fresh: bool = False,
    copy_only: bool = False,
    port: Port = None,
    browser: bool = True,
) -> None:
    """Copy the lessons into a folder, and open them there in JupyterLab.

    The same command again continues with that folder: files that you did not change are updated, and what you
    wrote is kept.

    Args:
        folder: Folder of the lessons; it is made if it does not exist.
        fresh: Copy all lessons into a new folder beside this one.
        copy_only: Copy the lessons, and do not open them.
        port: Port of JupyterLab; a free one if it is not given.
        browser: Open the lessons in a browser, or only print their address.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing and not copy_only:
        raise RuntimeError(
            f'the lessons need {", ".join(missing)}: pip install "depl0kit[lab]"; or add --copy-only.'
        )
    options = [] if browser else ["--no-browser"]
    if port is not None:
        options += [f"--port={checks.whole('--port', port, 1, 65535)}", "--ServerApp.port_retries=0"]
    folder = checks.folder(folder)
    folder = next(place for place in _beside(folder) if not place.exists()) if fresh else folder
    print(_report(folder, copy_lessons(folder)), flush=True)
    if not copy_only:
        _open(folder, options)


def _beside(folder: Path) -> Iterator[Path]:
    """The folder itself, folder-2, folder-3, and so on."""
    yield folder
    named = folder.resolve() if folder.name in ("", "..") else folder
    yield from (named.with_name(f"{named.name}-{n}") for n in count(2))


def _report(folder: Path, copied: Copied) -> str:
    own = f"depl0kit {version()}"
    lines = [f"The lessons of {own} are in {folder}."]
    if copied.new:
        lines.append(f"Copied: {checks.few(copied.new)}.")
    if copied.updated:
        lines.append(f"Updated, as you had not changed them: {checks.few(copied.updated)}.")
    if copied.kept:
        lines.append(f"Kept, as you wrote in them: {', '.join(copied.kept)}.")
    if copied.newer:
        fresh = f"{PROGRAM} lab {shlex.quote(str(folder))} --fresh"
        lines.append(
            f"Kept, as you wrote in them, though {own} has newer ones: {', '.join(copied.newer)}.\n"
            f"To get a newer one, rename yours and run this command again; to get all: {fresh}"
        )
    return "\n".join(lines)


def _open(folder: Path, options: Sequence[str]) -> None:
    """Become JupyterLab, which then ends this process."""
    settings = [str(shipped(SETTINGS)), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, settings))
    os.chdir(folder)
    if sys.platform != "win32":  # a new program in this process: without torch, which takes 350 MB
        os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *options])
    sys.argv = ["jupyter-lab", *options]  # Windows would start another process, and end this one at once
    runpy.run_module("jupyterlab", run_name="__main__", alter_sys=True)
