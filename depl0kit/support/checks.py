"""Checks of what users pass in: each returns the value as a plain one, or raises a ValueError.

Its message names the value, what is allowed, and a way out.
"""

import difflib
import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path

MOST = 2**63 - 1  # the largest whole number that NumPy and torch can hold
LENGTH = 80  # characters of a value in a message


def plain(value: object) -> object:
    """`value` as messages show it: a number of NumPy or torch as a plain one, also within lists."""
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value.item() if getattr(value, "shape", None) == () and not isinstance(value, type) else value


def shown(value: object) -> str:
    """`value` as text for a message: short and on one line."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"{'-' * (value < 0)}1e{math.log10(abs(value)):.0f}"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        left, right = "[]" if isinstance(value, list) else "()"
        entries = ", ".join(map(shown, value[:LENGTH])) + "," * (right == ")" and len(value) == 1)
        return _short(f"{left}{entries}{right}")
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if getattr(value, "ndim", 0) > 0 or isinstance(value, Mapping):  # an array, a table
        return f"{with_article(type(value).__name__)} of {len(value)} entries"
    if isinstance(value := plain(value), str | bytes | int | float | complex | range | os.PathLike | None):
        return _short(repr(value))
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """The name of a type as it stands in a sentence."""
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _short(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 3]}..."


def few(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, and how many more there are; "nothing" for none."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "nothing"


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """`value`, if it is one of `allowed`; the message suggests the nearest."""
    allowed = list(allowed)
    if isinstance(value, str) and value in allowed:
        return str(value)  # NumPy's text, too
    near = difflib.get_close_matches(str(value).lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {name} {shown(value)}: choose one of {', '.join(map(repr, allowed))}.{hint}")


def number(
    name: str, value: float, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float:
    """A finite number (text and True are none) with low <= value <= high, or low < value if `open_low`."""
    x = _float(value)
    # NaN compares false with everything, and is refused by isfinite
    if not (math.isfinite(x) and (x > low if open_low else x >= low) and x <= high):
        left, right = "(" if open_low else "[", "]" if math.isfinite(high) else ")"
        unbounded = math.isinf(low) and math.isinf(high)
        wanted = "a finite number" if unbounded else f"a number in {left}{low:g}, {high:g}{right}"
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}.")
    return x


def _float(value: object) -> float:
    """`value` as a float; NaN if it is not a number, or too large for a float."""
    if isinstance(value, str | bytes) or is_switch(value) or getattr(value, "ndim", 0) > 0:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: a tensor without a value
        return math.nan


def share(name: str, value: float) -> float:
    """A number between 0 and 1, both excluded."""
    if not 0 < (x := number(name, value, 0, 1)) < 1:
        raise ValueError(f"{name} must lie between 0 and 1, both excluded, got {shown(value)}.")
    return x


def whole(name: str, value: int, low: int = -MOST, high: int = MOST) -> int:
    """A whole number from `low` to `high`."""
    try:
        n = None if is_switch(value) or getattr(value, "ndim", 0) > 0 else operator.index(value)
    except (TypeError, RuntimeError):  # the second: a tensor without a value
        n = None
    if n is None or not low <= n <= high:
        above = f" of at least {low}" * (low > -MOST)
        below = f"{' and' if above else ' of'} at most {high}" * (high < MOST or (n or 0) > high)
        raise ValueError(f"{name} must be a whole number{above}{below}, got {shown(value)}.")
    return n


def is_switch(value: object) -> bool:
    """Whether `value` is True or False, also one of NumPy or torch."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def switch(name: str, value: bool) -> bool:
    """True or False; not 1 or "no", which count as True in Python."""
    if not is_switch(value) or getattr(value, "ndim", 0) > 0:
        raise ValueError(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)


def filled(name: str, values: Sized) -> None:
    """Raise a ValueError if there are no `values`."""
    if not len(values):
        raise ValueError(f"{name} must have at least one entry, got none.")


def shape(name: str, values: object, *sides: int | None) -> None:
    """Raise a ValueError if an array or tensor has another shape; a side of None may have any length."""
    found = list(values.shape)
    if len(found) != len(sides) or any(n not in (None, m) for n, m in zip(sides, found, strict=True)):
        wanted = ", ".join("any" if side is None else str(side) for side in sides)
        raise ValueError(f"{name} must be an array of shape [{wanted}], got shape {found}.")


def path(name: str, value: str | os.PathLike) -> Path:
    """A path, with `~` in it as the home folder."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError(f"{name} must be a path, got {shown(value)}.")
    return Path(os.path.expanduser(value))


def folder(value: str | os.PathLike) -> Path:
    """The path of a folder that exists or can be made: no file or link to nothing is there or above it."""
    found = path("a folder", value)
    for place in (found, *found.parents):
        if place.is_symlink() and not place.exists():
            raise ValueError(f"{place} is a link to nothing: remove it, or choose another folder.")
        if place.exists() and not place.is_dir():
            raise ValueError(f"{place} is a file, not a folder: remove it, or choose another folder.")
    return found


def new_file(value: str | os.PathLike) -> Path:
    """The path of a file that can be written, or replaced."""
    found = path("a file", value)
    if found.is_dir():
        raise ValueError(f"{found} is a folder: name a file in it, such as {found / 'small.safetensors'}.")
    above = folder(found.parent)
    while not above.exists():
        above = above.parent
    if not os.access(above, os.W_OK):
        raise ValueError(
            f"no file can be made in {above}: choose another folder, or ask for permission to write there."
        )
    return found
