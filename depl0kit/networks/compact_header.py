"""The JSON header of a saved compact network: its `make_model` arguments, its widths, its stand-ins, and
the ranks of layers that are two.

The file may come from anywhere, so every field is checked before it is used.
"""

import json
from collections.abc import Callable
from typing import Any

from torch import nn

from .factorised import LowRank

FORMAT = 1
WIDTHS = (
    *("in_channels", "out_channels", "groups", "in_features", "out_features"),
    *("num_features", "num_channels", "num_groups", "num_parameters"),
)


def _is_size(value: object, low: int = 1) -> bool:
    """Whether it is a whole number and small enough for a width: a huge one would need too much memory."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**31


def _is_sizes(value: object, count: int, low: int = 1) -> bool:
    return isinstance(value, list) and len(value) == count and all(_is_size(v, low) for v in value)


def _is_window(value: object, low: int = 1) -> bool:
    """Whether it is an argument of a pooling layer: one number, or one for each direction."""
    return _is_size(value, low) or _is_sizes(value, 2, low)


# modules without weights that `compact` puts in place of a closed branch, and the checks of their arguments
STAND_INS: dict[str, tuple[type[nn.Module], dict[str, Callable[[Any], bool]]]] = {
    "Identity": (nn.Identity, {}),
    "AvgPool2d": (
        nn.AvgPool2d,
        {"kernel_size": _is_window, "stride": _is_window, "padding": lambda pad: _is_window(pad, 0)},
    ),
    "ConstantPad3d": (
        nn.ConstantPad3d,
        {"padding": lambda pad: _is_sizes(pad, 6, -(2**31)), "value": lambda x: isinstance(x, int | float)},
    ),
}
MADE_BY: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and len(value) < 100,
    "in_channels": _is_size,
    "classes": _is_size,
    "image_size": lambda value: _is_sizes(value, 2),
}


def header_of(model: nn.Module) -> dict[str, Any]:
    """What is needed to rebuild the layers of a network at their widths."""
    return {
        "format": FORMAT,
        "made_by": getattr(model, "made_by", None),
        "widths": {name: widths for name, m in model.named_modules() if (widths := _widths(m))},
        "stand_ins": {name: spec for name, m in model.named_modules() if (spec := _stand_in(m))},
        "factorised": {name: m.rank for name, m in model.named_modules() if isinstance(m, LowRank)},
    }


def _widths(module: nn.Module) -> dict[str, int]:
    found = {name: getattr(module, name, None) for name in WIDTHS}
    return {name: width for name, width in found.items() if _is_size(width, 0)}


def _stand_in(module: nn.Module) -> list[list] | None:
    """[kind, arguments...] of each module in a row, or None if it is not a stand-in."""
    row = list(module) if type(module) is nn.Sequential else [module]
    if not row or not all(type(m).__name__ in STAND_INS for m in row):
        return None
    return [[type(m).__name__, *(getattr(m, a) for a in STAND_INS[type(m).__name__][1])] for m in row]


def build_stand_in(spec: list[list]) -> nn.Module:
    """The modules that `header_of` described."""
    row = [
        STAND_INS[kind][0](*(tuple(a) if isinstance(a, list) else a for a in arguments))
        for kind, *arguments in spec
    ]
    return row[0] if len(row) == 1 else nn.Sequential(*row)


def is_made_by(made: Any) -> bool:
    """Whether it is None, or has the form of the arguments of `make_model`."""
    return made is None or (made.keys() == MADE_BY.keys() and all(MADE_BY[k](v) for k, v in made.items()))


def _is_stand_in(kind: Any, *arguments: Any) -> bool:
    checks = STAND_INS[kind][1].values()
    return all(suits(value) for suits, value in zip(checks, arguments, strict=True))


FIELDS: dict[str, Callable[[Any], bool]] = {
    "made_by": is_made_by,
    "widths": lambda widths: all(_is_size(n, 0) for layer in widths.values() for n in layer.values()),
    "stand_ins": lambda specs: all(
        spec and all(_is_stand_in(*module) for module in spec) for spec in specs.values()
    ),
    "factorised": lambda ranks: all(_is_size(rank) for rank in ranks.values()),
}
LATER = {"factorised": {}}  # fields that files of earlier versions do not have


def checked_header(header: Any) -> dict[str, Any]:
    """`header`, if every field has the form that `header_of` gives it."""
    if not isinstance(header, dict) or "format" not in header:
        raise ValueError(f"expected a JSON object with a field 'format', found {_shown(header)}")
    if header["format"] != FORMAT:
        raise ValueError(
            f"it has format {_shown(header['format'])}, this version reads {FORMAT}: use a newer depl0kit"
        )
    header = LATER | header
    for name, suits in FIELDS.items():
        try:
            good = suits(header[name])
        except (AttributeError, KeyError, TypeError, ValueError):  # missing, of another type or length
            good = False
        if not good:
            raise ValueError(f"its field {name!r} is {_shown(header.get(name))}")
    return header


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
