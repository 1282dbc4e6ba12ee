"""Experiments as data: which network, data set, posterior, price and settings, by one name.

Every recipe is a TOML file in this folder; a file of your own works like a named one:

    extends = "resnet56-cifar10"       # what is not set here comes from there
    description = "ResNet-56, a higher price"
    lam_per_weight = 2e-6              # or [train] lam = ..., or [train] budget = ...
    [train]
    epochs = 100
    [posteriors.mean_field]            # what differs if this posterior is chosen
    lam_per_weight = 1e-6

A run has one price: one of `lam`, `budget` and `lam_per_weight`. A price that is set later, in a file that
extends another or by a flag, replaces every price that was set before, also those per posterior.
"""

from .reading import PRICES, load_recipe, recipe_names
from .recipe import CHOICES, RECIPE_FIELDS, TRAIN_FIELDS, Recipe

__all__ = [
    "CHOICES",
    "PRICES",
    "RECIPE_FIELDS",
    "TRAIN_FIELDS",
    "Recipe",
    "load_recipe",
    "recipe_names",
]
