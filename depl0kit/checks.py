"""Checks of what users pass in: every message names the value, what is allowed, and a way out."""

import difflib
import math
from collections.abc import Iterable


def plain(value: object) -> object:
    """`value` as messages show it: a number of NumPy or torch as a plain one, also within lists."""
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value.item() if getattr(value, "shape", None) == () and not isinstance(value, type) else value


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`; otherwise raise ValueError and suggest the nearest."""
    allowed = list(allowed)
    if value in allowed:
        return value
    near = difflib.get_close_matches(str(value).lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {name} {plain(value)!r}: choose one of {', '.join(map(repr, allowed))}.{hint}")


def number(
    name: str, value: float, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Return `value` as a float if it is finite and low <= value <= high (low < value where `open_low`).

    Raises:
        ValueError: it is not a number (text is none), is infinite or NaN, or lies outside the range.
    """
    left, right = "(" if open_low else "[", "]" if math.isfinite(high) else ")"
    try:
        x = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        x = math.nan
    # NaN compares false with everything, and is refused by isfinite
    if not (math.isfinite(x) and (x > low if open_low else x >= low) and x <= high):
        raise ValueError(f"{name} must be a number in {left}{low:g}, {high:g}{right}, got {plain(value)!r}.")
    return x


def share(name: str, value: float) -> float:
    """Return `value` as a float if it lies between 0 and 1, both excluded.

    Raises:
        ValueError: it is not a number, or 0, 1 or outside.
    """
    if not 0 < (x := number(name, value, 0, 1)) < 1:
        raise ValueError(f"{name} must lie between 0 and 1, both excluded, got {plain(value)!r}.")
    return x


def whole(name: str, value: int, low: int) -> int:
    """Return `value` as an int if it is a whole number (NumPy's and torch's too) >= low.

    Raises:
        ValueError: it is not whole, or too small.
    """
    whole_number = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole_number or value.__index__() < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {plain(value)!r}.")
    return value.__index__()


def is_switch(value: object) -> bool:
    """Whether `value` is True or False, also one of NumPy or torch."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def switch(name: str, value: bool) -> bool:
    """Return `value` as a bool if it is True or False, also one of NumPy or torch.

    Raises:
        ValueError: it is anything else, such as 1 or "no", which Python would take for True.
    """
    if not is_switch(value) or getattr(value, "ndim", 0) > 0:
        raise ValueError(f"{name} must be True or False, got {plain(value)!r}.")
    return bool(value)
