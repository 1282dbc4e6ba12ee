"""What keeping a run costs: the share of a run's time that goes into its folder.

    python benchmarks/recording.py [--epochs 60]

Small networks suffer most, as their epochs are short: here the lessons' network on digits, on one thread.
Counted is the time in `RunFolder.save` (checkpoints) and in all other writing. Target: checkpoints under 3 %.
"""

import argparse
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

import torch

import depl0kit as dk

SHARE = 0.03
WRITERS = ("save", "append", "set_status")  # of RunFolder


def timed(method: Callable, seconds: dict[str, float], calls: dict[str, int]) -> Callable:
    name = method.__name__

    def run(*args: object, **more: object) -> object:
        start = time.perf_counter()
        try:
            return method(*args, **more)
        finally:
            seconds[name] += time.perf_counter() - start
            calls[name] += 1

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60, help="of the training (default 60)")
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    data = dk.load_data("digits")
    model = dk.make_model("small", data.in_channels, data.num_classes, data.image_size)
    net = dk.GatedModel(model, example=data.example)
    seconds, calls = dict.fromkeys(WRITERS, 0.0), dict.fromkeys(WRITERS, 0)
    for name in WRITERS:
        setattr(dk.RunFolder, name, timed(getattr(dk.RunFolder, name), seconds, calls))
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        dk.train(net, data, dk.TrainConfig(epochs=epochs), progress=False, out=folder)
        total = time.perf_counter() - start
    print(f"torch {torch.__version__}, {epochs} epochs in {total:.1f} s, {1e3 * total / epochs:.0f} ms each")
    for name in WRITERS:
        print(f"{name:10s} {calls[name]:4d} times  {seconds[name] / total:6.2%} of the time")
    return int(seconds["save"] / total > SHARE)


if __name__ == "__main__":
    sys.exit(main())
