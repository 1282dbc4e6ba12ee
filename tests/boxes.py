"""Where the texts of a drawn figure are, also slanted ones, and which of them cover each other."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from depl0kit.plots.base import Words

SLACK = 0.75  # pixels of each side of a box: space around letters


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes intersect. An Agg canvas must have drawn the figure."""
    found = [(text, np.array(box)) for text, box in text_boxes(figure)]
    return [(one, other) for (one, a), (other, b) in combinations(found, 2) if intersect(a, b)]


def cut(figure: Figure, width: float, height: float) -> list[str]:
    """Texts that reach beyond a picture of this size, in pixels."""
    return [
        text
        for text, box in text_boxes(figure)
        if box.min() < -1 or box[:, 0].max() > width + 1 or box[:, 1].max() > height + 1
    ]


def text_boxes(figure: Figure) -> Iterator[tuple[str, np.ndarray]]:
    """Every text that is seen, and the corners of its box in pixels, [4, 2]."""
    for ax in figure.axes:
        for text in seen(ax):
            if text.get_visible() and text.get_text().strip():
                yield text.get_text(), corners(text)
        for artist in ax.collections:
            if isinstance(artist, Words):
                yield from word_boxes(ax, artist)


def seen(ax: Axes) -> Iterator[Text]:
    yield from (ax.title, ax._left_title, ax._right_title, *ax.texts)
    if ax.axison:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            yield from (axis.label, axis.get_offset_text(), *tick_labels(axis, *sorted(limits)))


def tick_labels(axis: Axis, low: float, high: float) -> Iterator[Text]:
    for minor in (False, True):
        places = axis.get_minorticklocs() if minor else axis.get_majorticklocs()
        labels = axis.get_ticklabels(minor=minor)
        yield from (t for at, t in zip(places, labels, strict=False) if low - 1e-9 <= at <= high + 1e-9)


def corners(text: Text) -> np.ndarray:
    """Of the box around a text, turned as the text is."""
    text.set_bbox({"boxstyle": "square,pad=0"})
    text.update_bbox_position_size(text.figure.canvas.get_renderer())
    patch = text.get_bbox_patch()
    found = patch.get_transform().transform(patch.get_path().vertices[:4])
    text.set_bbox(None)
    return found


def word_boxes(ax: Axes, words: Words) -> Iterator[tuple[str, np.ndarray]]:
    places, scale = ax.transData.transform(words.get_offsets()), ax.figure.dpi / 72
    for text, place, path in zip(words.texts, places, words.get_paths(), strict=True):
        if text.strip():
            (left, bottom), (right, top) = path.vertices.min(0), path.vertices.max(0)
            box = np.array([(left, bottom), (right, bottom), (right, top), (left, top)])
            yield text, place + box * scale


def intersect(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two rectangles, [4, 2], share more than their edges: no side of either separates them."""
    for box in (one, other):
        for side in (box[1] - box[0], box[2] - box[1]):
            a, b = (np.sort(corners @ side / np.hypot(*side)) for corners in (one, other))
            if min(a[-1], b[-1]) - max(a[0], b[0]) <= 2 * SLACK:
                return False
    return True
