"""Figures and explorers of exact posteriors show the numbers they are given, and answer at once."""

import asyncio
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import PcolorImage
from matplotlib.lines import Line2D
from matplotlib.text import Text

from depl0kit import plots
from depl0kit.gates.exact.fits import fit_mean_field
from depl0kit.gates.exact.problems import collinear_regression, gates_in_series
from depl0kit.lab import CollinearExplorer, SeriesExplorer
from depl0kit.lab import exact as lab_exact
from depl0kit.lab.exact import GAINS, _series

PAIRS = np.array([[0.05, 0.45, 0.4, 0.1], [0.7, 0.1, 0.12, 0.08]])
GROUPS = pd.DataFrame({"group": ["a", "b"], "entropy": [0.2, 0.9], "undecided": [0.0, 0.75]})
TRAILS = {"mean field": ([0, 1, 2], [0.1, 0.1, 0.9]), "chain": ([], [])}
FIGURES = {
    "pair_states": lambda ax: plots.pair_states(PAIRS, "exact", ax),
    "likeliest_masks": lambda ax: plots.likeliest_masks(
        np.array([0.1, 0.6, 0.3]), {"mean field": np.array([0.0, 1.0, 0.0])}, ax
    ),
    "all_open_curve": lambda ax: plots.all_open_curve(np.arange(4.0), np.linspace(0, 1, 4), TRAILS, ax),
    "open_gates": lambda ax: plots.open_gates({"exact": np.array([0.2, 0.8]), "x": np.array([1.0, 0])}, ax),
    "kl_curves": lambda ax: plots.kl_curves([0, 1], {"mean field": [0.1, 2.0], "chain": [0, 0.1]}, "r", ax),
    "group_entropy": lambda ax: plots.group_entropy(GROUPS, ax),
    "coupling_spectrum": lambda ax: plots.coupling_spectrum(
        {"free": np.ones(4), "one": np.eye(4)[0] * 4}, ax
    ),
}


def only(kind, artists):
    return [a for a in artists if isinstance(a, kind)]


def texts(artists):
    return [a.get_text() for a in only(Text, artists)]


def heights(collection):
    return [path.get_extents().ymax for path in collection.get_paths()]


@pytest.mark.parametrize("name", list(FIGURES))
def test_figure_returns_all_that_it_adds_and_keeps_its_background(name):
    ax = Figure().subplots()
    ax.set_title("")
    before = set(ax.get_children())
    first = FIGURES[name](ax)
    assert set(first) == set(ax.get_children()) - before
    limits, scale = (ax.get_xlim(), ax.get_ylim()), ax.get_yscale()
    for artist in first:
        artist.remove()
    assert len(FIGURES[name](ax)) == len(first)
    assert (limits, scale) == ((ax.get_xlim(), ax.get_ylim()), ax.get_yscale())


@pytest.mark.parametrize("name", list(FIGURES))
def test_figure_makes_axes_of_its_own(name):
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    assert FIGURES[name](None)
    for number in set(plt.get_fignums()) - before:
        plt.close(number)


def test_pairs_are_shown_with_their_numbers():
    artists = FIGURES["pair_states"](Figure().subplots())
    np.testing.assert_array_equal(only(PcolorImage, artists)[0].get_array(), PAIRS)
    assert texts(artists) == ["0.45", "0.40", "0.10", "0.70", "0.10", "0.12"]  # from 0.1 on


def test_likeliest_masks_come_first_and_the_rest_of_the_mass_is_told():
    exact, other = np.array([0.1, 0.6, 0.3]), np.array([0.5, 0.2, 0.3])
    artists = plots.likeliest_masks(exact, {"mean field": other}, Figure().subplots(), count=2)
    assert heights(only(PolyCollection, artists)[0]) == [0.6, 0.3]
    assert only(Line2D, artists)[0].get_ydata().tolist() == [0.2, 0.3]
    assert texts(artists)[0].startswith("mean field: 0.50") and texts(artists)[1] == "exact: 0.90"


def test_equally_likely_masks_keep_their_order():
    exact = np.full(4, 0.25) + np.array([0, 1, -1, 2]) * 1e-16
    q = np.array([0.1, 0.2, 0.3, 0.4])
    artists = plots.likeliest_masks(exact, {"q": q}, Figure().subplots())
    assert only(Line2D, artists)[0].get_ydata().tolist() == q.tolist()


def test_curve_trail_and_its_end():
    curve, trail, end, empty = only(Line2D, FIGURES["all_open_curve"](Figure().subplots()))
    assert curve.get_ydata().tolist() == np.linspace(0, 1, 4).tolist()
    assert trail.get_ydata() == [0.1, 0.1, 0.9] and end.get_xdata() == [2]
    assert len(empty.get_xdata()) == 0


def test_open_gates_stand_side_by_side():
    first, second = only(PolyCollection, FIGURES["open_gates"](Figure().subplots()))
    assert heights(first) == [0.2, 0.8] and heights(second)[0] == 1
    left = [[p.get_extents().xmin for p in bars.get_paths()] for bars in (first, second)]
    assert np.allclose(np.subtract(left[1], left[0]), 0.4)


def test_kls_end_at_their_names():
    artists = FIGURES["kl_curves"](Figure().subplots())
    assert [line.get_ydata() for line in only(Line2D, artists)] == [[0.1, 2.0], [0, 0.1]]
    assert texts(artists) == ["mean field", "chain"]


def test_entropy_bars_and_undecided_lines():
    artists = FIGURES["group_entropy"](Figure().subplots())
    assert heights(only(PolyCollection, artists)[0]) == [0.2, 0.9]
    assert [s[0][1] for s in only(LineCollection, artists)[0].get_segments()] == [0, 0.75]


