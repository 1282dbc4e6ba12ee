"""Fronts and comparisons: exact where they can be, honest where they cannot, indifferent to row order."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from depl0kit.comparison import fronts, intervals

COSTS = (0.1, 0.2, 0.45, 0.8)


def run(method="mean_field", seed=0, cost=0.5, accuracy=0.9, val=None, **more) -> dict:
    row = {
        "run": f"{method}-{seed}-{cost:.6f}-{more.get('name', '')}", "stage": "report", "data": "digits",
        "model": "small", "method": method, "seed": seed, "kept_macs": cost, "kept_params": cost**1.5,
        "val_accuracy": accuracy if val is None else val, "test_accuracy": accuracy, "error": "",
    }  # fmt: skip
    return row | {name: value for name, value in more.items() if name != "name"}


def log_linear(method, seed, intercept, slope, costs=COSTS) -> list[dict]:
    return [run(method, seed, c, intercept + slope * np.log(c)) for c in costs]


@pytest.fixture
def results() -> pd.DataFrame:
    """Three methods, five seeds, a dense network; each method a log-linear curve that a seed shifts."""
    rng = np.random.default_rng(1)
    rows = []
    for seed, shift in enumerate(rng.normal(0, 0.01, 5)):
        rows.append(run("dense", seed, 1.0, 0.95 + shift))
        for method, slope in [("mean_field", 0.03), ("forward", 0.05), ("random", 0.1)]:
            rows += log_linear(method, seed, 0.95 + shift, slope)
    return pd.DataFrame(rows)


points = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(points)
def test_front_is_what_brute_force_finds(points):
    table = pd.DataFrame([run(cost=c / 8, val=v / 8, name=str(i)) for i, (c, v) in enumerate(points)])
    front = fronts.pareto_front(table)
    expected = sorted(
        (c, v) for c, v in points if not any(c2 <= c and v2 >= v and (c2, v2) != (c, v) for c2, v2 in points)
    )
    assert [(row.kept_macs * 8, row.val_accuracy * 8) for row in front.itertuples()] == expected


def test_front_is_chosen_on_validation_and_per_method_and_network():
    table = pd.DataFrame(
        [
            run(cost=0.2, accuracy=0.5, val=0.9, name="lucky in validation"),
            run(cost=0.3, accuracy=0.99, val=0.8, name="lucky in test"),
            run("forward", cost=0.5, val=0.1, name="alone"),
            run(cost=0.5, val=0.1, name="other data", data="fashion_mnist"),
            run(cost=0.1, accuracy=np.nan, val=np.nan, name="failed", error="diverged"),
        ]
    )
    front = fronts.pareto_front(table)
    assert front.run.str.split("-").str[-1].tolist() == ["alone", "lucky in validation", "other data"]


@given(st.floats(-2, 2), st.floats(-1, 1), st.lists(st.floats(0.1, 0.8), min_size=1, max_size=5))
def test_interpolation_is_exact_for_curves_linear_in_log_cost(intercept, slope, at):
    table = pd.DataFrame(log_linear("mean_field", 0, intercept, slope))
    found = fronts.at_matched_cost(table, at)
    np.testing.assert_allclose(found.accuracy, intercept + slope * np.log(found["at"]), atol=1e-12)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.lists(st.floats(0.001, 10), min_size=1))
def test_nothing_is_extrapolated(costs, at):
    table = pd.DataFrame([run(cost=c, accuracy=c, name=str(i)) for i, c in enumerate(costs)])
    found = fronts.at_matched_cost(table, at)
    inside = (found["at"] >= min(costs)) & (found["at"] <= max(costs))
    assert (found.accuracy.notna() == inside).all()
    assert found.accuracy.dropna().between(min(costs) - 1e-12, max(costs) + 1e-12).all()


def test_dense_run_of_the_same_seed_is_the_right_end():
    rows = [run(seed=s, cost=0.25, accuracy=0.8) for s in (0, 1)] + [run("dense", 0, 1.0, 0.9)]
    found = fronts.at_matched_cost(pd.DataFrame(rows), at=[0.5])
    assert found.accuracy[0] == pytest.approx(0.85)  # half of the way in log cost
    assert np.isnan(found.accuracy[1])  # this seed has no dense run
    assert "dense" not in set(found.method)


def test_only_runs_of_stage_report_are_compared(results):
    tuning = results.assign(stage="tune", run="tune-" + results.run, test_accuracy=0.0)
    both = pd.concat([results, tuning])
    pd.testing.assert_frame_equal(fronts.at_matched_cost(both), fronts.at_matched_cost(results))


def test_one_cost_may_stand_alone_and_arrays_for_lists(results):
    expected = fronts.at_matched_cost(results, at=[0.3])
    for at in (0.3, np.float64(0.3), np.array(0.3), np.array([0.3]), (0.3, 0.3)):
        pd.testing.assert_frame_equal(fronts.at_matched_cost(results, at=at), expected)
    areas = fronts.area_under_front(results, limits=np.array([0.15, 0.6]))
    pd.testing.assert_frame_equal(areas, fronts.area_under_front(results, limits=(0.15, 0.6)))


@given(st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=5))
@settings(max_examples=settings.default.max_examples // 5)
def test_pairing_cancels_seed_effects_of_any_size(effects):
    rows = []
    for seed, effect in enumerate(effects):
        rows += log_linear("mean_field", seed, effect, 0.03)
        rows += log_linear("forward", seed, effect + 0.01, 0.03)
    found = intervals.paired_differences(pd.DataFrame(rows))
    np.testing.assert_allclose(found[["difference", "low", "high"]], 0.01, atol=1e-9)
    spreads = found[["spread", "reference_spread"]]
    np.testing.assert_allclose(spreads, np.std(effects, ddof=1), rtol=1e-6, atol=1e-9)


def test_only_seeds_of_both_methods_make_pairs(results):
    table = results[~((results.method == "forward") & (results.seed == 3))]
    table = table[~((table.method == "mean_field") & (table.seed == 1))]
    found = intervals.paired_differences(table, at=[0.3, 0.05])
    of_forward = found[found.method == "forward"]
    assert of_forward.pairs.tolist() == [3, 0]  # 0.05 is beyond all runs
    assert of_forward.difference[0] == pytest.approx(0.02 * np.log(0.3))
    assert of_forward.iloc[1][["difference", "low", "high", "accuracy"]].isna().all()
    assert set(found.method) == {"forward", "random"}


def test_one_seed_gives_a_difference_but_no_interval(results):
    found = intervals.paired_differences(results[results.seed == 0])
    assert found.difference.notna().all() and (found.pairs == 1).all()
    assert found[["low", "high", "spread"]].isna().all(axis=None)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_the_true_mean_as_often_as_they_say(seeds):
    values = np.random.default_rng(0).normal(0.9, 0.01, (4000, seeds))
    low, high = intervals.mean_interval(values.mean(1), values.std(1, ddof=1), np.full(4000, seeds))
    assert 0.93 <= np.mean((low <= 0.9) & (high >= 0.9)) <= 0.97
    wide = intervals.mean_interval(values.mean(1), values.std(1, ddof=1), np.full(4000, seeds), 0.99)
    assert 0.98 <= np.mean((wide[0] <= 0.9) & (wide[1] >= 0.9)) <= 1


def test_intervals_are_those_of_scipy():
    values = [0.91, 0.93, 0.9, 0.96]
    expected = stats.t.interval(0.9, 3, np.mean(values), stats.sem(values))
    found = intervals.mean_interval(np.mean(values), np.std(values, ddof=1), 4, 0.9)
    np.testing.assert_allclose(found, expected)


def test_one_value_or_none_has_no_interval():
    low, high = intervals.mean_interval(np.array([0.9, np.nan]), np.full(2, np.nan), np.array([1, 0]))
    assert np.isnan([low, high]).all()
    assert np.isnan(intervals.mean_interval(0.9, 0.0, 1)).all()
    assert intervals.mean_interval(0.9, 0.0, 2) == (0.9, 0.9)


def test_an_interval_does_not_depend_on_what_else_is_in_the_table(results):
    alone = results[results.method.isin(["mean_field", "random", "dense"])]
    of_random = intervals.paired_differences(results).query("method == 'random'").reset_index(drop=True)
    pd.testing.assert_frame_equal(intervals.paired_differences(alone), of_random)


FUNCTIONS = {
    "front": fronts.pareto_front,
    "matched": fronts.at_matched_cost,
    "differences": intervals.paired_differences,
    "areas": fronts.area_under_front,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_order_of_rows_changes_nothing(results, name):
    results.test_accuracy += np.random.default_rng(0).normal(0, 0.01, len(results))
    shuffled = results.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(FUNCTIONS[name](results), FUNCTIONS[name](shuffled), check_exact=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_failed_runs_change_nothing(results, name):
    failed = pd.DataFrame([run(cost=np.nan, accuracy=np.nan, error="loss is NaN", name="failed")])
    pd.testing.assert_frame_equal(FUNCTIONS[name](pd.concat([results, failed])), FUNCTIONS[name](results))
    read_back = results.assign(error=np.nan)  # an empty error, after CSV
    pd.testing.assert_frame_equal(
        FUNCTIONS[name](read_back)[["method"]], FUNCTIONS[name](results)[["method"]]
    )


def test_area_is_the_mean_of_the_curve_over_log_cost(results):
    areas = fronts.area_under_front(results, limits=(0.15, 0.6))
    grid = np.exp(np.linspace(np.log(0.15), np.log(0.6), 2001))
    fine = fronts.at_matched_cost(results, grid).groupby(["method", "seed"]).accuracy.mean()
    np.testing.assert_allclose(areas.set_index(["method", "seed"]).area, fine, atol=1e-6)


def test_default_limits_are_what_all_curves_cover(results):
    narrow = results[~((results.method == "forward") & (results.kept_macs < 0.15))]
    areas = fronts.area_under_front(narrow)
    assert set(zip(areas.low_cost, areas.high_cost, strict=True)) == {(0.2, 1.0)}
    assert areas.area.notna().all() and len(areas) == 15
    wider = fronts.area_under_front(narrow, limits=(0.1, 1.0))
    assert wider[wider.area.isna()].method.unique().tolist() == ["forward"]


def test_area_intervals_are_over_seeds(results):
    areas = fronts.area_under_front(results)
    found = intervals.area_intervals(areas)
    assert found.method.tolist() == ["forward", "mean_field", "random"] and (found.seeds == 5).all()
    assert (found.low < found.area).all() and (found.area < found.high).all()
    assert intervals.area_intervals(areas[areas.seed == 0])[["low", "high"]].isna().all(axis=None)


def apart(table: pd.DataFrame) -> pd.DataFrame:
    """One method above a cost of 0.4, all others below it."""
    high = table.method == "mean_field"
    return table[(table.method != "dense") & (high == (table.kept_macs > 0.4))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t: fronts.at_matched_cost(t.drop(columns=["seed", "error"])),
            "lacks .* seed, error",
        ),
        (
            lambda t: intervals.area_intervals(t),
            "lacks the columns kind, area: is it from dk.comparison.area_under_front",
        ),
        (lambda t: fronts.pareto_front(t, cost="kept_mac"), "Did you mean 'kept_macs'"),
        (lambda t: fronts.pareto_front(t, choose="stage"), "unknown column 'stage'"),
        (lambda t: fronts.pareto_front(t[:0]), "of 0 rows none has finished"),
        (lambda t: fronts.at_matched_cost(t.assign(error="lost")), "none has finished of stage 'report'"),
        (lambda t: fronts.at_matched_cost(t[t.method == "dense"]), "all .* are of the dense network"),
        (lambda t: fronts.at_matched_cost(t, at=[0]), r"at must be a number in \(0"),
        (lambda t: fronts.at_matched_cost(t, at="0.3"), r"at must be a list, got '0.3'"),
        (
            lambda t: fronts.at_matched_cost(t, at=[10**400]),
            r"every entry of at must be a finite number, got 1e400",
        ),
        (lambda t: fronts.at_matched_cost(t, at=None), "at must be a list, got None"),
        (lambda t: fronts.pareto_front([1]), r"results must be a table .*, got \[1\]"),
        (lambda t: intervals.area_intervals(None), "areas must be a table .*, got None"),
        (lambda t: fronts.area_under_front(t, limits=0.5), "limits must be two numbers, got 0.5"),
        (lambda t: fronts.area_under_front(t, limits=(0.1, 0.2, 0.3)), "limits must be two numbers"),
        (
            lambda t: fronts.area_under_front(t, limits=(0.1, float("nan"))),
            "every entry of limits must be a finite number",
        ),
        (lambda t: fronts.at_matched_cost(t.assign(kept_macs=0.0)), "must be > 0"),
        (lambda t: intervals.paired_differences(t, "meanfield"), "Did you mean 'mean_field'"),
        (lambda t: intervals.paired_differences(t, confidence=1), "confidence must be"),
        (lambda t: fronts.area_under_front(t, limits=(0.5, 0.2)), "limits must rise"),
        (lambda t: fronts.area_under_front(apart(t)), "share no range of kept_macs: .* 0.2. Pass limits"),
    ],
)
def test_errors_say_what_is_wrong(results, call, message):
    with pytest.raises(ValueError, match=message):
        call(results)
