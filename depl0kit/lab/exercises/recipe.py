"""The exercise of 08_train_at_scale: a recipe that extends another one."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ...training.recipes import Recipe, load_recipe
from .base import Wrong, exercise, solved

BASE = "resnet56-cifar10"
SHORT = {"epochs": 30, "milestones": (6, 12, 18, 24)}
PRICE = 1e-6  # per weight: twice the paper's for forward gates


@exercise
def check_recipe(text: str) -> str:
    """The text of a TOML file: BASE with forward gates, a tenth of its epochs, and twice its price."""
    solved("recipe", text)
    if not isinstance(text, str):
        raise Wrong(f"Expected the text of a TOML file, in quotes; got {type(text).__name__}.")
    if not text.strip():
        raise Wrong("The text is still empty.")
    answer, base = _read(text), load_recipe(BASE, posterior="forward")
    hints = {"epochs": "A tenth of 300.", "milestones": "They are epochs, a tenth of the recipe's, too."}
    for name, wanted in SHORT.items():
        if (found := getattr(answer.train, name)) != wanted:
            raise Wrong(f"{name} is {_plainly(found)}, not {_plainly(wanted)}. {hints[name]}")
    if answer.posterior != "forward":
        raise Wrong(f"posterior is {answer.posterior!r}, not 'forward'.")
    if answer.lam_per_weight != PRICE:
        raise Wrong(
            f"lam_per_weight is {answer.lam_per_weight!r}, not {PRICE!r}: the paper's for forward gates is "
            f"{base.lam_per_weight!r}."
        )
    _refuse_other_changes(answer, base)
    return "Right: save it as a .toml file, and `python -m depl0kit train FILE.toml` runs it."


def _plainly(value: float | tuple[float, ...]) -> str:
    """Numbers as people write them: 60, not 60.0."""
    return f"({', '.join(map(_plainly, value))})" if isinstance(value, tuple) else f"{value:g}"


def _read(text: str) -> Recipe:
    with TemporaryDirectory() as folder:
        file = Path(folder, "recipe.toml")
        try:
            file.write_text(text, encoding="utf-8")
            return load_recipe(file)
        except (ValueError, TypeError) as error:
            raise Wrong(" ".join(str(error).replace(str(file), "your recipe").split())) from error


def _refuse_other_changes(answer: Recipe, base: Recipe) -> None:
    """Everything else must be as in the recipe that it extends."""
    expected = replace(base, train=replace(base.train, **SHORT))
    pairs = [(name, answer.train, expected.train) for name in answer.train.difference(expected.train)]
    pairs += [(name, answer, expected) for name in ("model", "data", "init", "scope", "sampling")]
    for name, *both in pairs:
        found, wanted = (getattr(settings, name) for settings in both)
        if found != wanted:
            raise Wrong(f"{name} is {found!r}; in {BASE} it is {wanted!r}.")
