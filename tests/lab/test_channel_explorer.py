"""The channel explorer and its figures: what is set is what is drawn and counted."""

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import depl0kit as dk
from depl0kit.lab.channels import TRAVEL


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
    """Where a point of the map lies, as shares of the picture from left and top."""
    ax = explorer.figure.axes[0]
    px, py = ax.transData.transform((x, y))
    width, height = explorer.figure._canvas.get_width_height(physical=True)
    return px / width, 1 - py / height


def middle_of(explorer, group):
    """Of the first band or rail of a group, in points of the map."""
    ground = explorer.figure.axes[0].network_map
    strip = next(s for s in ground.gated if ground.plan.tracks[s.track].gate == group)
    return (strip.left + strip.right) / 2, (strip.bottom + strip.top) / 2


def drag(explorer, group, *ups):
    """Press on a group, and move the mouse to so many points above that, one after the other."""
    x, y = middle_of(explorer, group)
    picture = explorer.figure.picture
    press = picture.pointer[2] + 1
    for up in (0, *ups):
        picture.pointer = [*pixel_share(explorer, x, y + up), press]


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


def test_a_press_chooses_the_group_and_changes_none(explorer):
    before = list(explorer.open_channels)
    for group in range(len(before)):
        drag(explorer, group)
        assert explorer.controls["group"].value == group
        assert explorer.controls["channels"].value == before[group] == explorer.controls["channels"].max
    assert explorer.open_channels == before


@pytest.mark.parametrize(("group", "channels"), [(11, 20), (3, 6), (0, 12)])
def test_a_drag_closes_channels_downwards_and_opens_them_upwards(explorer, group, channels):
    dense = list(explorer.open_channels)
    up = TRAVEL * (channels / dense[group] - 1)
    drag(explorer, group, up / 2, up)
    assert explorer.open_channels == [channels if i == group else n for i, n in enumerate(dense)]
    assert explorer.controls["group"].value == group and explorer.controls["channels"].value == channels
    drag(explorer, group, TRAVEL / dense[group])  # a second one begins where the first ended
    assert explorer.open_channels[group] == channels + 1
    drag(explorer, group, 2 * TRAVEL)
    assert explorer.open_channels == dense


def test_a_drag_holds_its_group_wherever_the_mouse_goes(explorer):
    first, second = middle_of(explorer, 1), middle_of(explorer, 2)
    picture = explorer.figure.picture
    picture.pointer = [*pixel_share(explorer, *first), 10]
    picture.pointer = [*pixel_share(explorer, second[0], second[1] - TRAVEL / 4), 10]
    assert explorer.open_channels[1:3] == [12, 16]


@pytest.mark.slow
def test_only_a_group_that_may_close_goes_down_to_nothing(explorer, net):
    """By the slider and by mouse; what it costs is then the cost of a network in which the block is gone."""
    for index, group in enumerate(net.groups.gated):
        explorer.controls["group"].value = index
        assert explorer.controls["channels"].min == (0 if group.may_close else 1)
    for group, fewest in ((0, 1), (1, 0)):  # the first stream, and the inside of the first block
        drag(explorer, group, -TRAVEL)
        assert explorer.open_channels[group] == fewest == explorer.controls["channels"].value
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
    """Around the map, on its title, and on the classes, which have no gates."""
    before, ground = explorer.figure.png, explorer.figure.axes[0].network_map
    number = next(i for i, track in enumerate(ground.plan.tracks) if track.gate is None)
    _, left, right, bottom, top = next(s for s in ground.layout.strips if s.track == number)
    classes = pixel_share(explorer, (left + right) / 2, (bottom + top) / 2)
    for press, place in enumerate(([0.001, 0.001], [0.5, 0.02], classes), 100):
        explorer.figure.picture.pointer = [*place, press]
        explorer.figure.picture.pointer = [place[0], place[1] + 0.05, press]
    assert explorer.figure.png == before


def test_buttons(explorer, net):
    start = explorer.figure.png
    half, reset = explorer.children[1].children
    half.click()
    assert explorer.open_channels == [g.channels // 2 for g in net.groups.gated]
    assert explorer.figure.png != start
    reset.click()
    assert explorer.figure.png == start


def test_the_map_shows_what_is_set(explorer, net):
    """Numbers of the layers and of the chosen group; blocks that stand out are those of the group."""
    explorer.controls["channels"].value = 8
    ax = explorer.figure.axes[0]
    artists = {type(a): a for a in ax.collections if a.get_zorder() == 2}
    macs = net.channels.cost_model.per_layer(explorer.open_channels).macs
    layout, blocks = ax.network_map.layout, artists[PolyCollection]
    np.testing.assert_allclose(np.divide(heights(blocks), layout.points_per_mac), macs, rtol=1e-6)
    layers = np.array(ax.network_map.plan.layers)[standing_out(blocks)]
    assert set(layers) == {*net.groups.gated[0].writers, *net.groups.gated[0].readers}
    shown = [text for a in ax.collections for text in getattr(a, "texts", ())]
    assert "8/16" in shown


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
