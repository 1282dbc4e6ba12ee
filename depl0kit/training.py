"""The training loop, its settings, and what it remembers.

`train(net, data, config)` runs to the end. Iterating a `Trainer` does the same a step at a time, so
that a notebook can watch, pause, and change lambda, temperature and gate lr while it runs.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from . import checks, objective
from .cost import COSTS
from .data import Data, Split
from .device import keep_freed_memory
from .gated import GatedModel

# A P(open) between these says nothing certain about the compact network. The bound on log_alpha keeps
# P(open) above 0.047, so at 0.05 gates would count as undecided that are as shut as they can be.
UNDECIDED = (0.1, 0.9)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. The defaults suit short runs of small networks on a CPU.

    Args:
        lam: price of the whole dense cost, >= 0. Useful from 0.5 to 100; 0 is off.
        budget: if given, in (0, 1): train towards this share of the dense cost instead of `lam`.
        cost: what is priced, "macs", "params" or "gates".
        temperature: beta of the gates, > 0; None leaves the posterior's own (2/3 by default).
        epochs, batch_size: whole numbers >= 1.
        lr, momentum, weight_decay: of the weights' SGD; the lr rises for 30 % of training, then falls.
        gate_lr: of the gates' Adam; None takes the posterior's own (mean-field 0.1, in budget mode
            0.3; dependency less, see `Dependency.default_lr`). Held for 70 % of training, then falls to 0.
        warmup, ramp: epochs without lambda, and epochs over which it then rises to full strength; a
            shorter run never pays the full price.
        seed: of the data order and the gates' noise. It seeds torch's global random state, so
            that what else draws from it while a run is under way changes the run.

    Raises:
        ValueError: an argument outside its range.
    """

    lam: float = 4.0
    budget: float | None = None
    cost: str = "macs"
    temperature: float | None = None
    epochs: int = 15
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    gate_lr: float | None = None
    warmup: float = 2
    ramp: float = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lam", "lr", "weight_decay", "warmup", "ramp"):
            checks.number(name, getattr(self, name), 0)
        checks.number("momentum", self.momentum, 0, 1)
        if self.temperature is not None:
            checks.number("temperature", self.temperature, 0, open_low=True)
        if self.gate_lr is not None:
            checks.number("gate_lr", self.gate_lr, 0)
        if self.budget is not None and not 0 < checks.number("budget", self.budget, 0, 1) < 1:
            raise ValueError(f"budget must lie between 0 and 1, both excluded, got {self.budget!r}.")
        checks.one_of("cost", self.cost, COSTS)
        checks.whole("epochs", self.epochs, 1)
        checks.whole("batch_size", self.batch_size, 1)
        checks.whole("seed", self.seed, 0)


class Diverged(RuntimeError):
    """The loss became infinite or NaN. `run` holds the finished epochs, `run.net` the last good state."""

    def __init__(self, message: str, run: "Run") -> None:
        super().__init__(message)
        self.run = run


