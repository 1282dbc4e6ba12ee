"""What watching costs: steps of a training while its explorer draws, and while it does not.

    python benchmarks/live_training.py [--pairs 30]

One long training of the welcome notebook's network runs in a `TrainingExplorer`, which draws and looks
away in turns of 1.5 seconds, so that both meet the same state of the machine. Targets: at least 0.9 of
the speed without pictures, and at least 4 pictures a second. Printed with the ratio is its standard
error over the pairs of turns: whole trainings taken in turns differ by more than what is measured.
"""

import argparse
import sys
import time

import numpy as np
import torch

import depl0kit as dk
from depl0kit.data import Data

CONFIG = dk.TrainConfig(lam=16, epochs=100_000)  # longer than any benchmark
SPEED, PICTURES = 0.9, 4
TURN, SETTLE = 1.5, 0.3  # seconds; the picture under way at the start of a turn is of the one before


class Watched(dk.lab.TrainingExplorer):
    """Can look away, and knows the CPU seconds of each picture."""

    looks = True

    def __init__(self) -> None:
        self.costs: list[float] = []
        data = dk.load_data("digits")
        super().__init__(lambda: _make_net(data), data, CONFIG, name="watched")

    def redraw(self, change: dict | None = None) -> None:
        if self.looks:
            super().redraw(change)

    def _show(self) -> tuple[str, bool]:
        start, before = time.thread_time(), self.figure.png
        shown = super()._show()
        if self.figure.png != before:
            self.costs.append(time.thread_time() - start)
        return shown

    def turn(self, looks: bool) -> tuple[float, float]:
        """Steps and pictures per second of a turn."""
        self.looks = looks
        time.sleep(SETTLE)
        start, epoch, pictures = time.perf_counter(), self.trainer.epoch, len(self.costs)
        time.sleep(TURN)
        seconds = time.perf_counter() - start
        steps = (self.trainer.epoch - epoch) * self.trainer.steps_per_epoch
        return steps / seconds, (len(self.costs) - pictures) / seconds


def _make_net(data: Data) -> dk.GatedModel:
    torch.manual_seed(0)
    model = dk.make_model("small", data.in_channels, data.num_classes, data.image_size)
    return dk.GatedModel(model, "mean_field", example=data.example)


def measure(pairs: int) -> np.ndarray:
    """A row per pair: steps and pictures per second, steps without pictures, CPU seconds a picture."""
    explorer, rows = Watched(), []
    explorer.train()
    time.sleep(2)  # the first pictures arrange the panels
    for i in range(pairs):
        turns = {looks: explorer.turn(looks) for looks in ((True, False) if i % 2 else (False, True))}
        rows.append((*turns[True], turns[False][0], np.median(explorer.costs)))
    explorer.looks = True
    explorer.stop()
    failure = explorer.error or explorer._failure
    explorer.close()
    if failure:
        raise RuntimeError(f"training failed: {failure}")
    return np.array(rows)


def main() -> int:
    """Print means; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30, help="of turns (default 30)")
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)  # as in the notebooks
    watched, pictures, unwatched, cost = measure(pairs).T
    ratios = watched / unwatched
    ratio, error = ratios.mean(), ratios.std(ddof=1) / len(ratios) ** 0.5
    print(f"steps per second:    {watched.mean():.1f} watched, {unwatched.mean():.1f} not")
    print(f"ratio, mean of {pairs}:   {ratio:.3f} ± {error:.3f} (at least {SPEED})")
    print(f"pictures per second: {pictures.mean():.2f} (at least {PICTURES})")
    print(f"a picture takes {1e3 * cost[-1]:.1f} ms of CPU time")
    return int(ratio < SPEED or pictures.mean() < PICTURES)


if __name__ == "__main__":
    sys.exit(main())
