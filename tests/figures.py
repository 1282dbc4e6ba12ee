"""Checks that the tests of all figures share."""

import io
from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from depl0kit import plots
from depl0kit.plots.base import Words

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


def assert_inside(ax: Axes, artists: Iterable[Artist]) -> None:
    """No text among the artists reaches beyond the left or right side of the figure."""
    texts = [(a, a.get_text()) for a in artists if isinstance(a, Text) and a.get_text()]
    for artist, what in [*texts, *((a, a.texts) for a in artists if isinstance(a, Words))]:
        box, frame = artist.get_window_extent(), ax.figure.bbox
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 + 1, what


def assert_returns_all(draw: Draw) -> None:
    """A figure returns every artist that it adds."""
    ax = Figure().subplots()
    before = set(ax.get_children())
    artists = draw(ax)
    assert set(ax.get_children()) - before == set(artists)
