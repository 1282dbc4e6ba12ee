"""The exercise of 02_mean_field: the price of a chain of convolutions."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Wrong, exercise, near, number, refuse_mistakes, run


def _penalty(
    lam: float,
    prob_open: Sequence[Tensor],
    macs: Sequence[float],
    left: Callable[[float, float], float] = lambda i, o: i * o,
    image: float = 1.0,
) -> float:
    """lambda x expected / dense MACs of a chain; with other values of `left` and `image`, mistaken ones."""
    shares = [image, *(float(p.mean()) for p in prob_open)]
    expected = sum(m * left(i, o) for m, i, o in zip(macs, shares, shares[1:], strict=False))
    return lam * expected / sum(macs)


# what readers write instead, as (formula, what is wrong with it); p: prob_open, m: macs
MISTAKES: list[tuple[Callable[[float, Sequence[Tensor], Sequence[float]], float], str]] = [
    (
        lambda lam, p, m: _penalty(sum(m), p, m),
        "That is the expected MACs: λ and the division by dense MACs are missing.",
    ),
    (
        lambda lam, p, m: _penalty(lam * sum(m), p, m),
        "Divide by the dense MACs, so that λ means the same for every network.",
    ),
    (lambda lam, p, m: _penalty(1.0, p, m), "The expected share is right; multiply it by λ."),
    (
        lambda lam, p, m: _penalty(lam, p, m, lambda i, o: o),
        "You scale each layer by its open outputs only: closed channels are not read either.",
    ),
    (
        lambda lam, p, m: _penalty(lam, p, m, lambda i, o: i),
        "You scale each layer by its open inputs only: closed outputs are not computed either.",
    ),
    (
        lambda lam, p, m: _penalty(lam, p, m, lambda i, o: o * o),
        "You take a layer's own share twice: its inputs are the outputs of the layer before.",
    ),
    (
        lambda lam, p, m: _penalty(lam, p, m, image=float(p[-1].mean())),
        "For l = 0, prob_open[l - 1] is the last layer. The first one reads the image, which is always open.",
    ),
    (
        lambda lam, p, m: _penalty(lam, p, m, image=0.0),
        "The first layer is missing from the expected MACs: it reads the image, which is always open.",
    ),
    (
        lambda lam, p, m: _penalty(lam, p, m, lambda i, o: i + o),
        "Inputs and outputs multiply: every output is computed from every input.",
    ),
]


def _two_layers() -> tuple[float, list[Tensor], list[float]]:
    return 3.0, [torch.tensor([0.9, 0.2, 0.4]), torch.tensor([0.7, 0.1])], [500.0, 1200.0]


def _three_layers() -> tuple[float, list[Tensor], list[float]]:
    opens = ([1.0, 0.0], [0.5], [0.2, 0.6])
    return 0.5, [torch.tensor(p) for p in opens], [10.0, 20.0, 30.0]


@exercise
def check_penalty(penalty: Callable[..., Any]) -> str:
    """lambda x expected / dense MACs of a chain, a function of lambda, and per layer prob_open and MACs."""
    answer = number("penalty(...)", run(penalty, "penalty(lam, prob_open, macs)", *_two_layers()))
    refuse_mistakes(MISTAKES, lambda formula: near(answer, formula(*_two_layers())))
    if not near(answer, truth := _penalty(*_two_layers())):
        raise Wrong(
            f"For λ = 3, prob_open [0.9, 0.2, 0.4] and [0.7, 0.1], and macs [500, 1200] it should be "
            f"{truth:.4f}, yours is {answer:.4f}. The open share of a layer is the mean of its prob_open."
        )
    answer = number("penalty(...)", run(penalty, "penalty(...) of three layers", *_three_layers()))
    if not near(answer, _penalty(*_three_layers())):
        raise Wrong("Right for two layers, but not for three: does it go through all of them?")
    return "Right: a price per multiply-accumulate, whatever the size of the network."
