"""How long a live demonstration takes: the sweep and the lambda path of notebook 06.

    python benchmarks/sweep.py

The sweep is 3 posteriors x 4 lambdas on digits, in one process a core, their start included;
the path is one training of 40 epochs with 8 snapshots, on one thread. Targets on two cores: under 60 s and
under 30 s. Exits with 1 if one is missed.
"""

import argparse
import sys
import time

import torch

import depl0kit as dk
from depl0kit.support.device import usable_cores

SWEEP_SECONDS, PATH_SECONDS = 60, 30
GRID = dk.Grid(methods=("mean_field", "forward", "autoregressive"), lam=(1, 4, 16, 64))


def sweep() -> str:
    results = dk.sweep(GRID, progress=False)
    if (results.error != "").any():
        raise RuntimeError(results.error.max())
    return f"{len(results)} runs, test accuracy {results.test_accuracy.min():.3f} or better"


def path() -> str:
    data = dk.load_data("digits")
    torch.manual_seed(0)
    model = dk.make_model("small", data.in_channels, data.num_classes, data.image_size)
    points = dk.lambda_path(dk.GatedModel(model, example=data.example), data, progress=False)
    return f"{len(points)} points, MACs kept {points.kept_macs.max():.0%} to {points.kept_macs.min():.0%}"


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(f"torch {torch.__version__}, {usable_cores()} cores")
    torch.set_num_threads(1)  # as in the notebook
    missed = False
    for name, run, target in (("sweep", sweep, SWEEP_SECONDS), ("lambda path", path, PATH_SECONDS)):
        start = time.perf_counter()
        what = run()
        seconds = time.perf_counter() - start
        missed |= seconds > target
        print(f"{name:12s} {seconds:5.1f} s (under {target})  {what}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
