"""Checkers of the notebooks' exercises: they print one line that says what is wrong, and do not raise.

With strict=True, a wrong answer raises this line as an AssertionError, as nbgrader and otter expect.

Each lesson has a module here; what they share, and how to write a new one, is in `base`.
"""

from .channel_cost import check_channel_macs
from .coordinate import check_coordinate
from .dependency import check_generate
from .folding import check_fold
from .front import check_front
from .mean_field import check_penalty
from .one_gate import check_prob_open
from .recipe import check_recipe
from .shrinkage import check_shrinkage
from .welcome import check_macs

__all__ = [
    "check_channel_macs",
    "check_coordinate",
    "check_fold",
    "check_front",
    "check_generate",
    "check_macs",
    "check_penalty",
    "check_prob_open",
    "check_recipe",
    "check_shrinkage",
]
