"""What is killed in test_kills.py: imported by its processes, and so by itself, without pytest."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import depl0kit as dk
from depl0kit.data.loading import Data
from depl0kit.training.runs import recording

LONG = {"epochs": 40, "lam": 8.0}
SHORT = {"epochs": 12, "lam": 8.0}
RUNS = {  # arguments of `train_digits`
    "mean field": {"posterior": "mean_field", **LONG},
    "forward": {"posterior": "forward", **LONG},
    "backward, to a budget": {"posterior": "backward", "epochs": 40, "budget": 0.3},
    "autoregressive": {"posterior": "autoregressive", **SHORT},
    "augmented, then fine-tuned": {
        "posterior": "mean_field",
        "augment": True,
        "fine_tune_epochs": 10,
        **LONG,
    },
    "written after every epoch": {"posterior": "mean_field", "images": 128, "often": True, **LONG},
}


def begin(kind: str, out: Path, images: Path, ready: Connection) -> None:
    """A session: the whole of one process."""
    torch.set_num_threads(1)
    if kind == "sweep":
        run: Callable[[], object] = sweep(out)
    elif kind == "folder of images":
        run = train_folder(out, images)
    else:
        run = train_digits(out, **RUNS[kind])
    ready.send("ready")
    run()


def train_digits(
    out: Path, posterior: str, images: int = 1200, often: bool = False, **settings
) -> Callable[[], object]:
    if often:
        recording.CHECKPOINT_SHARE = 1e9
    data = dk.load_data("digits")
    return training(out, replace(data, train=data.train.take(images)), posterior, settings)


def train_folder(out: Path, images: Path) -> Callable[[], object]:
    """Of images that are read from their files in every epoch."""
    data = dk.load_data(images, size=8, stream=True)
    parts = {part: replace(getattr(data, part), workers=0) for part in ("train", "val", "test")}
    settings = {"augment": True, "batch_size": 32, **LONG}
    return training(out, replace(data, **parts), "forward", settings)


def training(out: Path, data: Data, posterior: str, settings: dict) -> Callable[[], object]:
    torch.manual_seed(0)
    model = dk.make_model("small", data.in_channels, data.num_classes, data.image_size)
    net = dk.GatedModel(model, posterior, data.example)
    return lambda: dk.train(net, data, dk.TrainConfig(**settings), progress=False, out=out)


def sweep(out: Path) -> Callable[[], object]:
    """In this process, so that it dies with it."""
    train = dk.TrainConfig(epochs=8, fine_tune_epochs=2)
    grid = dk.Grid(methods=("mean_field", "forward", "l1_global"), lam=(4,), budget=(0.4,), train=train)
    return lambda: dk.sweep(grid, out, ThreadPoolExecutor(1), progress=False)
