"""The two rules that train towards a budget, hinge and dual, on digits: how well each meets it, how accurate.

    python benchmarks/budget_rules.py [--seeds 3] [--epochs 15]

`excess` is MACs of the compact network, as a share of the dense ones, minus the budget: above 0 the budget is
missed. `spread` is its standard deviation over seeds. Accuracy is that on test images, without fine-tuning.
Intervals are Student's t, 95 %, over seeds. Both rules have the same seeds, data order and gate lr.
"""

import argparse
import itertools

import pandas as pd
import torch

import depl0kit as dk
from depl0kit.comparison.intervals import mean_interval

POSTERIORS, BUDGETS, RULES = ("mean_field", "forward"), (0.5, 0.3, 0.2), ("hinge", "dual")


def one_run(data: dk.data.Data, posterior: str, budget: float, rule: str, seed: int, epochs: int) -> dict:
    torch.manual_seed(seed)
    net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), posterior, data.example)
    config = dk.TrainConfig(budget=budget, budget_rule=rule, epochs=epochs, seed=seed)
    history = dk.train(net, data, config, progress=False).history
    expected = history.expected_macs.iloc[-1] / net.dense_cost.macs
    return {
        "posterior": posterior, "budget": budget, "rule": rule, "seed": seed,
        "expected": expected - budget, "excess": history.kept_macs.iloc[-1] - budget,
        "accuracy": dk.evaluate(net, data.test)[1],
    }  # fmt: skip


def summary(rows: pd.DataFrame) -> str:
    """A line for each posterior, budget and rule."""
    lines = [
        f"{'posterior':11s} budget rule    n  {'expected excess':>24s} {'excess':>24s}  spread  accuracy"
    ]
    for (posterior, budget, rule), runs in rows.groupby(["posterior", "budget", "rule"], sort=False):
        n, texts = len(runs), []
        for name in ("expected", "excess", "accuracy"):
            mean, std = runs[name].mean(), runs[name].std()
            low, high = mean_interval(mean, std, n)
            sign = "" if name == "accuracy" else "+"
            texts.append(f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]")
        head = f"{posterior:11s} {budget:6.1f} {rule:6s}{n:3d}"
        lines.append(f"{head}  {texts[0]:>24s} {texts[1]:>24s}  {runs.excess.std():6.3f}  {texts[2]}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = dk.load_data("digits")
    cells = itertools.product(POSTERIORS, BUDGETS, RULES, range(args.seeds))
    print(summary(pd.DataFrame([one_run(data, *cell, args.epochs) for cell in cells])))


if __name__ == "__main__":
    main()
