"""A matplotlib figure that follows sliders, and the base of all explorers.

Drawing a figure anew for every move of a slider takes half a second. Here labels, ticks and axes
are drawn once and kept as a background; a move removes and draws only the artists that hold data, and
of these only the ones that are new, and sends the picture, at the pixels of the reader's screen, to a
small front end.
"""

import base64
import html
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .. import checks
from ..plots.base import LIVE, settings, tick_names

_DPI = 100  # of a figure at ratio 1; a 10 point text is then 14 pixels high
# matplotlib shares caches of fonts and parsed text between figures: one thread draws at a time
_DRAWING = threading.RLock()


class Picture(anywidget.AnyWidget):
    """A PNG in the browser that fills its cell and says how many pixels it can use.

    Traits:
        png: the picture.
        width, height: its natural size in CSS pixels; it grows with its cell, up to half as large
            again or 1320 pixels wide.
        ratio: pixels of the screen per natural pixel, set by the browser.
        alt: what the picture shows, in words.
        pointer: where the mouse was last pressed or dragged: shares (0..1) of width, from the left, and
            of height, from the top, and a count, so that two presses at one place are two.
        follows: whether the browser reports the pointer at all.
    """

    _esm = Path(__file__).with_name("picture.js")
    _css = Path(__file__).with_name("picture.css")
    png = traitlets.Bytes(b"").tag(sync=True)
    width = traitlets.Int(880).tag(sync=True)
    height = traitlets.Int(320).tag(sync=True)
    ratio = traitlets.Float(1.0).tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    pointer = traitlets.List([0.0, 0.0, 0]).tag(sync=True)
    follows = traitlets.Bool(False).tag(sync=True)


