"""What the checkers share.

A checker is a function decorated with `exercise` that looks at what the reader wrote. It returns the line
for a right answer, and raises `Wrong` with the line for a wrong one, as do the functions here. It calls the
reader's function through `call` or `run`, with new arguments every time, as the function may change them.
"""

import contextlib
import functools
import inspect
import io
import math
from collections.abc import Callable, Iterable
from typing import Any


class Wrong(Exception):
    """An answer that is not right; the text tells the reader why."""


def exercise(checker: Callable[..., str]) -> Callable[..., None]:
    """Make a checker print its verdict; with strict=True, it raises an AssertionError where that is ✗."""

    wanted = list(inspect.signature(checker).parameters)

    @functools.wraps(checker)
    def check(*answers: Any, strict: bool = False) -> None:
        try:
            if len(answers) != len(wanted):
                raise Wrong(f"Write {checker.__name__}({', '.join(wanted)}): got {len(answers)} answers.")
            print(f"✓ {checker(*answers)}")
            return
        except Wrong as reason:
            verdict = f"✗ {reason}"
        except Exception as error:  # an answer that the checker did not expect
            verdict = f"✗ This answer cannot be checked: reading it raised {type(error).__name__}."
        if strict:  # out of the reach of what was raised above, which says nothing more
            raise AssertionError(verdict)
        print(verdict)

    check.__doc__ = (
        f"{checker.__doc__}\n\nPrints a line; with strict=True, that of a wrong answer is raised instead."
    )
    return check


def call(function: Callable[..., Any], *arguments: Any) -> float:
    """The number that the reader's function returns."""
    name = getattr(function, "__name__", "your function")
    shown = f"{name}({', '.join(f'{float(a):g}' for a in arguments)})"
    return number(shown, run(function, shown, *arguments))


def run(function: Callable[..., Any], shown: str, *arguments: Any) -> Any:
    """What the reader's function returns; nothing if it is unsolved, or prints its result instead."""
    if not callable(function):
        raise Wrong(f"Expected the function itself, without brackets after its name; got {brief(function)}.")
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            answer = function(*arguments)
    except Exception as error:  # any error of the reader's code becomes one line
        print(printed.getvalue(), end="")  # which may help to find the mistake
        raise Wrong(f"{shown} raised {type(error).__name__}: {' '.join(str(error).split())}") from error
    if answer is None and printed.getvalue():
        raise Wrong(f"{shown} prints something, but returns None: write return in place of print.")
    print(printed.getvalue(), end="")
    solved(shown, answer, "put your answer after return")
    return answer


def solved(name: str, answer: Any, hint: str = "replace it with your answer") -> None:
    """Refuse an `answer` that is still the placeholder of the notebook."""
    if answer is None or answer is ...:
        raise Wrong(f"{name} is still {answer}: {hint}.")


def number(name: str, answer: Any) -> float:
    """`answer` as a float, if it is one finite number."""
    solved(name, answer)
    value = None
    if not isinstance(answer, str | bytes | bool):
        with contextlib.suppress(Exception):  # a list, a tensor of many entries, ...
            # .item() where there is one: NumPy warns about float([x])
            value = float(answer.item() if hasattr(answer, "item") else answer)
    if value is None:
        raise Wrong(f"{name} should be one number, not {type(answer).__name__} {brief(answer)}.")
    if not math.isfinite(value):
        raise Wrong(f"{name} is {brief(answer)}, not finite: a logarithm of a negative number?")
    return value


def refuse_mistakes(
    mistakes: Iterable[tuple[Callable[..., Any], str]], gives_it: Callable[[Callable[..., Any]], bool]
) -> None:
    """Refuse an answer that one of `mistakes`, (formula, reason), gives, with the reason of the first."""
    for formula, reason in mistakes:
        if gives_it(formula):
            raise Wrong(reason)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def near(a: float, b: float) -> bool:
    """Equal up to the rounding of float32."""
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5)


def brief(answer: Any) -> str:
    """Its repr on one line, cut to 60 characters."""
    return f"{' '.join(repr(answer).split()):.60}"
