"""Where a run is now, in status.json."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...support.files import read_sound_json, write_json

QUIET_SECONDS = 10  # a run that writes nothing for longer than this (see `patience`) seems to be dead
STARTING_SECONDS = 120  # more for its first step, which may be compiled
NEW = {"state": "new", "epoch": 0.0, "error": ""}  # before it begins
STATUS = {
    "state": str, "epoch": float, "error": str, "images_per_second": float, "seconds_left": (float, None),
    "updated": float, "epochs?": int, "lam?": float, "temperature?": float, "gate_lr?": float,
    "until_stop?": bool, "speed?": (float, None), "notice?": str, "host?": str,
}  # fmt: skip


def read_status(folder: Path) -> dict[str, Any]:
    """See `RunFolder.status`."""
    return read_sound_json(folder / "status.json", STATUS) or dict(NEW)


def write_status(folder: Path, status: Mapping[str, Any]) -> None:
    """Note where the run is, and when that was."""
    write_json(folder / "status.json", {**status, "updated": time.time()}, durable=False)


def patience(about: Mapping[str, Any], status: Mapping[str, Any]) -> float:
    """Seconds for which a run under way may write nothing: some steps, or its validation.

    Args:
        about: see `RunFolder.about`.
        status: see `RunFolder.status`.
    """
    images, rate = 5 * about["train"].batch_size + about["data"]["val"], status["images_per_second"]
    return QUIET_SECONDS + (images / rate if rate else STARTING_SECONDS)
