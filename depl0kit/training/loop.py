"""The training loop. A step: rate, batch, forward, price, backward, step; an epoch ends with a log.

`Trainer` runs it with gates in motion and a price, then, as `fine_tune` does, with the gates held and none.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.loading import Data
from ..gates.gated import GatedModel
from ..support.device import values_of
from ..support.modes import freeze, frozen_parts
from . import distributed, layout
from .config import TrainConfig
from .evaluation import evaluate


class Batch(nn.Module):
    """Cross-entropy of a batch and share of the dense cost: what is compiled, and averaged over processes.

    The gates' noise comes from outside, so that this is a function of its arguments and parameters.
    """

    def __init__(self, net: nn.Module, cost: str) -> None:
        super().__init__()
        self.net, self.cost = net, cost

    def forward(self, x: Tensor, y: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Without noise the gates are held at their test-time values, and no share is computed."""
        if noise is None:
            return F.cross_entropy(self._held(x), y), None
        logits, prob_open = self.net.forward_with_prob_open(x, noise)
        loss = F.cross_entropy(logits, y)
        if self.net.posterior.antithetic:
            losses = F.cross_entropy(logits.detach(), y, reduction="none")
            opposite = F.cross_entropy(self.net.forward_opposite(x, noise), y, reduction="none")
            loss = loss + self.net.posterior.arm_term(noise, losses, opposite)
        return loss, self.net.expected_share(self.cost, prob_open)

    def _held(self, x: Tensor) -> Tensor:
        if not isinstance(self.net, GatedModel):
            return self.net(x)
        with torch.no_grad():
            gates = self.net.posterior.deterministic()
        return self.net.forward_gated(x, gates)


@dataclass
class Loop:
    """Epochs over the training split of `data`; `row` is the log of the one that ended last."""

    net: nn.Module  # trained in place, with gates or without
    data: Data  # on the device of the network
    config: TrainConfig  # batch size, augmentation, precision, compilation, seed, and which cost is priced
    trial: layout.Trial
    optimisers: Sequence[Optimizer]  # all step together; parameters without a gradient stay as they are
    # learning rates of the optimisers, from the times, in epochs, of a step's start and middle
    rates: Callable[[float, float], Sequence[float]]
    # what is added to the cross-entropy, from the share of the dense cost (None for held gates) and the time:
    # `Trainer._price`, with the formulas of `objective`; in fine-tuning none, or a penalty of the caller's
    price: Callable[[Tensor | None, float], Tensor] | None = None
    # noise of the gates, from the images of this process and of all; None holds the gates
    draw: Callable[[int, int], Tensor] | None = None
    # called with the images and labels of every step, before it
    before_step: Callable[[Tensor, Tensor], object] | None = None
    # called after every step of the optimisers with its number, counted from 1
    after_step: Callable[[int], object] | None = None

    def __post_init__(self) -> None:
        self.device, self.ranks = next(self.net.parameters()).device, distributed.ranks()
        self.steps = steps_per_epoch(self.data, self.config)
        self.row: dict[str, float] = {}  # epoch, train_loss, val_loss, val_accuracy, seconds
        self._frozen = [] if isinstance(self.net, GatedModel) else frozen_parts(self.net)  # it knows them
        batch: nn.Module = Batch(self.net, self.config.cost)
        if self.config.compile:
            if self.draw is not None:
                self.net.expected_share(self.config.cost)  # makes its tables: no part of a step
            batch = torch.compile(batch)
        self._batch = distributed.wrapped(batch, self.device, self.draw is None or self.trial.some_unused)
        self._clear_gradients()  # a step that was interrupted may have left some

    def epoch(self, number: int) -> Iterator[float]:
        """Train for an epoch, counted from 1; yields after every step the time of its start, in epochs."""
        begun, total = time.perf_counter(), 0.0
        self.net.train()
        freeze(self._frozen)
        torch.manual_seed(epoch_seed(self.config.seed, number, 1 + self.ranks.rank))  # of dropout
        order = torch.Generator().manual_seed(epoch_seed(self.config.seed, number, 0))
        part = self.ranks.rank, self.ranks.world  # this process's, of every batch
        batches = self.data.train.batches(self.config.batch_size, order, self.config.augment, part)
        for step, (x, y) in enumerate(batches):
            now, before = number - 1 + step / self.steps, step + (number - 1) * self.steps
            rates = self.rates(before / self.steps, (before + 0.5) / self.steps)
            for optimiser, rate in zip(self.optimisers, rates, strict=True):
                optimiser.param_groups[0]["lr"] = rate
            if self.before_step is not None:
                self.before_step(x, y)
            total = total + self._step(x, y, now)  # on the device: nothing waits for it here
            if self.after_step is not None:
                self.after_step(before + 1)
            yield now
        self.row = self._log(number, total / self.steps) | {"seconds": time.perf_counter() - begun}

    def _step(self, x: Tensor, y: Tensor, now: float) -> Tensor:
        """One optimisation step; returns the batch's cross-entropy, weighed among the processes."""
        noise = None if self.draw is None else self.draw(len(x), self._whole(len(x)))
        half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss, share = self._batch(layout.laid(x, self.trial.layout), y, noise)
        weight = self._weight(len(x))
        (weight * (loss if self.price is None else loss + self.price(share, now))).backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self._clear_gradients()
        return weight * loss.detach()

    def _clear_gradients(self) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad()

    def _whole(self, mine: int) -> int:
        """Images in a step of all processes, if none of them is damaged."""
        return mine if self.ranks.world == 1 else min(self.config.batch_size, len(self.data.train))

    def _weight(self, mine: int) -> float:
        """Of this process's part of a batch: so the average over processes is the mean over the images."""
        world = self.ranks.world
        may_miss_some = getattr(self.data.train, "skip_damaged", False)
        if world == 1 or (self._whole(mine) % world == 0 and not may_miss_some):
            return 1.0
        return mine * world / float(distributed.total(torch.tensor(float(mine))))

    def _log(self, number: int, loss: Tensor) -> dict[str, float]:
        distributed.agree_on_buffers(self.net)
        train_loss = float(values_of(distributed.total(loss))) / self.ranks.world
        val_loss, val_accuracy = evaluate(self.net, self.data.val)
        return {"epoch": number, "train_loss": train_loss, "val_loss": val_loss, "val_accuracy": val_accuracy}


def sgd(parameters: Iterator[nn.Parameter], config: TrainConfig) -> torch.optim.SGD:
    """The optimiser of the weights; fused: one kernel for all of them."""
    return torch.optim.SGD(
        parameters, config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
    )


def steps_per_epoch(data: Data, config: TrainConfig) -> int:
    """Whole batches in the training split, at least 1."""
    return max(1, len(data.train) // config.batch_size)


def epoch_seed(seed: int, epoch: int, stream: int) -> int:
    """Seed of one epoch of a run: its randomness does not depend on the epochs before.

    `stream` is 0 for what all processes draw alike, 1 + rank for what each draws by itself.
    """
    words = np.random.SeedSequence((seed, epoch, stream)).generate_state(2)
    return int(words[0]) << 31 ^ int(words[1])


def not_finite(row: Mapping[str, float]) -> str:
    """Which loss of an epoch became infinite or NaN, in words; "" if none did."""
    for name, value in (("training", row["train_loss"]), ("validation", row["val_loss"])):
        if not math.isfinite(value):
            return f"the {name} loss became {value} in epoch {row['epoch']}"
    return ""
