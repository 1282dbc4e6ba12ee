"""The settings of one training run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from ..channels.cost import COSTS
from ..gates.posterior import RULES
from ..support import checks
from ..support.arguments import is_list
from .knobs import KNOBS

WARMUP, RAMP = 2 / 15, 3 / 15  # shares of `epochs`, where no number is given


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. The defaults suit short runs of small networks on a CPU.

    Args:
        lam: Price of the whole dense cost, >= 0. Useful from 0.5 to 100; 0 is off.
        budget: Instead of `lam`, in (0, 1): train towards this share of the dense cost.
        budget_rule: How the price follows from the budget. "hinge": a penalty on what is above a target that
            comes down slowly. "dual": a multiplier that rises while the cost is above the budget, and is set
            back to 0 when it is met (see `objective`); only with a budget.
        cost: What is priced: "macs", "params" or "gates".
        temperature: Beta of the gates, > 0; None keeps that of the posterior (2/3 by default).
        test_rule: Which gates are open at test time: "paper", "median" or "expected", see
            `GatePosterior.test_rule`; None keeps that of the posterior ("paper" by default).
        epochs: Times through the training data, a whole number >= 1.
        fine_tune_epochs: Further epochs with the gates held at their test-time values and no price.
        batch_size: Images per step, over all processes, a whole number >= 1.
        lr: Highest learning rate of the weights' SGD, >= 0.
        momentum: Of the weights' SGD, in [0, 1].
        weight_decay: Of the weights' SGD, >= 0; gates have none.
        schedule: Of lr. "one_cycle": up for 30 % of all epochs, then down to 0. "steps": times `decay` at
            each of `milestones`. "constant".
        milestones: Epochs at which "steps" lowers lr.
        decay: Factor of "steps", in [0, 1].
        gate_lr: Of the gates' Adam; None takes the posterior's default (mean-field 0.1, in budget mode
            0.3, more in runs of less than 200 steps; dependency less, see `Dependency.default_lr`).
        gate_schedule: Of gate_lr. "hold_then_fall": full for 70 % of `epochs`, then down to 0, so that the
            gates come to rest. "constant": as in the Dep-L0 reference.
        warmup: Epochs without lambda, >= 0; None is 2/15 of `epochs`.
        ramp: Epochs over which lambda then rises to full strength, >= 0; None is 3/15 of `epochs`. As shares
            they move with the learning rate of "one_cycle": the full price must not meet a rate near zero.
            A run that is shorter than both never pays the full price.
        augment: Train on random crops and flips of the images.
        precision: "float32", or "bfloat16": autocast, faster on GPUs of 2020 and later.
        compile: Compile the step by torch.compile: this takes minutes, and then steps are faster.
        seed: Of the data order, the gates' noise and the augmentation, a whole number >= 0. Torch's global
            random state, from which dropout draws, is seeded by it too.

    Raises:
        ValueError: an argument outside its range.
    """

    lam: float = 4.0
    budget: float | None = None
    budget_rule: str = "hinge"
    cost: str = "macs"
    temperature: float | None = None
    test_rule: str | None = None
    epochs: int = 15
    fine_tune_epochs: int = 0
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one_cycle"
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    gate_lr: float | None = None
    gate_schedule: str = "hold_then_fall"
    warmup: float | None = None
    ramp: float | None = None
    augment: bool = False
    precision: str = "float32"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                object.__setattr__(self, field.name, CHECKS[field.name](field.name, value))
        if self.milestones and self.schedule != "steps":
            raise ValueError(f'milestones belong to schedule="steps", got schedule={self.schedule!r}.')
        if self.budget_rule == "dual" and self.budget is None:
            raise ValueError('budget_rule="dual" needs a budget, such as budget=0.3.')

    @property
    def all_epochs(self) -> int:
        """All epochs, those of fine-tuning included."""
        return self.epochs + self.fine_tune_epochs

    @property
    def warmup_epochs(self) -> float:
        """Epochs without lambda."""
        return WARMUP * self.epochs if self.warmup is None else self.warmup

    @property
    def ramp_epochs(self) -> float:
        """Epochs over which lambda rises after the warm-up."""
        return RAMP * self.epochs if self.ramp is None else self.ramp

    @property
    def sgd(self) -> dict[str, Any]:
        """Arguments with which `fine_tune` trains in the same way, apart from epochs and learning rate."""
        names = ("batch_size", "momentum", "weight_decay", "seed", "augment", "precision")
        return {name: getattr(self, name) for name in names}

    def difference(self, other: "TrainConfig") -> dict[str, tuple]:
        """Fields in which the two differ, with both values."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _milestones(name: str, value: Sequence[float]) -> tuple[float, ...]:
    if not is_list(value):
        raise ValueError(f"{name} must be a list of epochs, such as (30, 60), got {checks.shown(value)}.")
    return tuple(_not_negative(f"every entry of {name}", epoch) for epoch in value)


# fields that files of earlier versions do not have, and what those versions did
LATER = {"test_rule": None, "budget_rule": "hinge"}
_not_negative = partial(checks.number, low=0)
CHOICES = {
    "cost": COSTS,
    "budget_rule": ("hinge", "dual"),
    "test_rule": RULES,
    "schedule": ("one_cycle", "steps", "constant"),
    "gate_schedule": ("hold_then_fall", "constant"),
    "precision": ("float32", "bfloat16"),
}
CHECKS: dict[str, Callable[[str, Any], Any]] = {  # of fields that are not None; each returns a plain value
    **{name: knob.check for name, knob in KNOBS.items()},
    **{name: partial(checks.one_of, allowed=allowed) for name, allowed in CHOICES.items()},
    "budget": checks.share,
    "milestones": _milestones,
    **dict.fromkeys(("lr", "weight_decay", "warmup", "ramp"), _not_negative),
    **dict.fromkeys(("momentum", "decay"), partial(checks.number, low=0, high=1)),
    **dict.fromkeys(("epochs", "batch_size"), partial(checks.whole, low=1)),
    **dict.fromkeys(("fine_tune_epochs", "seed"), partial(checks.whole, low=0)),
    **dict.fromkeys(("augment", "compile"), checks.switch),
}
