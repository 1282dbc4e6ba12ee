"""The exercise of 00_welcome: what a channel costs."""

import math
from collections.abc import Callable

from .base import Wrong, call, exercise, near, number

SHARES = {  # what readers write instead of a quarter
    0.5: "share is one half only if just the inputs, or just the outputs, close.",
    0.75: "for share you give what is saved. What is left?",
    25: "give share as a number between 0 and 1, not in per cent.",
}


@exercise
def check_macs(macs: Callable[..., float], share: float) -> str:
    """Multiply-accumulates of a convolution, and the share of them left at half the inputs and outputs.

    Args:
        macs: function of kernel, inputs, outputs, and height and width of its output.
        share: in 0..1.
    """
    sizes = (3, 5, 7, 11, 13)
    found = call(macs, *sizes)
    if found <= 0:
        raise Wrong(f"A convolution of positive sizes costs something; yours costs {found:g} MACs.")
    for i, argument in enumerate(("kernel", "inputs", "outputs", "height", "width")):
        _check_growth(call(macs, *sizes[:i], 2 * sizes[i], *sizes[i + 1 :]) / found, argument)
    factor = found / (3 * math.prod(sizes))
    if near(factor, 2):
        raise Wrong("That is twice as much: you count FLOPs. A multiply-accumulate is one MAC and two FLOPs.")
    if not near(factor, 1):
        raise Wrong(f"It grows correctly, but is {factor:.3g} times the MACs: is there an extra factor?")
    _check_share(number("share", share))
    return "Right. Cost is a product of inputs and outputs: close half of both, and a quarter of it is left."


def _check_growth(ratio: float, argument: str) -> None:
    """`ratio`: how many times the MACs are with twice the argument."""
    expected = 4 if argument == "kernel" else 2
    if near(ratio, 1):
        raise Wrong(f"The result does not depend on `{argument}`, but the number of products does.")
    if not near(ratio, expected):
        why = ": a kernel of size k has k x k weights." if argument == "kernel" else "."
        raise Wrong(f"Twice the `{argument}` should cost {expected} times the MACs, not {ratio:.3g}{why}")


def _check_share(share: float) -> None:
    for mistake, reason in SHARES.items():
        if near(share, mistake):
            raise Wrong(f"macs is right; {reason}")
    if not near(share, 0.25):
        raise Wrong(f"macs is right, share {share:g} is not: divide macs of the halved layer by macs.")
