"""One run, a step at a time: the loop with gates in motion and a price, and then with the gates held.

Iterating a `Trainer` trains a step at a time, so that a notebook can watch, pause, and change the numbers
of `KNOBS` while it runs. `train` does all steps in one call.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..data.loading import Data
from ..gates.gated import GatedModel
from ..gates.posterior import is_undecided
from ..support import checked, checks
from ..support.device import values_of
from . import distributed, objective
from .collapse import collapse_notice
from .config import TrainConfig
from .knobs import KNOBS
from .loop import Loop, epoch_seed, not_finite, sgd, steps_per_epoch
from .prepare import prepared
from .rates import rates
from .runs.about import about
from .runs.checkpoints import Checkpoint, restore, take_checkpoint
from .runs.run import GateMoment, Run

MOMENTS = 80  # of the gates in a whole run, but 1 to 4 in an epoch


class Diverged(RuntimeError):
    """The loss became infinite or NaN. `run` holds the finished epochs, `run.net` the last good state."""

    def __init__(self, message: str, run: Run) -> None:
        super().__init__(message)
        self.run = run


def _setting(name: str, check: Callable[[str, Any], Any], doc: str) -> property:
    """An attribute of a `Trainer` that takes checked values only."""

    def put(trainer: "Trainer", value: Any) -> None:
        trainer._settings[name] = check(name, value)

    return property(lambda trainer: trainer._settings[name], put, doc=doc)


def starting_gate_lr(net: GatedModel, config: TrainConfig, steps_per_epoch: int) -> float:
    """That of the settings, or the posterior's default for a run of this length."""
    if config.gate_lr is not None:
        return config.gate_lr
    return net.posterior.default_lr(config.budget, config.epochs * steps_per_epoch)


