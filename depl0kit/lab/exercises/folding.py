"""The exercise of 07_make_it_small: fold gates into the layer that reads them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .base import Wrong, exercise, refuse_mistakes, run

# what readers write instead, as (formula, what is wrong with it)
MISTAKES: list[tuple[Callable[[Tensor, Tensor], Tensor], str]] = [
    (
        lambda w, z: w * z[:, None, None],
        "Scaled correctly, but the closed inputs are still there: the layer is not smaller.",
    ),
    (
        lambda w, z: w[:, z > 0],
        "The closed inputs are gone, but a gate between 0 and 1 must scale what is left.",
    ),
    (lambda w, z: w[:, z == 1], "A gate between 0 and 1 is open: only gates of exactly 0 are closed."),
    (
        lambda w, z: w[z > 0] * z[z > 0][:, None, None, None],
        "That selects outputs of the layer (dimension 0). The gates belong to its inputs (dimension 1).",
    ),
]


def _layer() -> tuple[Tensor, Tensor]:
    """Weight [4, 4, 3, 3] of a convolution, as many outputs as inputs, and the gates of its inputs."""
    return torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 0, 0.5, 0])


@exercise
def check_fold(fold: Callable[..., Any]) -> str:
    """A function of a convolution's weight and its inputs' gates: the weight of the compact layer."""
    answer = run(fold, "fold(weight, gate)", *_layer())
    if not isinstance(answer, Tensor):
        raise Wrong(f"Expected a tensor, the new weight; got {type(answer).__name__}.")
    if not answer.is_floating_point():
        raise Wrong(f"Expected a tensor of float32, like the old weight; got {answer.dtype}.")
    refuse_mistakes(MISTAKES, lambda formula: _same(answer, formula(*_layer())))
    weight, gate = _layer()
    truth = weight[:, gate > 0] * gate[gate > 0][:, None, None]
    if answer.shape != truth.shape:
        raise Wrong(
            f"For 4 inputs, 2 of them open, the weight is {list(truth.shape)}; yours is {list(answer.shape)}."
        )
    if not _same(answer, truth):
        raise Wrong("The shape is right, the values are not: multiply each open input's slice by its gate.")
    return "Right: the smaller layer computes what the gated one did."


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.detach().cpu().float(), b)
