"""Which device to compute on."""

import torch


def best_device() -> torch.device:
    """An NVIDIA (or ROCm) GPU if torch can use one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
