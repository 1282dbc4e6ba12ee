"""Which device to compute on, how many cores, and how memory is kept."""

import ctypes
import os
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h
_GIGABYTE = 1 << 30


def best_device() -> torch.device:
    """An NVIDIA (or ROCm) GPU if torch can use one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def usable_cores() -> int:
    """Of this process, which may be tied to fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Let this process keep the large blocks that it frees, for the next step; True where that is possible.

    glibc hands blocks of megabytes back to Linux as soon as they are free, and a training step on a CPU
    asks for the same blocks again, to have every page zeroed anew: 3 to 10 % of the time of a ResNet-56
    step. Other systems are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, _GIGABYTE) for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
