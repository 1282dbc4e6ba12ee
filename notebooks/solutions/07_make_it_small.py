"""Solution of the exercise in 07_make_it_small.ipynb."""

from depl0kit.lab.exercises import check_fold


def fold(weight, gate):
    """Inputs are dimension 1 of a convolution's weight."""
    is_open = gate > 0
    return weight[:, is_open] * gate[is_open][:, None, None]


check_fold(fold)
