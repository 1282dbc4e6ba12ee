"""Versions of the software and the hardware that computed a result."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch


def versions(device: torch.device) -> dict[str, Any]:
    """Versions, git commit and name of the device, to be kept beside a result."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "depl0kit": version(),
        "git_commit": _git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }


def version() -> str:
    """The version of this package."""
    return importlib.metadata.version("depl0kit")


def _git_commit() -> str | None:
    """The commit of the git checkout that holds the package; None outside of one."""
    try:
        done = subprocess.run(
            ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
