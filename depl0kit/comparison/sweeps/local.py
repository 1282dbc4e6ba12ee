"""Processes of this machine to run a sweep in: one a core, or one a GPU."""

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.queues import SimpleQueue

import torch

from ...support.children import end_with_parent
from ...support.device import keep_freed_memory, usable_cores


def local_executor(workers: int | None = None) -> ProcessPoolExecutor:
    """Worker processes; `run_job` computes on one thread in each.

    Args:
        workers: how many; None takes one for each GPU or, without any, for each core this process may use.
            More than there are GPUs share them evenly: a small network leaves its GPU idle between kernels.
    """
    gpus, count = torch.cuda.device_count(), workers or worker_count()
    context = multiprocessing.get_context("spawn")  # a fork of a process that has computed hangs in OpenMP
    numbers = context.SimpleQueue()
    for number in range(count):
        numbers.put(number % gpus if gpus else None)
    return ProcessPoolExecutor(count, context, _begin, (numbers,))


def worker_count() -> int:
    """One process for each GPU or, without any, for each core this process may use."""
    return torch.cuda.device_count() or usable_cores()


def _begin(numbers: "SimpleQueue[int | None]") -> None:
    end_with_parent()  # or it would wait for ever for its next run, or finish one under the next sweep's eyes
    keep_freed_memory()
    gpu = numbers.get()
    if gpu is not None:
        torch.cuda.set_device(gpu)


def kill(executor: Executor) -> None:
    """End worker processes at once, also within a run."""
    processes = list((getattr(executor, "_processes", None) or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
