"""What watching costs: steps of a run while its explorer draws, and while it does not.

    python benchmarks/live_training.py [--pairs 30]

The welcome notebook's network is trained again and again in a `TrainingExplorer`, which draws
and looks away in turns of 1.5 seconds, so that both meet the same state of the machine. Targets: at
least 0.9 of the speed without pictures, and at least 4 pictures a second. Printed with the ratio is its
standard error over the pairs of turns: whole runs taken in turns differ by more than what is
measured. The runs are twice as long as the notebook's, so that some turns fit into each.
"""

import argparse
import sys
import time

import numpy as np
import torch

import depl0kit as dk
from depl0kit.data.loading import Data

CONFIG = dk.TrainConfig(lam=16, epochs=40)
SPEED, PICTURES = 0.9, 4
TURN, SETTLE = 1.5, 0.3  # seconds; the picture under way at the start of a turn is of the one before


class Watched(dk.lab.TrainingExplorer):
    """Can look away, and knows the CPU seconds of each picture."""

    looks = True

    def __init__(self) -> None:
        self.costs: list[float] = []
        data = dk.load_data("digits")
        super().__init__(lambda: _make_net(data), data, CONFIG, name="watched", seconds=None)

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


def measure(pairs: int) -> tuple[np.ndarray, float]:
    """A row per pair: steps and pictures per second, and steps without pictures. CPU seconds a picture."""
    explorer, rows, trainings = Watched(), [], 0
    while len(rows) < pairs:
        if not explorer._is_training():
            if (trainings := trainings + 1) > pairs + 2:
                raise RuntimeError("a run ends before two turns have: give CONFIG more epochs")
            explorer.looks = True
            explorer.train()
            time.sleep(SETTLE)
        order = (True, False) if len(rows) % 2 else (False, True)
        turns = {looks: explorer.turn(looks) for looks in order}
        if failure := explorer.error or explorer._failure:
            raise RuntimeError(f"training failed: {failure}")
        if explorer._is_training():  # or it ended within a turn
            rows.append((*turns[True], turns[False][0]))
    explorer.stop()
    explorer.close()
    return np.array(rows), float(np.median(explorer.costs))


def main() -> int:
    """Print means; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30, help="of turns (default 30)")
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)  # as in the notebooks
    rows, cost = measure(max(2, pairs))
    watched, pictures, unwatched = rows.T
    ratios = watched / unwatched
    ratio, error = ratios.mean(), ratios.std(ddof=1) / len(ratios) ** 0.5
    print(f"steps per second:    {watched.mean():.1f} watched, {unwatched.mean():.1f} not")
    print(f"ratio, mean of {len(rows)}:   {ratio:.3f} ± {error:.3f} (at least {SPEED})")
    print(f"pictures per second: {pictures.mean():.2f} (at least {PICTURES})")
    print(f"a picture takes {1e3 * cost:.1f} ms of CPU time")
    return int(ratio < SPEED or pictures.mean() < PICTURES)


if __name__ == "__main__":
    sys.exit(main())