@dataclass
class Run:
    """What a training run left behind.

    Attributes:
        net: the trained network.
        config: the settings it began with.
        status: "running", "finished", "interrupted" or "diverged".
        rows: a dict per finished epoch, the rows of `history`.
        snapshots: (log_alpha, prob_open) per finished epoch, arrays of shape [N].
    """

    net: GatedModel
    config: TrainConfig
    status: str = "running"
    rows: list[dict] = field(default_factory=list)
    snapshots: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: losses, validation accuracy, MACs and parameters (expected, and exact of
        the compact network), kept_macs (exact / dense), undecided (share of gates with P(open)
        between 0.1 and 0.9), lam, temperature, lr, gate_lr, seconds.
        """
        return pd.DataFrame(self.rows)

    @property
    def gates(self) -> pd.DataFrame:
        """A row per (epoch, group, channel): log_alpha, prob_open."""
        groups = self.net.groups.gated
        channels = pd.DataFrame([(g.name, c) for g in groups for c in range(g.channels)])
        epochs = [row["epoch"] for row in self.rows]
        snapshots = self.snapshots[: len(epochs)]
        n = len(channels)
        return pd.DataFrame(
            {
                "epoch": np.repeat(epochs, n),
                "group": np.tile(channels[0], len(epochs)),
                "channel": np.tile(channels[1], len(epochs)),
                "log_alpha": np.concatenate([s[0] for s in snapshots] or [[]]),
                "prob_open": np.concatenate([s[1] for s in snapshots] or [[]]),
            }
        )


class Trainer:
    """One training run, a step at a time: `for _ in trainer: ...`.

    It trains `net` in place, on the device where the network is. `lam`, `temperature` and `gate_lr`
    may be read and set at any time, also from another thread; the next step uses them.

    Args:
        net, data, config: what to train, on what, and how (`TrainConfig()` if None).

    Attributes:
        run: history, gates and network so far.
        epoch: finished epochs, with the fraction of the one under way.
    """

    def __init__(self, net: GatedModel, data: Data, config: TrainConfig | None = None) -> None:
        self.config = config = config or TrainConfig()
        device = next(net.parameters()).device
        keep_freed_memory()  # steps on a CPU are then 3 to 10 % faster
        self.net, self.data = net, data.to(device)
        net.model.to(memory_format=torch.channels_last)  # convolutions are 5 to 30 % faster, also on a CPU
        self.run = Run(net, config)
        self.epoch = 0.0
        self.steps_per_epoch = max(1, len(data.train) // config.batch_size)
        gate_lr = config.gate_lr if config.gate_lr is not None else net.posterior.default_lr(config.budget)
        self._weights = torch.optim.SGD(
            net.model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
        self._gates = torch.optim.Adam(net.posterior.parameters(), gate_lr, fused=True)
        self._weight_schedule = LambdaLR(self._weights, self._one_cycle)
        self._gate_schedule = LambdaLR(self._gates, self._hold_then_fall)
        self.lam = config.lam
        if config.temperature is not None:
            self.temperature = config.temperature
        self._state = self._copy_state()
        self._steps = self._train()

    @property
    def lam(self) -> float:
        """lambda at full strength; the ramp of the first epochs scales it."""
        return self._lam

    @lam.setter
    def lam(self, value: float) -> None:
        self._lam = checks.number("lam", value, 0)

    @property
    def temperature(self) -> float:
        """beta of the gates."""
        return self.net.posterior.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.net.posterior.temperature = value

    @property
    def gate_lr(self) -> float:
        """Learning rate of the gates before its schedule."""
        return self._gate_schedule.base_lrs[0]

    @gate_lr.setter
    def gate_lr(self, value: float) -> None:
        self._gate_schedule.base_lrs[0] = checks.number("gate_lr", value, 0)
        self._gates.param_groups[0]["lr"] = value * self._hold_then_fall(self._gate_schedule.last_epoch)

    def __iter__(self) -> Iterator[None]:
        """The steps that are left: a loop that was broken off goes on where it was."""
        return self._steps

    def _train(self) -> Iterator[None]:
        torch.manual_seed(self.config.seed)  # the gates' noise
        order = torch.Generator().manual_seed(self.config.seed)
        for epoch in range(1, self.config.epochs + 1):
            start, total_loss = time.perf_counter(), 0.0
            self.net.train()
            for step, (x, y) in enumerate(self.data.train.batches(self.config.batch_size, order)):
                self.epoch = epoch - 1 + step / self.steps_per_epoch
                total_loss = total_loss + self._step(x, y)  # on the device: no waiting for it here
                yield
            self._finish_epoch(epoch, float(total_loss) / self.steps_per_epoch, start)
        self.run.status = "finished"

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        """One optimisation step; returns the batch's cross-entropy."""
        logits, rows = self.net.forward_with_rows(x)
        loss = F.cross_entropy(logits, y)
        (loss + self._penalty(rows)).backward()
        for optimiser in (self._weights, self._gates):
            optimiser.step()
            optimiser.zero_grad()
        self._weight_schedule.step()
        self._gate_schedule.step()
        return loss.detach()

    def _penalty(self, rows: Tensor) -> Tensor:
        config = self.config
        share = objective.cost_share(self.net, config.cost, rows)
        if config.budget is not None:
            return objective.budget_penalty(share, self.epoch / config.epochs, config.budget)
        return self.lam * objective.strength(self.epoch, config.warmup, config.ramp) * share

    def _finish_epoch(self, epoch: int, train_loss: float, start: float) -> None:
        val_loss, val_accuracy = evaluate(self.net, self.data.val)
        for name, loss in (("training", train_loss), ("validation", val_loss)):
            if not math.isfinite(loss):
                self._diverge(f"the {name} loss became {loss} in epoch {epoch}")
        row = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "val_accuracy": val_accuracy}
        measured, snapshot = self._measure()
        row |= measured | {"seconds": time.perf_counter() - start}
        # all at once, so that an interrupt leaves no half of an epoch behind
        self.epoch, self._state = float(epoch), self._copy_state()
        self.run.snapshots.append(snapshot)
        self.run.rows.append(row)

    def _diverge(self, what: str) -> None:
        self.stop("diverged")
        raise Diverged(
            f"{what} (lr {self.config.lr:g}, lam {self.lam:g}, gate_lr {self.gate_lr:g}): "
            f"try a smaller one. The network is back at epoch {len(self.run.rows)}.",
            self.run,
        )

    @torch.no_grad()
    def _measure(self) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
        """Costs, gates and settings of this moment, and (log_alpha, prob_open) of all gates."""
        net = self.net
        flats = net.posterior.flat_log_alpha(), net.posterior.flat_prob_open()
        log_alpha, prob_open = (flat.float().cpu().numpy() for flat in flats)
        expected, exact = net.expected_cost(), net.exact_cost()
        low, high = UNDECIDED
        row = {
            "expected_macs": float(expected.macs),
            "exact_macs": exact.macs,
            "expected_params": float(expected.params),
            "exact_params": exact.params,
            "kept_macs": (exact / net.dense_cost).macs,
            "undecided": float(((prob_open > low) & (prob_open < high)).mean()),
            "lam": self.lam,
            "temperature": self.temperature,
            "lr": self._weights.param_groups[0]["lr"],
            "gate_lr": self._gates.param_groups[0]["lr"],
        }
        return row, (log_alpha, prob_open)

    def stop(self, status: str = "interrupted") -> None:
        """Give up the epoch under way: the network goes back to the end of the last finished one."""
        self.net.load_state_dict(self._state)
        self.run.status = status

    def _copy_state(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.net.state_dict().items()}

    def _one_cycle(self, step: int) -> float:
        """Linear rise for 30 % of training, then half a cosine down to 0."""
        progress = min(1.0, (step + 1) / (self.config.epochs * self.steps_per_epoch))
        return progress / 0.3 if progress < 0.3 else 0.5 + 0.5 * math.cos(math.pi * (progress - 0.3) / 0.7)

    def _hold_then_fall(self, step: int) -> float:
        """1 for 70 % of training, then a linear fall to 0, so that the gates come to rest."""
        return min(1.0, (1 - step / (self.config.epochs * self.steps_per_epoch)) / 0.3)