class Trainer:
    """One training run, a step at a time: `for _ in trainer: ...`.

    It trains `net` in place, on the device where the network is. `lam`, `temperature` and `gate_lr`
    may be read and set at any time, also from another thread; the next step uses them. So may `until_stop`:
    while it is True the run does not end, and from the end of the ramp on, price and learning rates stay as
    they are there. After it is set to False, the run ends with the epoch under way, if that is past
    `config.epochs`; only the epochs of fine-tuning that were planned for later follow. They ignore it.

    All that is random in an epoch follows from the seed and the epoch's number, so that a run can resume
    from any epoch.

    Args:
        net, data, config: what to train, on what, and how (`TrainConfig()` if None).

    Attributes:
        run: history, gates and network so far.
        epoch: finished epochs, with the fraction of the one under way.
        fine_tuning: whether the gates are held, as in the last `config.fine_tune_epochs`.
        saved: the `Checkpoint` of the last finished epoch.
        optimisers: those of the "weights" and of the "gates".
        on_epoch: None, or what the first process calls with a copy of the row of every epoch as it ends. An
            error in it ends the run, which keeps its finished epochs.

    Raises:
        ValueError: the network and the data do not suit each other (see `check_fit`), the batch size cannot
            be divided among the processes of torchrun, or they were started with different settings.
    """

    lam = _setting("lam", KNOBS["lam"].check, "lambda at full strength, before the ramp scales it.")
    gate_lr = _setting("gate_lr", KNOBS["gate_lr"].check, "Learning rate of the gates before its schedule.")
    until_stop = _setting("until_stop", checks.switch, "Whether the run continues after its last epoch.")

    @checked
    def __init__(self, net: GatedModel, data: Data, config: TrainConfig | None = None) -> None:
        self.config = config = config or TrainConfig()
        # the name may be that of a folder, which each machine has elsewhere
        distributed.agree(about(net, data, config), ignored=("data.name",))
        self.net, self.device, self._ranks = net, next(net.parameters()).device, distributed.ranks()
        self.data, self._trial = prepared(net, data, config)
        self.run, self.epoch, self.fine_tuning = Run(net, config), 0.0, False
        self.steps_per_epoch = steps_per_epoch(data, config)
        gates = torch.optim.Adam(net.posterior.parameters(), fused=True)
        self.optimisers = {"weights": sgd(net.model.parameters(), config), "gates": gates}
        self._rng = torch.Generator(self.device)  # of the gates' noise
        self._settings: dict[str, Any] = {}
        self.lam, self.until_stop = config.lam, False
        if config.temperature is not None:
            self.temperature = config.temperature
        if config.test_rule is not None:
            net.posterior.test_rule = config.test_rule
        self.mu = 0.0
        self.gate_lr = starting_gate_lr(net, config, self.steps_per_epoch)
        self.on_epoch: Callable[[dict[str, float]], object] | None = None
        self.saved = self._checkpoint()
        self._steps = self._train()

    @property
    def temperature(self) -> float:
        """beta of the gates."""
        return self.net.posterior.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.net.posterior.temperature = KNOBS["temperature"].check("temperature", value)

    @property
    def mu(self) -> float:
        """Multiplier of the budget with `budget_rule="dual"`, else 0; reading it waits for the device."""
        return float(self._mu)

    @mu.setter
    def mu(self, value: float) -> None:
        self._mu = torch.tensor(value, device=self.device)

    def __iter__(self) -> Iterator[None]:
        """The steps that are left: a `for` that was left early resumes where it was."""
        return self._steps

    def _train(self) -> Iterator[None]:
        for held in (False, True):
            loop = None
            while self._has_more(held):
                self.fine_tuning = held
                loop = loop or self._make_loop()
                yield from self._one_epoch(loop)
        self.run.status = "finished"

    def _has_more(self, held: bool) -> bool:
        """Whether epochs are left, with the gates held or in motion."""
        done = len(self.run.rows)
        if held:
            return done < self.config.all_epochs
        return done < self.config.epochs or (self.until_stop and not self.fine_tuning)

    def _make_loop(self) -> Loop:
        price, draw = (None, None) if self.fine_tuning else (self._price, self._draw_noise)
        optimisers = list(self.optimisers.values())
        return Loop(self.net, self.data, self.config, self._trial, optimisers, self._rates, price, draw)

    def _one_epoch(self, loop: Loop) -> Iterator[None]:
        epoch = len(self.run.rows) + 1
        self._rng.manual_seed(epoch_seed(self.config.seed, epoch, 0))
        for step, self.epoch in enumerate(loop.epoch(epoch), 1):
            self._remember_gates(epoch, step)
            yield
        self._finish_epoch(loop.row)

    def _rates(self, start: float, middle: float) -> tuple[float, float]:
        until_stop = self.until_stop and not self.fine_tuning
        return rates(self.config, self.gate_lr, start, middle, until_stop)

    def _price(self, share: Tensor, epoch: float) -> Tensor:
        """What the expected share of the dense cost adds to the loss at this time of the run."""
        config = self.config
        if config.budget_rule == "dual":
            return self._dual_price(share)
        if config.budget is not None:
            return objective.budget_penalty(share, epoch / config.epochs, config.budget)
        return self.lam * objective.strength(epoch, config.warmup_epochs, config.ramp_epochs) * share

    def _dual_price(self, share: Tensor) -> Tensor:
        """What the multiplier adds to the loss; then it takes its own step, from the same share."""
        budget, steps = self.config.budget, self.config.epochs * self.steps_per_epoch
        price = objective.dual_penalty(share, self._mu, budget)
        self._mu = objective.next_mu(self._mu, share, budget, steps)
        return price

    def _draw_noise(self, mine: int, whole: int) -> Tensor:
        """Uniform noise for this process's gates, a part of what every process draws for all of them."""
        posterior, ranks = self.net.posterior, self._ranks
        if self.net.sampling == "example":
            return posterior.noise(whole, self._rng)[ranks.slice(whole)][:mine]
        return posterior.noise(ranks.world, self._rng)[ranks.rank]

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
        gates = (values_of(flat.float()).numpy() for flat in flats)
        self.run.moments.append(GateMoment(epoch - 1 + int(part) / times, *gates))

    def _finish_epoch(self, row: dict[str, float]) -> None:
        if what := not_finite(row):
            self._diverge(what)
        seconds = row.pop("seconds")
        row |= self._measure() | {"seconds": seconds}
        # all at once, so that an interrupt leaves no half of an epoch behind
        self.epoch = float(row["epoch"])
        self.run.rows.append(row)
        self._take_notice()
        self.saved = self._checkpoint()
        self._tell(row)

    def _tell(self, row: dict[str, float]) -> None:
        if self.on_epoch is not None and self._ranks.first:
            try:
                self.on_epoch(dict(row))
            except Exception:
                self.stop()
                raise

    def _take_notice(self) -> None:
        self.run.notice = collapse_notice(self.run.rows, self.data.num_classes, self.config)

    def _diverge(self, what: str) -> None:
        tries = [f"a smaller lr (now {self.config.lr:g})"]
        if not self.fine_tuning:  # else nothing else moves
            tries += [f"a smaller lam (now {self.lam:g})"] if self.config.budget is None and self.lam else []
            tries += [f"a smaller gate_lr (now {self.gate_lr:g})"]
        self.stop("diverged")
        back = f"The network is back at epoch {len(self.run.rows)}."
        raise Diverged(f"{what}: try {', then '.join(tries)}. {back}", self.run)

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """Costs, gates and settings of this moment."""
        net, prob_open = self.net, self.run.moments[-1].prob_open
        expected, exact = net.expected_cost(), net.exact_cost()
        of_weights, of_gates = (o.param_groups[0]["lr"] for o in self.optimisers.values())
        in_force = {"lr": of_weights, "gate_lr": of_gates}  # after their schedules
        return {
            "expected_macs": float(values_of(expected.macs)),
            "exact_macs": exact.macs,
            "expected_params": float(values_of(expected.params)),
            "exact_params": exact.params,
            "kept_macs": (exact / net.dense_cost).macs,
            "undecided": float(is_undecided(prob_open).mean()),
            **{name: getattr(self, name) for name in KNOBS if name not in in_force},
            **in_force,
            **self._multiplier(),
        }

    def stop(self, status: str = "interrupted") -> None:
        """Give up the epoch under way: everything goes back to the end of the last finished one."""
        self.run.status = status
        self.load(self.saved, self.run.rows, self.run.moments)

    def load(self, checkpoint: Checkpoint, rows: list[dict], moments: list[GateMoment]) -> None:
        """Resume from a checkpoint, with the history and gates up to then.

        Raises:
            ValueError: it belongs to another network.
        """
        restore(checkpoint, self.net, self.optimisers)
        for name, value in checkpoint.numbers.items():
            setattr(self, name, value)
        self.run.rows[:] = rows[: checkpoint.epoch]
        self.run.moments[:] = [m for m in moments if m.epoch <= checkpoint.epoch]
        self.epoch, self.saved = float(checkpoint.epoch), checkpoint
        self._take_notice()
        self._steps = self._train()

    def _multiplier(self) -> dict[str, float]:
        """mu by its name, if the run has one."""
        return {"mu": self.mu} if self.config.budget_rule == "dual" else {}

    def _checkpoint(self) -> Checkpoint:
        numbers = {name: getattr(self, name) for name in (*KNOBS, "fine_tuning")} | self._multiplier()
        return take_checkpoint(len(self.run.rows), self.net, self.optimisers, numbers)
