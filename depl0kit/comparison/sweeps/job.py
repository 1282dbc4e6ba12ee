"""One run of a sweep, from data to a row of the table: the same steps for posteriors and baselines.

train (or train and prune) -> compact network -> batch-norm statistics -> fine-tuning -> measurement
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from ...channels.admission import copied
from ...channels.channels import Channels
from ...channels.cost import Cost, plain_cost
from ...data.loading import Data, is_folder, load_data
from ...data.splits import Split
from ...gates.compact import compact
from ...gates.gated import GatedModel
from ...gates.posteriors import POSTERIORS
from ...networks.factorised import LowRank
from ...networks.latency import latency
from ...networks.models import make_model
from ...networks.storage import save_compact
from ...support.device import best_device, values_of
from ...support.files import DamagedFileError, read_tensors, write_tensors
from ...support.modes import eval_mode
from ...training.evaluation import evaluate
from ...training.finetuning import fine_tune, reestimate_batch_norm
from ...training.loop import steps_per_epoch
from ...training.runs.folder import RunFolder
from ...training.train import train
from ...training.trainer import starting_gate_lr
from ..baselines import BASELINES, FROM_DENSE, kind_of
from ..dynamic import DynamicModel, per_image, save_dynamic
from ..table import COLUMNS, DENSE
from .grid import Job
from .rows import read_row, write_row

BATCHES = (1, 64)  # of the latencies
LOCK_SECONDS = 20  # the workers of a killed sweep need a moment to end


def run_job(job: Job, folder: Path) -> dict[str, Any]:
    """Do one run in its folder, or read it if it is done, and return its row (keys of COLUMNS).

    A posterior's run resumes where it was interrupted. A run that fails becomes a row with `error`; the next
    call tries it again. result.json and compact.safetensors are kept in the folder.
    """
    if (found := read_result(folder, job)) is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)  # shows that it has begun: a baseline writes only at its end
    try:
        with FileLock(folder / "job.lock", LOCK_SECONDS):
            return read_result(folder, job) or _run(job, folder)
    except Timeout:
        return failed(job, f"another process is at work in {folder}: sweep again when it has ended")


def _run(job: Job, folder: Path) -> dict[str, Any]:
    start = time.perf_counter()
    row = _empty(job) | {"settings": job.settings()}
    try:
        with one_thread():
            row |= _measured(job, folder)
    except Exception as error:  # of any kind: one failed run is a row, not the end of a sweep
        row["error"] = f"{type(error).__name__}: {error}"
    row["seconds"] = time.perf_counter() - start
    write_row(folder, row)
    return row


def read_result(folder: Path, job: Job) -> dict[str, Any] | None:
    """The row of this very job, if it is done without an error."""
    row = read_row(folder)
    return row if row is not None and not row["error"] and _is_of(row, job) else None


def _is_of(row: dict[str, Any], job: Job) -> bool:
    if row.get("settings"):
        return row["settings"] == job.settings()
    expected = _identity(job)  # all that older versions noted; their gate lr is what a posterior took
    if job.gate_lr is None:
        del expected["gate_lr"]
    return all(row[name] == value for name, value in expected.items())


def failed(job: Job, error: str) -> dict[str, Any]:
    """The row of a run that could not begin, or whose process died."""
    return _empty(job) | {"error": error}


def _empty(job: Job) -> dict[str, Any]:
    """The row of a job of which nothing is measured yet."""
    return dict.fromkeys(COLUMNS) | _identity(job) | {"kind": kind_of(job.method)}


def _identity(job: Job) -> dict[str, Any]:
    names = ("stage", "data", "model", "method", "lam", "budget", "seed", "gate_lr")
    values = {name: getattr(job, name) for name in names} | {"run": job.name, "error": ""}
    return values | {"epochs": job.train.epochs, "fine_tune_epochs": job.train.fine_tune_epochs}


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs side by side on one thread each are twice as fast as one after another on all, and give the same
    numbers on every machine of a kind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=2)
def _data(name: str, train_images: int | None, skip_damaged: bool, device: str) -> Data:
    in_files = is_folder(name) or name == "imagenet"  # the others have no images to skip
    data = load_data(name, skip_damaged=True) if skip_damaged and in_files else load_data(name)
    if train_images is not None:
        # as many to choose with: twenty looks at thousands would take longer than the training
        data = replace(data, train=data.train.take(train_images), val=data.val.take(train_images))
    return data.to(device)


def job_data(job: Job, device: torch.device) -> Data:
    """The images of a run."""
    return _data(job.folder or job.data, job.train_images, job.skip_damaged, str(device))


def job_model(job: Job, data: Data) -> nn.Module:
    """The fresh network of a run: one seed, one set of initial weights, whatever the method."""
    torch.manual_seed(job.seed)
    return make_model(job.model, data.in_channels, data.num_classes, data.image_size)


def _measured(job: Job, folder: Path) -> dict[str, Any]:
    device = best_device()
    data = job_data(job, device)
    model = job_model(job, data).to(device)
    if job.method in POSTERIORS:
        net = GatedModel(model, job.method, data.example)
        channels, (small, about) = net.channels, _trained(job, net, data, folder)
    else:
        channels, small, about = Channels(model, data.example), _baseline(job, model, data, folder), {}
    reestimate_batch_norm(small, data)
    raw = evaluate(small, data.val)[1]
    if job.train.fine_tune_epochs:
        fine_tune(small, data, job.train.fine_tune_epochs, job.train.lr / 5, **job.config().sgd)
    if isinstance(small, DynamicModel):
        save_dynamic(small, folder / "dynamic.safetensors")
    else:
        save_compact(small, folder / "compact.safetensors")
    return about | _results(small, channels, data) | {"raw_val_accuracy": raw, "device": str(device)}


def _trained(job: Job, net: GatedModel, data: Data, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The compact network of a posterior, and what is known of its gates."""
    run = train(net, data, job.config(), progress=False, out=folder)
    times, _, prob_open, _ = RunFolder(folder).gates()
    about = {
        "undecided": run.rows[-1]["undecided"],
        "gate_lr": starting_gate_lr(net, job.config(), steps_per_epoch(data, job.train)),
        "times": times.tolist(),
        "prob_open": np.rint(255 * prob_open).astype(np.uint8).ravel().tolist(),
    }
    return compact(net), about


