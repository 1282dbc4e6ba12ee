"""Which versions of what computed a result."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch


def versions(device: torch.device) -> dict[str, Any]:
    """With what numbers were made: versions, git commit, and name of the device."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "depl0kit": version(),
        "git_commit": _git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }


def version() -> str:
    """Of this package."""
    return importlib.metadata.version("depl0kit")


def _git_commit() -> str | None:
    """Of the checkout that the package runs from; None if it is none."""
    try:
        done = subprocess.run(
            ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
