"""The progress of a run in words, for the line under a `Monitor`."""

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..training.knobs import KNOBS
from ..training.runs.view import RunView

LIVE = ("running", "paused")
FAILED = ("failed", "diverged")


def progress(view: RunView, planned: int) -> str:
    """State, epoch of the `planned` ones, and, while the run trains, its speed and the time left."""
    status, since = view.status, view.silent_since()
    state = status["state"]
    if since is not None:
        state = f"no sign of life since {time.strftime('%H:%M:%S', time.localtime(since))}"
    end = " until Stop" if status.get("until_stop") else f" of {planned}" * (status["epoch"] <= planned)
    text = f"{state}: epoch {status['epoch']:.1f}{end}"
    if state in LIVE and status["images_per_second"]:
        text += f", {status['images_per_second']:,.0f} images/s"
    if state == "running" and status["seconds_left"]:
        text += f", {time_in_words(status['seconds_left'])} left"
    return text


def settings_in_words(status: Mapping[str, Any]) -> str:
    """The values in `status` of the numbers in `KNOBS`, in a line."""
    return "  ".join(knob.text.format(status[name]) for name, knob in KNOBS.items() if name in status)


def results_in_words(history: pd.DataFrame) -> str:
    """Accuracy and cost after the last finished epoch; "" before the first one ends."""
    if history.empty:
        return ""
    last = history.iloc[-1]
    return f"    validation accuracy {last.val_accuracy:.3f}    MACs kept {last.kept_macs:.0%}"


def time_in_words(seconds: float) -> str:
    """A time in the units that people use, two of them at most."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 36:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
