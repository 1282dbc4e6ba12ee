"""What a sweep runs: every method with every price and seed, on every data set and network."""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ...data.loading import DATA_SETS, is_folder
from ...gates.posteriors import POSTERIORS
from ...support import checked, checks
from ...support.arguments import is_list
from ...support.toml import check_types, read_toml
from ...training.config import LATER, TrainConfig
from ...training.recipes import TRAIN_FIELDS
from ..baselines import BASELINES
from ..table import DENSE

SPECS = Path(__file__).with_name("specs")
METHODS = (*POSTERIORS, *BASELINES)
CLEAR = re.compile(r"[a-z0-9_][a-z0-9_.]{0,39}")  # may stand unchanged in a run's name
SHARED = TrainConfig(fine_tune_epochs=3)  # settings of a grid's runs by default


@dataclass(frozen=True)
class Job:
    """One run of a sweep; of the dense network, if it has neither `lam` nor `budget`."""

    data: str
    model: str
    method: str
    seed: int
    lam: float | None = None  # price of a posterior
    budget: float | None = None  # instead of `lam`; or the share of the dense MACs that a baseline keeps
    gate_lr: float | None = None
    stage: str = "report"  # "tune" for runs that choose a gate lr
    train_images: int | None = None
    skip_damaged: bool = False
    # of the training, and of the fine-tuning that follows in the compact network
    train: TrainConfig = field(default_factory=TrainConfig)
    folder: str | None = field(default=None, compare=False)  # where the images are that are called `data`

    @property
    def name(self) -> str:
        """Unique in its sweep, and a good name of a folder, whatever the data and the model are called."""
        prices = {"lam": self.lam, "budget": self.budget, "gate_lr": self.gate_lr}
        parts = [_clear(name) for name in (self.data, self.model, self.method)]
        parts += [f"{kind}{_exact(value)}" for kind, value in prices.items() if value is not None]
        return "-".join([*parts, f"seed{self.seed}"])

    def settings(self) -> dict[str, Any]:
        """All fields but the folder, as JSON gives them back: what tells one run from another."""
        return _described(self, {"folder"})

    def config(self) -> TrainConfig:
        """Settings of the training with gates, before the compact network is fine-tuned."""
        price = {"lam": self.lam} if self.lam is not None else {"budget": self.budget}
        if price.get("budget") is None:
            price["budget_rule"] = "hinge"  # the whole network, and prices by lambda, have none
        return replace(self.train, **price, gate_lr=self.gate_lr, seed=self.seed, fine_tune_epochs=0)


def _clear(name: str) -> str:
    """A name as a part of a run's name: unchanged, or clear letters of its end and a hash."""
    if CLEAR.fullmatch(name):
        return name
    end = re.sub(r"[^a-z0-9_]+", "_", Path(name).name.lower())[:32]
    return f"{end}~{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _exact(value: float) -> str:
    """The shortest text for a number that is read back as this number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


@dataclass(frozen=True)
class Grid:
    """What to compare: all combinations are run. A field for several values also takes one.

    Args:
        methods: posteriors ("mean_field", "forward", "backward", "autoregressive", "arm") and baselines (of
            `baselines.BASELINES`, "dense" among them).
        lam: prices of posteriors.
        budget: shares of the dense MACs, in (0, 1), that baselines keep; posteriors train towards them where
            no `lam` is given.
        seeds: of initial weights, data order and noise.
        data, models: names that `load_data` (folders of images, too) and `make_model` know.
        gate_lr: of posteriors. Several are tried, each with every entry of `tune_budget` and `tune_seeds`,
            and the best on validation data is taken; none leaves each posterior its own.
        tune_budget, tune_seeds: of these trials; their seeds are not those of the results.
        train_images: of the training split, and of the validation split, the first so many; None takes all.
        folders: paths of folders of images, by names in `data`; tables and figures show only the names.
        skip_damaged: leave out those images of folders that cannot be read, with a warning.
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
    folders: Mapping[str, str] = field(default_factory=dict)
    skip_damaged: bool = False
    train: TrainConfig = SHARED

    def __post_init__(self) -> None:
        object.__setattr__(self, "folders", _folders(self.folders))
        for name, check in LISTS.items():
            given = _several(name, getattr(self, name))
            values = tuple(v if name == "data" and v in self.folders else check(name, v) for v in given)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} holds a value twice: {values!r}.")
            object.__setattr__(self, name, values)
        for name in ("methods", "seeds", "data", "models"):
            if not getattr(self, name):
                raise ValueError(f"the grid is empty: {name} has no entry.")
        if unused := self.folders.keys() - set(self.data):
            raise ValueError(f"folders has the name {min(unused)!r}, which data lacks: {self.data!r}.")
        if self.train_images is not None:
            object.__setattr__(self, "train_images", checks.whole("train_images", self.train_images, 1))
        for name, kind in (("skip_damaged", bool), ("train", TrainConfig)):
            if not isinstance(value := getattr(self, name), kind):
                raise ValueError(f"{name} must be a {kind.__name__}, got {checks.shown(value)}.")
        self._check_prices()

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
            for data, model in itertools.product(self.data, self.models)
            for base in self._bases(data, model)
            if base.method in POSTERIORS
        ]

    def jobs(self, gate_lrs: Mapping[tuple[str, str, str], float] | None = None) -> list[Job]:
        """The runs that results are about; seed by seed, and in each network by network and price by price,
        so that the table can be read before its end. Those of dense networks come first, as methods that
        prune them need their training.

        Args:
            gate_lrs: what was chosen, by (data, model, method).
        """
        given = self.gate_lr[0] if len(self.gate_lr) == 1 else None
        jobs = []
        for seed, data, model in itertools.product(self.seeds, self.data, self.models):
            bases = [replace(base, seed=seed) for base in self._bases(data, model)]
            jobs += [base for base in bases if base.method == DENSE]  # removes nothing: it has no price
            for kind, value in [*(("lam", v) for v in self.lam), *(("budget", v) for v in self.budget)]:
                for base in (b for b in bases if self._kind_of_price(b.method) == kind):
                    lr = (gate_lrs or {}).get((data, model, base.method), given)
                    lr = lr if base.method in POSTERIORS else None
                    jobs.append(replace(base, gate_lr=lr, **{kind: value}))
        return jobs

    def _kind_of_price(self, method: str) -> str | None:
        """Which prices a method is run with."""
        if method == DENSE:
            return None
        return "lam" if method in POSTERIORS and self.lam else "budget"

    def _bases(self, data: str, model: str) -> list[Job]:
        """Of every method on one network, without seed and price."""
        shared = {name: getattr(self, name) for name in ("train_images", "skip_damaged", "train")}
        shared["folder"] = self.folders.get(data)
        return [Job(data, model, method, 0, **shared) for method in self.methods]

    def describe(self) -> dict[str, Any]:
        """All fields but the paths of `folders`, as JSON gives them back; as in older sweeps without
        `skip_damaged`, if it is not set."""
        return _described(self, {"folders"} if self.skip_damaged else {"folders", "skip_damaged"})


