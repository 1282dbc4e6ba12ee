"""Gives every matplotlib figure that a kernel shows a text for readers who cannot see it.

Run in a kernel, after `%matplotlib inline`; `execute_notebooks.py` does. The text is put into the metadata
of the picture, where nbconvert looks for it.
"""

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def alt_text(figure: Figure) -> str:
    """The titles of a figure's panels, and what their axes show."""
    heading = [title] if (title := figure.get_suptitle()) else []
    panels = [text for ax in figure.axes if ax.get_visible() and (text := _panel(ax))]
    return " ".join("; ".join(heading + panels).split()) or "A figure without words"


def _panel(ax: Axes) -> str:
    """Title and labels of one panel; "" for one without text, such as a colour bar."""
    title = " ".join(filter(None, (ax.get_title(side) for side in ("left", "center", "right"))))
    labels = [f"{label} ({side})" for side, label in _labels(ax) if label]
    return ": ".join(filter(None, (title, ", ".join(labels))))


def _labels(ax: Axes) -> list[tuple[str, str]]:
    if not ax.axison:
        return []
    return [("upward", ax.get_ylabel()), ("to the right", ax.get_xlabel())]


def described(draw: Callable[[Figure], Any]) -> Callable[[Figure], Any]:
    """A formatter of pictures that adds the figure's text to what `draw` makes."""

    def draw_and_describe(figure: Figure) -> tuple[Any, dict[str, Any]] | None:
        text = alt_text(figure)
        picture = draw(figure)
        data, metadata = picture if isinstance(picture, tuple) else (picture, {})
        return None if data is None else (data, metadata | {"alt": text})

    return draw_and_describe


if __name__ == "__main__":
    pictures = get_ipython().display_formatter.formatters["image/png"]  # noqa: F821  (the kernel defines it)
    pictures.for_type(Figure, described(pictures.lookup_by_type(Figure)))
