"""TOML files that people write: read, and checked key by key."""

import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from . import checks
from .files import WORDS, is_of


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a file, with or without the byte order mark that editors of Windows begin it with."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError(f"{path} is not TOML: it is nested too deeply.") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, a number of thousands of digits
        raise ValueError(f"{path} is not TOML: {error}.") from error


def check_types(table: Mapping[str, Any], types_: Mapping[str, Any], kind: str) -> None:
    """Refuse keys that are not in `types_`, and values that are not of their key's type."""
    for key, value in table.items():
        expected = types_[checks.one_of(kind, key, types_)]
        if not _fits(value, expected):
            raise ValueError(f"{key} must be {_in_words(expected)}, got {value!r}.")


def _fits(value: object, expected: Any) -> bool:
    if isinstance(expected, types.UnionType):
        return any(_fits(value, option) for option in get_args(expected))
    if get_origin(expected) is tuple:
        return isinstance(value, list | tuple) and all(_fits(v, get_args(expected)[0]) for v in value)
    return is_of(value, expected)


def _in_words(expected: Any) -> str:
    if isinstance(expected, types.UnionType):
        return " or ".join(_in_words(option) for option in get_args(expected))
    if get_origin(expected) is tuple:
        return f"a list of {'names' if get_args(expected)[0] is str else 'numbers'}"
    return (WORDS | {dict: "a table", types.NoneType: "None"})[expected]
