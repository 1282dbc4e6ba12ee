"""How fast gates must learn, for runs of several lengths: digits, "small", mean-field and generated gates.

    python benchmarks/gate_lr.py --out gate_lr.csv [--seeds 3]

Adam moves a parameter by about its learning rate in a step, so what a rate can do depends on the number of
steps. A row per run: posterior, price ("lam 16" or "budget 0.3"), epochs, steps, gate_lr, seed; kept_macs,
expected_macs and undecided at the end of the run; val_accuracy of the compact network after three epochs of
fine-tuning. The file is written after every run, and the same command continues it.
"""

import argparse
import itertools
from pathlib import Path

import pandas as pd
import torch

import depl0kit as dk

PRICES = {"lam 16": {"lam": 16}, "budget 0.3": {"budget": 0.3}}
POSTERIORS, EPOCHS = ("mean_field", "forward"), (6, 12, 24)
RATES = {"mean_field": (0.01, 0.03, 0.1, 0.3, 1.0), "forward": (0.0003, 0.001, 0.01, 0.1)}
KEYS = ["posterior", "price", "epochs", "gate_lr", "seed"]


def one_run(data: dk.data.Data, posterior: str, price: str, epochs: int, gate_lr: float, seed: int) -> dict:
    torch.manual_seed(seed)
    net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), posterior, data.example)
    config = dk.TrainConfig(epochs=epochs, gate_lr=gate_lr, seed=seed, **PRICES[price])
    trainer = dk.Trainer(net, data, config)
    for _ in trainer:
        pass
    last = trainer.run.history.iloc[-1]
    small = dk.compact(net)
    dk.reestimate_batch_norm(small, data)
    dk.fine_tune(small, data, epochs=3)
    return dict(zip(KEYS, (posterior, price, epochs, gate_lr, seed), strict=True)) | {
        "steps": epochs * trainer.steps_per_epoch, "kept_macs": last.kept_macs,
        "expected_macs": last.expected_macs / net.dense_cost.macs, "undecided": last.undecided,
        "val_accuracy": dk.evaluate(small, data.val)[1],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = dk.load_data("digits")
    rows = pd.read_csv(args.out).to_dict("records") if args.out.exists() else []
    done = {tuple(row[key] for key in KEYS) for row in rows}
    for seed, epochs, posterior, price in itertools.product(range(args.seeds), EPOCHS, POSTERIORS, PRICES):
        for rate in RATES[posterior]:
            if (key := (posterior, price, epochs, rate, seed)) not in done:
                rows.append(one_run(data, *key))
                pd.DataFrame(rows).to_csv(args.out, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
