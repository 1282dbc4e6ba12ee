"""What a training step of each method costs, over one of the dense network: ResNet-20, 32 x 32, batch 64.

    python benchmarks/baselines.py [--rounds 5] [--steps 12] [method ...]

Methods that only score or cut a trained network, or train a smaller one, add nothing to a step and are left
out. Every round trains each method for three epochs of a few steps; an epoch of the dense network follows
each, so that both meet the same state of the machine. The first epoch does not count. Printed are the
medians of the ratios over rounds. Exits with 1 if a static method is above the bar.
"""

import argparse
import statistics
import sys
from unittest import mock

import pandas as pd
import torch
from training_loop import BATCH, made_up

import depl0kit as dk
from depl0kit.comparison.baselines import BASELINES, FROM_DENSE, kind_of, whole
from depl0kit.gates.posteriors import POSTERIORS
from depl0kit.support.device import keep_freed_memory

BAR = 1.10
FREE = {"dense", "small_dense", "small_dense_longer", "snip", *FROM_DENSE}  # nothing besides plain training


def seconds(method: str, data: dk.data.Data) -> float:
    """Median seconds of an epoch of this method, of the second and the third."""
    torch.manual_seed(0)
    model = dk.make_model("resnet20", 3, 10, (32, 32))
    config = dk.TrainConfig(epochs=3, batch_size=BATCH, budget=0.5)
    if method in POSTERIORS:
        net = dk.GatedModel(model, method, data.example)
        return statistics.median(dk.train(net, data, config, progress=False).history.seconds[1:])
    histories: list[pd.DataFrame] = []

    def noted(*args: object, **settings: object) -> pd.DataFrame:
        histories.append(dk.fine_tune(*args, **settings))
        return histories[-1]

    with mock.patch.object(whole, "fine_tune", noted):
        BASELINES[method](model, data, 0.5, config)
    return statistics.median(histories[0].seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    everything = [name for name in (*POSTERIORS, *BASELINES) if name not in FREE]
    parser.add_argument("methods", nargs="*", default=everything)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    data = made_up(3, 32, args.steps * BATCH)
    ratios: dict[str, list[float]] = {name: [] for name in args.methods}
    for _ in range(args.rounds):
        for name, found in ratios.items():
            found.append(seconds(name, data) / seconds("dense", data))
    too_slow = False
    for name, found in ratios.items():
        ratio, static = statistics.median(found), name not in POSTERIORS and kind_of(name) == "static"
        too_slow |= static and ratio > BAR
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(f"{name:15s} {ratio:5.2f} of dense ({spread}, {args.rounds} rounds)")
    sys.exit(too_slow)


if __name__ == "__main__":
    main()