class LiveFigure:
    """A figure that is drawn again and again, fast, and from any thread.

    Args:
        draw: `draw(*axes, **state) -> artists`, called by every `update`. It follows the
            conventions of `depl0kit.plots`: it returns every artist that it adds, and whatever
            else it sets (limits, labels, ticks) it can set again. Artists of the call before that it
            returns once more stay as they are, and cost nothing; they lie under those that are new.
        size: width and height in CSS pixels.
        mosaic: the panels, as in `Figure.subplot_mosaic`: "abc" are three in a row, "ab;cc" two
            over a wide one. `draw` gets their axes in this order.
        alt: what the figure shows, in words, for screen readers.
        gridspec: as in `Figure.subplot_mosaic`, e.g. `width_ratios=(2, 1)`.

    Attributes:
        picture: the widget that shows it.
        axes: the panels' axes, in the order of the mosaic.

    Panels are arranged once, after the first `update`: leave room for the longest tick label, or call
    `arrange_again` before an `update` with other labels.
    """

    def __init__(
        self,
        draw: Callable[..., Sequence[Artist]],
        size: tuple[int, int] = (880, 320),
        mosaic: str = "a",
        alt: str = "",
        **gridspec: Any,
    ) -> None:
        width, height = (checks.whole("size", side, 50) for side in size)
        self.picture = Picture(width=width, height=height, alt=alt)
        self._draw = draw
        self._figure = Figure((width / _DPI, height / _DPI), dpi=_DPI)
        self.arrange_again()
        self._canvas = FigureCanvasAgg(self._figure)
        with settings(LIVE):
            self.axes = list(self._figure.subplot_mosaic(mosaic, **gridspec).values())
        self._artists: Sequence[Artist] = []
        self._still: Sequence[Artist] = []  # those that stayed since the update before
        self._background: Any = None  # pixels of the axes
        self._ground: Any = None  # the background, and on it what stays: those of `_laid`
        self.picture.observe(self._follow_screen, "ratio")

    def update(self, **state: Any) -> None:
        """Draw `state` and show it.

        If `draw` raises, the figure stays as it was and the exception goes to the caller.
        """
        with _DRAWING, settings(LIVE):
            new = self._new_artists(state)
            for artist in self._artists:
                if artist not in new:
                    artist.remove()
            self._artists, self._still = new, [artist for artist in new if artist in self._artists]
            self._arrange_once()
            self._show()

    def arrange_again(self) -> None:
        """Let the next `update` place the panels anew."""
        self._laid: tuple[object, Sequence[Artist]] = None, []
        self._figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))  # inches

    @property
    def png(self) -> bytes:
        """The picture of the last `update`; empty before the first."""
        return self.picture.png

    def on_pointer(self, tell: Callable[[int, float, float], None]) -> None:
        """Call `tell(panel, x, y)`, in data coordinates, where the mouse is pressed or dragged in a panel."""

        def locate(change: Mapping[str, Any]) -> None:
            across, down, _ = change["new"]
            width, height = self._canvas.get_width_height(physical=True)
            pixel = across * width, (1 - down) * height
            for panel, ax in enumerate(self.axes):
                if ax.bbox.contains(*pixel):
                    tell(panel, *ax.transData.inverted().transform(pixel))

        self.picture.follows = True
        self.picture.observe(locate, "pointer")

    def _repr_png_(self) -> bytes | None:
        return self.png or None

    def _new_artists(self, state: dict[str, Any]) -> list[Artist]:
        before = self._children()
        try:
            returned = list(self._draw(*self.axes, **state))
            if stray := self._children() - before - set(returned):
                raise TypeError(f"draw must return every artist that it adds; missing: {stray.pop()!r}.")
            if gone := set(returned) - self._children():
                raise TypeError(f"draw returned an artist that is no longer in the figure: {gone.pop()!r}.")
        except Exception:
            for artist in self._children() - before:
                artist.remove()
            raise
        for artist in returned:
            artist.set_animated(True)  # left out of the background
        return sorted(returned, key=Artist.get_zorder)

    def _children(self) -> set[Artist]:
        return {child for ax in self.axes for child in ax.get_children()}

    def _arrange_once(self) -> None:
        """Place the panels; again and again, that would cost ten drawings each."""
        if isinstance(engine := self._figure.get_layout_engine(), ConstrainedLayoutEngine):
            engine.execute(self._figure)
            self._figure.set_layout_engine("none")

    def _show(self) -> None:
        self._lay_ground()
        self._draw_artists(artist for artist in self._artists if artist not in self._still)
        self.picture.png = _png(np.asarray(self._canvas.buffer_rgba()))

    def _lay_ground(self) -> None:
        """Put the background and what stays on the canvas; a copy, if both are as before."""
        look = self._figure.dpi, [_look(ax) for ax in self.axes]
        if (look, self._still) == self._laid:
            self._canvas.restore_region(self._ground)
            return
        if look != self._laid[0]:
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self._figure.bbox)
        else:
            self._canvas.restore_region(self._background)
        self._draw_artists(self._still)
        self._ground = self._canvas.copy_from_bbox(self._figure.bbox) if self._still else self._background
        self._laid = look, self._still

    def _draw_artists(self, artists: Iterable[Artist]) -> None:
        renderer = self._canvas.get_renderer()
        for artist in artists:
            artist.draw(renderer)

    def _follow_screen(self, change: Mapping[str, Any]) -> None:
        with _DRAWING, settings(LIVE):
            self._figure.dpi = _DPI * min(max(change["new"], 0.5), 4)
            if self._artists:
                self._show()


