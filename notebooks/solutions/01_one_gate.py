"""Solution of the exercise in 01_one_gate.ipynb."""

import math

import torch

from depl0kit.lab.exercises import check_prob_open


def prob_open(log_alpha, temperature, gamma, zeta):
    """P(z > 0): logit u must exceed temperature x logit(-gamma / (zeta - gamma)) - log_alpha.

    That logit is log(-gamma / zeta), and P(logit u > x) = sigmoid(-x).
    """
    return torch.sigmoid(log_alpha - temperature * math.log(-gamma / zeta))


check_prob_open(prob_open)
