"""The arguments of public functions: each is converted to what its annotation says, or refused.

`@checked` reads the annotations of a function. NumPy's and torch's numbers become Python's, ranges, arrays
and generators become lists, as does a single value where a list is meant, and `~` in a path becomes the home
folder. What cannot be converted (text, NaN or True for a number, a number for a path, None where a value is
needed) is refused in a sentence that names the argument. The functions themselves check ranges, and whether
arguments go together.
"""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import fields
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

import numpy as np

from . import checks

Function = TypeVar("Function", bound=Callable[..., Any])


def checked(function: Function) -> Function:
    """The function with its arguments converted to what their annotations say; defaults stay as they are.

    A call raises a ValueError if an argument cannot be converted.
    """
    signature = inspect.signature(function)
    named = (p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    wanted = {p.name: p.annotation for p in named if p.annotation is not p.empty}

    @wraps(function)
    def call(*positional: Any, **by_name: Any) -> Any:
        try:
            given = signature.bind(*positional, **by_name)
        except TypeError:  # too few, too many or unknown ones: Python says so itself
            return function(*positional, **by_name)
        for name in given.arguments.keys() & wanted.keys():
            given.arguments[name] = fitted(name, given.arguments[name], wanted[name])
        return function(*given.args, **given.kwargs)

    return call


def fit_fields(record: Any) -> None:
    """Convert all fields of a dataclass, even a frozen one, or raise ValueError: for `__post_init__`."""
    for field in fields(record):
        value = fitted(field.name, getattr(record, field.name), field.type)
        object.__setattr__(record, field.name, value)


def fitted(name: str, value: Any, hint: Any) -> Any:
    """`value` converted to what `hint`, an annotation, says; a ValueError says what `name` must be."""
    options = [o for o in _options(hint) if o is not NoneType]
    if value is None and len(options) < len(_options(hint)):
        return None
    if len(options) == 1:
        return _fit(name, value, options[0])
    for option in options:
        with suppress(ValueError):  # perhaps the next one fits
            return _fit(name, value, option)
    raise _refusal(name, " or ".join(dict.fromkeys(map(_in_words, options))), value)


def _options(hint: Any) -> tuple:
    """The alternatives of an annotation; `str | Path` is one of them, `os.PathLike`."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if str in options and Path in options:
        options = (os.PathLike, *(option for option in options if option not in (str, Path)))
    return options


def _fit(name: str, value: Any, hint: Any) -> Any:
    """`value` converted to one option of an annotation."""
    kind = get_origin(hint) or hint
    if kind in FITS:
        return FITS[kind](name, value)
    if kind is tuple:
        return _fit_tuple(name, value, get_args(hint))
    if kind in (list, Sequence, Iterable):
        return _fit_entries(name, value, *get_args(hint) or (Any,))
    if kind in (dict, Mapping):
        return _fit_mapping(name, value, *get_args(hint) or (Any, Any))
    if kind is Callable:
        fits = callable(value)
    elif kind is Executor:  # those of submitit and others do not inherit from it
        fits = hasattr(value, "submit")
    else:
        fits = isinstance(value, kind)
    if not fits:
        raise _refusal(name, _in_words(kind), value)
    return value


def _fit_entries(name: str, value: Any, hint: Any) -> list:
    if not is_list(value):
        if hint is not Any and value is not None:  # a single value: allowed if it could be an entry
            with suppress(ValueError):
                return [fitted(name, value, hint)]
        raise _refusal(name, _in_words(list), value)
    # arrays first become plain numbers, which is fast; not matrices, whose entries are arrays
    entries = value.tolist() if getattr(value, "ndim", 0) == 1 else value
    return [fitted(f"every entry of {name}", entry, hint) for entry in entries]


def _fit_tuple(name: str, value: Any, hints: tuple) -> tuple:
    entries = tuple(value) if is_list(value) else ()
    if len(hints) == 2 and hints[1] is not ... and len(entries) != 2:
        raise _refusal(name, "two numbers", value)
    return tuple(_fit_entries(name, entries or value, *hints[:1] or (Any,)))


def _fit_mapping(name: str, value: Any, keys: Any, values: Any) -> dict:
    if not isinstance(value, Mapping):
        raise _refusal(name, _in_words(dict), value)
    return {
        fitted(f"every key of {name}", key, keys): fitted(f"{name}[{key!r}]", entry, values)
        for key, entry in value.items()
    }


def _fit_float(name: str, value: Any) -> int | float:
    number = checks.number(name, value)
    return value if type(value) is int else number  # 4 stays 4 in texts and files


def _fit_array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths
        array = None
    if array is None or array.ndim == 0 or array.dtype.kind not in "biuf":
        raise _refusal(name, _in_words(np.ndarray), value)
    return array


def _fit_path(name: str, value: Any) -> str | Path:
    path = checks.path(name, value)
    return str(path) if isinstance(value, str) and value.startswith("~") else value


FITS: dict[Any, Callable[[str, Any], Any]] = {
    Any: lambda name, value: value,
    bool: checks.switch,
    int: checks.whole,
    float: _fit_float,
    Path: checks.path,
    np.ndarray: _fit_array,
    os.PathLike: _fit_path,
}
WORDS = {  # by the name of the type; some say how to get one
    "bool": "True or False",
    "int": "a whole number",
    "float": "a finite number",
    "str": "text",
    "Path": "a path",
    "PathLike": "a path",
    "ndarray": "an array of numbers",
    "list": "a list",
    "dict": "a dict",
    "Callable": "a function",
    "Axes": "axes of matplotlib (dk.plots.panels makes some)",
    "Data": "Data (dk.load_data returns one, dk.make_data(train) makes one of your own images)",
    "Channels": "Channels (dk.Channels(model, example=images) finds them)",
    "DataFrame": "a table (a pandas.DataFrame)",
    "ExactPosterior": "an ExactPosterior (dk.exact.gates_in_series(5) returns one)",
    "Executor": "an executor with a method submit",
    "GatedModel": "a GatedModel (dk.GatedModel(model, example=images) makes one)",
    "Generator": "a torch.Generator",
    "Module": "a network (an nn.Module)",
    "Split": "a part of a data set, such as data.test",
    "Tensor": "a tensor",
}


def _in_words(hint: Any) -> str:
    kind = get_origin(hint) or hint
    kind = {tuple: list, Sequence: list, Iterable: list, Mapping: dict}.get(kind, kind)
    return WORDS.get(kind.__name__, checks.with_article(kind.__name__))


def _refusal(name: str, wanted: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {wanted}, got {checks.shown(value)}.")


def is_list(value: Any) -> bool:
    """Whether it has entries in an order; scalars of NumPy and torch have none."""
    is_other = isinstance(value, str | bytes | Mapping | Set) or getattr(value, "ndim", 1) == 0
    return isinstance(value, Iterable) and not is_other