class Explorer(widgets.VBox):
    """Controls, a live figure and a line of numbers; shows itself as the last line of a cell.

    A subclass makes the controls and the figure and may override `numbers`. Every change of a
    control calls the figure's `draw` with the values of all controls, by name. What goes wrong
    there is shown as one line under the figure and kept in `error`. `reset_hint` says what Reset does;
    with None there is no such button.

    Args:
        figure: its `draw` takes the controls' names as keywords.
        controls: name -> widget with a `value`.
        buttons: shown under the controls, before Reset.

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
            reset = button("Reset", "undo", self.reset_hint)
            reset.on_click(lambda _: self.reset())
            buttons = [*buttons, reset]
        sliders = widgets.Box(list(self.controls.values()))
        sliders.add_class("depl0kit-controls")
        super().__init__([sliders, widgets.HBox(list(buttons)), figure.picture, self._line])
        self.add_class("depl0kit-explorer")
        self._watch(True)
        self.redraw()

    def state(self) -> dict[str, Any]:
        """The values of all controls, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def numbers(self, **state: Any) -> str:
        """The live line under the figure, as plain text."""
        return ""

    def redraw(self, _change: object = None) -> None:
        """Draw the present state; an error becomes one line."""
        try:
            text, wrong = self._show()
            self.error = None
        except Exception as error:  # shown to the reader: a traceback in a widget reaches nobody
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            wrong, self.error = True, error
        self._say(text, wrong)

    def _show(self) -> tuple[str, bool]:
        """Draw; returns the line under the figure, and whether it tells of something wrong."""
        state = self.state()
        self.figure.update(**state)
        return self.numbers(**state), False

    def _say(self, text: str, wrong: bool) -> None:
        """Plain text in the line under the figure."""
        mark = "depl0kit-error" if wrong else "depl0kit-numbers"
        self._line.value = f'<span class="{mark}">{html.escape(text)}</span>'

    def reset(self) -> None:
        """All controls back to where they started; one drawing."""
        self._watch(False)
        for name, value in self._start.items():
            self.controls[name].value = value
        self._watch(True)
        self.redraw()

    def close(self) -> None:
        """Remove the explorer from the page, with everything in it."""
        for row in self.children:
            for child in (*getattr(row, "children", ()), row):
                child.close()
        super().close()

    def _watch(self, on: bool) -> None:
        for control in self.controls.values():
            (control.observe if on else control.unobserve)(self.redraw, "value")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and its picture for readers without a kernel (nbconvert, GitHub)."""
        bundle = super()._repr_mimebundle_(**kwargs)
        picture = base64.b64encode(self.figure.png).decode()
        return bundle | {"text/plain": self.figure.picture.alt, "image/png": picture}


def float_slider(
    label: str, value: float, low: float, high: float, step: float, digits: int = 2, hint: str = ""
) -> widgets.FloatSlider:
    """A slider from `low` to `high` that shows `digits` decimals; `hint` appears under the mouse.

    Raises:
        ValueError: `value` lies outside the range.
    """
    return widgets.FloatSlider(
        checks.number(label, value, low, high), min=low, max=high, step=step, readout_format=f".{digits}f",
        description=label, tooltip=hint or label,
    )  # fmt: skip


def log_slider(
    label: str, value: float, low: float, high: float, off: bool = False, hint: str = ""
) -> widgets.SelectionSlider:
    """A slider over ten values a decade, and `value` itself; `off` adds 0 at the left end.

    Its `.value` is the number itself, not its logarithm, and 0 for "off".

    Raises:
        ValueError: `value` lies outside the range (0 is inside it with `off`), or low <= 0.
    """
    checks.number(f"{label}, low", low, 0, open_low=True)
    if not (off and value == 0):
        checks.number(label, value, low, high)
    first, last = np.ceil(10 * np.log10(low) - 1e-9), np.floor(10 * np.log10(high) + 1e-9)
    decades = {float(f"{10 ** (tenth / 10):.2g}") for tenth in np.arange(first, last + 1)}
    numbers = sorted(decades | {float(value)} - {0.0})
    options = _named(([0.0] if off else []) + numbers)
    return widgets.SelectionSlider(
        options=options, value=float(value), description=label, tooltip=hint or label
    )


def set_slider(slider: widgets.Widget, value: float) -> None:
    """Put a `float_slider` or `log_slider` at `value`, which is added to it if it is not there."""
    if isinstance(slider, widgets.FloatSlider):
        slider.min, slider.max = min(slider.min, value), max(slider.max, value)
    else:
        numbers = {number for _, number in slider.options}
        if value not in numbers:
            slider.options = _named(sorted(numbers | {float(value)}))
    slider.value = value


def _named(numbers: Sequence[float]) -> list[tuple[str, float]]:
    return [(f"{number:.3g}" if number else "off", number) for number in numbers]


def button(label: str, icon: str = "", hint: str = "") -> widgets.Button:
    """A button with an icon of Font Awesome 4 and a hint that appears under the mouse."""
    return widgets.Button(description=label, icon=icon, tooltip=hint or label)


def _look(ax: Axes) -> tuple[Any, ...]:
    """What the background of `ax` shows, as something cheap to compare."""
    axes = [
        (axis.get_label_text(), axis.get_scale(), tuple(axis.get_majorticklocs()), tick_names(axis))
        for axis in (ax.xaxis, ax.yaxis)
    ]
    return ax.axison, ax.get_title(loc="left"), ax.get_title(), ax.get_xlim(), ax.get_ylim(), *axes


def _png(pixels: np.ndarray) -> bytes:
    """`pixels` (uint8 [height, width, 4]) as a PNG, three times as fast as a general encoder.

    Most rows of a figure are like the row above them: the differences, at the fastest zlib level, do
    nearly as well in size as any other choice, and take two thirds of the time of the pixels themselves.
    """
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, -1)
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = 2  # a row begins with its filter: 2 is the difference to the row above
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
