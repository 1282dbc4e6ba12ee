"""What `python -m depl0kit` prints about a run, as text."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from ..support.tables import aligned
from ..training.config import TrainConfig
from ..training.runs.folder import RunFolder, patience
from ..training.runs.run import Run

HISTORY = ("epoch", "train_loss", "val_loss", "val_accuracy", "kept_macs", "undecided", "lam", "seconds")
LAST = 5  # epochs of the history in the description


def outcome(run: Run, out: Path, program: str) -> str:
    """How a run ended, and what to do next."""
    planned = "" if len(run.rows) > run.config.all_epochs else f" of {run.config.all_epochs}"
    epochs = f"{len(run.rows)}{planned} epochs"
    if run.status != "finished":
        return f"{run.status} after {epochs}: the same command resumes it"
    last, following = run.rows[-1], f"{program} compact {shlex.quote(str(out))} small.safetensors"
    return (
        f"finished {epochs}: validation accuracy {last['val_accuracy']:.3f}, "
        f"MACs kept {last['kept_macs']:.1%}. Next: {following}"
    )


def describe_run(folder: RunFolder) -> str:
    """Settings, state, the last epochs and the channels of a run, also while it trains."""
    about = folder.about()
    net, data, train = about["net"], about["data"], about["train"]
    usual = TrainConfig(epochs=train.epochs)
    usual = replace(usual, epochs=TrainConfig().epochs, warmup=usual.warmup_epochs, ramp=usual.ramp_epochs)
    changed = [
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, (value, _) in train.difference(usual).items()
    ]
    gates = " ".join(net["posterior"][key] for key in ("family", "direction") if key in net["posterior"])
    blocks = [
        f"{net['network']} on {data['name']}, gates: {gates}\n"
        f"settings: {', '.join(changed) or 'those of TrainConfig()'}\n"
        f"state: {_state(about, folder.status())}",
        _last_epochs(folder),
        _channels(folder, net["groups"]),
    ]
    return "\n\n".join(filter(None, blocks))


def _state(about: dict[str, Any], status: dict[str, Any]) -> str:
    end = "until stopped" if status.get("until_stop") else f"of {status.get('epochs', '?')}"
    words = [f"{status['state']}, epoch {status['epoch']:.2f} {end}"]
    if status["state"] == "running":
        words.append(f"{status['images_per_second']:.0f} images/s")
        if status.get("speed") is not None:
            words.append(f"held to {status['speed']:g} epochs a second")
        if status["seconds_left"] is not None:
            minutes, seconds = divmod(round(status["seconds_left"]), 60)
            words.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")
        silence = time.time() - status["updated"]
        if silence > patience(about, status):
            words.append(
                f"no sign of life for {silence:.0f} s: if it was killed, the same command resumes it"
            )
    return ", ".join([*words, *filter(None, [status["error"], status.get("notice")])])


def _last_epochs(folder: RunFolder) -> str:
    history = folder.history().tail(LAST)
    if not len(history):
        return ""
    rows = ([f"{row[name]:.4g}" for name in HISTORY] for row in history.to_dict("records"))
    return aligned(HISTORY, *rows)


def _channels(folder: RunFolder, groups: Sequence[tuple[str, int]]) -> str:
    """Open channels per group, by the last test-time gates in the folder."""
    *_, gates = folder.gates()
    if not len(gates):
        return ""
    ends = accumulate((channels for _, channels in groups), initial=0)
    rows = (
        (name, str((gates[-1][start:end] > 0).sum()), str(channels))
        for (name, channels), (start, end) in zip(groups, pairwise(ends), strict=True)
    )
    return aligned(("group", "open", "of"), *rows)
