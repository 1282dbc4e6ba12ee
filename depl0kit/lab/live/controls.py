"""Sliders, check boxes and buttons of explorers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets

from ...support import checked, checks


class NumberSlider(anywidget.AnyWidget):
    """A slider over given numbers, with a box beside it that takes any other number of the range.

    Screen readers say the number, not the position of the handle.

    Traits:
        value: the number; 0 at the end named `first`, None at the end named `last`.
        numbers: those at which the handle can stand, rising.
        first, last: words for ends before and after all numbers, which mean 0 and None; "" for no such end.
        description, tooltip: its name, and a hint that appears under the mouse.
        disabled: it shows its value, but cannot be moved.
    """

    _esm = Path(__file__).with_name("slider.js")
    _css = Path(__file__).with_name("live.css")
    value = traitlets.Float(allow_none=True).tag(sync=True)
    numbers = traitlets.List(traitlets.Float()).tag(sync=True)
    first = traitlets.Unicode("").tag(sync=True)
    last = traitlets.Unicode("").tag(sync=True)
    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)


@checked
def float_slider(
    label: str, value: float, low: float, high: float, step: float, digits: int = 2, hint: str = ""
) -> widgets.FloatSlider:
    """A slider from `low` to `high` that shows `digits` decimals; `hint` appears under the mouse.

    Raises:
        ValueError: `value` lies outside the range.
    """
    checks.whole("digits", digits, 0, 20)
    return widgets.FloatSlider(
        checks.number(label, value, low, high), min=low, max=high, step=step, readout_format=f".{digits}f",
        description=label, tooltip=hint or label,
    )  # fmt: skip


@checked
def log_slider(
    label: str,
    value: float | None,
    low: float,
    high: float,
    first: str = "",
    last: str = "",
    hint: str = "",
) -> NumberSlider:
    """A logarithmic slider with ten numbers a decade.

    Args:
        value: at the start; 0 for the end `first`, None for the end `last`.
        first, last: words for ends outside the range, such as "off" (see `NumberSlider`).

    Raises:
        ValueError: `value` lies outside the range, or low <= 0.
    """
    checks.number(f"{label}, low", low, 0, open_low=True)
    if not ((first and value == 0) or (last and value is None)):
        checks.number(label, value, low, high)
    tenths = np.arange(np.ceil(10 * np.log10(low) - 1e-9), np.floor(10 * np.log10(high) + 1e-9) + 1)
    numbers = sorted({low, high} | {float(f"{10 ** (tenth / 10):.2g}") for tenth in tenths})
    return NumberSlider(
        value=value, numbers=numbers, first=first, last=last, description=label, tooltip=hint or label
    )


def set_slider(slider: widgets.Widget, value: float | None) -> None:
    """Set a `float_slider` or `log_slider` to `value`, also outside its range."""
    if isinstance(slider, widgets.FloatSlider):
        slider.min, slider.max = min(slider.min, value), max(slider.max, value)
    slider.value = value


@checked
def checkbox(label: str, value: bool, hint: str = "") -> widgets.Checkbox:
    """A box to tick; `hint` appears under the mouse."""
    return widgets.Checkbox(value, description=label, indent=False, tooltip=hint or label)


@checked
def button(label: str, icon: str, hint: str, action: Callable[[], Any]) -> widgets.Button:
    """A button that calls `action`, with an icon of Font Awesome 4 and a hint under the mouse."""
    made = widgets.Button(description=label, icon=icon, tooltip=hint)
    made.on_click(lambda _: action())
    return made
