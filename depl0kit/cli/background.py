"""Runs in a process of their own, for notebooks."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from ..support import checked, checks
from ..training.recipes import load_recipe


@checked
def start(recipe: str | Path, out: str | Path, **settings: Any) -> subprocess.Popen:
    """Train in a process of its own, which keeps training when this process, or its notebook, ends.

    Its output goes to `out`/log.txt; `RunFolder(out)` watches and controls the run.

    Args:
        recipe: a name, or a .toml file.
        out: folder of the run. If it holds this run already, training resumes.
        settings: fields of `Recipe` or `TrainConfig`, and `device`.

    Raises:
        ValueError, FileNotFoundError: as `load_recipe`, before the process starts.

    Example:
        >>> process = start("small-digits", "runs/digits", epochs=3)  # doctest: +SKIP
    """
    out = checks.folder(out)
    load_recipe(recipe, **{name: value for name, value in settings.items() if name != "device"})  # checks
    flags = [word for name, value in settings.items() for word in _flag(name, value)]
    command = [sys.executable, "-m", "depl0kit", "train", str(recipe), *flags, "--out", str(out)]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("a") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _flag(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", *map(str, value if isinstance(value, list | tuple) else [value])]
