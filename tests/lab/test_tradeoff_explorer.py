"""The explorer of a sweep's runs."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from depl0kit import plots
from depl0kit.comparison.table import COLUMNS
from depl0kit.lab import TradeoffExplorer
from depl0kit.plots.methods import FADED

GROUPS, CHANNELS = ["conv1", "conv2"], [4, 6]
POSTERIORS, PRICES = ("mean_field", "forward"), (1.0, 4.0, 16.0)


def row(method, seed, lam=np.nan, budget=np.nan, data="digits", error="", stage="report"):
    kept = budget if np.isfinite(budget) else 1 / (1 + lam) if np.isfinite(lam) else 1.0
    kept *= 1 - 0.01 * seed
    gates = method in POSTERIORS
    name = f"{data}-{method}-{lam}-{budget}-{seed}-{stage}"
    return dict.fromkeys(COLUMNS) | {
        "run": name, "stage": stage, "data": data, "model": "small", "method": method,
        "kind": "static",
        "lam": lam, "budget": budget, "seed": seed, "gate_lr": 0.1 if gates else np.nan,
        "epochs": 3, "fine_tune_epochs": 1, "raw_val_accuracy": 0.8, "val_accuracy": 0.9,
        "test_accuracy": 0.8 + 0.15 * kept + 0.001 * seed, "macs": int(1e4 * kept), "params": int(1e3 * kept),
        "kept_macs": kept, "kept_params": kept, "undecided": 0.1 if gates else np.nan, "latency_ms": 1 + kept,
        "latency_1_ms": 0.1 + kept,
        "seconds": 1.0, "device": "cpu", "error": error, "groups": GROUPS, "channels": CHANNELS,
        "open": [max(1, int(kept * c)) for c in CHANNELS],
        "confusion": list(np.eye(10, dtype=int).ravel() * 30),
        "times": [1.0, 2.0, 3.0] if gates else None, "prob_open": bytes(range(30)) if gates else None,
    }  # fmt: skip


def table(data="digits"):
    rows = [row(m, seed, lam, data=data) for m in POSTERIORS for lam in PRICES for seed in (0, 1)]
    rows += [row("l1_global", seed, budget=b, data=data) for b in (0.45, 0.15) for seed in (0, 1)]
    rows += [row("dense", seed, data=data) for seed in (0, 1)]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def shared():
    made = TradeoffExplorer(table())
    yield made
    made.close()


@pytest.fixture
def explorer(shared):
    """Where it starts: what a test chose is undone."""
    yield shared
    assert shared.error is None
    shared.reset()


def test_the_slider_walks_from_most_macs_to_fewest(explorer):
    seen = []
    for position in range(explorer.controls["run"].max + 1):
        explorer.controls["run"].value = position
        assert explorer.chosen.run == explorer.walk().run.iloc[position]
        assert f"{explorer.chosen.kept_macs:.1%}" in explorer.numbers()
        seen.append(explorer.chosen.kept_macs)
    assert len(seen) == 6
    assert seen == sorted(seen, reverse=True)


def test_every_position_is_another_picture_and_the_first_comes_back(explorer):
    slider, start = explorer.controls["run"], explorer.figure.png
    pictures = []
    for position in range(slider.max + 1):
        slider.value = position
        pictures.append(explorer.figure.png)
    assert len(set(pictures)) == slider.max + 1
    slider.value = 0
    assert explorer.figure.png == start
    explorer.controls["method"].value = "forward"
    explorer.controls["cost"].value = "latency_ms"
    explorer.reset()
    assert explorer.figure.png == start


@pytest.mark.slow
def test_points_that_stay_are_those_drawn_anew():
    """Through changes of every control, each picture is the one of an explorer that draws all of it."""
    explorer = TradeoffExplorer(pd.concat([table(), table("fashion_mnist")]))
    for name, value in [
        ("run", 2), ("run", 3), ("shown", "the chosen method"), ("run", 1), ("method", "l1_global"),
        ("seed", 1), ("run", 0), ("cost", "latency_ms"), ("network", "small on fashion_mnist"), ("run", 1),
        ("shown", "baselines"), ("network", "small on digits"),
    ]:  # fmt: skip
        explorer.controls[name].value = value
        walked = explorer.figure.png
        explorer.show(explorer.results)  # another table: nothing stays
        assert explorer.figure.png == walked, (name, value)
    explorer.close()


@pytest.mark.slow
def test_seeds_are_those_of_the_method():
    rows = table()
    explorer = TradeoffExplorer(rows[(rows.method != "forward") | (rows.seed == 0)])
    explorer.controls["seed"].value = 1
    explorer.controls["method"].value = "forward"  # that seed failed, or is not done yet
    assert explorer.controls["seed"].options == ("all", 0) and explorer.controls["seed"].value == "all"
    assert explorer.chosen.method == "forward"
    explorer.close()


def pixels(explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.figure.png)))[..., :3]


@pytest.mark.slow
def test_nothing_is_left_of_runs_that_are_gone_and_they_come_back():
    explorer = TradeoffExplorer(table())
    start = pixels(explorer)
    explorer.show(explorer.results[:0])
    assert "no finished run" in explorer.numbers() and (pixels(explorer) < 250).mean() < 0.03  # no axes
    explorer.show(table())
    assert (pixels(explorer) != start).mean() < 0.003  # panels arranged anew end a hundredth of a pixel off
    assert explorer.error is None
    explorer.close()


def test_another_method_or_seed_keeps_to_the_nearest_cost(explorer):
    explorer.controls["run"].value = 4  # 1/17 of the MACs, seed 0 or 1
    explorer.controls["method"].value = "forward"
    assert explorer.chosen.method == "forward"
    assert explorer.chosen.lam == 16
    explorer.controls["seed"].value = 1
    assert (explorer.chosen.seed, explorer.chosen.lam) == (1, 16)
    assert explorer.controls["run"].max == 2
    explorer.controls["method"].value = "dense"
    assert explorer.controls["run"].max == 0
    assert "λ" not in explorer.numbers()


def test_a_press_near_a_point_chooses_its_run(explorer):
    wanted = explorer.results[explorer.results.budget == 0.15].iloc[1]
    explorer._pick(0, wanted.kept_macs * 1.001, 1 - wanted.test_accuracy)  # one of the grey points
    assert explorer.chosen.run == wanted.run
    assert explorer.controls["method"].value == "l1_global"
    assert explorer.controls["method"].label == "L1, global"
    explorer._pick(1, 0.5, 0.5)  # in another panel
    assert explorer.chosen.run == wanted.run


@pytest.mark.parametrize(
    ("shown", "methods"),
    [
        ("all methods", {"mean_field", "forward", "l1_global", "dense"}),
        ("posteriors", {"mean_field", "forward", "dense"}),
        ("baselines", {"l1_global", "dense"}),
        ("the chosen method", {"mean_field", "dense"}),
    ],
)
def test_filters(explorer, shown, methods):
    explorer.controls["shown"].value = shown
    assert set(explorer._drawn(shown).method) == methods
    assert explorer.error is None


def points_colour(explorer, method):
    """Of the points of a method in the scatter."""
    runs = explorer.results[explorer.results.method == method]
    wanted = np.column_stack([runs.kept_macs, 1 - runs.test_accuracy])
    for artist in explorer.figure.axes[0].collections:
        places = np.asarray(artist.get_offsets())
        if places.shape == wanted.shape and np.allclose(places, wanted):
            return to_hex(artist.get_facecolor()[0]).upper()


def test_the_chosen_method_is_in_colour_and_the_others_grey(explorer):
    for method, other in [("mean_field", "l1_global"), ("l1_global", "mean_field")]:
        explorer.controls["method"].value = method
        assert points_colour(explorer, method) == plots.look(method)[1]
        assert points_colour(explorer, other) == FADED
    explorer.controls["shown"].value = "posteriors"  # not the chosen one: nothing is left to highlight
    assert points_colour(explorer, "mean_field") == plots.BLUE


@pytest.mark.slow
def test_filters_and_seeds_scale_both_axes():
    rows = table()
    worse = [row("random", seed, budget=0.01) | {"test_accuracy": 0.1} for seed in (0, 1)]
    one_good = pd.DataFrame([row("forward", 7, 1.0) | {"test_accuracy": 0.996}])
    explorer = TradeoffExplorer(pd.concat([rows, pd.DataFrame(worse), one_good]))

    def limits(name, value):
        explorer.controls[name].value = value
        ax = explorer.figure.axes[0]
        return *ax.get_xlim(), *ax.get_ylim()

    left, right, bottom, top = limits("shown", "all methods")
    assert left < 0.01 and bottom < 0.004 and top > 0.9
    of_posteriors = limits("shown", "posteriors")
    assert of_posteriors[0] > 2 * left and of_posteriors[3] < 0.5
    assert of_posteriors[2] == pytest.approx(bottom, rel=0.3)
    assert limits("seed", 0)[2] > 2 * of_posteriors[2]  # the good run is of another seed
    explorer.controls["seed"].value = "all"
    by_macs, by_latency = limits("shown", "all methods"), limits("cost", "latency_ms")
    assert by_macs == (left, right, bottom, top)
    assert by_latency[0] > 0.5 and by_latency[2:] == by_macs[2:]
    assert explorer.error is None
    explorer.close()


@pytest.mark.slow
def test_points_are_drawn_anew_where_the_figure_has_new_axes(explorer):
    start, points = explorer.figure.png, explorer._points
    explorer.controls["run"].value = 1
    assert explorer._points is points  # it stays while the slider moves
    explorer.controls["run"].value = 0
    others = Figure().subplots(2, 2).ravel()
    artists = explorer._draw(*others, **explorer.state())
    assert explorer._points is not points and all(artist.axes in others for artist in artists)
    explorer.redraw()
    assert explorer.figure.png == start


def test_methods_are_offered_by_their_names_in_words(explorer):
    labels = [label for label, _ in explorer.controls["method"].options]
    assert labels == ["mean field", "forward", "L1, global", "dense"]
    assert explorer.numbers().startswith("mean field  λ 1  ")
    assert "test error 12.50%" in explorer.numbers()


@pytest.mark.slow
def test_failed_runs_and_trials_are_left_out():
    bad = [row("forward", 5, 4.0, error="diverged"), row("forward", 6, 4.0, stage="tune")]
    explorer = TradeoffExplorer(pd.concat([table(), pd.DataFrame(bad)]))
    assert set(explorer.results.seed) == {0, 1}
    explorer.close()


@pytest.mark.slow
def test_a_table_that_grows_keeps_what_was_chosen():
    explorer = TradeoffExplorer()
    assert "no finished run" in explorer.numbers()
    assert explorer.figure.png
    whole = table()
    explorer.show(whole[:3])
    explorer.controls["run"].value = 1
    chosen = explorer.chosen.run
    for n in (5, 9, len(whole)):
        explorer.show(whole[:n])
        assert explorer.chosen.run == chosen
    assert explorer.error is None
    explorer.close()


@pytest.mark.slow
def test_several_networks_are_chosen_among():
    explorer = TradeoffExplorer(pd.concat([table(), table("fashion_mnist")]))
    assert list(explorer.controls["network"].options) == ["small on digits", "small on fashion_mnist"]
    explorer.controls["network"].value = "small on fashion_mnist"
    assert explorer.chosen.data == "fashion_mnist"
    assert explorer.error is None
    explorer.close()


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(ValueError, match="confusion"):
        TradeoffExplorer(table().drop(columns="confusion"))
