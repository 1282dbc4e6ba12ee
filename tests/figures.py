"""Checks that the tests of all figures share."""

import io
from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from depl0kit import plots

Draw = Callable[[Axes], list]


def saved(draw: Draw, size: tuple[float, float], projector: bool) -> tuple[Axes, list]:
    """Axes and artists of a figure after it was saved as a PNG; checks that there is something in it."""
    with plots.style(projector):
        figure = Figure(size, layout="constrained")
        ax = figure.subplots()
        artists = draw(ax)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    pixels = np.asarray(Image.open(file).convert("L"))
    assert (pixels < 250).mean() > 0.01
    return ax, artists


def assert_inside(ax: Axes, texts: Iterable[Text]) -> None:
    """No text reaches beyond the left or right side of the figure."""
    for text in (t for t in texts if t.get_text()):
        box, frame = text.get_window_extent(), ax.figure.bbox
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 + 1, text.get_text()


def assert_returns_all(draw: Draw) -> None:
    """A figure returns every artist that it adds."""
    ax = Figure().subplots()
    before = set(ax.get_children())
    artists = draw(ax)
    assert set(ax.get_children()) - before == set(artists)