def train(net: GatedModel, data: Data, config: TrainConfig | None = None, progress: bool = True) -> Run:
    """Train `net` in place and return its `Run`.

    With the same seed, network and CPU the numbers are the same, bit for bit. An interrupt (Ctrl-C,
    or the stop button of a notebook) ends training and keeps every finished epoch.

    Args:
        net, data, config: see `Trainer`.
        progress: show a bar with the validation accuracy and the MACs kept.

    Raises:
        Diverged: the loss became infinite or NaN.
    """
    trainer = Trainer(net, data, config)
    epochs = trainer.config.epochs
    with tqdm(total=epochs * trainer.steps_per_epoch, disable=not progress, unit="step") as bar:
        try:
            for _ in trainer:
                bar.update()
                if trainer.run.rows and bar.n % trainer.steps_per_epoch == 1 % trainer.steps_per_epoch:
                    bar.set_postfix_str(_summary(trainer.run.rows[-1]))
        except KeyboardInterrupt:
            trainer.stop()
        if trainer.run.rows:
            bar.set_postfix_str(_summary(trainer.run.rows[-1]))
    return trainer.run


def _summary(row: dict) -> str:
    return f"val accuracy {row['val_accuracy']:.3f}, MACs kept {row['kept_macs']:.0%}"


@torch.no_grad()
def evaluate(net: torch.nn.Module, split: Split, batch_size: int = 1000) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (0..1) of any classifier on a split, in eval mode."""
    was_training = net.training
    net.eval()
    loss, correct = 0.0, 0
    try:
        for x, y in split.batches(batch_size):
            logits = net(x)
            loss = loss + F.cross_entropy(logits, y, reduction="sum")
            correct = correct + (logits.argmax(1) == y).sum()
    finally:
        net.train(was_training)
    return float(loss) / len(split), float(correct) / len(split)
