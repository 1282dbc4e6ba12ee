"""How long a sweep will take, from a few training steps on this machine."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch.nn.functional import cross_entropy

from ...gates.gated import GatedModel
from ...gates.posteriors import POSTERIORS
from ...support.device import best_device, values_of
from ..baselines import FROM_DENSE
from .grid import Job
from .job import job_data, job_model, one_thread

STEPS = 4  # of which the first, which is slower, does not count


def estimated_hours(jobs: Sequence[Job], workers: int) -> float:
    """Hours of `workers` processes, of one thread each, for these runs.

    Each network trains a few steps with gates. Compact networks, and those that begin small, are quicker;
    so the sweep takes rather less. So it does where several processes share a GPU: here they take turns.
    """
    workers = min(workers, torch.cuda.device_count() or workers)
    kinds = {(job.data, job.model): job for job in jobs}
    seconds = {kind: seconds_per_epoch(job) for kind, job in kinds.items()}
    return sum(epochs(job) * seconds[job.data, job.model] for job in jobs) / workers / 3600


def epochs(job: Job) -> int:
    """Epochs of one run; those that prune a whole network do not train it anew."""
    return job.train.fine_tune_epochs + (0 if job.method in FROM_DENSE else job.train.epochs)


def seconds_per_epoch(job: Job) -> float:
    """Seconds that an epoch with gates takes on one thread, or on the GPU."""
    device = best_device()
    with one_thread():
        data = job_data(job, device)
        model = job_model(job, data).to(device)
        net = GatedModel(model, job.method if job.method in POSTERIORS else "mean_field", data.example)
        steps = list(islice(_steps(net, data.train.batches(job.train.batch_size)), STEPS))
    images, times = zip(*(steps[1:] or steps), strict=True)
    return len(data.train) * sum(times) / sum(images)


def _steps(net: GatedModel, batches: Iterator) -> Iterator[tuple[int, float]]:
    """Images and seconds of training steps."""
    net.train()
    for x, y in batches:
        start = time.perf_counter()
        loss = cross_entropy(net(x), y) + net.expected_share("macs")
        loss.backward()
        values_of(next(p.grad for p in net.parameters() if p.grad is not None))  # a GPU has then done it
        yield len(x), time.perf_counter() - start