def _baseline(job: Job, model: nn.Module, data: Data, folder: Path) -> nn.Module:
    """The compact network of a baseline; those that prune the same whole network train it once a seed."""
    method = BASELINES[job.method]
    if job.method != DENSE and job.method not in FROM_DENSE:
        return method(model, data, job.budget, job.config())
    whole = replace(job, method=DENSE, budget=None)
    trained = _whole(whole, model, data, folder.with_name(whole.name))
    return trained if job.method == DENSE else method(model, data, job.budget, job.config(), trained)


def _whole(job: Job, model: nn.Module, data: Data, folder: Path) -> nn.Module:
    """The whole network, trained; kept in the folder of its run for the methods that begin with it."""
    file, notes = folder / "trained.safetensors", {"settings": json.dumps(job.settings(), sort_keys=True)}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        with suppress(FileNotFoundError, DamagedFileError):  # then it is trained, perhaps again
            tensors, noted = read_tensors(file)
            if noted == notes:
                trained = copied(model)
                trained.load_state_dict(tensors)
                return trained.eval()
        trained = BASELINES[DENSE](model, data, job.budget, job.config())
        write_tensors(file, {name: values_of(tensor) for name, tensor in trained.state_dict().items()}, notes)
        return trained


def _results(small: nn.Module, channels: Channels, data: Data) -> dict[str, Any]:
    """What is measured of every compact network; `channels` are those of the whole one."""
    cost, open = _cost_and_open(small, channels, data)
    kept = cost / channels.dense_cost
    single, batch = latency({"small": small}, data.example, BATCHES, repeats=10).ms
    table, correct = confusion(small, data.test, data.num_classes)
    return {
        "val_accuracy": evaluate(small, data.val)[1],
        "test_accuracy": float(table.trace() / table.sum()),
        "macs": round(cost.macs),
        "params": cost.params,
        "kept_macs": kept.macs,
        "kept_params": kept.params,
        "latency_ms": batch,
        "latency_1_ms": single,
        "groups": [g.name for g in channels.groups.gated],
        "channels": [_width(channels.model, g.writers[0]) for g in channels.groups.gated],
        "open": open,
        "confusion": table.flatten().tolist(),
        "correct": np.packbits(correct.numpy()).tolist(),
    }


def _cost_and_open(small: nn.Module, channels: Channels, data: Data) -> tuple[Cost, list[int]]:
    """Cost, and the open channels of each group; of a dynamic network the means over the test images."""
    if isinstance(small, DynamicModel):
        table = per_image(small, data.test)
        params = sum(p.numel() for p in small.parameters())
        return Cost(table.macs.mean(), params), np.rint(np.mean(table.open.tolist(), 0)).astype(int).tolist()
    open = [_width(small, g.writers[0]) for g in channels.groups.gated]
    return plain_cost(small, data.example), open


def _width(small: nn.Module, writer: str) -> int:
    """Channels that a layer of the compact network writes; 0 where its block is gone."""
    try:
        layer = small.get_submodule(writer)
    except AttributeError:
        return 0
    layer = layer[-1] if isinstance(layer, LowRank) else layer
    return int(getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0))


@torch.no_grad()
def confusion(net: nn.Module, split: Split, classes: int) -> tuple[Tensor, Tensor]:
    """How often each class (rows) is taken for each (columns), in eval mode, int64 [classes, classes]; and
    of each image whether its class is found, bool [images]."""
    with eval_mode(net):
        batches = [torch.stack((y, net(x).argmax(1))) for x, y in split.batches(1000)]
    classes_of, guesses = values_of(torch.cat(batches, 1))
    counts = (classes * classes_of + guesses).bincount(minlength=classes * classes)
    return counts.view(classes, classes), classes_of == guesses
