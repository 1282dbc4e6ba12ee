"""The exercise of 06_accuracy_vs_flops: the Pareto front."""

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import islice
from typing import Any

import numpy as np

from ...support.checks import plain
from .base import Wrong, brief, exercise, run

CASES = (  # MACs, accuracies, and what a wrong answer ignores
    ([0.2, 0.5, 1.0], [0.90, 0.95, 0.99], "no run is beaten if each run that costs more is better"),
    ([0.2, 0.5, 1.0], [0.97, 0.95, 0.99], "a run that costs more and is worse is beaten"),
    ([1.0, 0.5, 0.2], [0.99, 0.95, 0.97], "the runs can be in any order"),
    ([0.5, 0.5], [0.95, 0.96], "of two runs with the same cost, the less accurate is beaten"),
    ([0.5, 0.3], [0.95, 0.95], "of two runs with the same accuracy, the more expensive is beaten"),
    ([0.5, 0.5], [0.95, 0.95], "two equal runs do not beat each other"),
)


@exercise
def check_front(front: Callable[[Sequence[float], Sequence[float]], Any]) -> str:
    """A function of costs and accuracies that says for each run whether no other beats it."""
    for costs, accuracies, ignored in CASES:
        _check(front, costs, accuracies, f"{ignored[0].upper()}{ignored[1:]}.")
    random = np.random.default_rng(0)
    costs, accuracies = random.integers(1, 8, 30) / 8, random.integers(80, 99, 30) / 100
    _check(front, costs.tolist(), accuracies.tolist(), "They are random, with ties.")
    return "Right: the best choice, whatever it is, is one of these runs."


def _check(front: Callable, costs: list[float], accuracies: list[float], why: str) -> None:
    shown = f"front({costs}, {accuracies})" if len(costs) < 9 else "front of 30 runs"
    found = _truths(shown, run(front, shown, list(costs), list(accuracies)), len(costs))
    expected = unbeaten(costs, accuracies)
    if found != expected:
        raise Wrong(f"{shown} is {found if len(found) < 9 else 'wrong'}. {why}")


def _truths(shown: str, answer: Any, runs: int) -> list[bool]:
    """`answer`, if it is a list of truth values, one for each run; not of indices, or of 0 and 1."""
    wanted = f"{shown} should be a list of True and False, one for each run"
    try:
        entries = None if isinstance(answer, str | bytes | Mapping | Set) else list(islice(answer, runs + 1))
    except Exception:  # a number, a generator that raises, ...
        entries = None
    if entries is None:
        raise Wrong(f"{wanted}; got {type(answer).__name__} {brief(answer)}.")
    if other := [one for one in entries if not isinstance(plain(one), bool)]:
        indices = ": the indices of the runs?" if isinstance(plain(other[0]), int) else "."
        raise Wrong(f"{wanted}; yours holds {brief(other[0])}{indices}")
    if len(entries) != runs:
        more = "more" if len(entries) > runs else len(entries)
        raise Wrong(f"{wanted}; it has {more} for {runs} runs.")
    return [bool(one) for one in entries]


def unbeaten(costs: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """By definition: no other run is at least as good in both, and better in one of the two."""
    runs = list(zip(costs, accuracies, strict=True))
    return [not any(c <= cost and a >= acc and (c, a) != (cost, acc) for c, a in runs) for cost, acc in runs]
