"""What watching costs: training in the explorer's thread, with pictures and without any.

    python benchmarks/live_training.py [--pairs 7]

Whole trainings of the welcome notebook take turns, one in a `TrainingExplorer` and one in the same
kind of thread with nothing to show. Targets: with pictures at least 0.9 of the speed without, and
at least 4 pictures a second. On a machine with other work, the CPU time that a picture takes from
the training thread says more than the ratio.
"""

import argparse
import sys
import time

import numpy as np
import torch

import depl0kit as dk
from depl0kit.data import Data
from depl0kit.lab.worker import Worker

CONFIG = dk.TrainConfig(lam=16, epochs=20)
SPEED, PICTURES = 0.9, 4


def make_net(data: Data) -> dk.GatedModel:
    torch.manual_seed(0)
    model = dk.make_model("small", data.in_channels, data.num_classes, data.image_size)
    return dk.GatedModel(model, "mean_field", example=data.example)


def seconds_to_finish(worker: Worker) -> float:
    """Start a worker that is ready, and wait for its end."""
    start = time.perf_counter()
    worker.start()
    while worker.state == "running":
        time.sleep(0.005)
    if worker.state != "finished":
        raise RuntimeError(f"training {worker.state}: {worker.error}")
    return time.perf_counter() - start


class TimedExplorer(dk.lab.TrainingExplorer):
    """Knows the CPU seconds that each redrawing took from the thread that asked for it."""

    def redraw(self, change: object = None) -> None:
        start = time.thread_time()
        super().redraw(change)
        self.__dict__.setdefault("costs", []).append(time.thread_time() - start)


def watched(data: Data) -> tuple[float, float, float]:
    """Steps and pictures per second of a training that is watched, and CPU milliseconds a picture."""
    explorer = TimedExplorer(lambda: make_net(data), data, CONFIG, name="watched")
    pictures = []
    explorer.figure.picture.observe(pictures.append, "png")
    seconds = seconds_to_finish(explorer.worker)
    if explorer.error:
        raise explorer.error
    steps = CONFIG.epochs * explorer.worker.trainer.steps_per_epoch
    explorer.close()
    return steps / seconds, len(pictures) / seconds, 1e3 * float(np.median(explorer.costs))


def unwatched(data: Data) -> float:
    """Steps per second of the same training with nothing to show."""
    trainer = dk.Trainer(make_net(data), data, CONFIG)
    worker = Worker("unwatched", trainer, watch=lambda: None, show=lambda: None)
    return CONFIG.epochs * trainer.steps_per_epoch / seconds_to_finish(worker)


def main() -> int:
    """Print medians; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="of trainings (default 7)")
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)  # as in the notebooks
    data = dk.load_data("digits")
    unwatched(data)  # the first is slower, whichever it is
    rows = []
    for _ in range(pairs):
        without = unwatched(data)
        rows.append((without, *watched(data)))
    without, steps, pictures, cost = np.median(rows, axis=0)
    ratio = float(np.median([with_view / bare for bare, with_view, *_ in rows]))
    print(f"steps per second, median of {pairs}: {steps:.1f} watched, {without:.1f} not")
    print(f"ratio, median of pairs: {ratio:.3f} (at least {SPEED})")
    print(f"pictures per second:    {pictures:.1f} (at least {PICTURES})")
    print(f"of the training thread, a picture takes {cost:.1f} ms of CPU time")
    return int(ratio < SPEED or pictures < PICTURES)


if __name__ == "__main__":
    sys.exit(main())
