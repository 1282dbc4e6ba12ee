"""What lessons 04 and 06 say about the saved sweeps, computed again from data/results."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import depl0kit as dk

HOME = Path(__file__).resolve().parents[2]
POSTERIORS = ["forward", "backward", "autoregressive"]  # beside mean field
BASELINES = ["random", "small_dense", "l1_uniform", "l1_global", "slimming"]


def text(lesson: str, cell_id: str) -> str:
    notebook = json.loads((HOME / "notebooks" / f"{lesson}.ipynb").read_text())
    return "".join(next(cell["source"] for cell in notebook["cells"] if cell["id"] == cell_id))


def lesson_06(cell_id: str) -> str:
    return text("06_accuracy_vs_flops", cell_id)


def differences(sweep: str, **options) -> pd.DataFrame:
    """Percentage points to mean field, by data, method and cost; `excludes` says on which side of zero."""
    found = dk.paired_differences(dk.load_results(HOME / "data" / "results" / sweep), **options)
    found = found.set_index(["data", "method", "at"])[["difference", "low", "high"]] * 100
    return found.assign(excludes=(found.low > 0).astype(int) - (found.high < 0)).sort_index()


@pytest.fixture(scope="module")
def fair() -> pd.DataFrame:
    return differences("paired-comparison")


def quoted(row: pd.Series, digits: int = 1) -> str:
    """As the lessons write it: size of the difference, and its interval, without zeros before the point."""
    sign = 1 if row.difference > 0 else -1
    low, high = sorted((sign * row.low, sign * row.high))
    numbers = [re.sub(r"^(-?)0\.", r"\1.", f"{x:.{digits}f}") for x in (sign * row.difference, low, high)]
    return "{} [{}, {}]".format(*numbers)


def excluding(table: pd.DataFrame) -> dict[tuple, int]:
    return table.excludes[table.excludes != 0].to_dict()


def test_posteriors_of_the_fair_comparison(fair):
    found = fair[fair.index.isin(POSTERIORS, level="method")]
    assert len(found) == 18 and excluding(found) == {}
    assert found.loc["digits"].difference.abs().max() < 0.25
    largest = ("fashion_mnist", "autoregressive", 0.3)
    assert found.difference.abs().idxmax() == largest
    quote = f"*autoregressive* at 30 %, {quoted(found.loc[largest])} points"
    assert quote in lesson_06("06-16") and "all nine intervals include zero" in lesson_06("06-16")
    in_04 = text("04_when_independence_fails", "04-paired")
    assert quote in in_04 and "all eighteen intervals include zero" in in_04
    other = differences("paired-comparison", reference="forward").xs("autoregressive", level="method")
    assert not other.excludes.any()  # "not clearly better than forward"


def test_simple_methods_on_fashion_mnist(fair):
    found = fair.loc["fashion_mnist"]
    simple = found[found.index.isin(BASELINES, level="method")]
    assert excluding(simple) == {
        ("random", 0.15): -1, ("l1_global", 0.15): -1, ("small_dense", 0.15): 1, ("small_dense", 0.3): 1,
    }  # fmt: skip
    assert (simple.excludes.loc[:, 0.5] == 0).all()  # at 50 % none, at 15 % three
    lesson = lesson_06("06-16")
    narrow = [quoted(found.loc["small_dense", at]) for at in (0.3, 0.15)]
    assert "is {} points *above* mean field at 30 % and {} at 15 %".format(*narrow) in lesson
    assert f"random channels are {quoted(found.loc['random', 0.15])}" in lesson
    assert f"one threshold {quoted(found.loc['l1_global', 0.15])} points below" in lesson
    assert (found.difference.unstack().drop("small_dense_longer").idxmax() == "small_dense").all()


def test_digits(fair):
    found = fair.loc["digits"]
    simple = found[found.index.isin(BASELINES, level="method")]
    assert excluding(simple) == {("slimming", 0.15): -1}
    assert f"slimming is {quoted(found.loc['slimming', 0.15])} points below" in lesson_06("06-23")


def test_the_narrow_network_at_equal_compute(fair):
    found = fair.xs("small_dense_longer", level="method")
    assert len(found) == 6 and (found.excludes >= 0).all()
    assert found.excludes[found.excludes == 1].index.tolist() == [
        ("digits", 0.15), ("fashion_mnist", 0.15), ("fashion_mnist", 0.3), ("fashion_mnist", 0.5),
    ]  # fmt: skip
    for _, mine in found.groupby("data"):
        quotes = [quoted(mine.droplevel("data").loc[at]) for at in (0.5, 0.3, 0.15)]
        assert "{} at 50 %, {} at 30 % and {} at 15 %".format(*quotes) in lesson_06("06-26")
    equal = fair.xs("small_dense", level="method").difference
    assert equal.loc["fashion_mnist"].between(1, 2).all() and equal.loc["digits"].between(0, 0.3).all()


def test_the_worked_interval_and_the_rates_that_were_too_slow():
    runs = dk.load_results("paired-comparison").query("data == 'fashion_mnist'")
    trials = runs[(runs.stage == "tune") & (runs.method == "mean_field")].groupby("gate_lr")
    means = trials[["kept_macs", "val_accuracy"]].mean().round(2)
    assert means.loc[0.1].tolist() == [0.04, 0.43]
    assert "4 % of the MACs are left, and the accuracy is 43 %" in lesson_06("06-21")
    assert 0.16 < 60 / (8 * (1500 // 32)) < 0.17 and "368 steps" in lesson_06("06-21")
    report = runs[runs.stage == "report"]
    assert round(100 * report[report.method == "dense"].test_accuracy.mean()) == 78
    assert stats.t.ppf(0.975, [4, 2, 1]).round(2).tolist() == [2.78, 4.3, 12.71]
    assert round(196 * (0.97 * 0.03 / 357) ** 0.5, 1) == 1.8


def test_some_took_a_rate_at_the_edge_of_the_grid_and_mean_field_loses_two_points_beside_it():
    fair = dk.load_results(HOME / "data" / "results" / "paired-comparison")
    assert set(fair.gate_lr[(fair.method == "mean_field") & (fair.stage == "report")]) == {1.0}
    chosen = fair[(fair.stage == "report") & (fair.data == "digits")].groupby("method").gate_lr.first()
    assert chosen[["forward", "backward"]].tolist() == [0.001, 0.001] == [fair.gate_lr.min()] * 2
    trials = fair[(fair.stage == "tune") & (fair.method == "mean_field") & (fair.data == "fashion_mnist")]
    means = 100 * trials.groupby("gate_lr").val_accuracy.mean()
    assert means.index[-2:].tolist() == [0.3, 1.0] and 1.5 < means[1.0] - means[0.3] < 2.5


def test_almost_no_gate_is_undecided_with_the_chosen_rates():
    fair = dk.load_results(HOME / "data" / "results" / "paired-comparison")
    undecided = fair[fair.stage == "report"].groupby(["data", "method", "budget"]).undecided.mean()
    assert undecided.max() < 0.1


def test_three_runs_tell_little_about_a_standard_deviation():
    ends = np.sqrt(2 / stats.chi2.ppf([0.975, 0.025], 2))
    assert ends.round(1).tolist() == [0.5, 6.3]
    assert "half or six times as large" in text("04_when_independence_fails", "04-30")


def test_the_rule_for_the_gates_learning_rate():
    runs = dk.comparison.load_measurements("gate-lr").query("posterior == 'mean_field'")
    runs = runs.assign(travel=(runs.gate_lr * runs.steps).round(2))
    assert sorted(runs.steps.unique()) == [108, 216, 432] and runs.seed.nunique() == 3
    means = runs.groupby(["price", "travel"])[["undecided", "kept_macs"]].mean()
    for price, enough in (("lam 16", 20), ("budget 0.3", 60)):
        mine = means.loc[price]
        still = mine[mine.index < 3]
        assert (still.undecided == 0).all() and (still.kept_macs == 1).all()  # no gate has left 1
        assert (mine.undecided[(mine.index > 4) & (mine.index < enough)] > 0.3).all()
        assert (mine.undecided[mine.index > enough] < 0.1).all()
    kept = runs[(runs.price == "lam 16") & (runs.travel > 20)].groupby(["steps", "gate_lr"]).kept_macs.mean()
    for _, mine in kept.groupby("steps"):
        assert mine.is_monotonic_increasing  # "far above, with λ more MACs stay"
    lesson = text("02_mean_field", "02-13b")
    assert "20 to 100 with a price λ, and 60 to 200 with a budget" in lesson and "Below 3" in lesson
