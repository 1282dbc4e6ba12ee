"""What the checkers share.

A checker is a function decorated with `exercise` that looks at what the reader wrote. It returns the
line for a right answer, and raises `Wrong` with the line for a wrong one. What the reader's own
function does, it asks for through `call` or `run`, which turn errors into `Wrong`. Checkers make the
arguments anew for every call: the reader's function may change them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any


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
    name = getattr(function, "__name__", "your function")
    shown = f"{name}({', '.join(f'{float(a):g}' for a in arguments)})"
    return number(shown, run(function, shown, *arguments))


def run(function: Callable[..., Any], shown: str, *arguments: Any) -> Any:
    """Whatever the reader's function returns.

    Raises:
        Wrong: it is no function, or raises.
    """
    if not callable(function):
        raise Wrong(
            f"The function itself is wanted, without brackets after its name; got {_brief(function)}."
        )
    try:
        return function(*arguments)
    except Exception as error:  # whatever the reader's code does, they get one line
        raise Wrong(f"{shown} raised {type(error).__name__}: {' '.join(str(error).split())}") from error


def solved(name: str, answer: Any) -> None:
    """Raises Wrong if `answer` is what the notebook has in its place."""
    if answer is None or answer is ...:
        raise Wrong(f"{name} is still {answer}: put your answer in its place.")


def number(name: str, answer: Any) -> float:
    """`answer` as a float.

    Raises:
        Wrong: it is None (not solved yet), or not one finite number.
    """
    solved(name, answer)
    try:
        value = None if isinstance(answer, str) else float(answer)
    except Exception:  # a list, a tensor of many entries, ...
        value = None
    if value is None:
        raise Wrong(f"{name} should be one number, not {type(answer).__name__} {_brief(answer)}.")
    if not math.isfinite(value):
        raise Wrong(f"{name} is {_brief(answer)}, not finite: a logarithm of something negative?")
    return value


def near(a: float, b: float) -> bool:
    """Equal up to the rounding of float32."""
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5)


def _brief(answer: Any) -> str:
    """Its repr, which for an array has many lines, on one."""
    return f"{' '.join(repr(answer).split()):.60}"
