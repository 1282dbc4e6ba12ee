"""The whole trade-off from one run, in which lambda grows."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from tqdm.auto import tqdm

from ..data.loading import Data
from ..gates.compact import compact
from ..gates.gated import GatedModel
from ..gates.posterior import is_undecided
from ..support import checked, checks
from ..training.config import TrainConfig
from ..training.evaluation import evaluate
from ..training.finetuning import fine_tune
from ..training.trainer import Trainer

# in fewer epochs, lambda outruns the gates, and the last point is a large network
DEFAULT = TrainConfig(epochs=40, warmup=2)

# Up to the last snapshot the weights must still repair what each closed channel breaks, and gates must move.
# On digits (40 epochs, two seeds) the last network has .08 and .10 of the MACs at a constant lr, and .11 and
# .12 with one cycle, which leaves too little at the end; fine-tuned accuracies are the same, .98 to .99.
SCHEDULES = {"schedule": "constant", "milestones": (), "gate_schedule": "constant"}


@checked
def lambda_path(
    net: GatedModel,
    data: Data,
    config: TrainConfig | None = None,
    lams: tuple[float, float] = (0.5, 100),
    snapshots: int = 8,
    fine_tune_epochs: int = 3,
    progress: bool = True,
) -> pd.DataFrame:
    """Accuracy against cost, from a single run.

    After `config.warmup` epochs without a price lambda grows geometrically from `lams[0]` to `lams[1]`, a
    little at every step. At moments evenly spaced over that time, the last of them at the end, the network
    is compacted, and the compact copy fine-tuned and measured; training continues unchanged.

    The points are one path, **not replicates**: all come from the same weights. So they lie on a smoother
    curve than separate runs, and say nothing about the spread between seeds.

    Args:
        net: trained in place, up to the highest lambda.
        data: trained on the training split.
        config: as for any run (40 epochs if None). What makes the path is set here and not read from it:
            `lam`, `ramp`, both schedules and `fine_tune_epochs`.
        lams: lambda at the end of the warm-up and of the run, 0 < first < last.
        snapshots: how many, at least 2.
        fine_tune_epochs: of every compact copy (see `fine_tune`), at least 1.
        progress: show a bar.

    Returns:
        A row per snapshot: snapshot (from 1), epoch, lam, raw_val_accuracy (before fine-tuning),
        val_accuracy, test_accuracy (0..1), macs, params, kept_macs, kept_params (shares of the dense
        network's), undecided (share of gates with P(open) between 0.1 and 0.9), groups (names), channels
        and open (numbers per group).

    Raises:
        ValueError: an argument outside its range, a config in budget mode or with a warm-up as long as
            the run, more snapshots than steps.
        Diverged: the loss became infinite or NaN.
    """
    lams = tuple(checks.number("every entry of lams", lam, 0, open_low=True) for lam in lams)
    config = _checked(config or DEFAULT, lams, snapshots, fine_tune_epochs)
    trainer = Trainer(net, data, config)
    steps = config.epochs * trainer.steps_per_epoch
    with tqdm(total=steps + snapshots, disable=not progress, unit="step") as bar:
        taken = _train(trainer, lams, snapshots, bar)
        rows = []
        for number, (small, row) in enumerate(taken, 1):
            accuracies = _accuracies(small, trainer.data, config, fine_tune_epochs)
            rows.append({"snapshot": number} | row | accuracies)
            bar.set_postfix_str(f"val accuracy {rows[-1]['val_accuracy']:.3f}")
            bar.update()
    if trainer.run.notice:
        warnings.warn(trainer.run.notice, stacklevel=3)  # beyond the check of arguments
    return pd.DataFrame(rows)


def _checked(
    config: TrainConfig, lams: tuple[float, float], snapshots: int, fine_tune_epochs: int
) -> TrainConfig:
    """The config of the path, if all arguments are sound."""
    if not lams[0] < lams[1]:
        raise ValueError(f"lams must increase, got {lams!r}: lambda grows along the path.")
    checks.whole("snapshots", snapshots, 2)
    checks.whole("fine_tune_epochs", fine_tune_epochs, 1)
    if config.budget is not None:
        raise ValueError(f"a path has no budget, got budget={config.budget:g}: lams set where it ends.")
    if config.warmup_epochs >= config.epochs:
        raise ValueError(
            f"warmup must be shorter than the run, got warmup={config.warmup_epochs:g} of {config.epochs} "
            "epochs: use a shorter warm-up, or more epochs."
        )
    return replace(config, lam=lams[0], ramp=0, fine_tune_epochs=0, **SCHEDULES)


def _train(
    trainer: Trainer, lams: tuple[float, float], snapshots: int, bar: tqdm
) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Train to the end; fine-tuning waits until then, so that it cannot change the run."""
    config, per_epoch = trainer.config, trainer.steps_per_epoch
    first, last = round(config.warmup_epochs * per_epoch), config.epochs * per_epoch
    if snapshots > last - first:
        raise ValueError(
            f"snapshots must be at most {last - first}, the steps after the warm-up, got {snapshots}."
        )
    moments = np.linspace(first, last, snapshots + 1)[1:].round().astype(int).tolist()
    taken = []
    for step, _ in enumerate(trainer, 1):
        bar.update()
        if step in moments:
            taken.append(_snapshot(trainer, step / per_epoch))
        progress = max(0.0, (step - first) / max(1, last - 1 - first))  # of the next step: it ends at 1
        trainer.lam = lams[0] * (lams[1] / lams[0]) ** progress
    return taken


def _snapshot(trainer: Trainer, epoch: float) -> tuple[nn.Module, dict[str, Any]]:
    """The compact network at this moment, and its row, in which the accuracies are still missing."""
    net = trainer.net
    cost = net.exact_cost()
    kept = cost / net.dense_cost
    return compact(net), {
        "epoch": epoch,
        "lam": trainer.lam,
        **dict.fromkeys(("raw_val_accuracy", "val_accuracy", "test_accuracy")),
        "macs": cost.macs,
        "params": cost.params,
        "kept_macs": kept.macs,
        "kept_params": kept.params,
        "undecided": float(is_undecided(net.posterior.flat_prob_open()).float().mean()),
        "groups": [group.name for group in net.groups.gated],
        "channels": net.channels.sizes,
        "open": net.open_channels(),
    }


def _accuracies(small: nn.Module, data: Data, config: TrainConfig, epochs: int) -> dict[str, float]:
    """Fine-tune a compact network, and measure it before and after."""
    raw = evaluate(small, data.val)[1]
    history = fine_tune(small, data, epochs, **config.sgd)
    val, test = history.val_accuracy.iloc[-1], evaluate(small, data.test)[1]
    return {"raw_val_accuracy": raw, "val_accuracy": val, "test_accuracy": test}
