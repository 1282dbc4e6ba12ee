"""A matplotlib figure that follows sliders.

Redrawing a whole figure for every move of a slider takes half a second. Here labels, ticks and axes
are drawn once and kept as a background. A move draws only the artists with new data, and sends the
picture, in the resolution of the reader's screen, to a small front end.

Text has the same size in cells of any width: the figure is laid out for the width of its cell, and panels
that do not fit side by side are placed below each other.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ...plots.base import LIVE, settings, tick_names
from ...support import checked, checks
from .picture import Picture, encode_png, text_size

_DPI = 100  # of a figure at normal text size, one screen pixel per CSS pixel; 10 points are 14 pixels then
_RATIOS = 0.5, 4  # screen pixels per CSS pixel that are drawn
_PADS = 0.12, 0.08  # inches left and right of each panel, and above and below it
SQUEEZE = 0.75  # share of its natural width to which a figure may shrink before another layout is chosen
STRETCH = 1.25  # multiple of its natural height to which a figure may grow in a wide cell
# matplotlib shares caches of fonts and parsed text between figures: one thread draws at a time
_DRAWING = threading.RLock()


@dataclass(frozen=True)
class Layout:
    """Panels in a cell of some width, all in CSS pixels at normal text size.

    Attributes:
        mosaic: the panels, as in `Figure.subplot_mosaic`: "abc" are three in a row, "ab;cc" two over a wide
            one.
        width: the least width in which labels fit.
        height: of the picture.
        gridspec: as in `Figure.subplot_mosaic`, e.g. `{"width_ratios": (2, 1)}`.
    """

    mosaic: str
    width: float
    height: float
    gridspec: Mapping[str, Any] = field(default_factory=dict)


class LiveFigure:
    """A figure that is drawn again and again, fast, and from any thread.

    Args:
        draw: `draw(*axes, **state) -> artists`, called by every `update`. It follows the
            conventions of `depl0kit.plots`: it returns every artist that it adds, and may set everything
            else (limits, labels, ticks) again. Artists of the previous call that it returns again are kept
            at no cost, below the new ones.
        size: natural width and height in CSS pixels, at normal text size.
        mosaic: the panels (see `Layout`). `draw` gets their axes in this order.
        alt: what the figure shows, in words, for screen readers.
        narrower: layouts with the same panels for narrower cells, widest first.
        gridspec: as in `Figure.subplot_mosaic`, e.g. `width_ratios=(2, 1)`.

    Attributes:
        picture: the widget that shows it.
        axes: the panels' axes, in the order of the mosaic; new objects after a change of layout.

    Panels are arranged once, after the first `update`: leave room for the longest tick label, or call
    `arrange_again` before an `update` with other labels.
    """

    @checked
    def __init__(
        self,
        draw: Callable[..., Sequence[Artist]],
        size: tuple[int, int] = (880, 320),
        mosaic: str = "a",
        alt: str = "",
        narrower: Sequence[Layout] = (),
        **gridspec: Any,
    ) -> None:
        width, height = (checks.whole("size", side, 50) for side in size)
        self.picture = Picture(alt=alt)
        self._draw, self._width, self._text = draw, width, text_size()
        self._layouts = [Layout(mosaic, SQUEEZE * width, height, gridspec), *narrower]
        self._figure = Figure()
        self._canvas = FigureCanvasAgg(self._figure)
        self._layout: Layout | None = None
        self._state: dict[str, Any] | None = None  # of the last update
        self._fit()
        self.picture.observe(self._follow_screen, "screen")

    def update(self, **state: Any) -> None:
        """Draw `state` and show it.

        If `draw` raises, the figure stays as it was, and the exception is raised.
        """
        with _DRAWING, settings(LIVE):
            self._replace(self._new_artists(state))
            self._state = state
            if isinstance(engine := self._figure.get_layout_engine(), ConstrainedLayoutEngine):
                engine.execute(self._figure)  # not at every update: it costs as much as ten drawings
                self._figure.set_layout_engine("none")
                self._widen()
                self._replace(self._new_artists(state))  # what is drawn may depend on the size of its axes
            self._show()

    def arrange_again(self) -> None:
        """Let the next `update` place the panels again."""
        with _DRAWING:
            self._laid: tuple[object, Sequence[Artist]] = None, []
            self._figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=_PADS[0], h_pad=_PADS[1]))

    @property
    def png(self) -> bytes:
        """The picture of the last `update`; empty before the first."""
        return self.picture.png

    def on_pointer(self, tell: Callable[[int, float, float], None]) -> None:
        """Call `tell(panel, x, y)`, in data coordinates, where the mouse is pressed in a panel, and wherever
        it is dragged then; `picture.pointer` counts the presses.
        """
        held: int | None = None  # the panel in which it was pressed

        def locate(change: Mapping[str, Any]) -> None:
            nonlocal held
            across, down, press = change["new"]
            width, height = self._canvas.get_width_height(physical=True)
            pixel = across * width, (1 - down) * height
            if press != change["old"][2]:
                held = next((i for i, ax in enumerate(self.axes) if ax.bbox.contains(*pixel)), None)
            if held is not None:
                tell(held, *self.axes[held].transData.inverted().transform(pixel))

        self.picture.follows = True
        self.picture.observe(locate, "pointer")

    def _repr_png_(self) -> bytes | None:
        return self.png or None

    def _follow_screen(self, _change: object) -> None:
        with _DRAWING:
            self._fit()
            if self._state is not None:
                self.update(**self._state)

    def _fit(self) -> None:
        """Give the figure the size of its cell on the screen, and the layout that fits."""
        across, ratio = self.picture.screen
        room = across / self._text or self._width
        layout = next((one for one in self._layouts if room >= one.width), self._layouts[-1])
        width = max(room, layout.width)
        height = layout.height
        if layout is self._layouts[0]:
            height *= min(max(width / self._width, 1), STRETCH)
        self._figure.dpi = _DPI * self._text * min(max(ratio, _RATIOS[0]), _RATIOS[1])
        self._figure.set_size_inches(width / _DPI, height / _DPI)
        self.picture.least = int(layout.width * self._text) if room < layout.width else 0
        self._height = round(height * self._text)
        if layout is not self._layout:
            self._make_panels(layout)
        self.arrange_again()

    def _make_panels(self, layout: Layout) -> None:
        self._figure.clear()
        with settings(LIVE):
            try:
                panels = self._figure.subplot_mosaic(layout.mosaic, **layout.gridspec)
            except ValueError as error:
                raise ValueError(
                    f"mosaic must be rows of letters, each letter a rectangle, such as 'ab;cc', "
                    f"got {layout.mosaic!r}."
                ) from error
        names = dict.fromkeys(self._layouts[0].mosaic.replace(";", ""))
        self.axes = [panels[name] for name in names]
        self._layout = layout
        self._artists: Sequence[Artist] = []
        self._still: Sequence[Artist] = []  # those kept since the previous update
        self._background: Any = None  # pixels of the axes
        self._ground: Any = None  # the background and the kept artists, as of `_laid`

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

    def _widen(self) -> None:
        """Panels without labels that are alone in their row lose no width to the labels of others."""
        pad = _PADS[0] / self._figure.get_figwidth()
        for ax in self.axes:
            place, box = ax.get_subplotspec(), ax.get_position()
            if not ax.axison and place.is_first_col() and place.is_last_col():
                ax.set_position((pad, box.y0, 1 - 2 * pad, box.height))
                ax.set_in_layout(True)  # `set_position` would keep it where it is for ever

    def _replace(self, new: Sequence[Artist]) -> None:
        for artist in self._artists:
            if artist not in new:
                artist.remove()
        self._artists, self._still = new, [artist for artist in new if artist in self._artists]

    def _children(self) -> set[Artist]:
        return {child for ax in self.axes for child in ax.get_children()}

    def _show(self) -> None:
        self._lay_ground()
        self._draw_artists(artist for artist in self._artists if artist not in self._still)
        png = encode_png(np.asarray(self._canvas.buffer_rgba()))
        if self.picture.height == self._height:
            self.picture.png = png
        else:
            # in one message, or the browser would show the picture at its old height
            with self.picture.hold_sync():
                self.picture.height, self.picture.png = self._height, png

    def _lay_ground(self) -> None:
        """Draw the background and the kept artists on the canvas; if both are unchanged, copy them."""
        size = self._figure.dpi, *self._figure.get_size_inches()
        look = size, [_look(ax) for ax in self.axes]
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


def _look(ax: Axes) -> tuple[Any, ...]:
    """What the background of `ax` shows, as something cheap to compare."""
    axes = [
        (axis.get_label_text(), axis.get_scale(), tuple(axis.get_majorticklocs()), tick_names(axis))
        for axis in (ax.xaxis, ax.yaxis)
    ]
    return ax.axison, ax.get_title(loc="left"), ax.get_title(), ax.get_xlim(), ax.get_ylim(), *axes
