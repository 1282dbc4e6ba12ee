"""Which device to compute on, how many cores, and how memory is kept."""

import ctypes
import os
import platform

import torch
from torch import Tensor

from . import checks

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h
_GIGABYTE = 1 << 30


def best_device() -> torch.device:
    """An NVIDIA (or ROCm) GPU if torch can use one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def named_device(name: str | None) -> torch.device:
    """The device of that name, such as "cpu", "cuda" or "cuda:1"; the best one if None."""
    if name is None:
        return best_device()
    kinds = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    kind, colon, index = name.partition(":")
    there = kinds[checks.one_of("device", kind, kinds)]
    is_one_of_them = index.isdecimal() and int(index) < there if colon else there > 0
    if not is_one_of_them:
        usable = ", ".join(repr(kind) for kind, number in kinds.items() if number)
        raise ValueError(f"torch finds no device {name!r} on this machine: use {usable}, or leave it out.")
    return torch.device(name)


def values_of(x: Tensor) -> Tensor:
    """A copy of `x` on the CPU, without gradient.

    The program then waits until the device has computed `x`, and the device for its next work. So values are
    read by this function alone, and training reads none before the end of an epoch.
    """
    return x.detach().to("cpu", copy=True)


def usable_cores() -> int:
    """Cores that this process may use, perhaps fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Let this process keep the large blocks that it frees, for the next step; True where that is possible.

    glibc hands blocks of megabytes back to Linux as soon as they are free. The next training step on a CPU
    asks for them again, and Linux must zero all their pages: 3 to 10 % of the time of a ResNet-56 step. Other
    systems stay as they are. It changes the whole process, so programs call it, and no other function does.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, _GIGABYTE) for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
