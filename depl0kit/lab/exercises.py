"""Checkers of the notebooks' exercises: they print one line that says what is wrong, and never raise.

A checker is a function decorated with `exercise` that looks at what the reader wrote. It returns the
line for a right answer, and raises `Wrong` with the line for a wrong one. What the reader's own
function does, it asks for through `call`, which turns errors, None and non-numbers into `Wrong`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..hard_concrete import HardConcrete


class Wrong(Exception):
    """An answer that is not right; the text tells the reader why."""


def exercise(checker: Callable[..., str]) -> Callable[..., None]:
    """Make a checker print its verdict."""

    @functools.wraps(checker)
    def check(*answers: Any) -> None:
        try:
            print(f"✓ {checker(*answers)}")
        except Wrong as reason:
            print(f"✗ {reason}")

    return check


def call(function: Callable[..., Any], *arguments: Any) -> float:
    """The number that the reader's function returns.

    Raises:
        Wrong: it is no function, raises, or returns something other than one finite number.
    """
    if not callable(function):
        raise Wrong(f"The function itself is wanted, without brackets after its name; got {function!r}.")
    name = getattr(function, "__name__", "your function")
    shown = f"{name}({', '.join(f'{float(a):g}' for a in arguments)})"
    try:
        answer = function(*arguments)
    except Exception as error:  # whatever the reader's code does, they get one line
        raise Wrong(f"{shown} raised {type(error).__name__}: {error}") from error
    return number(shown, answer)


def number(name: str, answer: Any) -> float:
    """`answer` as a float.

    Raises:
        Wrong: it is None (not solved yet), or not one finite number.
    """
    if answer is None or answer is ...:
        raise Wrong(f"{name} is still None: put your answer in place of the dots, and return it.")
    try:
        value = math.nan if isinstance(answer, str) else float(answer)
    except Exception:  # a list, a tensor of many entries, ...
        raise Wrong(f"{name} should be one number, not {type(answer).__name__} {answer!r:.60}.") from None
    if not math.isfinite(value):
        raise Wrong(f"{name} is {answer!r:.60}; a finite number is wanted.")
    return value


def near(a: float, b: float) -> bool:
    """Equal up to the rounding of float32."""
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5)


# ---- 00_welcome

MACS_ARGUMENTS = ("kernel", "inputs", "outputs", "height", "width")


@exercise
def check_macs(macs: Callable[..., float], share: float) -> str:
    """Multiply-accumulates of a convolution, and the share of them left at half the inputs and outputs.

    Args:
        macs: function of kernel, inputs, outputs, and height and width of its output.
        share: in 0..1.
    """
    sizes = (3, 5, 7, 11, 13)
    found = call(macs, *sizes)
    for i, argument in enumerate(MACS_ARGUMENTS):
        _check_growth(macs, sizes, i, argument, found)
    factor = found / math.prod((3, *sizes))
    if near(factor, 2):
        raise Wrong("That is twice as much: you count FLOPs. A multiply-accumulate is one MAC and two FLOPs.")
    if not near(factor, 1):
        raise Wrong(f"It grows as it should, but is {factor:.3g} times too large. A 1x1 kernel on 1 pixel is 1 MAC.")
    _check_share(number("share", share))
    return "Right. Cost is a product of inputs and outputs: close half of both, and a quarter of it is left."


def _check_growth(macs: Callable, sizes: Sequence[int], i: int, argument: str, found: float) -> None:
    doubled = call(macs, *sizes[:i], 2 * sizes[i], *sizes[i + 1 :])
    expected = 4 if argument == "kernel" else 2
    if near(doubled, expected * found) and found != 0:
        return
    if near(doubled, found):
        raise Wrong(f"The result does not depend on `{argument}`, but the number of products does.")
    why = " A kernel of size k has k x k weights." if argument == "kernel" else ""
    growth = f"{doubled / found:.3g} times as large" if found else "0"
    raise Wrong(f"With twice the `{argument}` the MACs should be {expected} times as many; yours is {growth}.{why}")


def _check_share(share: float) -> None:
    if near(share, 0.5):
        raise Wrong("macs is right, share is not: one half would be left if only the inputs, or only the outputs, closed.")
    if near(share, 0.75):
        raise Wrong("macs is right; for share you give what is saved. What is left?")
    if near(share, 25):
        raise Wrong("macs is right; give share as a number between 0 and 1, not in per cent.")
    if not near(share, 0.25):
        raise Wrong(f"macs is right, share = {share:g} is not: divide macs with half the inputs and outputs by macs.")


# ---- 01_one_gate


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# what readers write instead of eq. 12, as (formula, what is wrong with it); a: log_alpha, t: temperature
PROB_OPEN_MISTAKES: list[tuple[Callable[[float, float, float, float], float], str]] = [
    (lambda a, t, g, z: _sigmoid(a), "That is P(u < sigmoid(log α)), a plain coin: the stretch is missing."),
    (lambda a, t, g, z: _sigmoid(a / t), "That is the median of s. Where is the stretch, and how likely is z > 0?"),
    (lambda a, t, g, z: 1 - _sigmoid(a - t * math.log(-g / z)), "That is P(z = 0), the gate closed. P(open) is the rest."),
    (
        lambda a, t, g, z: _sigmoid(a + t * math.log(-g / z)),
        "The sign before β log(-γ/ζ) is turned: a wider stretch below 0 must make the gate open *less* often.",
    ),
    (lambda a, t, g, z: _sigmoid(a - math.log(-g / z)), "The temperature β is missing in front of the logarithm."),
    (
        lambda a, t, g, z: _sigmoid((a - math.log(-g / z)) / t),
        "Only one term has β: solve s = sigmoid((logit u + log α)/β) for u, and β ends up as a factor of the logarithm.",
    ),
    (
        lambda a, t, g, z: _sigmoid(a / t - math.log(-g / z)),
        "You asked where s has its quantiles, not u: multiply (logit u + log α)/β > log(-γ/ζ) by β on both sides.",
    ),
    (
        lambda a, t, g, z: _sigmoid(a - t * math.log(-g / (z - g))),
        "-γ/(ζ-γ) is the right threshold of s, but its *logit* is wanted: log of s/(1-s), not log of s.",
    ),
]
PROB_OPEN_CASES = (
    *((0.0, 2 / 3, -0.1, 1.1), (1.5, 2 / 3, -0.1, 1.1), (-2.0, 0.3, -0.2, 1.1)),
    *((-1.0, 1.5, -0.1, 1.4), (3.0, 1.0, -0.5, 1.5)),
)


@exercise
def check_prob_open(prob_open: Callable[..., float]) -> str:
    """P(z > 0) of a hard-concrete gate, a function of log_alpha (a tensor), temperature, gamma and zeta."""
    answers = [call(prob_open, torch.tensor(a), *rest) for a, *rest in PROB_OPEN_CASES]
    truths = [
        float(HardConcrete(t, (gamma, zeta)).prob_open(torch.tensor(a))) for a, t, gamma, zeta in PROB_OPEN_CASES
    ]
    if all(map(near, answers, truths)):
        return "Right: it agrees with the package at five different gates."
    for formula, reason in PROB_OPEN_MISTAKES:
        if all(near(answer, formula(*case)) for answer, case in zip(answers, PROB_OPEN_CASES, strict=True)):
            raise Wrong(reason)
    _reject_prob_open(answers, truths)
    raise AssertionError  # one of the answers differs


def _reject_prob_open(answers: Sequence[float], truths: Sequence[float]) -> None:
    for case, answer, truth in zip(PROB_OPEN_CASES, answers, truths, strict=True):
        if not 0 <= answer <= 1:
            raise Wrong(f"{_gate(case)} gives {answer:.3g}, which is no probability.")
        if not near(answer, truth):
            raise Wrong(
                f"{_gate(case)} gives {answer:.3f}, but {truth:.3f} of its draws are open. "
                "Start from z > 0, that is s > -γ/(ζ-γ), and take the logit of both sides."
            )


def _gate(case: Sequence[float]) -> str:
    a, t, gamma, zeta = case
    return f"log α = {a:g}, β = {t:.2g}, γ = {gamma:g}, ζ = {zeta:g}"
