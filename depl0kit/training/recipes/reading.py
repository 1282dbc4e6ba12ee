"""Recipes read from TOML files: a file is found, checked, and laid over the one that it extends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...gates.posteriors import POSTERIORS
from ...support import checked, checks
from ...support.toml import check_types, read_toml
from ..config import TrainConfig
from .recipe import RECIPE_FIELDS, TRAIN_FIELDS, Recipe

HERE = Path(__file__).parent
PRICES = ("lam", "budget", "lam_per_weight")
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
    check_types(settings, RECIPE_FIELDS | TRAIN_FIELDS, "setting")
    top = {key: value for key, value in settings.items() if key not in TRAIN_FIELDS}
    train = {key: value for key, value in settings.items() if key in TRAIN_FIELDS}
    posterior = settings.get("posterior", table.get("posterior", "mean_field"))
    by_posterior = table.pop("posteriors", {})
    table = _merged(table, by_posterior.get(posterior, {}))
    table = _merged(table, top | {"train": train})
    for name in ("description", "model", "data"):
        if name not in table:
            where = f"recipe {str(name_or_file)!r}"
            raise ValueError(f"{where} has no {name}: write {name} = ..., or extends = ...")
    return Recipe(**table | {"train": TrainConfig(**table["train"])})


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
    if parent.endswith(".toml"):
        parent = path.parent / parent
    return _merged(_read(parent, (*before, path)), table)


def _find(name_or_file: str | Path) -> Path:
    if str(name_or_file).endswith(".toml"):
        path = Path(name_or_file).expanduser().resolve()
        if not path.is_file():
            raise FileNotFoundError(f"there is no recipe file {str(name_or_file)!r}.")
        return path
    try:
        return HERE / f"{checks.one_of('recipe', name_or_file, recipe_names())}.toml"
    except ValueError as error:
        raise ValueError(f"{error} The name of a file of your own must end in .toml.") from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, where a price above replaces all those below."""
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
    """Which price a table sets; it must not set two."""
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


def _check_table(table: dict[str, Any], path: Path) -> None:
    """Refuse wrong keys and types of one file."""
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
