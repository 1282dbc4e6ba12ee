"""The options of `python -m depl0kit train`: the fields of `Recipe` and `TrainConfig`, as flat flags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypedDict, get_args

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from ..training import config, recipes
from ..training.config import TrainConfig
from ..training.recipes import Recipe, load_recipe

PROGRAM = "python -m depl0kit"
Folder = Annotated[Path, Positional, tyro.conf.arg(metavar="FOLDER")]
Device = Annotated[str | None, tyro.conf.arg(metavar="DEVICE")]
CHOICES = recipes.CHOICES | config.CHOICES
HELP = ("-h", "--help")


def _option(name: str, hint: Any) -> Any:
    """The type of an option: its choices, if it has any, and None, if it may be None."""
    if name not in CHOICES:
        return hint
    choices = Literal[*CHOICES[name]]
    return choices | None if type(None) in get_args(hint) else choices


def _settings(kind: type, types: Mapping[str, Any]) -> type:
    """A TypedDict of the fields and the docstring of `kind`; it holds only the options that are given."""
    options = {name: _option(name, hint) for name, hint in types.items() if name != "description"}
    settings = TypedDict(kind.__name__, options, total=False)
    settings.__doc__ = kind.__doc__
    return settings


Experiment = _settings(Recipe, recipes.RECIPE_FIELDS)
Training = _settings(TrainConfig, recipes.TRAIN_FIELDS)


@dataclass
class Options:
    """Train a recipe: `python -m depl0kit train small-digits --out runs/digits`

    The same command again resumes a run that was interrupted; `python -m depl0kit show FOLDER` watches it.
    Flags change settings of the recipe; `python -m depl0kit train RECIPE --help` shows its values.

    Args:
        recipe: Its name (`python -m depl0kit list` shows all), or a .toml file of your own.
        out: Folder of the run; runs/RECIPE if it is not given.
        device: "cpu", "cuda", "cuda:1" or "mps"; the best one of this machine if it is not given.
    """

    recipe: Annotated[str, Positional, tyro.conf.arg(metavar="RECIPE")]
    experiment: OmitArgPrefixes[Experiment]
    training: OmitArgPrefixes[Training]
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    device: Device = None

    def chosen(self) -> Recipe:
        """The recipe with all settings that were given."""
        return load_recipe(self.recipe, **self.experiment, **self.training)


def show_help(words: Sequence[str], speaks: bool = True) -> NoReturn:
    """Print the options of `train`, with the values of the recipe in `words` as defaults."""
    parse = partial(tyro.cli, Options, prog=f"{PROGRAM} train", console_outputs=speaks)
    given = parse(args=words)
    recipe = given.chosen()
    experiment, training = vars(recipe), vars(recipe.train)
    if training["budget"] is not None or experiment["lam_per_weight"] is not None:
        training = {name: value for name, value in training.items() if name != "lam"}  # not in force
    experiment = {name: experiment[name] for name in Experiment.__annotations__}
    parse(args=HELP[:1], default=replace(given, experiment=experiment, training=training))