def _described(grid_or_job: Grid | Job, left_out: Set[str]) -> dict[str, Any]:
    """All other fields as JSON gives them back.

    Settings of the training that earlier versions did not have are left out where they change nothing: the
    sweeps and rows of those versions are then known again.
    """
    described = json.loads(json.dumps(asdict(grid_or_job)))
    train = described["train"].items()
    described["train"] = {name: v for name, v in train if name not in LATER or v != LATER[name]}
    return {name: value for name, value in described.items() if name not in left_out}


def _folders(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise ValueError(
            'folders must be a dict from names to paths, such as {"pets": "/data/pets"}, got '
            f"{checks.shown(value)}."
        )
    if own := value.keys() & set(DATA_SETS):
        raise ValueError(f"folders has the name {min(own)!r}, which is a data set: choose another name.")
    paths = {name: checks.path(f"the folder of {name!r}", path) for name, path in value.items()}
    return {name: str(path.absolute()) for name, path in paths.items()}


def _several(name: str, values: Any) -> tuple:
    """What was given for a field that holds several values: a list, a range, an array, or one value alone."""
    if isinstance(values, Mapping | Set | bytes):
        raise ValueError(f"{name} must be a list, got a {type(values).__name__}: write {name}=[...].")
    if not is_list(values):
        values = () if values is None else (values,)
    return tuple(map(checks.plain, values))


def _price(name: str, value: Any) -> float:
    x = checks.number(name, value, 0)
    return value if type(value) is int else x  # 4 stays 4 in JSON and in names


def _seed(name: str, value: Any) -> int:
    return checks.whole(f"every entry of {name}", value, 0)


def _data(name: str, value: Any) -> str:
    """A folder by its whole path: the same grid then means the same images wherever it is run from."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name} must be names of data sets or paths of folders, got {checks.shown(value)}.")
    path = Path(value).expanduser()
    return str(path.absolute()) if is_folder(value if isinstance(value, str) else path) else value


def _model(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be names of networks, got {checks.shown(value)}.")
    return value


LISTS: dict[str, Callable[[str, Any], Any]] = {  # the fields that hold several values, and the check of each
    "methods": lambda _, value: checks.one_of("method", value, METHODS),
    "data": _data,
    "models": _model,
    **dict.fromkeys(("lam", "gate_lr"), _price),
    **dict.fromkeys(("budget", "tune_budget"), checks.share),
    **dict.fromkeys(("seeds", "tune_seeds"), _seed),
}
GRID_FIELDS = {f.name: f.type for f in fields(Grid) if f.name != "train"} | {"folders": dict}


def spec_names() -> list[str]:
    """All sweeps of this package."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


@checked
def spec_description(name: str) -> str:
    """What a sweep of this package is about, in a sentence; a ValueError if there is none of this name."""
    return read_toml(SPECS / f"{checks.one_of('sweep', name, spec_names())}.toml")["description"]


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
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(name_or_file)!r}.")
    table = read_toml(path)
    try:
        check_types(table, GRID_FIELDS | {"train": dict, "description": str}, "key")
        train = table.pop("train", {})
        table.pop("description", None)
        check_types(train, TRAIN_FIELDS, "key in [train]")
        train = {key: tuple(v) if isinstance(v, list) else v for key, v in train.items()}
        return Grid(**table, train=replace(SHARED, **train))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
