"""The channel explorer and its figures: what is set is what is drawn and counted."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import depl0kit as dk


@pytest.fixture(scope="module")
def net():
    return dk.GatedModel(dk.make_model("resnet20"), example=torch.zeros(1, 3, 32, 32), scope="all")


@pytest.fixture(scope="module")
def shared(net):
    made = dk.lab.ChannelExplorer(net.channels)
    yield made
    made.close()


@pytest.fixture
def explorer(shared):
    """Where it starts: what a test chose is undone."""
    yield shared
    assert shared.error is None
    shared.reset()


def heights(collection):
    return [path.get_extents().height for path in collection.get_paths()]


def standing_out(bars):
    return [tuple(colour) == to_rgba(dk.plots.VERMILLION) for colour in bars.get_facecolors()]


def pixel_share(explorer, x, y):
    """Where a point of the upper panel lies, as shares of the picture from left and top."""
    ax = explorer.figure.axes[0]
    px, py = ax.transData.transform((x, y))
    width, height = explorer.figure._canvas.get_width_height(physical=True)
    return px / width, 1 - py / height


def test_slider_sets_the_chosen_group_and_counts(explorer, net):
    explorer.controls["group"].value = 5
    assert explorer.controls["channels"].max == 32 == explorer.controls["channels"].value
    explorer.controls["channels"].value = 7
    channels = [g.channels for g in net.groups.gated]
    assert explorer.open_channels == [7 if i == 5 else n for i, n in enumerate(channels)]
    share = (net.channels.cost(explorer.open_channels) / net.dense_cost).macs
    assert f"({share:.1%})" in explorer.numbers(**explorer.state())
    explorer.controls["group"].value = 0  # and each group keeps its own
    assert explorer.controls["channels"].value == 16 and explorer.open_channels[5] == 7


@pytest.mark.parametrize(
    ("x", "y", "group", "channels"), [(11.2, 20.3, 11, 20), (2.9, 5.6, 3, 6), (0, 60, 0, 16)]
)
def test_a_press_in_the_picture_sets_the_nearest_bar(explorer, x, y, group, channels):
    explorer.figure.picture.pointer = [*pixel_share(explorer, x, y), 1]
    assert explorer.open_channels[group] == channels
    assert explorer.controls["group"].value == group and explorer.controls["channels"].value == channels


@pytest.mark.slow
def test_only_a_group_that_may_close_goes_down_to_nothing(explorer, net):
    """By the slider and by mouse; what it costs is then the cost of a network in which the block is gone."""
    for index, group in enumerate(net.groups.gated):
        explorer.controls["group"].value = index
        assert explorer.controls["channels"].min == (0 if group.may_close else 1)
    for x, fewest in ((0, 1), (1, 0)):  # the first stream, and the inside of the first block
        explorer.figure.picture.pointer = [*pixel_share(explorer, x, 0.1), x]
        assert explorer.open_channels[x] == fewest == explorer.controls["channels"].value
    explorer.reset()
    explorer.controls["group"].value = 1
    explorer.controls["channels"].value = 0
    closed = dk.GatedModel(dk.make_model("resnet20"), example=torch.zeros(1, 3, 32, 32), scope="all").eval()
    with torch.no_grad():
        for i, theta in enumerate(closed.posterior.split(closed.posterior.theta)):
            theta.fill_(-20.0 if i == 1 else 2.0)
    macs = closed.exact_cost().macs
    assert macs == net.dense_cost.macs - 2 * 9 * 16 * 16 * 32 * 32
    assert explorer.numbers(**explorer.state()).startswith(f"{macs / 1e6:.2f} of ")


def test_a_press_elsewhere_changes_nothing(explorer):
    before = explorer.figure.png
    for place in ([0.001, 0.001], [0.5, 0.95], [0.5, 0.75]):
        explorer.figure.picture.pointer = [*place, 1]
    assert explorer.figure.png == before


def test_buttons(explorer, net):
    start = explorer.figure.png
    half, reset = explorer.children[1].children
    half.click()
    assert explorer.open_channels == [g.channels // 2 for g in net.groups.gated]
    assert explorer.figure.png != start
    reset.click()
    assert explorer.figure.png == start


def test_layers_that_share_the_group_stand_out(net):
    group = net.groups.gated[0]  # the first stream: four writers, five readers
    dense = [g.channels for g in net.groups.gated]
    now = net.channels.cost_model.per_layer([8, *dense[1:]])
    full = net.channels.cost_model.per_layer(dense)
    (bars,) = dk.plots.layer_macs(now, full, [n for n, _ in group.members], Figure().subplots())
    assert np.allclose(heights(bars), np.divide([*full.macs, *now.macs], 1e6))
    touched = standing_out(bars)[len(full) :]
    assert sum(touched) == 9
    assert touched == (now.macs < full.macs).tolist()


def test_widths_prices_and_measures(net):
    table = net.channel_table()
    bars, numbers = dk.plots.group_widths(table, "blocks.0.conv1", Figure().subplots())
    assert heights(bars) == [*table.channels, *table.open]
    assert standing_out(bars)[len(table) :] == [n == "blocks.0.conv1" for n in table.group]
    assert list(numbers.texts) == [str(n) for n in table.open]
    prices = table.assign(macs_per_channel=1500.0, stream=[g.stream for g in net.groups.gated])
    bars, _ = dk.plots.channel_prices(prices, Figure().subplots())
    assert np.allclose(heights(bars), 1.5)
    assert sum(standing_out(bars)) == 3
    bars, numbers = dk.plots.measures([2.0, 1.0], ["a", "b"], "ms", "{:.1f}", Figure().subplots())
    assert heights(bars) == [2, 1]
    assert numbers.texts == ("2.0", "1.0")
