"""What a dynamic network does with the images of a split."""

from collections.abc import Iterator

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.splits import Split
from ...support import checked
from ...support.device import values_of
from ...support.modes import eval_mode
from ...training import layout
from .model import Choices, DynamicModel, open_channels


@checked
def per_image(net: DynamicModel, split: Split, batch_size: int = 1000) -> pd.DataFrame:
    """A row per image, in the order of the split, in eval mode.

    Returns:
        label, loss (cross-entropy), correct (whether its class is found), macs (branches included), open (a
        list: channels that are open, per gated group).
    """
    tables = []
    for (logits, choices), y in choices_on(net, split, batch_size):
        loss = F.cross_entropy(logits, y, reduction="none")
        open = open_channels(choices)
        columns = {"label": y, "loss": loss, "correct": logits.argmax(1) == y}
        table = pd.DataFrame({name: values_of(values).numpy() for name, values in columns.items()})
        tables.append(table.assign(macs=net.macs_of(open).numpy(), open=open.tolist()))
    return pd.concat(tables, ignore_index=True)


@torch.no_grad()
def mean_gates(net: DynamicModel, split: Split, batch_size: int = 1000) -> tuple[list[Tensor], list[Tensor]]:
    """Of each channel, per gated group [channels]: the share of images on which it is open, and the mean of
    its gate over these images (0 if there are none)."""
    opened = [torch.zeros(size) for size in net.channels.sizes]
    summed = [torch.zeros(size) for size in net.channels.sizes]
    for (_, choices), _ in choices_on(net, split, batch_size):
        for i, gates in enumerate(choices.gates):
            opened[i] += values_of((gates > 0).sum(0))
            summed[i] += values_of(gates.sum(0))
    means = [total / number.clamp(min=1) for total, number in zip(summed, opened, strict=True)]
    return [number / len(split) for number in opened], means


@torch.no_grad()
def choices_on(
    net: DynamicModel, split: Split, batch_size: int
) -> Iterator[tuple[tuple[Tensor, Choices], Tensor]]:
    """(outputs, choices) and labels of each batch of a split, in order, in eval mode."""
    with eval_mode(net):
        for x, y in split.batches(batch_size):
            yield layout.outputs(net.forward_with_choices, x), y
