"""Names beside what they name: placed where there is room, and joined to it by thin lines."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import LineCollection, PathCollection

from .base import Words, sized

# in points: cells of the grid in which names find room, what is free around a name, from the middle of the
# marker before it to the name, and how far from its end it needs a line
CELL, MARGIN, KEY, BESIDE = 2.5, 3.5, 8.0, 12.0


class Leaders(LineCollection):
    """Thin lines from names to what they name. Before they are drawn, they put the names where there is room.

    Where that is depends on the size of the axes, which is known only then. A name is placed as near to its
    end as it can be without covering a run, a line or another name; beside its end it needs no line.

    Args:
        names: where they are now is what they name. They are moved.
        segments: all that must not be covered, [n, 2, 2] in data coordinates.
        keys: markers before the names, moved with them.
        aims: the point of each name that is best put at its end, in shares of its width and height.
        margin: what must be free around a name, in points, half of a marker included.
    """

    def __init__(
        self,
        ax: Axes,
        names: Words,
        segments: np.ndarray,
        aims: Sequence[tuple[float, float]],
        colours: str | Sequence[str],
        keys: PathCollection | None = None,
        margin: float = MARGIN,
    ) -> None:
        super().__init__([], colors=colours, linewidths=sized(0.8), zorder=4.5)  # before the names
        self._moved = [names] if keys is None else [names, keys]
        self._ends, self._segments, self._aims = names.get_offsets().copy(), segments, aims
        before, boxes = sized(KEY / 2) if keys else 0.0, [path.vertices for path in names.get_paths()]
        height = 2 * max(abs(box[:, 1]).max() for box in boxes)  # of all the same, around their middle
        self._sizes = np.array([(before + box[:, 0].max(), height) for box in boxes])  # points
        self._start = np.array([before, height / 2])  # of a name, from the lower left corner of its box
        self._shape: tuple[float, ...] | None = None  # of the axes for which names were placed
        self._margin, self._beside = sized(margin), sized(BESIDE)  # in the style that holds now
        ax.add_collection(self, autolim=False)

    def draw(self, renderer: RendererBase) -> None:
        ax = self.axes
        shape = *ax.bbox.bounds, *ax.get_xlim(), *ax.get_ylim(), self.figure.dpi
        if shape != self._shape:  # to move artists while all is as it was would ask for another drawing
            self._shape = shape
            self._place()
        super().draw(renderer)

    def _place(self) -> None:
        data, corner, scale = self.axes.transData, self.axes.bbox.p0, 72 / self.figure.dpi
        room = Room(self.axes.bbox.size * scale, self._margin)
        room.take_lines((data.transform(self._segments.reshape(-1, 2)) - corner).reshape(-1, 2, 2) * scale)
        boxes, lines = [], []
        ends = (data.transform(self._ends) - corner) * scale
        for end, size, aim in zip(ends, self._sizes, self._aims, strict=True):
            box = room.place(end, size, aim)
            start = np.clip(end, box, box + size)
            far = np.hypot(*(start - end)) > self._beside
            boxes.append(box + self._start)
            lines.append([start if far else end, end])
            room.take_lines(np.array(lines[-1:]))
        back = data.inverted().transform
        for artist in self._moved:
            artist.set_offsets(back(np.array(boxes) / scale + corner))
        self.set_segments(back(np.reshape(lines, (-1, 2)) / scale + corner).reshape(-1, 2, 2))


class Room:
    """Which cells of the axes are taken. All places and sizes are in points, from the lower left corner."""

    def __init__(self, size: np.ndarray, margin: float) -> None:
        columns, rows = np.maximum(1, np.ceil(size / CELL)).astype(int)
        self._taken, self._margin = np.zeros((rows, columns)), margin

    def take_lines(self, segments: np.ndarray) -> None:
        """Take the cells under these lines, [n, 2, 2]."""
        way = segments[:, 1] - segments[:, 0]
        steps = (abs(way).max(1) / CELL).astype(int) + 1
        along = (np.arange(steps.sum()) - (steps.cumsum() - steps).repeat(steps)) / steps.repeat(steps)
        points = segments[:, 0].repeat(steps, 0) + along[:, None] * way.repeat(steps, 0)
        column, row = np.floor(points / CELL).astype(int).T
        inside = (row >= 0) & (row < len(self._taken)) & (column >= 0) & (column < len(self._taken.T))
        self._taken[row[inside], column[inside]] = 1

    def place(self, end: np.ndarray, size: np.ndarray, aim: tuple[float, float]) -> np.ndarray:
        """Take a box of this size near `end`, where least is covered; returns its lower left corner."""
        high, wide = np.minimum(
            np.ceil((size[::-1] + 2 * self._margin) / CELL).astype(int), self._taken.shape
        )
        sums = np.pad(self._taken.cumsum(0).cumsum(1), (1, 0))
        covered = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
        y, x = (CELL * at + self._margin for at in np.indices(covered.shape, sparse=True))
        away = _distance(end[0] - np.clip(end[0], x, x + size[0]), end[1] - np.clip(end[1], y, y + size[1]))
        off_aim = _distance(x + aim[0] * size[0] - end[0], y + aim[1] * size[1] - end[1])
        row, column = np.unravel_index(np.argmin(away + off_aim / 4 + 100 * covered), covered.shape)
        self._taken[row : row + high, column : column + wide] = 1
        return np.array([column, row]) * CELL + self._margin


def _distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x**2 + y**2)  # three times as fast as `hypot`, as x and y are a row and a column
