"""The figure of singular values shows what is kept."""

import numpy as np
import pytest
from figures import assert_inside, assert_returns_all, saved

from depl0kit import plots
from depl0kit.plots.base import BLUE, Words

VALUES = {"one": [4.0, 2.0, 2.0, 1.0], "two": [3.0, 0.0], "zero": [0.0, 0.0], "whole": [5.0]}
RANKS = {"one": 2, "two": 1, "zero": 1}


def draw(ax=None):
    return plots.singular_values(VALUES, RANKS, ax)


@pytest.mark.parametrize("projector", [False, True])
def test_it_is_saved_with_all_text_inside(projector):
    assert_inside(*saved(draw, (9.6, 6) if projector else (6.4, 4), projector))
    assert_returns_all(draw)


def test_it_shows_the_energy_and_the_cut():
    ax, (areas, numbers) = saved(draw, (6.4, 4), False)
    assert isinstance(numbers, Words)
    assert numbers.texts == ("2: 80 %", "1: 100 %", "1: 0 %", "whole")  # 20 of 25; of nothing, nothing
    assert [label.get_text() for label in ax.get_yticklabels()] == list(VALUES)
    kept, dropped = np.split(np.array(areas.get_paths(), dtype=object), 2)
    assert [path.vertices[:, 0].max() for path in kept] == [0.5, 0.5, 0.5, 1]
    assert [path.vertices[:, 0].min() for path in dropped] == [0.5, 0.5, 0.5, 1]
    colours = areas.get_facecolors()
    assert len(np.unique(colours[:4], axis=0)) == len(np.unique(colours[4:], axis=0)) == 1
    assert plots.base.mpl.colors.to_hex(colours[0]).upper() == BLUE
    first = kept[0].vertices
    heights = 1 - first[first[:, 1] < 1, 1]
    assert np.allclose(heights[::2] / heights[0], [1, 0.5])


@pytest.mark.parametrize(
    ("values", "ranks", "says"),
    [
        ({}, {}, "values must have at least one entry"),
        (VALUES, {"one": 5}, r"ranks\['one'\] must be a whole number of at least 1 and at most 4, got 5"),
        (VALUES, {"one": 0}, "at least 1 and at most 4, got 0"),
    ],
)
def test_bad_input_is_refused(values, ranks, says):
    with pytest.raises(ValueError, match=says):
        plots.singular_values(values, ranks)
