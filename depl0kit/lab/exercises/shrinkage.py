"""The exercise of 09_relatives: the lambda that HALO's penalty ends in."""

from collections.abc import Callable
from itertools import starmap
from typing import Any

import torch

from ...comparison.baselines.halo import closed_form
from .base import Wrong, call, exercise, near, refuse_mistakes

CASES = ((0.7, 0.02, 0.3), (2.0, 0.5, 0.1), (0.05, 1.5, 2.0))  # norm, xi, psi
# what readers write instead, as (formula, what is wrong with it); n: norm, x: xi, p: psi
MISTAKES: list[tuple[Callable[[float, float, float], float], str]] = [
    (
        lambda n, x, p: (x * n / p) ** (1 / 3),
        "A factor 2 is missing: the derivative of 1/λ² is -2/λ³. The sum is not least where its terms are "
        "equal.",
    ),
    (
        lambda n, x, p: 2 * (x * n / p) ** (1 / 3),
        "The factor 2 belongs under the root: λ³ = 2 ξ n / ψ.",
    ),
    (lambda n, x, p: 2 * x * n / p, "That is λ³: take the cube root."),
    (
        lambda n, x, p: (2 * x * n / p) ** (1 / 2),
        "The derivative of 1/λ² has λ³ below, so the root is a cube root.",
    ),
    (
        lambda n, x, p: (x * n / p) ** (1 / 2),
        "That is where ξ n / λ + ψ λ is least. HALO divides by λ².",
    ),
    (
        lambda n, x, p: (p / (2 * x * n)) ** (1 / 3),
        "That is 1/λ. A large norm should be divided by a large λ.",
    ),
    (
        lambda n, x, p: -((2 * x * n / p) ** (1 / 3)),
        "The sign is wrong: λ is positive, as the derivative is -2 ξ n / λ³ + ψ.",
    ),
    (lambda n, x, p: (2 * x * n * p) ** (1 / 3), "ψ makes λ smaller, not larger: divide by it."),
    (lambda n, x, p: (2 * x / p) ** (1 / 3), "The norm n is missing: each channel has a λ of its own."),
    (
        lambda n, x, p: 1.5 * (2 * x * p**2 * n) ** (1 / 3),
        "That is what is left of the penalty at the best λ. The λ itself is asked for.",
    ),
]


@exercise
def check_shrinkage(shrinkage: Callable[..., Any]) -> str:
    """The lambda > 0 at which xi n / lambda^2 + psi lambda is least: a function of n, xi and psi."""
    answers = [call(shrinkage, *case) for case in CASES]
    refuse_mistakes(MISTAKES, lambda formula: all(map(near, answers, starmap(formula, CASES))))
    for case, answer, truth in zip(CASES, answers, starmap(_truth, CASES), strict=True):
        if not near(answer, truth):
            raise Wrong(_compared(case, answer, truth))
    return "Right: in three cases no λ makes the penalty smaller. What is left of it grows like n^(1/3)."


def _truth(norm: float, xi: float, psi: float) -> float:
    return float(closed_form(torch.tensor(norm, dtype=torch.float64), xi, psi))


def _compared(case: tuple[float, float, float], answer: float, truth: float) -> str:
    """How large the penalty is at a wrong answer, and how small it could be."""
    n, xi, psi = case
    shown = f"n = {n:g}, ξ = {xi:g}, ψ = {psi:g}"
    if answer <= 0:
        return f"{shown}: yours is {answer:.3g}, but λ must be greater than 0."
    yours, least = (xi * n / x**2 + psi * x for x in (answer, truth))
    return (
        f"{shown}: at your λ = {answer:.3g} the penalty is {yours:.3g}, and it can be {least:.3g}. "
        "Where is its derivative in λ 0?"
    )
