"""The training loop.

Iterating a `Trainer` trains a step at a time, so that a notebook can watch, pause, and change lambda,
temperature and gate lr while it runs. `train` does all steps in one call.
"""

import math
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.loading import Data
from ..gates.gated import GatedModel
from ..gates.posterior import is_undecided
from ..support import checks
from ..support.arguments import checked
from ..support.device import keep_freed_memory
from . import distributed, layout, objective, schedules
from .collapse import collapse_notice
from .config import TrainConfig
from .evaluation import evaluate
from .fit import check_fit
from .runs.about import about
from .runs.checkpoints import Checkpoint
from .runs.run import GateMoment, Run

MOMENTS = 80  # of the gates in a whole run, but 1 to 4 in an epoch


class Diverged(RuntimeError):
    """The loss became infinite or NaN. `run` holds the finished epochs, `run.net` the last good state."""

    def __init__(self, message: str, run: Run) -> None:
        super().__init__(message)
        self.run = run


class _Batch(nn.Module):
    """Cross-entropy of a batch and share of the dense cost: what is compiled, and averaged over processes.

    The gates' noise comes from outside, so that this is a function of its arguments and parameters.
    """

    def __init__(self, net: GatedModel, cost: str) -> None:
        super().__init__()
        self.net, self.cost = net, cost

    def forward(self, x: Tensor, y: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        if noise is None:  # fine-tuning: the gates stand
            with torch.no_grad():
                gates = self.net.posterior.deterministic()
            logits = self.net.forward_gated(x, gates)
            return F.cross_entropy(logits, y), logits.new_zeros(())
        logits, prob_open = self.net.forward_with_prob_open(x, noise)
        return F.cross_entropy(logits, y), self.net.expected_share(self.cost, prob_open)


class Trainer:
    """One training run, a step at a time: `for _ in trainer: ...`.

    It trains `net` in place, on the device where the network is. `lam`, `temperature` and `gate_lr`
    may be read and set at any time, also from another thread; the next step uses them. So may `until_stop`:
    while it is True the run does not end, and from the end of the ramp on, price and learning rates stay as
    they are there. Set to False, it ends with the epoch under way, if it is past `config.epochs`; of the
    fine-tuning follows what is planned for later. Fine-tuning itself takes no notice of it.

    All that is random in an epoch follows from the seed and the epoch's number, so that a run can resume
    from any.

    Args:
        net, data, config: what to train, on what, and how (`TrainConfig()` if None).

    Attributes:
        run: history, gates and network so far.
        epoch: finished epochs, with the fraction of the one under way.
        fine_tuning: whether the gates stand, as in the last `config.fine_tune_epochs`.
        saved: the `Checkpoint` of the last finished epoch.

    Raises:
        ValueError: the network and the data do not suit each other (see `check_fit`), the batch size cannot
            be shared out among the processes of torchrun, or they were started with different settings.
    """

    @checked
    def __init__(self, net: GatedModel, data: Data, config: TrainConfig | None = None) -> None:
        self.config = config = config or TrainConfig()
        # the name may be that of a folder, its own on each machine
        distributed.agree(about(net, data, config), ignored=("data.name",))
        self.device = device = next(net.parameters()).device
        self._ranks = distributed.ranks()
        if config.batch_size % self._ranks.world:
            raise ValueError(
                f"batch_size must be a multiple of the number of processes, {self._ranks.world}, "
                f"got {config.batch_size}."
            )
        keep_freed_memory()  # steps on a CPU are then 3 to 10 % faster
        check_fit(net, data)
        self.net, self.data = net, data.to(device)
        layout.lay(net.model)
        self._trial = layout.try_step(net, data.train.shape)
        self.run = Run(net, config)
        self.epoch = 0.0
        self.steps_per_epoch = max(1, len(data.train) // config.batch_size)
        # fused: one kernel for all weights
        self._weights = torch.optim.SGD(
            net.model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
        self._gates = torch.optim.Adam(net.posterior.parameters(), fused=True)
        self._noise = torch.Generator(device)
        self.lam, self.until_stop, self.fine_tuning = config.lam, False, False
        if config.temperature is not None:
            self.temperature = config.temperature
        default_lr = net.posterior.default_lr(config.budget)
        self.gate_lr = config.gate_lr if config.gate_lr is not None else default_lr
        self._set_rates(0)
        self.saved = self._checkpoint()
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
        return self._gate_lr

    @gate_lr.setter
    def gate_lr(self, value: float) -> None:
        self._gate_lr = checks.number("gate_lr", value, 0)

    @property
    def until_stop(self) -> bool:
        """Whether it keeps training after the last epoch."""
        return self._until_stop

    @until_stop.setter
    def until_stop(self, value: bool) -> None:
        self._until_stop = checks.switch("until_stop", value)

    def __iter__(self) -> Iterator[None]:
        """The steps that are left: a loop that was broken off resumes where it was."""
        return self._steps

    def _train(self) -> Iterator[None]:
        config, rows, batch = self.config, self.run.rows, None
        while len(rows) < config.epochs or (self.until_stop and not self.fine_tuning):
            batch = batch if batch is not None else self._prepare()
            yield from self._one_epoch(len(rows) + 1, batch)
        if len(rows) < config.all_epochs:
            self.fine_tuning = True
            batch = self._prepare()
            while len(rows) < config.all_epochs:
                yield from self._one_epoch(len(rows) + 1, batch)
        self.run.status = "finished"

    def _prepare(self) -> nn.Module:
        """What computes a batch, compiled and shared out as configured."""
        batch: nn.Module = _Batch(self.net, self.config.cost)
        if self.config.compile:
            self.net.expected_share(self.config.cost)  # makes its tables: no part of a step
            batch = torch.compile(batch)
        return distributed.wrapped(batch, self.device, self.fine_tuning or self._trial.some_unused)

    def _one_epoch(self, epoch: int, batch: nn.Module) -> Iterator[None]:
        start, total_loss = time.perf_counter(), 0.0
        self.net.train()
        torch.manual_seed(self._seed(epoch, 1 + self._ranks.rank))  # of dropout
        self._noise.manual_seed(self._seed(epoch, 0))
        for step, (x, y) in enumerate(self._batches(epoch)):
            self.epoch = epoch - 1 + step / self.steps_per_epoch
            self._set_rates(step + (epoch - 1) * self.steps_per_epoch)
            noise = None if self.fine_tuning else self._draw_noise(len(x))
            total_loss = total_loss + self._step(batch, x, y, noise)  # on the device: no waiting for it here
            self._remember_gates(epoch, step + 1)
            yield
        self._finish_epoch(epoch, total_loss / self.steps_per_epoch, start)

    def _seed(self, epoch: int, stream: int) -> int:
        words = np.random.SeedSequence((self.config.seed, epoch, stream)).generate_state(2)
        return int(words[0]) << 31 ^ int(words[1])

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of every batch of an epoch."""
        order = torch.Generator().manual_seed(self._seed(epoch, 0))
        part = self._ranks.rank, self._ranks.world
        return self.data.train.batches(self.config.batch_size, order, self.config.augment, part)

    def _draw_noise(self, batch: int) -> Tensor:
        """Uniforms for this process's gates; all draw those of all, so that many compute what one does."""
        posterior, alone = self.net.posterior, self._ranks.world == 1
        if self.net.sampling == "example":
            rows = batch if alone else self._whole_batch
            return posterior.noise(rows, self._noise)[self._ranks.slice(rows)][:batch]
        return posterior.noise(self._ranks.world, self._noise)[self._ranks.rank]

    @property
    def _whole_batch(self) -> int:
        """Images in a step of all processes, if none of them is damaged."""
        return min(self.config.batch_size, len(self.data.train))

    def _weight(self, mine: int) -> float:
        """Of this process's part of a batch: the average over processes then is the mean over the images."""
        world = self._ranks.world
        may_miss_some = getattr(self.data.train, "skip_damaged", False)
        if world == 1 or (self._whole_batch % world == 0 and not may_miss_some):
            return 1.0
        return mine * world / float(distributed.total(torch.tensor(float(mine))))

    def _set_rates(self, step: int) -> None:
        """Learning rates of a step, counted from the start of the run."""
        config = self.config
        past = step >= config.all_epochs * self.steps_per_epoch  # of a run that lasted until it was stopped
        endless = past or (self.until_stop and not self.fine_tuning)
        held = config.warmup_epochs + config.ramp_epochs if endless else math.inf
        epoch, start = (min((step + part) / self.steps_per_epoch, held) for part in (0.5, 0))
        if config.schedule == "one_cycle":
            share = schedules.one_cycle(epoch / config.all_epochs)
        else:
            share = schedules.steps(start, config.milestones, config.decay)
        self._weights.param_groups[0]["lr"] = config.lr * share
        falls = config.gate_schedule == "hold_then_fall"
        share = schedules.hold_then_fall(epoch / config.epochs) if falls else 1.0
        self._gates.param_groups[0]["lr"] = self.gate_lr * share

    def _step(self, batch: nn.Module, x: Tensor, y: Tensor, noise: Tensor | None) -> Tensor:
        """One optimisation step; returns the batch's cross-entropy, weighed among the processes."""
        half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss, share = batch(layout.laid(x, self._trial.layout), y, noise)
        weight = self._weight(len(x))
        (weight * (loss + self._penalty(share) if noise is not None else loss)).backward()
        self._weights.step()
        if noise is not None:
            self._gates.step()
        for optimiser in (self._weights, self._gates):
            optimiser.zero_grad()
        return weight * loss.detach()

    def _penalty(self, share: Tensor) -> Tensor:
        """What the expected share of the dense cost is worth at this moment."""
        config = self.config
        if config.budget is not None:
            return objective.budget_penalty(share, self.epoch / config.epochs, config.budget)
        return self.lam * objective.strength(self.epoch, config.warmup_epochs, config.ramp_epochs) * share

    @torch.no_grad()
    def _remember_gates(self, epoch: int, step: int) -> None:
        """Note the gates at the end of an epoch; in short runs on a CPU also before (a GPU would be kept
        waiting), at even distances."""
        often = self.device.type == "cpu"
        times = min(4, max(1, often * MOMENTS // self.config.all_epochs), self.steps_per_epoch)
        if epoch > self.config.all_epochs:  # until it is stopped: hours of it must not fill the memory
            times = 1
        part = step * times / self.steps_per_epoch  # parts of the epoch that are done
        if int(part) == int((step - 1) * times / self.steps_per_epoch):
            return
        posterior = self.net.posterior
        flats = posterior.flat_log_alpha(), posterior.flat_prob_open(), posterior.flat_deterministic()
        gates = (flat.float().cpu().numpy() for flat in flats)
        self.run.moments.append(GateMoment(epoch - 1 + int(part) / times, *gates))

    def _finish_epoch(self, epoch: int, loss: Tensor, start: float) -> None:
        distributed.agree_on_buffers(self.net)
        train_loss = float(distributed.total(loss)) / self._ranks.world
        val_loss, val_accuracy = evaluate(self.net, self.data.val)
        for name, value in (("training", train_loss), ("validation", val_loss)):
            if not math.isfinite(value):
                self._diverge(f"the {name} loss became {value} in epoch {epoch}")
        row = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "val_accuracy": val_accuracy}
        row |= self._measure() | {"seconds": time.perf_counter() - start}
        # all at once, so that an interrupt leaves no half of an epoch behind
        self.epoch = float(epoch)
        self.run.rows.append(row)
        self._take_notice()
        self.saved = self._checkpoint()

    def _take_notice(self) -> None:
        self.run.notice = collapse_notice(self.run.rows, self.data.num_classes, self.config)

    def _diverge(self, what: str) -> None:
        self.stop("diverged")
        raise Diverged(
            f"{what} (lr {self.config.lr:g}, lam {self.lam:g}, gate_lr {self.gate_lr:g}): "
            f"try a smaller one. The network is back at epoch {len(self.run.rows)}.",
            self.run,
        )

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """Costs, gates and settings of this moment."""
        net, prob_open = self.net, self.run.moments[-1].prob_open
        expected, exact = net.expected_cost(), net.exact_cost()
        return {
            "expected_macs": float(expected.macs),
            "exact_macs": exact.macs,
            "expected_params": float(expected.params),
            "exact_params": exact.params,
            "kept_macs": (exact / net.dense_cost).macs,
            "undecided": float(is_undecided(prob_open).mean()),
            "lam": self.lam,
            "temperature": self.temperature,
            "lr": self._weights.param_groups[0]["lr"],
            "gate_lr": self._gates.param_groups[0]["lr"],
        }

    def stop(self, status: str = "interrupted") -> None:
        """Give up the epoch under way: everything goes back to the end of the last finished one."""
        self.run.status = status
        self.load(self.saved, self.run.rows, self.run.moments)

    def load(self, checkpoint: Checkpoint, rows: list[dict], moments: list[GateMoment]) -> None:
        """Go on from a checkpoint, with the history and gates up to then.

        Raises:
            ValueError: it is of another network or of other optimisers.
        """
        try:
            self.net.load_state_dict(checkpoint.part("net"))
        except RuntimeError as error:
            raise ValueError(f"the checkpoint is of another network than this one: {error}") from error
        for name, optimiser in self._optimisers():
            _load_optimiser(optimiser, checkpoint.part(name))
        for name, value in checkpoint.numbers.items():
            setattr(self, name, value)
        self.run.rows[:] = rows[: checkpoint.epoch]
        self.run.moments[:] = [m for m in moments if m.epoch <= checkpoint.epoch]
        self.epoch, self.saved = float(checkpoint.epoch), checkpoint
        self._take_notice()
        self._steps = self._train()

    def _checkpoint(self) -> Checkpoint:
        tensors = {f"net.{name}": t for name, t in self.net.state_dict().items()}
        for name, optimiser in self._optimisers():
            tensors |= {f"{name}.{key}": t for key, t in _optimiser_tensors(optimiser).items()}
        copies = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        numbers = {name: getattr(self, name) for name in ("lam", "temperature", "gate_lr", "fine_tuning")}
        return Checkpoint(len(self.run.rows), copies, numbers)

    def _optimisers(self) -> tuple[tuple[str, torch.optim.Optimizer], ...]:
        return ("weights", self._weights), ("gates", self._gates)


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """ "index.name" -> tensor, of all parameters in their order."""
    parameters = optimiser.param_groups[0]["params"]
    return {
        f"{i}.{name}": value
        for i, parameter in enumerate(parameters)
        for name, value in optimiser.state[parameter].items()
        if value is not None  # the momentum of a parameter without a gradient so far
    }


@torch.no_grad()
def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser the state of `_optimiser_tensors`, laid out in memory like its parameters."""
    parameters = optimiser.param_groups[0]["params"]
    optimiser.state.clear()
    for key, tensor in tensors.items():
        index, name = key.split(".")
        parameter = parameters[int(index)]
        kept = torch.empty_like(parameter if tensor.dim() else tensor, device=parameter.device)
        optimiser.state[parameter][name] = kept.copy_(tensor)
