"""The exercise of 01_one_gate: the probability of being open."""

import math
from collections.abc import Callable
from itertools import starmap

import torch

from ...gates.hard_concrete import HardConcrete
from .base import Wrong, call, exercise, near, refuse_mistakes, sigmoid

CASES = (  # log_alpha, temperature, gamma, zeta
    *((0.0, 2 / 3, -0.1, 1.1), (1.5, 2 / 3, -0.1, 1.1), (-2.0, 0.3, -0.2, 1.1)),
    *((-1.0, 1.5, -0.1, 1.4), (3.0, 1.0, -0.5, 1.5)),
)


# what readers write instead of eq. 12, as (formula, what is wrong with it); a: log_alpha, t: temperature
MISTAKES: list[tuple[Callable[[float, float, float, float], float], str]] = [
    (lambda a, t, g, z: sigmoid(a), "That is P(s > 1/2): the stretch is missing."),
    (
        lambda a, t, g, z: sigmoid(a / t),
        "That is the median of s: the stretch is missing, and a probability was asked for.",
    ),
    (
        lambda a, t, g, z: 1 - sigmoid(a - t * math.log(-g / z)),
        "That is P(z = 0), the gate closed. P(open) is the rest.",
    ),
    (
        lambda a, t, g, z: sigmoid(a + t * math.log(-g / z)),
        "β log(-γ/ζ) has the wrong sign: with a small -γ, few gates are closed.",
    ),
    (
        lambda a, t, g, z: sigmoid(a - math.log(-g / z)),
        "The temperature β is missing in front of the logarithm.",
    ),
    (
        lambda a, t, g, z: sigmoid((a - math.log(-g / z)) / t),
        "β belongs to the logarithm only, as a factor: solve s > -γ/(ζ-γ) for logit u once more.",
    ),
    (
        lambda a, t, g, z: sigmoid(a / t - math.log(-g / z)),
        "Almost: multiply (logit u + log α)/β > log(-γ/ζ) by β, so that logit u stands alone.",
    ),
    (
        lambda a, t, g, z: sigmoid(a - t * math.log(-g / (z - g))),
        "-γ/(ζ-γ) is the right threshold of s, but its logit is wanted: log of s/(1-s), not of s.",
    ),
]


@exercise
def check_prob_open(prob_open: Callable[..., float]) -> str:
    """P(z > 0) of a hard-concrete gate, a function of log_alpha (a tensor), temperature, gamma and zeta."""
    answers = [call(prob_open, torch.tensor(a), *rest) for a, *rest in CASES]
    refuse_mistakes(MISTAKES, lambda formula: all(map(near, answers, starmap(formula, CASES))))
    for case, answer in zip(CASES, answers, strict=True):
        a, t, gamma, zeta = case
        truth = float(HardConcrete(t, (gamma, zeta)).prob_open(torch.tensor(a)))
        if not near(answer, truth):
            raise Wrong(
                f"log α = {a:g}, β = {t:.2g}, γ = {gamma:g}, ζ = {zeta:g}: "
                f"yours is {answer:.3f}, but {truth:.3f} of its draws are open. "
                "Start from z > 0, that is s > -γ/(ζ-γ), and take the logit of both sides."
            )
    return "Right: it agrees with the package at five different gates."