def test_spectrum_says_how_many_directions():
    assert texts(FIGURES["coupling_spectrum"](Figure().subplots())) == ["free: 4 of 4", "one: 1 of 4"]


# ---- explorers


@pytest.fixture(scope="module")
def shared():
    explorer = CollinearExplorer()
    yield explorer
    explorer.close()


@pytest.fixture
def collinear(shared):
    """Where it starts: what a test chose is undone."""
    yield shared
    assert shared.error is None
    shared.reset()


@pytest.fixture
def series():
    explorer = SeriesExplorer()
    yield explorer
    assert explorer.error is None
    explorer.close()


def test_collinear_explorer_tells_the_numbers_of_its_fits(collinear):
    start, slider = collinear.figure.png, collinear.controls["correlation"]
    slider.value = 0.99
    target = collinear_regression(0.99)
    line = collinear.numbers(0.99)
    assert f"mean field {fit_mean_field(target).kl:.3f}" in line and "chain 0.00" in line
    assert f"exact {target.correlation()[0, 1]:.2f}, mean field 0.00" in line
    assert collinear.figure.png != start
    slider.value = 0.9
    assert collinear.figure.png == start


def test_one_optimum_and_several_optima(collinear):
    assert "(1 optimum found)" in collinear.numbers(0.0)
    assert " optima found)" in collinear.numbers(0.9)


@pytest.mark.slow
def test_no_number_is_minus_zero():
    """At a gain of 0 gates are independent: both families reach KL 0, up to rounding."""
    explorer = SeriesExplorer(0)
    assert "KL from exact: mean field 0.000, chain 0.000" in explorer.numbers(0)
    assert min(explorer._mean_field.kls) >= 0
    explorer.close()


@pytest.mark.slow
def test_collinear_explorer_starts_where_it_is_told():
    explorer = CollinearExplorer(0.333)
    assert explorer.controls["correlation"].value == 0.333
    explorer.close()
    with pytest.raises(ValueError, match=r"correlation must be a number in \[0, 0.99\], got 1"):
        CollinearExplorer(1)


@pytest.mark.slow
def test_mean_field_remembers_and_the_chain_does_not(series):
    """Hysteresis: at a gain of 12 mean field says 0 on the way up and 1 on the way down."""
    start, slider = series.figure.png, series.controls["gain"]
    for gain in (6, 9, 12):
        slider.value = gain
    up, line = series.trail[-1], series.numbers(12)
    picture = series.figure.png
    for gain in (30, 20, 12):
        slider.value = gain
    down = series.trail[-1]
    exact = float(gates_in_series(12).prob[-1])
    assert up[1] < 0.01 and down[1] > 0.99
    assert up[2] == down[2] == pytest.approx(exact, abs=0.02)
    assert series.figure.png != picture and series.numbers(12) != line
    series.reset()
    assert series.figure.png == start and len(series.trail) == 1


@pytest.mark.slow
def test_a_fast_drag_takes_the_steps_of_a_slow_one(series):
    """There and back in two jumps: the same points, the same picture, whatever the slider has skipped."""
    slow = SeriesExplorer()
    for tenth in (*range(35, 301, 5), *range(295, 119, -5)):
        slow.controls["gain"].value = tenth / 10
    for gain in (30, 12):
        series.controls["gain"].value = gain
    assert series.trail == slow.trail and len(slow.trail) == 91
    assert series.figure.png == slow.figure.png
    assert series.numbers(12) == slow.numbers(12)
    jumps = [gain for (gain, p, _), (_, q, _) in itertools.pairwise(series.trail) if abs(q - p) > 0.5]
    assert jumps == [25.5]  # the one optimum that vanishes on the way, at 25.83
    slow.close()


@pytest.mark.slow
def test_a_walk_begins_between_two_steps_and_ends_at_the_slider():
    explorer = SeriesExplorer(3.3)
    explorer.controls["gain"].value = 5
    assert [gain for gain, *_ in explorer.trail] == [3.3, 3.5, 4, 4.5, 5]
    explorer.close()


@pytest.mark.slow
def test_chains_are_fitted_while_nothing_else_happens():
    """Then a jump over the whole slider need not wait for sixty fits."""

    async def fits_before_and_after_a_jump():
        explorer = SeriesExplorer()
        while (fits := _series.cache_info().currsize) < len(GAINS):
            await asyncio.sleep(0)
        explorer.controls["gain"].value = 30
        explorer.close()
        return fits, _series.cache_info().currsize

    _series.cache_clear()
    assert asyncio.run(fits_before_and_after_a_jump()) == (len(GAINS), len(GAINS))


def test_a_fresh_explorer_finds_the_best_mean_field():
    explorer = SeriesExplorer(20)
    assert explorer.trail[0][1] > 0.99
    explorer.close()
    with pytest.raises(ValueError, match="Gain g must be a number in"):
        SeriesExplorer(31)


@pytest.mark.slow
def test_a_place_where_a_slider_was_is_not_fitted_again(collinear, series, monkeypatch):
    """How soon the picture changes is measured by benchmarks/slider_latency.py."""
    fitted, fit = [], lab_exact.fit_autoregressive
    monkeypatch.setattr(lab_exact, "fit_autoregressive", lambda p: fitted.append(p) or fit(p))
    for explorer, name, values in (
        (collinear, "correlation", (0.12, 0.23, 0.34)),
        (series, "gain", (4.25, 8.25, 16.25)),
    ):
        for new in (True, False):
            fitted.clear()
            for value in values:
                explorer.controls[name].value = value
            assert bool(fitted) is new


@pytest.mark.slow
def test_torchs_random_state_is_left_alone(series):
    state = torch.get_rng_state()
    series.controls["gain"].value = 4.0
    assert torch.equal(state, torch.get_rng_state())
