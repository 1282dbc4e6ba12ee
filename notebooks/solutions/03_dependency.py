"""Solution of the exercise in 03_dependency.ipynb."""

import math

import numpy as np

from depl0kit.lab.exercises import check_generate


def generate(weights, biases):
    """Every group is computed from the log_alphas of the group before, the first from ones."""
    h = np.ones(weights[0].shape[1])
    log_alphas = []
    for w, b in zip(weights, biases, strict=True):
        h = math.log(100) * np.tanh(w @ h + b)
        log_alphas.append(h)
    return log_alphas


check_generate(generate)
