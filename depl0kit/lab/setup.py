"""Versions, device and data sets that the lessons find on this machine."""

import platform
from pathlib import Path

import torch

from ..data.fashion_mnist import DEBIAN_FOLDER, FILES
from ..data.loading import data_root, load_data
from ..support.device import best_device
from ..support.versions import version


def setup() -> str:
    """Versions, device and data sets, one per line: `print(dk.lab.setup())`. It downloads nothing."""
    digits = load_data("digits")
    found = _find_fashion_mnist()
    lines = {
        "depl0kit": version(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "device": _why(best_device()),
        "digits": f"{len(digits.train)} + {len(digits.val)} + {len(digits.test)} images (train, val, test)",
        "Fashion-MNIST": f"found in {found}" if found else _HOW_TO_GET_IT,
    }
    return "\n".join(f"{name:15}{text}" for name, text in lines.items())


_HOW_TO_GET_IT = (
    'not found, and not needed yet. Online, dk.load_data("fashion_mnist") downloads it;\n'
    + 15 * " "
    + "on Debian and Ubuntu, apt-get install dataset-fashion-mnist installs it."
)


def _why(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "mps: the GPU of this Mac"
    return "cpu: torch finds no GPU, and these lessons need none"


def _find_fashion_mnist() -> Path | None:
    """The folder from which `load_data` would read it without a download; no file is opened."""
    root = data_root()
    if (root / "fashion_mnist.safetensors").is_file():
        return root
    for folder in (root / "FashionMNIST" / "raw", DEBIAN_FOLDER):
        files = [folder / name for name, _ in FILES.values()]
        if all(file.is_file() or file.with_name(f"{file.name}.gz").is_file() for file in files):
            return folder
    return None
