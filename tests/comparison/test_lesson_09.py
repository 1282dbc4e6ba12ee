"""What lesson 09 says, computed again: from the saved sweep, from exact problems, from networks on digits."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from test_lesson_numbers import HOME, quoted, text

import depl0kit as dk
from depl0kit.comparison.baselines import BASELINES, KINDS, chex, grow_prune
from depl0kit.comparison.baselines.chex import PHASES
from depl0kit.comparison.baselines.masked import GROWING
from depl0kit.comparison.baselines.spectra import candidates, spectra
from depl0kit.comparison.sweeps import load_grid
from depl0kit.gates.exact import gates_in_series, gradient_estimates
from depl0kit.plots import METHODS

AT = (0.3, 0.16)


def lesson_09(cell_id: str) -> str:
    return text("09_relatives", cell_id)


@pytest.fixture(scope="module")
def relatives() -> pd.DataFrame:
    return dk.load_results(HOME / "data" / "results" / "relatives")


def test_the_family_has_every_method_once_and_marks_those_of_other_kinds():
    rows = [line for line in lesson_09("09-family").split("\n") if line.startswith("|")]
    found = Counter(name.strip().replace("**", "") for row in rows for name in re.split(r"[|;]", row))
    for method, (label, *_) in METHODS.items():
        mark = "" if KINDS.get(method, "static") == "static" else "*"
        assert found[f"{mark}{label}{mark}"] == (method != "dense"), label


def test_the_sweep_of_the_relatives_is_as_lesson_09_says(relatives):
    grid, fair = load_grid("relatives"), lesson_09("09-fair")
    assert "1,500 images of Fashion-MNIST, network `small`, budgets of 30 and 15 %, five seeds" in fair
    assert (grid.train_images, grid.budget, len(grid.seeds)) == (1500, (0.3, 0.15), 5)
    assert (grid.data, grid.models) == (("fashion_mnist",), ("small",))
    tuned = relatives[relatives.stage == "tune"]
    assert "chosen from five values" in fair and len(grid.gate_lr) == 5
    assert set(tuned.method) == {"mean_field", "arm"}
    assert "eight epochs" in lesson_09("09-limits") and grid.train.epochs == 8


def test_what_lesson_09_says_on_coming_back_is_so_in_the_package():
    assert "opens others at random, 20 times" in lesson_09("09-predict") and PHASES == 20
    assert "after 70 % of the steps" in lesson_09("09-back") and GROWING == 0.7


def test_estimates_of_one_gradient_are_as_lesson_09_says():
    """With four gates: the exact gradient, the noise, the wrong sign; and the noise of more gates."""
    series, lesson = gates_in_series(6), lesson_09("09-clouds-read")
    exact, found = gradient_estimates(series, [0.8] * 4, draws=20_000)
    means, sds = ({name: float(f(x[:, 0])) for name, x in found.items()} for f in (torch.mean, torch.std))
    assert f"gradient is −{-float(exact[0]):.2f}:".replace("0.", ".") in lesson
    unbiased = ["ARM", "REINFORCE", "straight-through"]
    assert all(abs(means[name] - float(exact[0])) < 0.05 for name in unbiased)
    assert sds["REINFORCE"] > 2 * sds["ARM"] and min(sds, key=sds.get) == "hard concrete"
    assert means["hard concrete"] > 0.15 > 0 > float(exact[0])  # the other sign
    hc, z = dk.HardConcrete(), (torch.arange(10_000) + 0.5) / 10_000
    log_alpha = torch.logit(torch.tensor(0.8)) - torch.logit(hc.prob_open(torch.tensor(0.0)))
    assert float(hc.prob_open(log_alpha)) == pytest.approx(0.8)
    mean = float((1 - hc.cdf(z, log_alpha)).mean())
    assert f"have a mean of {mean:.2f}".replace("0.", ".") in lesson
    noise = {}
    for n in (4, 12):
        _, found = gradient_estimates(gates_in_series(3, n=n), [0.5] * n)
        noise[n] = {name: float(x[:, 0].std()) for name, x in found.items()}
    assert all(noise[12][name] > 2 * noise[4][name] for name in ("ARM", "REINFORCE"))
    assert noise[12]["hard concrete"] == pytest.approx(noise[4]["hard concrete"], rel=0.1)
    assert noise[12]["straight-through"] < noise[4]["straight-through"] / 5


def test_what_halo_leaves_of_a_norm_is_as_the_harder_exercise_says():
    lesson, grid = lesson_09("09-harder"), np.linspace(0, 4, 400_001)

    def best(a: float, c: float) -> float:
        return grid[((grid - a) ** 2 / 2 + c * np.cbrt(grid)).argmin()]

    assert r"n = (4c/3)^{3/5}" in lesson and r"a = \frac54 n" in lesson
    for c in (0.2, 0.7, 1.5):
        n = (4 * c / 3) ** (3 / 5)
        assert best(1.249 * n, c) == 0
        assert best(1.251 * n, c) == pytest.approx(n, rel=0.01)
        assert 1 - best(3, c) / 3 < 0.2 and 1 - best(3, c) / 3 < 1 - best(2.5, c) / 2.5


def test_ranks_that_save_are_as_a_question_of_lesson_09_says():
    convolution = torch.nn.Conv2d(48, 48, 3, padding=1)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 48, 1), convolution, torch.nn.Conv2d(48, 2, 1))
    (layer,), _ = candidates(model, torch.zeros(1, 1, 1, 1))
    question = lesson_09("09-questions")
    assert f"= {layer.macs:,}, the two cost r" in question and f"= {layer.rank_macs} r" in question
    assert f"r up to {layer.most}" in question
    assert f"24, it costs {24 * layer.rank_macs / layer.macs:.0%}".replace("%", " %") in question


@pytest.mark.slow
def test_networks_on_digits_are_as_lesson_09_says():
    """With wide margins, as other machines round otherwise."""
    data, config = dk.load_data("digits"), dk.TrainConfig(epochs=8)
    torch.manual_seed(0)
    model = dk.make_model("small", 1, 10, (8, 8))
    for method in (grow_prune, chex):
        lives = []
        method(model, data, 0.3, config, on_phase=lives.append)
        is_open = np.array([torch.cat(mask).numpy() > 0 for mask in lives])
        stay = is_open[-1]
        assert 70 < stay.sum() < 90 and (~is_open[:, stay]).any(0).sum() < 12
    net = BASELINES["manidp"](model, data, 0.5, config)
    images = dk.comparison.dynamic.per_image(net, data.test)
    share = images.macs / net.channels.dense_cost.macs
    assert share.min() < 0.37 and share.max() > 0.8 and images.loss.median() < 0.02
    tenths = pd.qcut(images.loss.rank(method="first"), 10, labels=False)
    by_loss, by_class = (
        share.groupby(g).transform("mean").var() / share.var() for g in (tenths, images.label)
    )
    assert by_loss < 0.1 < 0.35 < by_class < 0.6
    means = share.groupby(images.label).mean()
    assert 0.6 < means[8] < 0.75 and (means[[4, 5]] < 0.47).all()
    dense = BASELINES["dense"](model, data, 1.0, config)
    thin = BASELINES["low_rank"](model, data, 0.3, config, trained=dense)
    names = [layer.name for layer in candidates(dense, data.example[:1])[0]]
    for name, spectrum in spectra(dense, data.example[:1], names).items():
        rank = thin.get_submodule(name)[0].out_channels
        assert 0.16 < rank / len(spectrum.values) < 0.34
        assert 0.45 < float(spectrum.energies[rank - 1]) < 0.55
    assert dk.evaluate(thin, data.test)[1] < 0.4
    dk.fine_tune(thin, data, epochs=3)
    assert dk.evaluate(thin, data.test)[1] > 0.95


# ---- the saved sweep


@pytest.fixture(scope="module")
def differences(relatives):
    """Percentage points to a reference at the costs of the lesson, by method and cost, as its cells ask."""

    def to(reference: str, *methods: str) -> pd.DataFrame:
        table = relatives[relatives.method.isin([*methods, reference, "dense"])] if methods else relatives
        found = dk.paired_differences(table, reference=reference, at=AT)
        assert (found.pairs == 5).all()
        found = found.set_index(["kind", "method", "at"])[["difference", "low", "high"]] * 100
        found = found.assign(excludes=(found.low > 0).astype(int) - (found.high < 0))
        return found.reset_index("kind").sort_index()

    return to


def test_the_costs_are_those_of_the_lesson():
    assert f"AT = {AT}" in lesson_09("09-static")


def test_static_methods_beside_mean_field(differences):
    found, lesson = differences("mean_field"), lesson_09("09-static-read")
    found = found[found.kind == "static"]
    counts = found.excludes.value_counts()
    assert f"Of {len(found)} intervals {counts[1]} lie above zero and {counts[-1]} below" in lesson
    assert 1 < 0.05 * len(found) < 2

    def both(method: str) -> list[str]:
        return [quoted(found.loc[method, at]) for at in AT]

    assert (
        "Growing reg. is {} points above mean field at 30 % and {} at 16 %".format(*both("growing_reg"))
        in lesson
    )
    assert "fade out {} and {}".format(*both("fade_out")) in lesson
    assert "without any pruning, {} and {}.".format(*both("small_dense")) in lesson
    for method in ("growing_reg", "fade_out", "small_dense"):
        assert (found.excludes[method] == 1).all()
    assert not found.excludes[["random", "arm"]].any()
    assert (
        f"At 16 % they are {both('random')[1]} points below it" in lesson
        and found.difference["random", 0.16] < 0
    )
    assert f"Group norm is {both('group_norm')[0]} points below at 30 %" in lesson
    assert found.excludes["group_norm", 0.3] == -1
    assert not differences("l1_global").excludes[["chex", "grow_prune"]].any()


def test_mean_field_misses_its_budgets(relatives):
    kept = relatives[(relatives.method == "mean_field") & (relatives.stage == "report")]
    ends = 100 * kept.groupby("budget").kept_macs.agg(["min", "max"])
    large, small = ("{:.0f} to {:.0f}".format(*ends.loc[budget]) for budget in (0.3, 0.15))
    assert f"with {large} % of the MACs in place of 30, and {small} in place of 15" in lesson_09(
        "09-static-read"
    )


def test_dynamic_and_factorised_methods(differences):
    lesson = lesson_09("09-others-read")
    fbs, manidp = (differences(f"{name}_static", name).loc[name] for name in ("fbs", "manidp"))
    own = "FBS is {} points above its own at 30 % and {} at 16 %, ManiDP {} and {}."
    assert own.format(*(quoted(table.loc[at]) for table in (fbs, manidp) for at in AT)) in lesson
    narrow = differences("small_dense").xs(0.3, level="at")
    mirrored = [quoted(narrow.loc[name]) for name in ("fbs", "manidp")]
    assert "{} points above FBS and {} above ManiDP at 30 %".format(*mirrored) in lesson
    assert (narrow.excludes[["fbs", "manidp"]] == -1).all()
    rank = differences("mean_field").loc["low_rank"]
    assert f"**Low rank** is {quoted(rank.loc[0.3])} points above mean field at 30 %" in lesson
    assert not differences("small_dense").excludes["low_rank"].any()


def test_times_of_the_kinds(relatives):
    report = relatives[relatives.stage == "report"]
    times = report.groupby(["kind", "method", report.budget.fillna(1)])[
        ["latency_1_ms", "latency_ms"]
    ].median()
    times = (times / times.loc["static", "dense", 1.0]).xs(0.15, level="budget")
    static = times.loc["static"]
    assert "a little more than half of the time for one image, and a fifth to a half" in lesson_09(
        "09-latency-read"
    )
    assert static.latency_1_ms.between(0.49, 0.58).all() and static.latency_ms.between(0.2, 0.5).all()
    dynamic = times.loc["dynamic"]
    ends = "{:.1f} to {:.1f}".format(*dynamic.latency_1_ms.agg(["min", "max"]))
    assert f"for one image they take {ends} times as long" in lesson_09("09-latency-read")
    assert (dynamic > 1).all(axis=None)  # "for 64 at least as long"
    assert (times.loc["factorised", "low_rank"] > static.max()).all()
    assert (times.loc["factorised", "low_rank"] < times.loc["dynamic"].min()).all()
