"""The handwritten digits of scikit-learn: 1797 images, 8x8, grey."""

from pathlib import Path

import torch

from .data_set import Data, in_memory, picked
from .splits import stratified


def load(root: Path) -> Data:
    """They come with scikit-learn: nothing is read from `root`."""
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target)
    parts = stratified(labels, 1200, 240, 357)
    return in_memory("digits", tuple("0123456789"), *picked(images, labels, *parts))
