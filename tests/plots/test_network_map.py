"""The map of a network shows each layer, channel and stream in its size, and adds up to the cost."""

from functools import cache
from itertools import combinations, pairwise, product

import numpy as np
import pytest
import torch
from figures import assert_inside, assert_returns_all, saved
from matplotlib import colormaps
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import nn

import depl0kit as dk
from depl0kit import plots
from depl0kit.lab import LiveFigure
from depl0kit.plots.base import Words
from depl0kit.plots.map_layout import HALF_BLOCK, lay_out
from depl0kit.plots.map_plan import BEYOND, plan, rows_of
from depl0kit.plots.network import LIGHT
from depl0kit.plots.network_map import FIXED, GONE, READS, WRITES
from depl0kit.plots.scales import short


class Dense(nn.Module):
    """Every layer reads all before it, next to each other."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(8 + 4 * k, 4, 3, padding=1) for k in range(3))
        self.head = nn.Conv2d(20, 5, 1)

    def forward(self, x):
        found = [self.stem(x).relu()]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)).relu())
        return self.head(torch.cat(found, 1)).mean((2, 3))


class Halves(nn.Module):
    """Two groups between the same two layers: only one half of the channels is normalised."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(6)
        self.last = nn.Conv2d(10, 5, 1)

    def forward(self, x):
        plain, normed = self.first(x).relu().split([4, 6], 1)
        return self.last(torch.cat([plain, self.norm(normed)], 1)).mean((2, 3))


class Again(nn.Module):
    """A stream of three channels that one layer reads and writes."""

    def __init__(self):
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(x + self.block(x))


def chain():
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


OWN = {"dense": Dense, "halves": Halves, "again": Again, "chain": chain}
SIZES = {"small": 8, "lenet": 28, "mobilenet_v2": 64}
QUICK = ["small", "lenet", "resnet20", "resnet20 inner", *OWN]
SLOW = ["resnet56", "vgg16", "mobilenet_v2"]
NETWORKS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@cache
def channels_of(name: str) -> dk.Channels:
    torch.manual_seed(0)
    if name in OWN:
        example = torch.zeros(1, 2) if name in ("again", "chain") else torch.zeros(1, 3, 8, 8)
        return dk.Channels(OWN[name](), example=example, scope="all")
    name, _, scope = name.partition(" ")
    size = SIZES.get(name, 32)
    model = dk.make_model(name, 3, 10, (size, size))
    return dk.Channels(model, example=torch.zeros(1, 3, size, size), scope=scope or "all")


def probabilities(channels: dk.Channels) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random(n) for n in channels.sizes]


def masks(channels: dk.Channels) -> list[np.ndarray]:
    return [(p > 0.6) | (np.arange(len(p)) == 0) for p in probabilities(channels)]


def drawn(channels, openness=None, size=(12.8, 8), **more):
    ax = Figure(size, layout="constrained").subplots()
    return ax, plots.network_map(channels, openness, ax, **more)


def only(artists, kind, test):
    (artist,) = (a for a in artists if type(a) is kind and test(a))
    return artist


def coloured(artists, colour):
    """The rectangles of this colour: left, right, bottom and top, [n, 4]."""
    test = lambda a: len(a.get_facecolor()) == 1 and np.allclose(a.get_facecolor()[0], to_rgba(colour))  # noqa: E731
    return boxes(only(artists, PolyCollection, test))


def boxes(collection):
    corners = [path.vertices for path in collection.get_paths()]
    rows = [(*c[:, 0][[0, 1]], *c[:, 1][[0, 2]]) for c in (np.asarray(c) for c in corners)]
    return np.array(rows).reshape(-1, 4)


def stripes_of(artists):
    return only(artists, PathCollection, lambda a: a.get_array() is not None)


def texts(artists):
    return [text for a in artists if isinstance(a, Words) for text in a.texts]


def tracks(ax):
    """Of each group its track, and the strips and lines that show it."""
    layout, found = ax.network_map.layout, ax.network_map.plan.tracks
    return {
        t.name: (t, [s for s in layout.strips if s.track == i], [n for n in layout.lines if n.track == i])
        for i, t in enumerate(found)
    }


def height(boxes):
    return boxes[:, 3] - boxes[:, 2]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_a_block_as_high_as_its_macs(name):
    channels = channels_of(name)
    _, artists = drawn(channels)
    blocks, table = coloured(artists, GONE), channels.cost_model.per_layer(channels.sizes)
    assert len(blocks) == len(table)
    np.testing.assert_allclose(height(blocks) / height(blocks).max(), table.macs / table.macs.max())
    assert np.ptp(blocks[:, 1] - blocks[:, 0]) < 1e-6
    np.testing.assert_allclose(coloured(artists, plots.BLUE), blocks)  # all are open


