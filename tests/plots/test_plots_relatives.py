"""The figures of HALO's penalty and of channels that come back show what they should."""

import numpy as np
import pytest
import torch
from figures import assert_inside, assert_returns_all, saved
from matplotlib.colors import to_hex

from depl0kit import plots
from depl0kit.comparison.baselines.halo import closed_form
from depl0kit.plots.base import BLUE, VERMILLION
from depl0kit.plots.network import LIGHT

SIZES = {"one": 2, "two": 3}
MASKS = [
    [torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])],
    [torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0, 1.0])],
    [torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])],
]


def lives(ax=None):
    return plots.channel_lives(MASKS, SIZES, ax)


@pytest.mark.parametrize("projector", [False, True])
@pytest.mark.parametrize("draw", [lives, lambda ax: plots.penalties(ax=ax)], ids=["lives", "penalties"])
def test_they_are_saved_with_all_text_inside(draw, projector):
    assert_inside(*saved(draw, (9.6, 6) if projector else (6.4, 4), projector))
    assert_returns_all(draw)


def test_channels_that_come_back_are_told_from_those_that_stay():
    ax, (image, borders) = saved(lives, (6.4, 4), False)
    colours = {LIGHT: 0, BLUE: 1, VERMILLION: 2}
    shown = [[colours[to_hex(c).upper()] for c in row] for row in image.to_rgba(image.get_array())]
    assert shown == [[1, 1, 0], [0, 2, 1], [1, 0, 2], [0, 0, 0], [0, 2, 1]]
    assert ax.get_xlim() == (0.5, 3.5) and ax.get_ylim() == (5, 0)
    assert [float(y) for ((_, y), _) in borders.get_segments()] == [2.0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one\n(2)", "two\n(3)"]
    assert "5 channels" in ax.get_title("left")


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ([], "masks must have at least one entry"),
        ([MASKS[0], MASKS[0][:1]], r"the channels of masks\[1\]"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, says):
    with pytest.raises(ValueError, match=says):
        plots.channel_lives(masks, SIZES)


@pytest.mark.parametrize(("xi", "psi"), [(1.0, 1.0), (3.3e-5, 0.067)])
def test_lines_of_fixed_lambdas_are_those_of_the_penalty_and_touch_what_is_left(xi, psi):
    """Whatever the strengths: over the least penalty at n = 1."""
    at = [0.1, 0.5, 1.2]
    _, (tangents, curves, dots, *_) = saved(lambda ax: plots.penalties(at, ax), (6.4, 4), False)

    def penalty(n, touching):
        lam = float(closed_form(torch.tensor(touching, dtype=torch.float64), xi, psi))
        return xi * n / lam**2 + psi * lam

    whole = penalty(1.0, 1.0)
    for touching, line in zip(at, tangents.get_segments(), strict=True):
        assert np.allclose([penalty(n, touching) / whole for n, _ in line], line[:, 1])
    assert np.allclose(dots.get_offsets(), [(n, penalty(n, n) / whole) for n in at])
    l1, halo, l0 = curves.get_segments()
    assert np.allclose(halo[:, 1], [penalty(n, n) / whole if n else 0 for n in halo[:, 0]])
    assert np.array_equal(l1[:, 0], l1[:, 1])
    assert l0[0, 0] > 0 and set(l0[:, 1]) == {1.0}


@pytest.mark.parametrize(
    ("touching", "says"),
    [([], "touching must have"), ([0.0], "a norm of touching must"), ([1.6], "a norm of touching must")],
)
def test_norms_that_are_not_drawn_are_refused(touching, says):
    with pytest.raises(ValueError, match=says):
        plots.penalties(touching)
