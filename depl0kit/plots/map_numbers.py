"""Where the numbers of channels stand on the map of a network."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .base import word_width
from .map_plan import Track


class Strip(NamedTuple):
    """A rectangle of a track; a wrapped one has several."""

    track: int
    left: float
    right: float
    bottom: float
    top: float


def free_places(
    tracks: Sequence[Track],
    strips: Sequence[Strip],
    blocks: np.ndarray,
    taken: np.ndarray,
    em: float,
    width: float,
) -> dict[int, tuple[float, float]]:
    """By track the middle of its number: of the places around it the first that is free, if one is.

    Args:
        blocks, taken: left, right, bottom and top of each, [n, 4].
    """
    counts = {}
    for number, track in enumerate(tracks):
        own = [strip for strip in strips if strip.track == number]
        half = 0.5 * word_width(track.count, em) + 0.1 * em
        for x, y in _places(track.rail, own, blocks, half, em):
            left, right, bottom, top = x - half, x + half, y - 0.55 * em, y + 0.55 * em
            covered = (taken[:, 0] < right) & (taken[:, 1] > left)
            covered &= (taken[:, 2] < top) & (taken[:, 3] > bottom)
            if left >= 0 and right <= width and not covered.any():
                counts[number] = x, y
                taken = np.vstack([taken, (left, right, bottom, top)])
                break
    return counts


def _places(
    rail: bool, strips: Sequence[Strip], blocks: np.ndarray, half: float, em: float
) -> Iterable[tuple[float, float]]:
    """Middles of places for a text that is twice `half` wide, the best first."""
    for _, left, right, bottom, top in strips:
        if rail:
            yield left - half - 0.3 * em, (bottom + top) / 2
            yield left + half, top + 0.6 * em
            yield right - half, top + 0.6 * em
            yield right + half + 0.3 * em, (bottom + top) / 2
        else:  # above it, or above the blocks beside it
            x = (left + right) / 2
            beside = (blocks[:, 0] < x + half) & (blocks[:, 1] > x - half)
            beside &= (blocks[:, 2] < top) & (blocks[:, 3] > bottom)
            yield x, top + 0.6 * em
            yield x, max([top, *blocks[beside, 3]]) + 0.6 * em