@pytest.mark.parametrize("name", NETWORKS)
def test_every_channel_is_a_stripe_of_one_height(name):
    channels = channels_of(name)
    ax, artists = drawn(channels, probabilities(channels))
    stripes = stripes_of(artists)
    pieces = {group: len(strips) for group, (_, strips, _) in tracks(ax).items()}
    assert min(pieces.values()) > 0
    gated = channels.groups.gated
    assert len(stripes.get_array()) == sum(g.channels * pieces[g.name] for g in gated)
    heights = height(boxes(stripes))
    unit = ax.network_map.layout.strips[0].top - ax.network_map.layout.strips[0].bottom
    unit /= ax.network_map.plan.tracks[0].channels
    np.testing.assert_allclose(heights, unit, rtol=1e-6)
    fixed = [(g, pieces[g.name]) for g in channels.groups if not g.gated]
    assert height(coloured(artists, FIXED)).sum() / unit == pytest.approx(
        sum(g.channels * n for g, n in fixed)
    )


def test_stripes_are_coloured_by_prob_open_and_closed_ones_come_last():
    channels = channels_of("small")
    probs = probabilities(channels)
    ax, artists = drawn(channels, probs)
    stripes = stripes_of(artists)
    stripes.update_scalarmappable()
    colours, values, places = stripes.get_facecolor(), stripes.get_array(), boxes(stripes)
    assert [*values] == [p for group in probs for p in sorted(group, reverse=True)]  # a strip a group
    pale = (colours == to_rgba(LIGHT)).all(1)
    np.testing.assert_array_equal(pale, values < 0.1)
    assert 0 < pale.sum() < len(pale)
    heatmap = colormaps[plots.HEATMAP]
    np.testing.assert_allclose(colours[~pale], heatmap(values)[~pale], atol=0.01)
    start = 0
    for _, (strip,), _ in [t for t in tracks(ax).values() if t[0].gate is not None]:
        here = slice(start, start + channels.sizes[ax.network_map.plan.tracks[strip.track].gate])
        outwards = abs(places[here, 2:].mean(1) - (strip.bottom + strip.top) / 2)
        assert (np.diff(outwards) > -1e-6).all()  # from the middle
        start = here.stop


