"""The exercise of 05_what_a_channel_costs: the MACs of one channel."""

from collections.abc import Callable
from typing import Any

from .base import Wrong, call, exercise, near, refuse_mistakes


def _channel_macs(kernel: float, inputs: float, outputs: float, height: float, width: float) -> float:
    """MACs of one channel that one convolution writes, from `inputs`, and another reads, for `outputs`."""
    return kernel**2 * height * width * (inputs + outputs)


# what readers write instead, as (formula, what is wrong with it)
MISTAKES: list[tuple[Callable[..., float], str]] = [
    (
        lambda k, i, o, h, w: k * k * h * w * i,
        "That is what writing the channel costs. The next layer also reads it, once per output.",
    ),
    (
        lambda k, i, o, h, w: k * k * h * w * o,
        "That is what reading the channel costs. It also has to be written, from all inputs.",
    ),
    (
        lambda k, i, o, h, w: k * k * h * w * i * o,
        "That is a whole layer. One channel is written from i inputs and read by o outputs: i + o.",
    ),
    (lambda k, i, o, h, w: k * h * w * (i + o), "A kernel has k² positions, not k."),
    (
        lambda k, i, o, h, w: k * k * (i + o),
        "Those are parameters. Each is used at all height × width positions.",
    ),
    (
        lambda k, i, o, h, w: 2 * k * k * h * w * (i + o),
        "That counts FLOPs, two for each multiply-accumulate.",
    ),
]


@exercise
def check_channel_macs(channel_macs: Callable[..., Any]) -> str:
    """MACs of one channel: a function of kernel, inputs, outputs, height and width."""
    case = 3, 5, 7, 8, 9
    answer = call(channel_macs, *case)
    if not near(answer, truth := _channel_macs(*case)):
        refuse_mistakes(MISTAKES, lambda formula: near(answer, formula(*case)))
        raise Wrong(f"channel_macs(3, 5, 7, 8, 9) should be {truth:g}, yours is {answer:g}.")
    return "Right: a channel costs where it is written and where it is read."
