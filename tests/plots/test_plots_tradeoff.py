"""Figures of a sweep show the numbers they are given, return all that they draw, and keep labels apart."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from figures import assert_inside, assert_returns_all, saved
from marks import slow_but_the_first
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import PcolorImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy import stats

from depl0kit import plots
from depl0kit.comparison import paired_differences
from depl0kit.plots.base import Words, spread
from depl0kit.plots.leaders import Leaders
from depl0kit.plots.means import FARTHEST, GAP, side_by_side
from depl0kit.plots.methods import FADED

METHODS = {  # name -> (accuracy in percent with most channels, and what is lost at 5 % of MACs)
    "mean_field": (98.5, 2.0), "forward": (98.3, 2.2), "backward": (98.2, 2.4), "autoregressive": (98.6, 1.8),
    "random": (96, 9), "small_dense": (97.5, 4.4), "l1_uniform": (97, 6), "l1_global": (97.2, 5.2),
    "slimming": (97.8, 3.2),
}  # fmt: skip
GATED = list(METHODS)[:4]
BUDGETS, LAMS, SEEDS = (0.5, 0.3, 0.15, 0.05), (1.0, 4.0, 16.0, 64.0), range(5)


def row(method: str, seed: int, step: int | None, cost: float, accuracy: float) -> dict:
    gated = method in GATED
    return {
        "run": f"digits-{method}-{step}-{seed}", "stage": "report", "data": "digits", "model": "small",
        "method": method, "seed": seed, "lam": LAMS[step] if gated else np.nan,
        "budget": BUDGETS[step] if step is not None and not gated else np.nan, "error": "",
        "val_accuracy": accuracy + 0.001, "test_accuracy": accuracy, "raw_val_accuracy": accuracy - 0.01,
        "macs": int(2.1e6 * cost), "params": int(48e3 * cost), "kept_macs": cost, "kept_params": cost,
        "latency_ms": 0.4 + 2 * cost,
    }  # fmt: skip


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    """9 methods x 5 seeds x 4 costs and the dense network: gated runs miss their cost a little."""
    rng = np.random.default_rng(0)
    rows = []
    for seed, shift in enumerate(rng.normal(0, 0.003, len(SEEDS))):
        rows.append(row("dense", seed, None, 1.0, 0.984 + shift))
        for method, (top, loss) in METHODS.items():
            for step, budget in enumerate(BUDGETS):
                cost = budget * np.exp(rng.normal(0, 0.12)) if method in GATED else budget
                lost = loss * np.log(1 / cost) / np.log(20)
                rows.append(row(method, seed, step, cost, (top - lost) / 100 + shift + rng.normal(0, 0.003)))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def differences(results) -> pd.DataFrame:
    return paired_differences(results)


@pytest.fixture(scope="module")
def errors() -> np.ndarray:
    counts = np.random.default_rng(0).poisson(0.4, (10, 10))
    np.fill_diagonal(counts, 34)
    return counts


@pytest.fixture
def figures(results, differences, errors):
    return {
        "accuracy": lambda ax: plots.accuracy_vs_cost(results, ax, selected=results.run[20]),
        "one method": lambda ax: plots.accuracy_vs_cost(results, ax, highlight="slimming"),
        "runs only": lambda ax: plots.accuracy_vs_cost(results, ax, cost="macs", fronts=False),
        "latency": lambda ax: plots.accuracy_vs_cost(results, ax, "latency_ms", "val_accuracy"),
        "pairs": lambda ax: plots.paired_intervals(differences, ax),
        "confusion": lambda ax: plots.confusion(errors, ax),
        "path": lambda ax: plots.lambda_path(path_table(), ax),
    }


def path_table() -> pd.DataFrame:
    """As of `dk.lambda_path`: hardly anything closes at first."""
    kept = [1, 0.995, 0.99, 0.93, 0.72, 0.4, 0.2, 0.09]
    accuracy = np.array([0.996, 0.992, 0.996, 0.996, 0.992, 0.992, 0.9875, 0.979])
    lams = np.geomspace(0.97, 100, 8)
    lost = np.linspace(0, 0.1, 8)
    return pd.DataFrame(
        {"kept_macs": kept, "val_accuracy": accuracy, "raw_val_accuracy": accuracy - lost, "lam": lams}
    )


FIGURES = ["accuracy", "one method", "runs only", "latency", "pairs", "confusion", "path"]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("projector", slow_but_the_first([False, True]))
def test_saves_as_a_png_with_all_text_inside(figures, name, projector):
    ax, artists = saved(figures[name], (9.6, 6) if projector else (8.8, 4.8), projector)
    ticks = [t for t in ax.get_xticklabels() if ax.get_xlim()[0] <= t.get_position()[0] <= ax.get_xlim()[1]]
    assert_inside(ax, [*ax.get_yticklabels(), *ticks, *artists])


@pytest.mark.parametrize("name", FIGURES)
def test_returns_every_artist_it_adds(figures, name):
    assert_returns_all(figures[name])


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_again_leaves_the_background(figures, name):
    ax = Figure().subplots()
    looks = []
    for _ in range(2):
        artists = figures[name](ax)
        looks.append((ax.get_xlim(), ax.get_ylim(), [t.get_text() for t in ax.get_xticklabels()]))
        for artist in artists:
            artist.remove()
    assert looks[0] == looks[1]


def collections(kind, artists) -> list:
    return [artist for artist in artists if isinstance(artist, kind)]


def test_every_run_is_a_point_and_failed_ones_are_not(results):
    failed = results.iloc[[3]].assign(run="failed", error="loss is NaN", test_accuracy=np.nan)
    tuned = results.iloc[[4]].assign(run="tuned", stage="tune", test_accuracy=0.2)
    ax = Figure().subplots()
    artists = plots.accuracy_vs_cost(pd.concat([results, failed, tuned]), ax)
    drawn = np.concatenate([a.get_offsets() for a in collections(PathCollection, artists)[:10]])
    expected = np.column_stack([results.kept_macs, 1 - results.test_accuracy])
    np.testing.assert_allclose(np.sort(drawn, 0), np.sort(expected, 0))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert ((drawn > [left, bottom]) & (drawn < [right, top])).all()


def test_lines_go_through_means_over_seeds_with_their_intervals(results):
    one = results[results.method == "l1_global"]
    lines, bars = collections(LineCollection, plots.accuracy_vs_cost(one, Figure().subplots()))[:2]
    by_budget = (1 - one.test_accuracy).groupby(one.budget)
    expected = by_budget.mean()
    np.testing.assert_allclose(lines.get_segments()[0], np.column_stack([expected.index, expected]))
    half = stats.t.ppf(0.975, len(SEEDS) - 1) * by_budget.sem()
    heights = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(heights, np.column_stack([expected - half, expected + half]), rtol=1e-4)


@pytest.mark.parametrize("seeds", [2, 3, 4, 7, 15, 60])
def test_intervals_are_students_for_any_number_of_seeds(seeds):
    values = 0.9 + 0.001 * np.random.default_rng(0).normal(size=seeds)
    table = pd.DataFrame([row("forward", s, 1, 0.3, value) for s, value in enumerate(values)])
    bars = collections(LineCollection, plots.accuracy_vs_cost(table, Figure().subplots()))[1]
    low, high = stats.t.interval(0.95, seeds - 1, values.mean(), stats.sem(values))
    assert np.ptp(bars.get_segments()[0][:, 1]) == pytest.approx(high - low, rel=0.01)


def test_one_seed_has_no_interval_and_one_run_can_be_drawn(results):
    for table in (results[results.seed == 0], results[:1], results[1:2]):
        artists = plots.accuracy_vs_cost(table, Figure().subplots())
        bars = collections(LineCollection, artists)[1]
        assert all(np.isnan(path.vertices[:, 1]).all() for path in bars.get_paths())


def test_means_of_one_cost_are_side_by_side_and_hardly_moved(results):
    """Five methods that meet each budget exactly: without this their bars would be one."""
    exact = results[results.budget.notna()]
    ax = Figure().subplots()
    lines, bars = collections(LineCollection, plots.accuracy_vs_cost(exact, ax))[:2]
    drawn = np.array([segment[0, 0] for segment in bars.get_segments()])
    means = np.concatenate([path.vertices for path in lines.get_paths()])
    np.testing.assert_allclose(means[:, 0], drawn)  # lines, bars and markers stand together
    width = np.log(ax.get_xlim()[1] / ax.get_xlim()[0])
    places = np.log(drawn.reshape(-1, len(BUDGETS))) / width  # methods x budgets, cheapest first
    assert (np.diff(np.sort(places, 0), axis=0) > 0.99 * GAP).all()
    moved = places - np.log(np.sort(BUDGETS)) / width
    assert abs(moved).max() <= 1.001 * FARTHEST
    np.testing.assert_allclose(moved.mean(0), 0, atol=1e-9)  # to both sides alike


def test_where_too_many_means_meet_none_is_moved_further_than_told():
    costs = np.repeat([0.3, 0.5], 50)
    moved = side_by_side(pd.DataFrame({"cost": costs}), (0.1, 1.0)).cost.to_numpy()
    share = np.log(moved / costs) / np.log(10)
    assert abs(share).max() == pytest.approx(FARTHEST) and (np.diff(moved) >= 0).all()
    far = pd.DataFrame({"cost": [0.2, 0.9, 0.4]})
    np.testing.assert_allclose(side_by_side(far, (0.1, 1.0)).cost, far.cost)


def test_the_dense_network_is_a_line_with_the_interval_of_its_mean(results):
    errors = 1 - results[results.method == "dense"].test_accuracy
    ax = Figure().subplots()
    artists = plots.accuracy_vs_cost(results, ax)
    (band,) = collections(Rectangle, artists)
    low, high = stats.t.interval(0.95, len(errors) - 1, errors.mean(), stats.sem(errors))
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((low, high))
    (level,) = [a for a in collections(LineCollection, artists) if a.get_linestyles()[0][1] is not None]
    np.testing.assert_allclose(level.get_segments()[0], [[x, errors.mean()] for x in ax.get_xlim()])
    one = plots.accuracy_vs_cost(results[results.seed == 0], Figure().subplots())
    assert not collections(Rectangle, one)  # no interval from one seed
    without = plots.accuracy_vs_cost(results[results.method != "dense"], Figure().subplots())
    assert not collections(Rectangle, without)
    assert not any(text.startswith("dense") for text in without[-1].texts)


def test_the_figure_says_how_much_one_image_is(results):
    def label(**columns):
        ax = Figure().subplots()
        plots.accuracy_vs_cost(results.assign(**columns), ax, **settings)
        return ax.get_ylabel()

    settings = {}
    assert label(confusion=[[100, 57, 0, 200]] * len(results)).endswith("\none image of 357 = 0.28 %")
    assert label(confusion=[[5000, 0, 0, 5000]] * len(results)).endswith("\none image of 10,000 = 0.01 %")
    assert "image" not in label()
    settings = {"accuracy": "val_accuracy"}  # of other images, whose number no column tells
    assert "image" not in label(confusion=[[100, 57, 0, 200]] * len(results))


def test_single_runs_are_fainter_than_means(results):
    artists = collections(PathCollection, plots.accuracy_vs_cost(results, Figure().subplots()))
    points, means = artists[:10], artists[10]
    assert max(p.get_alpha() for p in points) < 0.5 and means.get_alpha() is None
    assert max(p.get_sizes()[0] for p in points) < means.get_sizes()[0]
    alone = collections(PathCollection, plots.accuracy_vs_cost(results, Figure().subplots(), fronts=False))
    assert min(p.get_alpha() for p in alone[:10]) > 0.5


def test_methods_have_labels_that_do_not_overlap_and_looks_that_differ(results):
    ax, artists = drawn(lambda ax: plots.accuracy_vs_cost(results, ax), (8.8, 4.8))
    words = artists[-1]
    dense = f"dense {100 * (1 - results[results.method == 'dense'].test_accuracy.mean()):.3g} %"
    assert set(words.texts) >= {"mean field", "forward", "small dense", "L1, global", dense}
    assert len(words.texts) == 10
    assert_apart(ax, artists)
    assert len({(colour, marker) for _, colour, marker in plots.METHODS.values()}) == len(plots.METHODS)


def test_the_selected_run_is_circled(results):
    chosen = results.iloc[30]
    results = results[results.method == chosen.method]
    circle = plots.accuracy_vs_cost(results, Figure().subplots(), selected=chosen.run)[-1]
    np.testing.assert_allclose(circle.get_offsets(), [[chosen.kept_macs, 1 - chosen.test_accuracy]])
    circle = plots.accuracy_vs_cost(results, Figure().subplots(), selected="filtered away")[-1]
    assert len(circle.get_offsets()) == 0


def test_ticks_of_shares_are_round_percentages(results):
    ax = Figure().subplots()
    plots.accuracy_vs_cost(results[results.kept_macs >= 0.05], ax)
    names = [t.get_text() for t in ax.get_xticklabels()]
    assert names == ["5 %", "10 %", "20 %", "50 %", "100 %"] and ax.get_xlabel() == "MACs kept"
    assert ax.get_xscale() == "log"


def test_errors_are_on_a_logarithmic_axis_with_round_percentages(results):
    ax = Figure().subplots()
    plots.accuracy_vs_cost(results, ax)
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "test error (log scale)"
    bottom, top = ax.get_ylim()
    assert 0 < bottom < (1 - results.test_accuracy).min() and top > (1 - results.test_accuracy).max()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1 %", "2 %", "5 %", "10 %", "20 %"]
    np.testing.assert_allclose(ax.get_yticks(), [0.01, 0.02, 0.05, 0.1, 0.2])
    near = results.assign(test_accuracy=0.45 + results.test_accuracy / 3)  # 22 to 27 %
    plots.accuracy_vs_cost(near, ax := Figure().subplots())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["22 %", "23 %", "24 %", "25 %", "26 %", "27 %"]
    plots.accuracy_vs_cost(results, ax := Figure().subplots(), accuracy="val_accuracy")
    assert ax.get_ylabel() == "validation error (log scale)"


@pytest.mark.parametrize(
    ("images", "at"),
    [(400, 0.5 / 400), (None, 0.004 / 2)],  # half an image; half of the smallest error where none is known
)
def test_runs_without_an_error_are_drawn(results, images, at):
    table = results.assign(test_accuracy=results.test_accuracy.clip(upper=0.996))
    table.loc[3, "test_accuracy"] = 0.996  # the best run but for the flawless
    flawless = (table.method == "forward") & (table.lam == 1)
    table.loc[flawless, "test_accuracy"] = 1.0
    if images:
        table["confusion"] = [[images // 4] * 4] * len(table)
    ax, artists = drawn(lambda ax: plots.accuracy_vs_cost(table, ax, selected=table.run[flawless].iloc[0]))
    points = collections(PathCollection, artists)[1].get_offsets()
    np.testing.assert_allclose(np.sort(points[:, 1])[: len(SEEDS)], at)
    line = collections(LineCollection, artists)[0].get_segments()[1]
    assert line[-1, 1] == pytest.approx(at) and len(line) == 4  # the mean of five, too
    assert artists[-1].get_offsets()[0, 1] == pytest.approx(at)  # the circle
    ticks = [t.get_text() for t in ax.get_yticklabels()]
    assert ticks[:2] == ["0 %", "0.5 %"] and ax.get_yticks()[0] == pytest.approx(at)
    assert ax.get_ylim()[0] < at and not np.isnan(ax.get_ylim()).any()


def test_a_table_without_any_error_can_be_drawn(results):
    flawless = results[results.method.isin(["forward", "dense"])].assign(test_accuracy=1.0)
    ax, artists = drawn(lambda ax: plots.accuracy_vs_cost(flawless, ax))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0 %"]
    assert "dense 0 %" in artists[-1].texts


def test_intervals_end_at_the_axis(results):
    """Half of the runs flawless: the interval of the mean error reaches below zero."""
    table = results[results.method == "forward"].copy()
    table.loc[table.seed > 0, "test_accuracy"] = 0.999
    table.loc[table.seed == 0, "test_accuracy"] = 0.95
    ax = Figure().subplots()
    bars = collections(LineCollection, plots.accuracy_vs_cost(table, ax))[1]
    low, high = np.array([bar[:, 1] for bar in bars.get_segments()]).T
    assert (low == ax.get_ylim()[0]).all() and (high > 0.03).all()


def test_only_the_highlighted_method_is_in_colour_and_it_is_on_top(results):
    ax = Figure().subplots()
    artists = plots.accuracy_vs_cost(results, ax, highlight="forward")
    points = collections(PathCollection, artists)[:10]
    colours = [to_hex(artist.get_facecolor()[0]).upper() for artist in points]
    names = [name for name in plots.METHODS if name in set(results.method)]  # the order of the points
    assert colours[1] == plots.VERMILLION
    assert colours[names.index("dense")] == plots.BLACK
    assert {colour for i, colour in enumerate(colours) if names[i] not in ("forward", "dense")} == {FADED}
    assert points[1].get_zorder() > max(p.get_zorder() for p in points if p is not points[1])
    others, _, line, bars = collections(LineCollection, artists)[:4]
    assert {to_hex(c).upper() for c in line.get_colors()} == {plots.VERMILLION}
    assert {to_hex(c).upper() for c in bars.get_colors()} == {plots.VERMILLION}
    assert {to_hex(c).upper() for c in others.get_colors()} == {FADED}
    level = collections(LineCollection, artists)[4]
    assert to_hex(level.get_colors()[0]) == plots.BLACK
    assert line.get_zorder() > others.get_zorder() and line.get_linewidth()[0] > others.get_linewidth()[0]
    texts = collections(Words, artists)[0]
    inks = dict(zip(texts.texts, map(to_hex, texts.get_facecolor()), strict=True))
    widths = dict(zip(texts.texts, texts.get_linewidth(), strict=True))
    assert inks["forward"] == plots.BLACK and inks["mean field"] == plots.GREY.lower()
    assert widths["forward"] > 0 and widths["mean field"] == 0


@pytest.mark.slow
def test_a_highlight_moves_nothing(results):
    def places(highlight):
        ax, artists = drawn(lambda ax: plots.accuracy_vs_cost(results, ax, highlight=highlight))
        return ax.get_xlim(), ax.get_ylim(), artists[-1].get_offsets().tolist()

    assert places(None) == places("random") == places("dense")


@pytest.mark.parametrize("seeds", slow_but_the_first([SEEDS, [0]]))
@pytest.mark.parametrize("fronts", slow_but_the_first([True, False]))
@pytest.mark.parametrize(("size", "projector"), [((8.8, 4.8), False), ((9.6, 6), True), ((5.2, 2.8), False)])
def test_names_cover_neither_each_other_nor_runs_nor_lines(results, seeds, fronts, size, projector):
    table = results[results.seed.isin(seeds)]
    assert_apart(*drawn(lambda ax: plots.accuracy_vs_cost(table, ax, fronts=fronts), size, projector))


@pytest.mark.slow
def test_names_follow_the_size_of_the_axes_and_then_stay(results):
    figure = Figure((8.8, 4.8), dpi=100)
    canvas, ax = FigureCanvasAgg(figure), figure.subplots()
    artists = plots.accuracy_vs_cost(results, ax)
    for size in [(8.8, 4.8), (5.5, 3.5), (12, 7)]:
        figure.set_size_inches(*size)
        canvas.draw()
        assert_apart(ax, artists)
        assert not figure.stale  # or a window would draw it again and again
    before = artists[-1].get_offsets().copy()
    figure.dpi = 150  # of a sharper screen: the same picture
    canvas.draw()
    np.testing.assert_allclose(artists[-1].get_offsets(), before, rtol=1e-6)


def test_names_of_ticks_do_not_touch_in_narrow_axes(results):
    wide = results.assign(kept_macs=results.kept_macs**1.3)  # from 2 to 100 %
    ax, _ = drawn(lambda ax: plots.accuracy_vs_cost(wide, ax), (4.2, 3.2))
    found = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert len(found) == 5 and all(a.x1 + 2 < b.x0 for a, b in pairwise(found))
    found = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert len(found) == 5 and all(a.y1 < b.y0 for a, b in pairwise(found))


def test_the_steps_of_a_path_have_names_apart_and_without_exponents():
    ax, artists = drawn(lambda ax: plots.lambda_path(path_table(), ax), (9, 4))
    assert artists[-1].texts == ("λ 0.97", "λ 1.9", "λ 3.6", "λ 7.1", "λ 14", "λ 27", "λ 52", "λ 100")
    assert_apart(ax, artists, 4)


def drawn(draw, size=(8.8, 4.8), projector=False):
    """Axes and artists of a figure after it was drawn."""
    return saved(draw, size, projector)


def boxes(ax, words) -> np.ndarray:
    """Of every text, in pixels: left, bottom, right, top."""
    scale = ax.figure.dpi / 72
    places = ax.transData.transform(words.get_offsets())
    return np.array(
        [
            (*(place + path.vertices.min(0) * scale), *(place + path.vertices.max(0) * scale))
            for place, path in zip(places, words.get_paths(), strict=True)
        ]
    )


def assert_apart(ax, artists, least=1.5) -> None:
    """No name touches another, a marker (by `least` points and more), a line or the frame."""
    words = collections(Words, artists)[0]
    found = boxes(ax, words)
    pixels = ax.figure.dpi / 72
    for i, (left, bottom, right, top) in enumerate(found):
        assert ax.bbox.x0 <= left and right <= ax.bbox.x1 + 1, words.texts[i]
        assert ax.bbox.y0 <= bottom and top <= ax.bbox.y1 + 1, words.texts[i]
        for other in found[i + 1 :]:
            apart = other[0] > right or other[2] < left or other[1] > top or other[3] < bottom
            assert apart, (words.texts[i], found[i], other)
        for artist in collections(PathCollection, artists):
            if isinstance(artist, Words) or artist in keys_of(artists):
                continue
            x, y = ax.transData.transform(artist.get_offsets()).T
            gap = least * pixels
            inside = (x > left - gap) & (x < right + gap) & (y > bottom - gap) & (y < top + gap)
            assert not inside.any(), words.texts[i]


def keys_of(artists) -> list:
    """The markers before the names."""
    return [keys for leaders in collections(Leaders, artists) for keys in leaders._moved]


@pytest.mark.parametrize(
    ("cost", "label", "tick"),
    [("params", "parameters", "10 k"), ("latency_ms", "measured latency (ms)", "1"), ("macs", "MACs", "1 M")],
)
def test_axes_name_their_units(results, cost, label, tick):
    ax = Figure().subplots()
    plots.accuracy_vs_cost(results, ax, cost=cost)
    assert ax.get_xlabel().startswith(label) and tick in [t.get_text() for t in ax.get_xticklabels()]


@pytest.mark.slow
def test_limits_move_in_large_steps(results):
    looks = set()
    for seed in SEEDS:
        ax = Figure().subplots()
        plots.accuracy_vs_cost(results[results.seed == seed], ax)
        looks.add((ax.get_xlim(), ax.get_ylim()))
    assert len(looks) <= 2
    ax = Figure().subplots()
    plots.accuracy_vs_cost(results, ax, ylim=(0.01, 0.2))  # errors
    assert ax.get_ylim() == (0.01, 0.2)
    for wrong in [(0, 0.2), (0.2, 0.1)]:
        with pytest.raises(ValueError, match="ylim must be two errors, 0 < low < high"):
            plots.accuracy_vs_cost(results, ax, ylim=wrong)


def test_wrong_tables_are_refused(results):
    two = pd.concat([results, results.assign(data="fashion_mnist")])
    with pytest.raises(ValueError, match="small on digits; small on fashion_mnist"):
        plots.accuracy_vs_cost(two)
    with pytest.raises(ValueError, match="Did you mean 'kept_macs'"):
        plots.accuracy_vs_cost(results, cost="kept_mac")
    with pytest.raises(ValueError, match="lacks the columns method"):
        plots.accuracy_vs_cost(results.drop(columns="method"))
    with pytest.raises(ValueError, match="Did you mean 'mean_field'"):
        plots.accuracy_vs_cost(results, highlight="mean field")
    with pytest.raises(ValueError, match="lacks the columns lam, budget"):
        plots.accuracy_vs_cost(results.drop(columns=["lam", "budget"]))


def test_a_method_of_ones_own_is_drawn_under_its_name(results):
    own = results[results.method == "forward"].assign(method="mine")
    artists = plots.accuracy_vs_cost(pd.concat([results, own]), Figure().subplots())
    assert len(artists[-1].texts) == 11 and "mine" in artists[-1].texts


def test_pairs_are_in_percentage_points_and_blocks_of_one_cost(differences):
    ax = Figure().subplots()
    artists = plots.paired_intervals(differences, ax)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert [n for n in names if "%" in n] == ["50 % of MACs", "30 % of MACs", "15 % of MACs"]
    dots = collections(PathCollection, artists)[0].get_offsets()
    first = differences[differences["at"] == 0.5].set_index("method").difference
    np.testing.assert_allclose(dots[:2, 0], 100 * first[["forward", "backward"]])
    bars = collections(LineCollection, artists)[1].get_segments()
    assert all(bar[0, 0] <= dot[0] <= bar[1, 0] for bar, dot in zip(bars, dots, strict=True))
    assert np.unique(dots[:, 1]).size == len(differences)
    assert ax.get_xlim()[0] < dots[:, 0].min() and ax.get_xlim()[1] >= 0.5


def test_pairs_that_do_not_exist_are_said_to_be_missing(results):
    nowhere = paired_differences(results, at=[0.001])
    texts = collections(Text, plots.paired_intervals(nowhere, Figure().subplots()))
    assert len(texts) == len(METHODS) - 1 and "no pair" in texts[0].get_text()
    with pytest.raises(ValueError, match="no rows"):
        plots.paired_intervals(nowhere[:0])
    with pytest.raises(ValueError, match=r"lacks the columns high: is it from dk\.paired"):
        plots.paired_intervals(nowhere.drop(columns="high"))


def test_pairs_say_over_how_many_seeds_they_are(results, differences):
    plots.paired_intervals(differences, ax := Figure().subplots())
    assert ax.get_xlabel() == "percentage points above mean field\n95 % intervals, n = 5 seeds"
    assert not any("n =" in t.get_text() for t in ax.get_yticklabels())
    fewer = differences.assign(pairs=np.where(differences.method == "forward", 3, 5))
    plots.paired_intervals(fewer, ax := Figure().subplots())
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names.count("forward, n = 3") == 3 and "n = 5 seeds" in ax.get_xlabel()
    alone = paired_differences(results[results.seed == 0], confidence=0.9)
    plots.paired_intervals(alone, ax := Figure().subplots())
    assert ax.get_xlabel().endswith("90 % intervals, n = 1 seed")


def test_rows_of_pairs_have_small_text_or_what_fits(differences):
    def size(height):
        plots.paired_intervals(differences, ax := Figure((6, height)).subplots())
        return ax.get_yticklabels()[0].get_fontsize()

    assert size(3) < size(5) < size(9) == size(12) == pytest.approx(8.33, abs=0.01)


def test_confusion_shows_errors_only(errors):
    image, note, numbers = plots.confusion(errors.ravel().tolist(), Figure().subplots())
    assert isinstance(image, PcolorImage)
    shown = np.ma.masked_array(image.get_array())
    assert shown.mask.sum() == 10 and shown.sum() == errors.sum() - 340
    assert note.get_text().startswith(f"{shown.sum()} of {errors.sum()}; most: ")
    assert len(numbers.get_offsets()) == ((errors > 0) & ~np.eye(10, dtype=bool)).sum()


def test_confusion_of_many_classes_or_none_wrong():
    assert len(plots.confusion(np.ones((100, 100), int), Figure().subplots())) == 2
    note = plots.confusion(np.eye(3, dtype=int), Figure().subplots(), classes=list("abc"))[1]
    assert note.get_text() == "0 of 3"
    with pytest.raises(ValueError, match="classes x classes"):
        plots.confusion([1, 2, 3])
    with pytest.raises(ValueError, match="classes must be 2 names"):
        plots.confusion([1, 2, 3, 4], classes=["a"])


def test_bars_of_a_run_need_no_expected_channels():
    table = pd.DataFrame({"group": ["a", "b"], "channels": [10, 20], "open": [10, 4]})
    ax = Figure().subplots()
    lines = collections(LineCollection, plots.layer_bars(table, ax))
    assert ax.get_title("left") == "Open channels" and not lines[0].get_segments()


@pytest.mark.parametrize("values", [[0.0, 0.95, 0.96, 0.97], [0.5] * 10, [2, -1, 0.3]])
def test_spread_labels_are_apart_and_inside(values):
    found = spread(values, 0.06)
    assert np.diff(np.sort(found)).min() > 0.06 - 1e-9 and found.min() > 0 and found.max() <= 1
    assert (np.argsort(found, kind="stable") == np.argsort(values, kind="stable")).all()


def test_the_artists_grow_with_the_methods_and_not_with_the_runs(results):
    """A moved selection draws all of them again; benchmarks/slider_latency.py measures how long it takes."""
    table = results[results.method.isin([*list(METHODS)[:7], "dense"])]
    few = table[table.seed < 2]
    counts = []
    for part in (few, table):
        ax = Figure().subplots()
        counts.append(len(plots.accuracy_vs_cost(part, ax, selected=part.run.iloc[0])))
    assert len(table) > 2 * len(few) and counts[0] == counts[1]
