"""The exercise of 04_when_independence_fails: one step of coordinate ascent for gates in series."""

import math
from collections.abc import Callable, Sequence
from itertools import starmap

import torch

from ...gates.exact.problems import gates_in_series
from .base import Wrong, exercise, near, number, refuse_mistakes, run, sigmoid

CASES: list[tuple[tuple[float, ...], float, float]] = [  # P(open) of the other gates, gain, price
    ((0.5, 0.25, 0.75), 6.5, 1.5),
    ((0.9, 0.8, 0.95), 6.5, 1.5),
    ((0.3,), 2.0, 0.5),
    ((1.0, 0.6), 4.0, 3.0),
]
OTHERS_PAY = "Only this gate's own price matters: the others pay theirs whether it is open or not."
# what readers write instead, as (formula, what is wrong with it); o: the other gates, g: gain, p: price
MISTAKES: list[tuple[Callable[[Sequence[float], float, float], float], str]] = [
    (lambda o, g, p: g * math.prod(o) - p, "That is the log odds: a sigmoid turns it into a probability."),
    (
        lambda o, g, p: sigmoid(g * math.prod(o) + p),
        "The price has the wrong sign: an open gate costs something.",
    ),
    (lambda o, g, p: sigmoid(p - g * math.prod(o)), "That is the probability that the gate is closed."),
    (lambda o, g, p: sigmoid(g * math.prod(o) - p * (len(o) + 1)), OTHERS_PAY),
    (lambda o, g, p: sigmoid(g * math.prod(o) - p * (sum(o) + 1)), OTHERS_PAY),
    (
        lambda o, g, p: sigmoid(g * sum(o) - p),
        "The gain is paid only if *all* the others are open: their probabilities multiply.",
    ),
    (
        lambda o, g, p: sigmoid(g * sum(o) / len(o) - p),
        "The mean of the others is not the probability that all of them are open.",
    ),
    (
        lambda o, g, p: sigmoid(g - p),
        "The other gates are missing: the gain is paid only if all of them are open.",
    ),
    (
        lambda o, g, p: sigmoid(g * min(o) - p),
        "All the others must be open at once, not only the least likely of them.",
    ),
]


@exercise
def check_coordinate(coordinate: Callable[..., float]) -> str:
    """The optimal P(open) of one gate in series, a function of the others' (a list), gain and price."""
    answers = [_answer(coordinate, *case) for case in CASES]
    refuse_mistakes(MISTAKES, lambda formula: all(map(near, answers, starmap(formula, CASES))))
    for (others, gain, price), answer in zip(CASES, answers, strict=True):
        if not near(answer, truth := _by_enumeration(others, gain, price)):
            raise Wrong(
                f"Others {list(others)}, gain {gain:g}, price {price:g}: yours is {answer:.3f}, "
                f"enumeration says {truth:.3f}. What does opening this gate add to "
                "gain prod z - price sum z, on average over the others?"
            )
    return "Right: in four cases it agrees with enumeration over all masks."


def _answer(coordinate: Callable[..., float], others: Sequence[float], gain: float, price: float) -> float:
    name = getattr(coordinate, "__name__", "your function")
    shown = f"{name}({list(others)}, {gain:g}, {price:g})"
    return number(shown, run(coordinate, shown, list(others), gain, price))


def _by_enumeration(others: Sequence[float], gain: float, price: float) -> float:
    """The optimum of the first gate's coordinate, from the exact log odds of all masks."""
    target = gates_in_series(gain, price, len(others) + 1)
    mu, rest = torch.tensor(others, dtype=torch.float64), target.masks[:, 1:]
    # / 2: every state of the others occurs twice, once for each state of the first gate
    q = torch.where(rest > 0, mu, 1 - mu).prod(1) / 2
    return float(torch.sigmoid(q @ target.log_odds[:, 0]))
