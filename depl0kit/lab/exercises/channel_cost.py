"""The exercise of 05_what_a_channel_costs: the MACs of one channel."""

from collections.abc import Callable
from typing import Any

from .base import Wrong, call, exercise, near, refuse_mistakes

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
    case = k, i, o, h, w = 3, 5, 7, 8, 9  # kernel, inputs, outputs, height, width
    answer, truth = call(channel_macs, *case), k * k * h * w * (i + o)  # it is written, and it is read
    if not near(answer, truth):
        refuse_mistakes(MISTAKES, lambda formula: near(answer, formula(*case)))
        raise Wrong(f"channel_macs(3, 5, 7, 8, 9) should be {truth:g}, yours is {answer:g}.")
    return "Right: a channel costs where it is written and where it is read."
