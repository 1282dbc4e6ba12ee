"""The exercise of 06_accuracy_vs_flops: the Pareto front."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .base import Wrong, exercise, run, solved

CASES = (  # MACs, accuracies, and what a wrong answer overlooks
    ([0.2, 0.5, 1.0], [0.90, 0.95, 0.99], "no run is beaten where each costs more and is better"),
    ([0.2, 0.5, 1.0], [0.97, 0.95, 0.99], "a run that costs more and is worse is beaten"),
    ([1.0, 0.5, 0.2], [0.99, 0.95, 0.97], "the runs come in any order"),
    ([0.5, 0.5], [0.95, 0.96], "of two runs at one cost the worse is beaten"),
    ([0.5, 0.3], [0.95, 0.95], "of two runs of one accuracy the dearer is beaten"),
    ([0.5, 0.5], [0.95, 0.95], "two runs that are alike do not beat each other"),
)


@exercise
def check_front(front: Callable[[Sequence[float], Sequence[float]], Any]) -> str:
    """A function of costs and accuracies that says of each run whether no other beats it."""
    for costs, accuracies, overlooked in CASES:
        _check(front, costs, accuracies, f"{overlooked[0].upper()}{overlooked[1:]}.")
    random = np.random.default_rng(0)
    costs, accuracies = random.integers(1, 8, 30) / 8, random.integers(80, 99, 30) / 100
    _check(front, costs.tolist(), accuracies.tolist(), "Of 30 random runs with ties.")
    return "Right: these are the runs between which a choice has to be made."


def _check(front: Callable, costs: list[float], accuracies: list[float], why: str) -> None:
    shown = f"front({costs}, {accuracies})" if len(costs) < 9 else "front of 30 runs"
    answer = run(front, shown, list(costs), list(accuracies))
    solved(shown, answer)
    try:
        found = [bool(one) for one in answer]
    except (TypeError, ValueError):
        raise Wrong(
            f"{shown} should be a list of True and False, one for each run, not {answer!r:.60}."
        ) from None
    expected = unbeaten(costs, accuracies)
    if found != expected:
        raise Wrong(f"{shown} is {found if len(found) < 9 else 'wrong'}. {why}")


def unbeaten(costs: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """By the definition: no other run costs no more, is no worse, and is better in one of the two."""
    runs = list(zip(costs, accuracies, strict=True))
    return [not any(c <= cost and a >= acc and (c, a) != (cost, acc) for c, a in runs) for cost, acc in runs]
