"""What a sweep runs: every method with every price and seed, on every data set and network."""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .. import checks
from ..arguments import checked, fit_fields
from ..baselines import BASELINES
from ..config import TrainConfig
from ..fronts import DENSE
from ..posteriors import POSTERIORS
from ..recipes import TRAIN_FIELDS, check_types

SPECS = Path(__file__).with_name("specs")
METHODS = (*POSTERIORS, *BASELINES)
SHARED = TrainConfig(fine_tune_epochs=3)  # what a grid's runs share if it does not say


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        stage: "tune" for runs that choose a gate lr, "report" for those that results are about.
        lam, budget: one of them, the price of a posterior; `budget` is the share of the dense MACs that a
            baseline keeps. Both None: the dense network.
        train: settings of the training; of the fine-tuning that follows in the compact network too.
    """

    data: str
    model: str
    method: str
    seed: int
    lam: float | None = None
    budget: float | None = None
    gate_lr: float | None = None
    stage: str = "report"
    train_images: int | None = None
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def name(self) -> str:
        """Unique in its sweep, and a good name of a folder."""
        parts = [Path(self.data).name, self.model, self.method]
        parts += [f"{kind}{value:g}" for kind, value in self._prices()]
        return "-".join([*parts, f"seed{self.seed}"])

    def _prices(self) -> list[tuple[str, float]]:
        given = [("lam", self.lam), ("budget", self.budget)]
        if self.stage == "tune":
            given.append(("gate_lr", self.gate_lr))
        return [(kind, value) for kind, value in given if value is not None]

    def config(self) -> TrainConfig:
        """Settings of the training with gates, before the compact network is fine-tuned."""
        price = {"lam": self.lam} if self.lam is not None else {"budget": self.budget}
        return replace(self.train, **price, gate_lr=self.gate_lr, seed=self.seed, fine_tune_epochs=0)


@dataclass(frozen=True)
class Grid:
    """What to compare: all combinations are run.

    Args:
        methods: posteriors ("mean_field", "forward", "backward", "autoregressive") and baselines (of
            `baselines.BASELINES`, "dense" among them).
        lam: prices of posteriors.
        budget: shares of the dense MACs, in (0, 1), that baselines keep; posteriors train towards them where
            no `lam` is given.
        seeds: of initial weights, data order and noise.
        data, models: names that `load_data` and `make_model` know.
        gate_lr: of posteriors. Several are tried, each with every entry of `tune_budget` and `tune_seeds`,
            and the best on validation data is taken; none leaves each posterior its own.
        tune_budget, tune_seeds: of these trials; their seeds are not those of the results.
        train_images: of the training split, and of the validation split, the first so many; None takes all.
        train: settings that all runs share. `epochs` are trained with gates, or before a baseline prunes;
            `fine_tune_epochs` follow in the compact network.

    Raises:
        ValueError: nothing to run, unknown names, values outside their range, the same value twice.
    """

    methods: tuple[str, ...] = ("mean_field", "forward")
    lam: tuple[float, ...] = ()
    budget: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    data: tuple[str, ...] = ("digits",)
    models: tuple[str, ...] = ("small",)
    gate_lr: tuple[float, ...] = ()
    tune_budget: tuple[float, ...] = (0.3,)
    tune_seeds: tuple[int, ...] = (100,)
    train_images: int | None = None
    train: TrainConfig = SHARED

    def __post_init__(self) -> None:
        fit_fields(self)  # lists, as TOML and people write them, become tuples
        for f in fields(self):
            values = getattr(self, f.name)
            if isinstance(values, tuple) and len(set(values)) < len(values):
                raise ValueError(f"{f.name} holds a value twice: {checks.plain(values)!r}.")
        for name in ("methods", "seeds", "data", "models"):
            if not getattr(self, name):
                raise ValueError(f"the grid is empty: {name} has no entry.")
        self._check_values()
        self._check_prices()

    def _check_values(self) -> None:
        for method in self.methods:
            checks.one_of("method", method, METHODS)
        for name in ("budget", "tune_budget"):
            for value in getattr(self, name):
                checks.share(name, value)
        for name in ("lam", "gate_lr"):
            for value in getattr(self, name):
                checks.number(name, value, 0)
        for seed in (*self.seeds, *self.tune_seeds):
            checks.whole("every seed", seed, 0)
        if self.train_images is not None:
            checks.whole("train_images", self.train_images, 1)

    def _check_prices(self) -> None:
        if any(m in POSTERIORS for m in self.methods) and not (self.lam or self.budget):
            raise ValueError(
                "the grid is empty: give its posteriors prices, lam=(1, 4, 16) or budget=(0.5, 0.3)."
            )
        if any(m in BASELINES and m != DENSE for m in self.methods) and not self.budget:
            raise ValueError(
                "the grid is empty: baselines need budget=(0.5, 0.3), the shares of MACs that they keep."
            )
        if len(self.gate_lr) > 1:
            if not (self.tune_budget and self.tune_seeds):
                raise ValueError("several gate_lr need tune_budget and tune_seeds, to choose among them.")
            if both := set(self.seeds) & set(self.tune_seeds):
                raise ValueError(
                    f"seed {min(both)} is in seeds and in tune_seeds: choose on others than you report."
                )

    def tuning_jobs(self) -> list[Job]:
        """Runs that choose each posterior's gate lr; none where there is nothing to choose."""
        if len(self.gate_lr) < 2:
            return []
        cells = itertools.product(self.gate_lr, self.tune_budget, self.tune_seeds)
        return [
            replace(base, seed=seed, budget=budget, gate_lr=lr, stage="tune")
            for lr, budget, seed in cells
            for base in self._bases()
            if base.method in POSTERIORS
        ]

    def jobs(self, gate_lrs: Mapping[tuple[str, str, str], float] | None = None) -> list[Job]:
        """The runs that results are about; seed by seed, so that the table can be read before its end.

        Args:
            gate_lrs: what was chosen, by (data, model, method).
        """
        given = self.gate_lr[0] if len(self.gate_lr) == 1 else None
        jobs = []
        for seed, base in itertools.product(self.seeds, self._bases()):
            if base.method in POSTERIORS:
                lr = (gate_lrs or {}).get((base.data, base.model, base.method), given)
                prices = [{"lam": v} for v in self.lam] or [{"budget": v} for v in self.budget]
                jobs += [replace(base, seed=seed, gate_lr=lr, **price) for price in prices]
            elif base.method == DENSE:  # removes nothing: one run a seed, whatever the prices
                jobs.append(replace(base, seed=seed))
            else:
                jobs += [replace(base, seed=seed, budget=v) for v in self.budget]
        return jobs

    def _bases(self) -> Iterator[Job]:
        for data, model, method in itertools.product(self.data, self.models, self.methods):
            yield Job(data, model, method, 0, train_images=self.train_images, train=self.train)

    def describe(self) -> dict[str, Any]:
        """All fields as plain values, for JSON."""
        return asdict(self)


GRID_FIELDS = {f.name: f.type for f in fields(Grid) if f.name != "train"}


def spec_names() -> list[str]:
    """All sweeps of this package."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


@checked
def load_grid(name_or_file: str | Path) -> Grid:
    """A grid by the name of a sweep of this package, or from a .toml file.

    The file holds the fields of `Grid`, and a table [train] with fields of `TrainConfig`.

    Raises:
        ValueError: no such sweep, an unknown field, a wrong type, a value outside its range.
        FileNotFoundError: there is no such file.
    """
    path = Path(name_or_file).expanduser()
    if path.suffix != ".toml":
        path = SPECS / f"{checks.one_of('sweep', str(name_or_file), spec_names())}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {str(name_or_file)!r}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}.") from error
    try:
        train = table.pop("train", {})
        table.pop("description", None)
        check_types(table, GRID_FIELDS, "key")
        check_types(train, TRAIN_FIELDS, "key in [train]")
        return Grid(**table, train=replace(SHARED, **train))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
