"""Experiments as data: which network, data set, posterior, price and settings, by one name.

Every recipe is a TOML file in this folder; a file of your own works like a named one:

    extends = "resnet56-cifar10"       # everything that is not said here comes from there
    description = "ResNet-56, a higher price"
    lam_per_weight = 2e-6              # or [train] lam = ..., or [train] budget = ...
    [train]
    epochs = 100
    [posteriors.mean_field]            # what is different where this posterior is chosen
    lam_per_weight = 1e-6

A run has one price: one of `lam`, `budget` and `lam_per_weight`. To set one of them, in a file that
extends another or by a flag, takes back what was set before, also per posterior.
"""

import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import torch

from ...data.loading import Data, load_data
from ...gates.gated import GatedModel
from ...gates.posterior import INITS
from ...gates.posteriors import POSTERIORS
from ...networks.models import make_model
from ...support import checks
from ...support.arguments import checked
from ..config import TrainConfig

HERE = Path(__file__).parent
PRICES = ("lam", "budget", "lam_per_weight")
CHOICES = {
    "posterior": tuple(POSTERIORS),
    "init": INITS,
    "scope": ("inner", "all"),
    "sampling": ("example", "batch"),
}


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Args:
        description: One sentence.
        model: A name that `make_model` knows.
        data: A name that `load_data` knows, or a folder of images.
        size: Of a folder's images in pixels, see `load_data`; None leaves them as they are.
        skip_damaged: Leave out those images of a folder that cannot be read, with a warning.
        posterior: "mean_field" (L0-HC), "forward" or "backward" (Dep-L0), "autoregressive".
        init: Where gates start: "equal", all at the same P(open), or "paper".
        scope: "inner" gates the channels inside blocks, "all" also those of residual streams.
        sampling: Gates are drawn for each "example" or once a "batch".
        weights: File of a dense network to start from, see `make_model`; None starts at random.
        lam_per_weight: Instead of `lam`, the papers' lambda, >= 0: the price of one parameter.
        train: Settings of the training.

    Raises:
        ValueError: a setting outside its range, or a lam_per_weight where parameters are not priced.
    """

    description: str
    model: str
    data: str
    size: int | None = None
    skip_damaged: bool = False
    posterior: str = "mean_field"
    init: str = "equal"
    scope: str = "inner"
    sampling: str = "example"
    weights: str | None = None
    lam_per_weight: float | None = None
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            checks.one_of(name, getattr(self, name), allowed)
        if self.size is not None:
            checks.whole("size", self.size, 1)
        if self.lam_per_weight is not None:
            checks.number("lam_per_weight", self.lam_per_weight, 0)
            if self.train.cost != "params":
                raise ValueError(
                    f"lam_per_weight is the price of a parameter, got cost={self.train.cost!r}: set "
                    'cost="params", or set lam instead, the price of the whole network.'
                )

    def network(self, in_channels: int, classes: int, image_size: tuple[int, int]) -> GatedModel:
        """The network with its gates, on the CPU; the same at every call, as torch's seed is set here."""
        torch.manual_seed(self.train.seed)
        model = make_model(self.model, in_channels, classes, image_size, self.weights)
        example = torch.zeros(1, in_channels, *image_size)
        net = GatedModel(model, self.posterior, example, self.scope, self.sampling)
        if self.init != "equal":  # a posterior by name starts equal
            sizes, may_close = net.channels.sizes, net.channels.may_close
            net.posterior = POSTERIORS[self.posterior](sizes, init=self.init, may_close=may_close)
        return net

    def config(self, net: GatedModel) -> TrainConfig:
        """Settings with the price of `net` as `lam`.

        `TrainConfig.lam` multiplies the expected parameters as a share of *all* parameters of the dense
        network (`GatedModel.dense_cost`). So lam = lam_per_weight x dense parameters is the exact
        conversion: every parameter that goes saves lam_per_weight. Parameters that no gate reaches
        (the stem of a ResNet) add a constant, which moves nothing.
        """
        if self.lam_per_weight is None:
            return self.train
        return replace(self.train, lam=self.lam_per_weight * net.dense_cost.params)

    def build(self, device: torch.device | str = "cpu") -> tuple[GatedModel, Data, TrainConfig]:
        """What `train` takes: the network on `device`, the data, and the final settings.

        Raises:
            DataNotFoundError: the data set is not on this machine and cannot be downloaded.
            ValueError: the network does not suit the images, or weights are of another network.
            FileNotFoundError: there is no file of weights.
        """
        data = load_data(self.data, size=self.size, skip_damaged=self.skip_damaged)
        net = self.network(data.in_channels, data.num_classes, data.image_size)
        return net.to(device), data, self.config(net)


# ---- from TOML


TRAIN_FIELDS = {f.name: f.type for f in fields(TrainConfig)}
RECIPE_FIELDS = {f.name: f.type for f in fields(Recipe) if f.name != "train"}
LINKS = {"extends": str, "train": dict, "posteriors": dict}  # what a file may have besides


