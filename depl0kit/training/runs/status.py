"""Where a run is now: what status.json holds, and when a run that writes nothing seems to be dead."""

from collections.abc import Mapping
from typing import Any

from ..knobs import KNOBS

QUIET_SECONDS = 10  # without a new status, beside the time of some steps
STARTING_SECONDS = 120  # more before the first step, which may be compiled
NEW = {"state": "new", "epoch": 0.0, "error": ""}  # before it begins
STATUS = {
    "state": str, "epoch": float, "error": str, "images_per_second": float, "seconds_left": (float, None),
    "updated": float, "epochs?": int, **{f"{name}?": float for name in KNOBS},
    "until_stop?": bool, "speed?": (float, None), "notice?": str, "host?": str,
}  # fmt: skip


def patience(about: Mapping[str, Any], status: Mapping[str, Any]) -> float:
    """Seconds for which a run under way may write nothing: some steps, or its validation.

    `about` and `status` are those of its `RunFolder`.
    """
    images, rate = 5 * about["train"].batch_size + about["data"]["val"], status["images_per_second"]
    return QUIET_SECONDS + (images / rate if rate else STARTING_SECONDS)
