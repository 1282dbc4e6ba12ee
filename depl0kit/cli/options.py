"""The options of `python -m depl0kit train`: the fields of `Recipe` and `TrainConfig`, as flat flags.

Which defaults they have depends on the recipe, so the words are read twice: first with everything optional,
which tells the recipe and what is set beside it, then with the defaults of that recipe.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field, make_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

import tyro
from tyro.conf import Positional

from ..training import config, recipes
from ..training.config import TrainConfig
from ..training.recipes import PRICES, Recipe, load_recipe

PROGRAM = "python -m depl0kit"
Folder = Annotated[Path, Positional, tyro.conf.arg(metavar="FOLDER")]
FIELDS = recipes.RECIPE_FIELDS | recipes.TRAIN_FIELDS
CHOICES = recipes.CHOICES | config.CHOICES
ABOUT = """Train a recipe: `{program} train small-digits --out runs/digits`

    The same command again resumes a run that was broken off; `{program} show FOLDER` looks on.
    Flags change what the recipe says. {defaults}

    Args:
        recipe: Its name (`{program} list` shows all), or a .toml file of your own.
        out: Folder of the run; runs/RECIPE if it is not given.
        device: "cpu", "cuda", "cuda:1" or "mps"; the best one there is if it is not given.
"""
UNKNOWN = "`{program} train RECIPE --help` shows the defaults of a recipe."
KNOWN = "The defaults below are those of this recipe."


def options_for(words: Sequence[str], speaks: bool = True) -> type:
    """A dataclass for tyro with the options of `train`, and the defaults of the recipe in `words`.

    Args:
        speaks: say what is wrong with the words.

    Raises:
        ValueError, FileNotFoundError: as `load_recipe`.
        SystemExit: `words` cannot be read.
    """
    words = [word for word in words if word not in ("-h", "--help")]
    if not words:  # only help is asked for
        return _options(None)
    given = tyro.cli(_options(None), prog=f"{PROGRAM} train", args=words, console_outputs=speaks)
    # the posterior and the price decide over other defaults
    firsts = {"posterior": given.experiment.posterior} | vars(given.price)
    firsts = {name: value for name, value in firsts.items() if value is not None}
    return _options(load_recipe(given.recipe, **firsts))


def recipe_of(options: Any) -> Recipe:
    """The recipe with all that `options`, of a class of `options_for`, says."""
    prices = {name: value for name, value in vars(options.price).items() if value is not None}
    return load_recipe(options.recipe, **vars(options.experiment), **prices, **vars(options.training))


def _options(recipe: Recipe | None) -> type:
    values = None if recipe is None else _flat(recipe)
    what = [name for name in recipes.RECIPE_FIELDS if name not in ("description", *PRICES)]
    how = [name for name in recipes.TRAIN_FIELDS if name not in PRICES]
    panels = {
        "experiment": _panel("What is trained.", what, values),
        "price": _panel("What the network costs: one of these.", PRICES, values),
        "training": _panel("How it is trained.", how, values),
    }
    about = ABOUT.format(program=PROGRAM, defaults=KNOWN if recipe else UNKNOWN.format(program=PROGRAM))
    return make_dataclass(
        "Options",
        [
            ("recipe", Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]),
            ("out", Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")], None),
            ("device", Annotated[str | None, tyro.conf.arg(metavar="DEVICE")], None),
            *(
                (n, tyro.conf.OmitArgPrefixes[kind], field(default_factory=kind))
                for n, kind in panels.items()
            ),
        ],
        namespace={"__doc__": about},
    )


def _panel(title: str, names: Sequence[str], values: Mapping[str, Any] | None) -> type:
    """A dataclass of some fields, with `values` as defaults, or with all of them unset."""
    parts = []
    for name in names:
        hint = Literal[tuple(CHOICES[name])] if name in CHOICES else FIELDS[name]
        default = None if values is None else values[name]
        if values is None:
            hint, default = _unset(hint)
        elif name in PRICES:
            hint = hint | None
        parts.append((name, hint, default))
    doc = f"{title}\n\nArgs:\n{_arguments(Recipe)}\n{_arguments(TrainConfig)}"
    return make_dataclass(title, parts, namespace={"__doc__": doc})


def _unset(hint: Any) -> tuple[Any, Any]:
    """Type and default of an option that its user need not set, whatever the recipe says."""
    if hint is bool:  # a flag
        default = False
    else:  # None is no word for the user where it is none of the field's values
        default, allowed = None, NoneType in get_args(hint)
        hint = hint if allowed else Annotated[hint | None, tyro.conf.DisallowNone]
    return Annotated[hint, tyro.conf.arg(help_behavior_hint="(as in the recipe)")], default


def _arguments(kind: type) -> str:
    """What the docstring of a class says about its fields."""
    return inspect.cleandoc(kind.__doc__).split("Args:\n")[1].split("\n\n")[0]


def _flat(recipe: Recipe) -> dict[str, Any]:
    """All settings by name; of the prices only the one in force."""
    values = vars(recipe) | vars(recipe.train)
    if recipe.lam_per_weight is not None or recipe.train.budget is not None:
        values["lam"] = None
    return values