def recipe_names() -> list[str]:
    """All recipes of this package."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


@checked
def load_recipe(name_or_file: str | Path, **settings: Any) -> Recipe:
    """A recipe by its name or from a .toml file.

    Args:
        settings: fields of `Recipe` or `TrainConfig` that replace those of the recipe, such as
            posterior="forward" (with the recipe's price for it) or lam=8.

    Raises:
        ValueError: an unknown recipe or field, a wrong type, a value outside its range.
        FileNotFoundError: there is no such file.
    """
    table = _read(name_or_file)
    where = f"recipe {str(name_or_file)!r}"
    top = {key: value for key, value in settings.items() if key not in TRAIN_FIELDS}
    inner = {key: value for key, value in settings.items() if key in TRAIN_FIELDS}
    check_types(settings, RECIPE_FIELDS | TRAIN_FIELDS, "setting")
    posterior = settings.get("posterior", table.get("posterior", "mean_field"))
    by_posterior = table.pop("posteriors", {})
    table = _merged(table, by_posterior.get(posterior, {}))
    table = _merged(table, top | ({"train": inner} if inner else {}))
    missing = [name for name in ("description", "model", "data") if name not in table]
    if missing:
        raise ValueError(f"{where} has no {missing[0]}: write {missing[0]} = ..., or extends = ...")
    train = {key: tuple(v) if isinstance(v, list) else v for key, v in table.pop("train", {}).items()}
    return Recipe(**table, train=TrainConfig(**train))


def _read(name_or_file: str | Path, before: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The table of a file, laid over those that it extends."""
    path = _find(name_or_file)
    if path in before:
        raise ValueError(f"{path} extends itself: {' -> '.join(p.name for p in (*before, path))}.")
    table = read_toml(path)
    _check_table(table, path)
    parent = table.pop("extends", None)
    if parent is None:
        return _merged({}, table)
    beside = path.parent / parent
    return _merged(_read(beside if parent.endswith(".toml") else parent, (*before, path)), table)


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a file, with or without the byte order mark that editors of Windows begin it with.

    Raises:
        ValueError: it holds no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError(f"{path} is not TOML: it is nested too deeply.") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, a number of thousands of digits
        raise ValueError(f"{path} is not TOML: {error}.") from error


def _find(name_or_file: str | Path) -> Path:
    if str(name_or_file).endswith(".toml"):
        path = Path(name_or_file).expanduser().resolve()
        if not path.is_file():
            raise FileNotFoundError(f"there is no recipe file {str(name_or_file)!r}.")
        return path
    try:
        return HERE / f"{checks.one_of('recipe', name_or_file, recipe_names())}.toml"
    except ValueError as error:
        raise ValueError(f"{error} A file of your own ends in .toml.") from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, where a price above takes back all those below."""
    train, price = dict(above.get("train", {})), _price(above)
    if price:
        below = _without_price(below)
    if price == "lam_per_weight":
        train.setdefault("cost", "params")
    merged = {**below, **above, "train": {**below.get("train", {}), **train}}
    overrides = [table.get("posteriors", {}) for table in (below, above)]
    if any(overrides):
        names = {**overrides[0], **overrides[1]}
        merged["posteriors"] = {n: _merged(*(o.get(n, {}) for o in overrides)) for n in names}
    return merged


def _price(table: Mapping[str, Any]) -> str | None:
    """Which price a table sets.

    Raises:
        ValueError: it sets two.
    """
    found = [name for name in PRICES if name in table or name in table.get("train", {})]
    if len(found) > 1:
        raise ValueError(f"a run has one price, got {' and '.join(found)}: choose one of them.")
    return found[0] if found else None


def _without_price(table: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in table.items() if key not in PRICES}
    if "train" in kept:
        kept["train"] = {key: value for key, value in kept["train"].items() if key not in PRICES}
    if "posteriors" in kept:
        kept["posteriors"] = {name: _without_price(t) for name, t in kept["posteriors"].items()}
    return kept


# ---- checks of what a file says


def _check_table(table: dict[str, Any], path: Path) -> None:
    """Keys and types of one file.

    Raises:
        ValueError: it names the file, the key, and what is allowed.
    """
    try:
        check_types(table, RECIPE_FIELDS | LINKS, "key")
        check_types(table.get("train", {}), TRAIN_FIELDS, "key in [train]")
        for name, override in table.get("posteriors", {}).items():
            checks.one_of("posterior in [posteriors]", name, POSTERIORS)
            check_types({name: override}, {name: dict}, "key")
            allowed = RECIPE_FIELDS | {"train": dict}
            check_types(override, {k: t for k, t in allowed.items() if k != "posterior"}, f"key for {name}")
            check_types(override.get("train", {}), TRAIN_FIELDS, f"key for {name}")
            _price(override)
        _price(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_types(table: Mapping[str, Any], types_: Mapping[str, Any], kind: str) -> None:
    """Refuse keys that are not in `types_`, and values that are not of their key's type.

    Raises:
        ValueError: it names the key and what is allowed.
    """
    for key, value in table.items():
        expected = types_[checks.one_of(kind, key, types_)]
        if not _fits(value, expected):
            raise ValueError(f"{key} must be {_in_words(expected)}, got {value!r}.")


def _fits(value: object, expected: Any) -> bool:
    if isinstance(expected, types.UnionType):
        return any(_fits(value, option) for option in get_args(expected))
    if get_origin(expected) is tuple:
        return isinstance(value, list | tuple) and all(_fits(v, get_args(expected)[0]) for v in value)
    if expected in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if expected is float else expected)


def _in_words(expected: Any) -> str:
    if isinstance(expected, types.UnionType):
        return " or ".join(_in_words(option) for option in get_args(expected))
    if get_origin(expected) is tuple:
        return f"a list of {'names' if get_args(expected)[0] is str else 'numbers'}"
    words = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    return (words | {dict: "a table", types.NoneType: "None"})[expected]
