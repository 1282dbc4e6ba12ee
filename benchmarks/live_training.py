"""What watching costs: training in the explorer's thread, with pictures and without any.

    python benchmarks/live_training.py [--pairs 7]

Whole trainings of the welcome notebook take turns, one in a `TrainingExplorer` and one in the same
kind of thread that only keeps its run folder. Targets: with pictures at least 0.9 of the speed
without, and at least 4 pictures a second. On a machine with other work, the CPU time of a picture
says more than the ratio: it is the most that a picture can keep the training waiting.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

import numpy as np
import torch

import depl0kit as dk
from depl0kit.data import Data
from depl0kit.recording import recorded

CONFIG = dk.TrainConfig(lam=16, epochs=20)
SPEED, PICTURES = 0.9, 4


def make_net(data: Data) -> dk.GatedModel:
    torch.manual_seed(0)
    model = dk.make_model("small", data.in_channels, data.num_classes, data.image_size)
    return dk.GatedModel(model, "mean_field", example=data.example)


def seconds_to_finish(train: Callable[[], None]) -> float:
    """Of a training in a thread."""
    start, thread = time.perf_counter(), threading.Thread(target=train)
    thread.start()
    thread.join()
    return time.perf_counter() - start


class TimedExplorer(dk.lab.TrainingExplorer):
    """Knows the CPU seconds of each picture."""

    def _show(self) -> tuple[str, bool]:
        start, before = time.thread_time(), self.figure.png
        shown = super()._show()
        if self.figure.png != before:
            self.__dict__.setdefault("costs", []).append(time.thread_time() - start)
        return shown


def watched(data: Data) -> tuple[float, float, float]:
    """Steps and pictures per second of a training that is watched, and CPU milliseconds a picture."""
    explorer = TimedExplorer(lambda: make_net(data), data, CONFIG, name="watched")
    pictures = []
    explorer.figure.picture.observe(pictures.append, "png")
    seconds = seconds_to_finish(explorer._train)  # what Train starts in a thread
    count = len(pictures)
    explorer.close()
    if explorer.error or explorer.run.status != "finished":
        raise RuntimeError(f"training {explorer.run.status}: {explorer.error or explorer._failure}")
    steps = CONFIG.epochs * explorer.trainer.steps_per_epoch
    return steps / seconds, count / seconds, 1e3 * float(np.median(explorer.costs))


def unwatched(data: Data) -> float:
    """Steps per second of the same training with nothing to show."""
    trainer = dk.Trainer(make_net(data), data, CONFIG)

    def train() -> None:
        with TemporaryDirectory() as folder:
            for _ in recorded(trainer, folder):
                pass

    return CONFIG.epochs * trainer.steps_per_epoch / seconds_to_finish(train)


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
    print(f"a picture takes {cost:.1f} ms of CPU time")
    return int(ratio < SPEED or pictures < PICTURES)


if __name__ == "__main__":
    sys.exit(main())
