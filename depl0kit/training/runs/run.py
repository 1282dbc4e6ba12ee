"""What a run leaves behind, in memory or in its folder."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from ...gates.gated import GatedModel
from ...networks.models import make_model
from ...support import checked
from ..collapse import collapse_notice
from ..config import TrainConfig
from .checkpoints import Checkpoint
from .folder import RunFolder

FRESH = "a fresh GatedModel like the one that was trained"


class GateMoment(NamedTuple):
    """All gates at one time of a run."""

    epoch: float  # epochs so far, with their fraction
    log_alpha: np.ndarray  # [N]
    prob_open: np.ndarray  # [N]
    gate: np.ndarray  # at test time, [N]


@dataclass(repr=False)
class Run:
    """What a run left behind.

    Attributes:
        net: the trained network.
        config: the settings that it began with.
        status: "running", "paused", "finished", "stopped" (by its user), "interrupted", "diverged" or
            "failed".
        rows: a dict per finished epoch, the rows of `history`.
        moments: the gates a few times per epoch (`GateMoment`), the last time at its end.
        notice: "" if all is well; if the accuracy collapsed, what to change (see `collapse_notice`).
    """

    net: GatedModel
    config: TrainConfig
    status: str = "running"
    rows: list[dict] = field(default_factory=list)
    moments: list[GateMoment] = field(default_factory=list)
    notice: str = ""

    def __repr__(self) -> str:
        """One line: a notebook shows it where a run is the last expression of a cell."""
        words = [self.status, f"{len(self.rows)} of {self.config.all_epochs} epochs"]
        if self.rows:
            last = self.rows[-1]
            words.append(f"validation accuracy {last['val_accuracy']:.3f}, MACs kept {last['kept_macs']:.0%}")
        return f"Run({', '.join(words)})"

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: losses, validation accuracy, MACs and parameters (expected, and exact of
        the compact network), kept_macs (exact / dense), undecided (share of gates with P(open)
        between 0.1 and 0.9), lam, temperature, lr, gate_lr, seconds; mu, the multiplier at the end of the
        epoch, with `budget_rule="dual"`.
        """
        return pd.DataFrame(self.rows)

    @property
    def gates(self) -> pd.DataFrame:
        """A row per (epoch, group, channel): log_alpha, prob_open."""
        groups = self.net.groups.gated
        channels = pd.DataFrame([(g.name, c) for g in groups for c in range(g.channels)])
        ends = [m for m in self.moments[:] if m.epoch == int(m.epoch) and m.epoch <= len(self.rows)]
        n = len(channels)
        return pd.DataFrame(
            {
                "epoch": np.repeat([int(m.epoch) for m in ends], n),
                "group": np.tile(channels[0], len(ends)),
                "channel": np.tile(channels[1], len(ends)),
                "log_alpha": np.concatenate([m.log_alpha for m in ends] or [[]]),
                "prob_open": np.concatenate([m.prob_open for m in ends] or [[]]),
            }
        )


@checked
def load_run(folder: str | Path, net: GatedModel | None = None) -> Run:
    """The run in a folder, finished or not, with the network of its last checkpoint (on the CPU).

    Args:
        net: a fresh network like the one that was trained; needed if its model is not from `make_model`.

    Raises:
        FileNotFoundError: there is no run in the folder.
        ValueError: its network cannot be rebuilt without `net`, or `net` is a different network.
    """
    files = RunFolder(folder)
    about = files.about()
    if net is None:
        net = _rebuild(about["net"], files.path)
    checkpoint = files.latest_checkpoint()
    if checkpoint is None:
        raise FileNotFoundError(
            f"{files.path} has no sound checkpoint: training has not begun, or its files are lost."
        )
    try:
        net.load_state_dict(checkpoint.part("net"))
    except RuntimeError as error:
        raise ValueError(f"{files.path} holds a run of another network than net: pass {FRESH}.") from error
    net.posterior.temperature = checkpoint.numbers["temperature"]
    if about["train"].test_rule is not None:
        net.posterior.test_rule = about["train"].test_rule
    rows = files.history(checkpoint).to_dict("records")[: checkpoint.epoch]
    if len(rows) < checkpoint.epoch:
        warnings.warn(
            f"the history in {files.path} has {len(rows)} epochs, its network {checkpoint.epoch}: a part was "
            "lost, perhaps because the folder was copied during training.",
            stacklevel=3,  # outside the check of arguments
        )
    moments = [m for m in moments_of(files, checkpoint) if m.epoch <= checkpoint.epoch]
    config = about["train"]
    notice = collapse_notice(rows, about["data"]["classes"], config)
    return Run(net.eval(), config, files.status()["state"], rows, moments, notice)


def moments_of(folder: RunFolder, until: Checkpoint | None = None) -> list[GateMoment]:
    """The gates of a run: all that its folder holds, or those that a checkpoint in it counted."""
    return [GateMoment(float(epoch), *gates) for epoch, *gates in zip(*folder.gates(until), strict=True)]


def _rebuild(description: dict, path: Path) -> GatedModel:
    if description["made_by"] is None:
        made = f"the model of {path}, a {description['network']}"
        raise ValueError(f"{made}, is not one of make_model: pass net=, {FRESH}.")
    try:
        return GatedModel(
            make_model(**description["made_by"]),
            description["posterior"],
            torch.zeros(1, *description["example"]),
            description["scope"],
            description["sampling"],
        )
    except Exception as error:  # of any kind, after somebody edited the file
        raise ValueError(
            f"the network that {path / 'config.json'} describes cannot be made ({type(error).__name__}: "
            f"{error}): pass net=, {FRESH}."
        ) from error
