"""Figures of one gate: what they draw is the distribution, and they can be drawn again and again."""

import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from depl0kit import HardConcrete, plots
from depl0kit.lab import GateExplorer

NOISE = torch.rand(200, generator=torch.Generator().manual_seed(1))
FIGURES = {
    "density": plots.gate_density,
    "cdf": plots.gate_cdf,
    "samples": lambda hc, log_alpha, ax=None: plots.gate_samples(hc, log_alpha, NOISE, ax),
}


def new_axes():
    return Figure().subplots()


def pixels(ax):
    canvas = matplotlib.backends.backend_agg.FigureCanvasAgg(ax.figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def first(kind, artists):
    return next(artist for artist in artists if isinstance(artist, kind))


def texts(artists):
    return [artist.get_text() for artist in artists if isinstance(artist, Text)]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_artist_is_returned_and_a_second_drawing_is_as_good_as_a_first(draw):
    once, twice = new_axes(), new_axes()
    draw(HardConcrete(), 0.5, once)
    before = set(twice.get_children())
    for artist in draw(HardConcrete(1.5, (-0.3, 1.3)), -3.0, twice):
        artist.remove()
    assert set(twice.get_children()) == before
    draw(HardConcrete(), 0.5, twice)
    assert np.array_equal(pixels(once), pixels(twice))


@pytest.mark.parametrize("stretch", [(-0.1, 1.1), (0.0, 1.0), (-0.5, 1.0), (0.0, 1.5)])
@pytest.mark.parametrize("log_alpha", [-6.0, 0.0, 2.5])
def test_spikes_are_what_samples_do(stretch, log_alpha):
    hc = HardConcrete(0.5, stretch)
    noise = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    z = hc.sample(torch.tensor(log_alpha, dtype=torch.float64), noise)
    zero, one = plots.spikes(hc, log_alpha)
    assert zero == pytest.approx(float((z == 0).float().mean()), abs=2e-3)
    assert one == pytest.approx(float((z == 1).float().mean()), abs=2e-3)


def test_area_and_bars_of_the_density_add_up_to_one():
    artists = plots.gate_density(HardConcrete(), 1.0, new_axes())
    z, density = first(Line2D, artists).get_data()
    bars = [segment[1, 1] - segment[0, 1] for segment in first(LineCollection, artists).get_segments()]
    assert np.trapezoid(density, z) + sum(bars) == pytest.approx(1, abs=0.01)


def test_cdf_jumps_by_the_spikes_and_never_falls():
    hc = HardConcrete()
    artists = plots.gate_cdf(hc, 1.0, new_axes())
    height = first(Line2D, artists).get_ydata()
    assert np.all(np.diff(height[np.isfinite(height)]) >= 0)
    jumps = [segment[1, 1] - segment[0, 1] for segment in first(LineCollection, artists).get_segments()]
    assert jumps == pytest.approx(plots.spikes(hc, 1.0), abs=1e-6)
    assert texts(artists) == [f"{jump:.2f}" for jump in jumps]


def test_samples_are_those_of_the_noise_and_the_test_gates_those_of_the_rules():
    hc, log_alpha = HardConcrete(), -1.0
    artists = plots.gate_samples(hc, log_alpha, NOISE, new_axes())
    inside, at_ends, paper, median = [artist.get_xdata() for artist in artists if isinstance(artist, Line2D)]
    z = hc.sample(torch.tensor(log_alpha), NOISE).numpy()
    assert sorted([*inside, *at_ends]) == pytest.approx(sorted(z))
    assert f"{(z == 0).sum()}\nat 0" in texts(artists)
    for rule, drawn in (("paper", paper), ("median", median)):
        gate = HardConcrete(test_rule=rule).deterministic(torch.tensor(log_alpha))
        assert drawn == pytest.approx([float(gate)])


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("log_alpha", [-6.0, pytest.param(0.3, marks=pytest.mark.slow), 6.0])
@pytest.mark.parametrize("temperature", [2 / 30, 2.0])
@pytest.mark.parametrize("stretch", [(0.0, 1.0), (-0.5, 1.5)])
def test_no_text_is_cut_off_in_a_corner_of_the_sliders(draw, log_alpha, temperature, stretch):
    figure = Figure((2.9, 3.2), layout="constrained")  # a panel of the explorer
    ax = figure.subplots()
    artists = draw(HardConcrete(temperature, stretch), log_alpha, ax)
    figure.draw_without_rendering()
    for text in artists:
        if isinstance(text, Text):
            box = text.get_window_extent()
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()


def test_without_axes_a_figure_of_its_own_and_projector_is_larger():
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    sizes = []
    for projector in (False, True):
        with plots.style(projector=projector):
            text = first(Text, plots.gate_cdf(HardConcrete(), 0.0))
            sizes.append(text.get_fontsize())
            plt.close(text.figure)
    assert sizes[1] > 1.5 * sizes[0]
    assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]


@pytest.mark.parametrize("log_alpha", [-6.0, 0.0, 6.0])
def test_line_of_the_explorer_says_how_likely_the_gate_is_open(log_alpha):
    """The number that lesson 01 asks for, beside the three that the spikes and the curve show."""
    explorer = GateExplorer(log_alpha)
    line = explorer.numbers(**explorer.state())
    found = {name: float(value) for name, value in re.findall(r"P\((.*?)\) = (\S+)", line)}
    assert list(found) == ["z=0", "0<z<1", "z=1", "z>0"] and "-" not in line.split("test-time")[0]
    assert found["z>0"] == pytest.approx(float(HardConcrete().prob_open(torch.tensor(log_alpha))), abs=6e-4)
    assert found["z=0"] + found["z>0"] == pytest.approx(1, abs=2e-3)
    explorer.close()
