"""What can be trained, swept and compared, as tables."""

from ..comparison.baselines import kind_of
from ..comparison.methods import ABOUT
from ..comparison.sweeps import spec_description, spec_names
from ..support.tables import aligned
from ..training.recipes import load_recipe, recipe_names


def show_lists() -> None:
    """Show all recipes, sweeps and methods."""
    recipes = [(name, load_recipe(name)) for name in recipe_names()]
    rows = [(name, r.model, r.data, str(r.train.all_epochs), r.description) for name, r in recipes]
    sweeps = [(name, spec_description(name)) for name in spec_names()]
    methods = [(name, kind_of(name), *about) for name, about in ABOUT.items()]
    print(
        aligned(("recipe", "model", "data", "epochs", "description"), *rows),
        aligned(("sweep", "description"), *sweeps),
        aligned(("method", "kind", "what it does", "source"), *methods),
        sep="\n\n",
    )
