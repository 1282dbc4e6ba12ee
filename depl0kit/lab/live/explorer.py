"""The base of all explorers: controls, a live figure and a line of numbers."""

import base64
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import HTML, display

from .controls import button
from .figure import LiveFigure
from .picture import text_size

SAVED = '<p class="depl0kit-saved">This explorer has no kernel yet: run this cell again.</p>'
CLOSED = '<p class="depl0kit-saved">This explorer was closed: run the cell again that made it.</p>'
# id of a cell -> the last run of this cell that made explorers, and these explorers
_MADE: "dict[str, tuple[str, list[Explorer]]]" = {}


class Explorer(widgets.VBox):
    """Controls, a live figure and a line of numbers; shows itself as the last line of a cell.

    A subclass makes the controls and the figure, and may override `numbers`. When a control changes, the
    figure's `draw` is called with the values of all controls, by name. An error in it is shown as one line
    under the figure, and kept in `error`. `reset_hint` says what the Reset button does; None: there is no
    such button.

    Args:
        figure: its `draw` takes the names of the controls as keywords.
        controls: name -> widget with a `value`; check boxes are placed beside the buttons.
        buttons: placed under the controls, before Reset.

    Attributes:
        controls: the widgets by name.
        figure: the live figure.
        error: the exception of the last drawing, or None.
    """

    reset_hint: str | None = "All controls back to where they started"

    def __init__(
        self,
        figure: LiveFigure,
        controls: Mapping[str, widgets.Widget],
        buttons: Sequence[widgets.Button] = (),
    ) -> None:
        self.figure, self.controls = figure, dict(controls)
        self.error: Exception | None = None
        self._start = self.state()
        self._line = widgets.HTML()
        self._line.add_class("depl0kit-line")
        if self.reset_hint is not None:
            buttons = [*buttons, button("Reset", "undo", self.reset_hint, self.reset)]
        boxes = [c for c in self.controls.values() if isinstance(c, widgets.Checkbox)]
        sliders = widgets.Box([c for c in self.controls.values() if c not in boxes])
        sliders.add_class("depl0kit-controls")
        row = widgets.HBox([*buttons, *boxes])
        row.add_class("depl0kit-buttons")
        super().__init__([sliders, row, figure.picture, self._line])
        self.add_class("depl0kit-explorer")
        if text_size() > 1:
            self.add_class("depl0kit-projector")
        self._replace_earlier()
        for control in self.controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def state(self) -> dict[str, Any]:
        """The values of all controls, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def numbers(self, **state: Any) -> str:
        """The text of the line under the figure."""
        return ""

    def redraw(self, _change: object = None) -> None:
        """Draw the current state; an error becomes one line."""
        try:
            text, wrong = self._show()
            self.error = None
        except Exception as error:  # shown to the reader, who does not see the traceback of a widget
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            wrong, self.error = True, error
        mark = "depl0kit-error" if wrong else "depl0kit-numbers"
        self._line.value = f'<span class="{mark}">{html.escape(text)}</span>'

    def _show(self) -> tuple[str, bool]:
        """Draw; returns the line under the figure, and whether it reports something wrong."""
        state = self.state()
        self.figure.update(**state)
        return self.numbers(**state), False

    def reset(self) -> None:
        """All controls back to their first values, and draw once."""
        with self._unwatched():
            for name, value in self._start.items():
                self.controls[name].value = value
        self.redraw()

    def close(self) -> None:
        """Remove the explorer from the page; it cannot be shown again."""
        if self.comm is None:  # ipywidgets closes a widget again when its memory is freed
            return
        for row in self.children:
            for child in (*getattr(row, "children", ()), row):
                _close_with_parts(child, child.close)
        self.figure.picture.png = b""
        _close_with_parts(self, super().close)

    def _replace_earlier(self) -> None:
        """Close the explorers of an earlier run of this cell, which would stay in memory."""
        shell = get_ipython()
        message = shell.get_parent() if hasattr(shell, "get_parent") else {}  # none outside a notebook
        cell, run = message.get("metadata", {}).get("cellId", ""), message.get("header", {}).get("msg_id", "")
        made_by, made = _MADE.get(cell, (run, []))
        if made_by != run:
            for explorer in made:
                explorer.close()
            made = []
        if cell:
            _MADE[cell] = run, [*made, self]

    @contextmanager
    def _unwatched(self) -> Iterator[None]:
        """Inside it, controls can be set, and nothing is drawn."""
        for control in self.controls.values():
            control.unobserve(self.redraw, "value")
        try:
            yield
        finally:
            for control in self.controls.values():
                control.observe(self.redraw, "value")

    def _ipython_display_(self) -> None:
        """Show the explorer; a saved notebook says how to show it again, as JupyterLab itself does not."""
        if self.comm is None:
            display(HTML(CLOSED))
            return
        display(HTML(SAVED))
        display(self._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and its picture for readers without a kernel (nbconvert, GitHub)."""
        bundle = super()._repr_mimebundle_(**kwargs)
        picture = base64.b64encode(self.figure.png).decode()
        return bundle | {"text/plain": self.figure.picture.alt, "image/png": picture}


def _close_with_parts(widget: widgets.Widget, close: Callable[[], None]) -> None:
    """Close a widget with its layout and style, which are widgets too and would stay."""
    parts = [getattr(widget, name, None) for name in ("layout", "style")]
    close()
    # anywidget keeps all its widgets as long as the kernel, and with them all objects that they call
    widget.unobserve_all()
    for part in parts:
        if isinstance(part, widgets.Widget):
            part.close()