@pytest.mark.parametrize("name", NETWORKS)
def test_strips_and_blocks_do_not_overlap(name):
    ax, artists = drawn(channels_of(name))
    rectangles = np.array([strip[1:] for strip in ax.network_map.layout.strips] + [*coloured(artists, GONE)])
    a, b = (np.array(side) for side in zip(*combinations(rectangles, 2), strict=True))
    shared = np.minimum(a, b)[:, [1, 3]] - np.maximum(a, b)[:, [0, 2]]
    assert not (shared > 1e-6).all(1).any()
    assert rectangles.min() >= 0 and (rectangles.max(0)[[1, 3]] <= ax.network_map.size[:2]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_are_the_macs_of_the_compact_network(name):
    channels = channels_of(name)
    open_channels = [int(mask.sum()) for mask in masks(channels)]
    ax, artists = drawn(channels, masks(channels))
    cost, dense = channels.cost(open_channels), channels.dense_cost
    per_layer = channels.cost_model.per_layer(open_channels).macs
    shown = texts(artists)
    assert f"{short(cost.macs)} of {short(dense.macs)} MACs" in shown
    assert list(artists[-1].texts[: len(per_layer)]) == [short(n) for n in per_layer]
    under = artists[-1].get_offsets()[: len(per_layer)]
    np.testing.assert_allclose(under[:, 0], coloured(artists, GONE)[:, :2].mean(1))
    assert (under[:, 1] < coloured(artists, GONE)[:, 2]).all()
    blue = height(coloured(artists, plots.BLUE)).sum() / ax.network_map.layout.points_per_mac
    assert blue + dense.macs - ax.network_map.plan.macs.sum() == pytest.approx(cost.macs, rel=1e-9)
    for group, n in zip(channels.groups.gated, open_channels, strict=True):
        number = next(i for i, t in enumerate(ax.network_map.plan.tracks) if t.name == group.name)
        assert number not in ax.network_map.layout.counts or f"{n}/{group.channels}" in shown


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_of_undecided_gates_add_up_to_the_expected_cost(name):
    channels = channels_of(name)
    probs = probabilities(channels)
    ax, artists = drawn(channels, [torch.from_numpy(p) for p in probs])  # as `posterior.prob_open()`
    blue = height(coloured(artists, plots.BLUE)).sum() / ax.network_map.layout.points_per_mac
    outside = channels.dense_cost.macs - ax.network_map.plan.macs.sum()
    expected = channels.cost_model(torch.from_numpy(np.concatenate([np.empty(0), *probs]))).macs
    assert blue + outside == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("name", ["again", "chain"])
def test_expected_macs_of_each_layer_are_the_mean_over_all_masks(name):
    channels = channels_of(name)
    probs = np.concatenate(probabilities(channels))
    ends = np.cumsum(channels.sizes)[:-1]
    mean = 0.0
    for mask in product([0, 1], repeat=len(probs)):
        chance = np.prod(np.where(mask, probs, 1 - probs))
        counts = [int(part.sum()) for part in np.split(np.array(mask), ends)]
        mean = mean + chance * channels.cost_model.per_layer(counts).macs.to_numpy()
    np.testing.assert_allclose(channels.cost_model.expected_macs(torch.from_numpy(probs)), mean)


@pytest.mark.parametrize("name", NETWORKS)
def test_rails_run_from_the_first_to_the_last_layer_that_writes_or_reads_them(name):
    channels = channels_of(name)
    ax, _ = drawn(channels)
    layout = ax.network_map.layout
    number = {layer: i for i, layer in enumerate(ax.network_map.plan.layers)}
    pitch = layout.half_block / HALF_BLOCK
    for group in channels.groups:
        track, strips, lines = tracks(ax)[group.name]
        assert track.rail or not group.stream
        if not track.rail:
            assert not lines
            continue
        assert {n.layer for n in lines if n.writes} == {number[layer] for layer in group.writers}
        assert {n.layer for n in lines if not n.writes} == {number[layer] for layer in group.readers}
        first, last = min(lines, key=lambda n: (n.layer, n.x)), max(lines, key=lambda n: (n.layer, n.x))
        assert strips[0].left == pytest.approx(first.x - BEYOND * pitch)
        assert strips[-1].right == pytest.approx(last.x + BEYOND * pitch)
        for line in lines:  # it ends in the middle of the strip of its row
            assert any(
                s.left < line.x < s.right and line.rail == pytest.approx((s.bottom + s.top) / 2)
                for s in strips
            )


def test_streams_of_a_residual_network_are_rails_and_the_insides_of_blocks_are_bands():
    found = {name: track.rail for name, (track, *_) in tracks(drawn(channels_of("resnet20"))[0]).items()}
    assert {name for name, rail in found.items() if rail} == {"conv", "blocks.3.conv2", "blocks.6.conv2"}


@pytest.mark.slow
def test_a_depthwise_convolution_stands_in_the_middle_of_a_band():
    track, strips, _ = tracks(drawn(channels_of("mobilenet_v2"))[0])["features.3.conv.0.0"]
    assert not track.rail and len(strips) >= 2 and len(track.layers) == 3


def test_a_concatenation_is_a_pile_of_rails_with_a_mark_on_each_that_is_read():
    channels = channels_of("dense")
    ax, artists = drawn(channels)
    rails = [t for t in tracks(ax).values() if t[0].rail]
    head = ax.network_map.plan.layers.index("head")
    read = [line for _, _, lines in rails for line in lines if line.layer == head]
    assert len(read) == len(rails) == 3  # the last layer before the head is its neighbour
    ends = sorted((strips[-1].bottom, strips[-1].top) for _, strips, _ in rails)
    assert all(low[1] < high[0] for low, high in pairwise(ends))
    strokes = only(artists, LineCollection, lambda a: a.get_zorder() == 3)
    top = max(line.rail for line in read)
    assert sum(bool(np.isclose(s, (read[0].x, top)).all(1).any()) for s in strokes.get_segments()) == 1
    assert {READS, WRITES} == {"o", "^"}


def test_groups_between_the_same_layers_lie_upon_each_other_around_the_middle():
    ax, _ = drawn(channels_of("halves"))
    between = [s[0] for t, s, _ in tracks(ax).values() if t.start == 0]
    assert len(between) == 2
    ends = sorted((strip.bottom, strip.top) for strip in between)
    assert ends[0][1] < ends[1][0]
    assert (ends[0][0] + ends[1][1]) / 2 == pytest.approx(ax.network_map.layout.middle[0])


def test_a_branch_that_is_closed_costs_nothing_and_says_so():
    channels = channels_of("resnet20")
    probs = [np.ones(n) for n in channels.sizes]
    closed = channels.may_close.index(True)
    probs[closed][:] = 0
    _, artists = drawn(channels, probs)
    n = channels.sizes[closed]
    shown = texts(artists)
    assert f"0/{n}" in shown and shown.count("0") == 2  # the layer that writes it and the one that reads it
    cost = channels.cost([int(p.sum()) for p in probs])
    assert f"{short(cost.macs)} of {short(channels.dense_cost.macs)} MACs" in shown
    assert height(coloured(artists, plots.BLUE)).min() == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_hold_all_layers_in_their_order(name):
    shown = plan(channels_of(name))
    for count in range(1, min(5, len(shown.layers)) + 1):
        most = -(-len(shown.layers) // count) + 1
        rows = rows_of(shown, count, most)
        assert [i for row in rows for i in row] == list(range(len(shown.layers)))
        assert len(rows) == count and max(map(len, rows)) <= most


def test_rows_break_between_blocks_of_a_residual_network():
    shown = plan(channels_of("resnet20"))
    for row in rows_of(shown, 3, 10)[1:]:
        before, after = shown.layers[row.start - 1], shown.layers[row.start]
        assert before.rpartition(".")[0] != after.rpartition(".")[0]


def test_layers_are_wrapped_where_numbers_would_not_fit():
    shown = plan(channels_of("resnet20"))
    assert [len(set(lay_out(shown, width, 500).floor)) for width in (1800, 600, 300)] == [1, 2, 3]
    assert len(set(lay_out(plan(channels_of("small")), 280, 200).floor)) == 1  # half of a page


def test_axes_that_are_too_small_for_numbers_show_none():
    layout = lay_out(plan(channels_of("resnet20")), 280, 150)
    assert not layout.size and not layout.counts and not layout.words
    _, artists = drawn(channels_of("resnet20"), size=(4.1, 2))
    assert "2.36 M" not in texts(artists) and "40.8 M of 40.8 M MACs" in texts(artists)
    assert (height(coloured(artists, GONE)) > 0).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("projector", [False, True])
def test_saves_as_a_png_with_all_text_inside(name, projector):
    channels = channels_of(name)
    ax, artists = saved(lambda ax: plots.network_map(channels, masks(channels), ax), (12.8, 8), projector)
    assert_inside(ax, artists)
    shown = texts(artists)
    assert shown.count("MACs") == 1 + len(set(ax.network_map.layout.floor))  # in the key, and in each row


def test_returns_every_artist_it_adds():
    assert_returns_all(lambda ax: plots.network_map(channels_of("resnet20"), None, ax, "conv"))


def test_what_stays_is_drawn_once_for_axes_of_one_size():
    channels = channels_of("small")
    ax, first = drawn(channels, masks(channels))
    second = plots.network_map(channels, None, ax)
    kept = [artist for artist in first if artist in second]
    assert kept == ax.network_map.artists and len(kept) < len(first)
    ax.figure.set_size_inches(6, 4)
    ax.figure.draw_without_rendering()
    assert not set(kept) & set(plots.network_map(channels, None, ax))
    for artist in (again := plots.network_map(channels, None, ax)):
        artist.remove()
    assert not set(again) & set(plots.network_map(channels, None, ax))
    assert coloured(plots.network_map(channels_of("lenet"), None, ax), GONE).shape == (4, 4)


def test_a_live_figure_follows_it():
    channels = channels_of("small")
    figure = LiveFigure(lambda ax, probs: plots.network_map(channels, probs, ax), (800, 320), "a")
    pictures = []
    for probs in (None, masks(channels), probabilities(channels)):
        figure.update(probs=probs)
        pictures.append(figure.png)
    assert len(set(pictures)) == 3
    figure.update(probs=masks(channels))
    assert figure.png == pictures[1]  # nothing is left of the picture before


def test_a_selected_group_and_its_layers_stand_out():
    channels = channels_of("resnet20")
    stream = channels.groups[0]
    ax, artists = drawn(channels, selected=stream.name)
    colours = only(artists, PolyCollection, lambda a: a.get_zorder() == 2).get_facecolor()
    chosen = (colours == to_rgba(plots.VERMILLION)).all(1)
    layers = np.array(ax.network_map.plan.layers)
    assert set(layers[chosen]) == {*stream.writers, *stream.readers}
    outlines = only(artists, LineCollection, lambda a: a.get_zorder() == 2.5)
    assert len(outlines.get_segments()) == len(tracks(ax)[stream.name][1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p[:-1], "openness must have one array for each of the 4 gated groups, got 3"),
        (lambda p: [*p[:-1], p[-1][:5]], r"openness of 'features.10' must be an array of shape \[48\]"),
        (lambda p: [p[0] + 0.5, *p[1:]], r"openness of 'features.0' must be 24 numbers in \[0, 1\]"),
        (lambda p: [-p[0], *p[1:]], r"numbers in \[0, 1\]"),
        (lambda p: [p[0] * np.nan, *p[1:]], r"numbers in \[0, 1\]"),
        (lambda p: ["open"] * 4, "every entry of openness must be an array of numbers"),
    ],
)
def test_openness_that_does_not_fit_is_refused(change, words):
    channels = channels_of("small")
    with pytest.raises(ValueError, match=words):
        drawn(channels, change(probabilities(channels)))


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match=r"unknown group 'features.1'.*Did you mean 'features.1?0'"):
        drawn(channels_of("small"), selected="features.1")
