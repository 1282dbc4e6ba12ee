"""Figures of a network's gates show the numbers they are given, and return all that they draw."""

import numpy as np
import pandas as pd
import pytest
import torch
from figures import assert_inside, assert_returns_all, saved
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, PcolorImage

from depl0kit import Dependency, plots
from depl0kit.gates import correlation_matrix
from depl0kit.plots.base import Words

SIZES = {"conv1": 3, "conv2": 5}
N, EPOCHS = 8, 4


@pytest.fixture
def gates() -> pd.DataFrame:
    """As `run.gates`: one gate after the other closes."""
    rows = []
    for epoch in range(1, EPOCHS + 1):
        for gate in range(N):
            group, channel = ("conv1", gate) if gate < 3 else ("conv2", gate - 3)
            rows.append((epoch, group, channel, 4.0 - epoch * gate / 3, 1.0 - epoch * gate / 32))
    return pd.DataFrame(rows, columns=["epoch", "group", "channel", "log_alpha", "prob_open"])


@pytest.fixture
def history() -> pd.DataFrame:
    columns = {"val_accuracy": [0.3, 0.9, 0.95], "kept_macs": [1.0, 0.6, 0.94], "undecided": [0, 0.5, 0.02]}
    return pd.DataFrame({"epoch": [1, 2, 3], **columns})


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {"group": ["a", "b"], "channels": [10, 20], "open": [10, 4], "expected_open": [9.9, 6.5]}
    )


def flow(ax=None):
    posterior = Dependency((4, 6, 2))
    log_alphas = [a.detach().numpy() - i for i, a in enumerate(posterior.log_alpha())]
    weights = [linear.weight.detach().numpy() for linear in posterior.generator][1:]
    return plots.log_alpha_flow(log_alphas, weights, -2.4, ax)


@pytest.fixture
def figures(gates, history, table):
    samples = np.random.default_rng(0).random((50, N))
    return {
        "heatmap": lambda ax: plots.prob_open_heatmap(gates, ax),
        "bars": lambda ax: plots.layer_bars(table, ax),
        "history": lambda ax: plots.history_curves(history, ax),
        "flow": flow,
        "paths": lambda ax: plots.log_alpha_paths(gates, -2.4, ax),
        "correlation": lambda ax: plots.gate_correlation(samples, SIZES, ax),
    }


FIGURES = ["heatmap", "bars", "history", "flow", "paths", "correlation"]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("projector", [False, True])
def test_saves_as_a_png_with_all_text_inside(figures, name, projector):
    ax, artists = saved(figures[name], (9, 6) if projector else (6, 4), projector)
    assert_inside(ax, artists)


@pytest.mark.parametrize("name", FIGURES)
def test_returns_every_artist_it_adds(figures, name):
    assert_returns_all(figures[name])


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_again_adds_no_second_colour_bar(figures, name):
    ax = Figure().subplots()
    for artist in figures[name](ax):
        artist.remove()
    axes = len(ax.figure.axes)
    figures[name](ax)
    assert len(ax.figure.axes) == axes


def only(kind, artists):
    (artist,) = (a for a in artists if isinstance(a, kind))
    return artist


def test_heatmap_has_channels_as_rows_and_epochs_as_columns(gates):
    ax = Figure().subplots()
    image = only(PcolorImage, plots.prob_open_heatmap(gates, ax))
    expected = gates.pivot(index=["group", "channel"], columns="epoch", values="prob_open").to_numpy()
    np.testing.assert_allclose(image.get_array(), expected)
    assert image.get_clim() == (0, 1)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["conv1\n(3)", "conv2\n(5)"]


def test_bars_are_as_high_as_the_counts(table):
    ax = Figure().subplots()
    artists = plots.layer_bars(table, ax)
    bars = only(PolyCollection, artists)
    assert [path.vertices[:, 1].max() for path in bars.get_paths()] == [10, 20, 10, 4]  # those open on top
    expected = only(LineCollection, artists)
    assert [segment[0][1] for segment in expected.get_segments()] == [9.9, 6.5]
    assert only(Words, artists).texts == ("10", "4")


def test_history_labels_give_the_last_values_and_do_not_overlap(history):
    ax = Figure().subplots()
    values, names = (a for a in plots.history_curves(history, ax) if isinstance(a, Words))
    assert values.texts == ("0.95", "0.94", "0.02") and names.texts == ("accuracy", "MACs", "undecided")
    heights = values.get_offsets()[:, 1]
    assert np.array_equal(heights, names.get_offsets()[:, 1]) and np.diff(sorted(heights)).min() > 0.09


def test_history_without_epochs_is_an_empty_picture(history):
    assert plots.history_curves(history[:0], Figure().subplots(), epochs=10) == []


def test_correlation_matrix_is_numpys_without_diagonal_and_constant_columns():
    samples = np.random.default_rng(0).normal(size=(200, 5)).cumsum(1)
    samples[:, 3] = 1.0
    found = correlation_matrix(samples)
    kept = [0, 1, 2, 4]
    expected = np.corrcoef(samples[:, kept].T) - np.eye(4)
    np.testing.assert_allclose(found[np.ix_(kept, kept)], expected, atol=1e-9)
    assert not found[3].any() and not found[:, 3].any()


def test_pairs_leave_out_the_diagonal():
    image = only(AxesImage, plots.gate_pairs(torch.eye(N).numpy() + 0.5, SIZES, Figure().subplots()))
    assert not np.diag(image.get_array()).any() and image.get_array()[0, 1] == 0.5


def test_flow_shows_closed_gates_apart():
    artists = flow(Figure().subplots())
    opened, closed = artists[-2:]
    assert (opened.get_ydata() > -2.4).all() and (closed.get_ydata() <= -2.4).all()
    assert len(opened.get_ydata()) + len(closed.get_ydata()) == 12


def test_style_leaves_interactive_display_as_it_is():
    """`rc_context` around a notebook's first figure switched the display of all later ones off."""
    import matplotlib as mpl

    with plots.style():
        mpl.rcParams["interactive"] = True
    assert mpl.rcParams["interactive"]
    mpl.rcParams["interactive"] = False
