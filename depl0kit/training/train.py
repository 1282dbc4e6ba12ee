"""From a network, data and settings to a finished run, in one call."""

import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tqdm.auto import tqdm

from ..data.loading import Data
from ..gates.gated import GatedModel
from ..support import checked
from . import distributed
from .config import TrainConfig
from .runs.recording import recorded
from .runs.run import Run
from .trainer import Trainer


@checked
def train(
    net: GatedModel,
    data: Data,
    config: TrainConfig | None = None,
    progress: bool = True,
    out: str | Path | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
) -> Run:
    """Train `net` in place and return its `Run`.

    With the same seed, network and CPU the numbers are the same, bit for bit. An interrupt (Ctrl-C,
    or the stop button of a notebook) ends the run, which keeps every finished epoch. A run whose accuracy
    collapsed ends with a warning that says what to change (`run.notice`).

    Args:
        net, data, config: see `Trainer`.
        progress: show a bar with the validation accuracy and the MACs kept.
        out: a folder for the run (see `RunFolder`). If it holds this run already, training resumes from
            the last checkpoint, also after a kill, and ends with the same bits as without the break.
        on_epoch: called after every epoch with its row of `run.history`, a dict of plain numbers:
            `on_epoch=wandb.log`, for example. Of several processes only the first calls it. An error in it
            ends the run, which keeps its finished epochs.

    Raises:
        Diverged: the loss became infinite or NaN.
        ValueError: `out` holds a run with other settings; the text names the first.
        RuntimeError: another process trains in `out`.
    """
    trainer = Trainer(net, data, config)
    trainer.on_epoch = on_epoch
    total = trainer.config.all_epochs * trainer.steps_per_epoch
    shown = progress and distributed.ranks().first
    with tqdm(total=total, disable=not shown, unit="step") as bar, closing(recorded(trainer, out)) as steps:
        try:
            for _ in steps:
                bar.update(round(trainer.epoch * trainer.steps_per_epoch) + 1 - bar.n)
                if trainer.run.rows and bar.n % trainer.steps_per_epoch == 1 % trainer.steps_per_epoch:
                    bar.set_postfix_str(_summary(trainer.run.rows[-1]))
        except KeyboardInterrupt:
            trainer.stop()
        if trainer.run.rows:
            bar.set_postfix_str(_summary(trainer.run.rows[-1]))
    if trainer.run.notice and distributed.ranks().first:
        warnings.warn(trainer.run.notice, stacklevel=3)  # beyond the check of arguments
    return trainer.run


def _summary(row: dict) -> str:
    return f"val accuracy {row['val_accuracy']:.3f}, MACs kept {row['kept_macs']:.0%}"
