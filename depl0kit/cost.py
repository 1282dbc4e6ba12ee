"""What a network costs, as a function of the open channels of each group.

A convolution or linear layer costs area x inputs x outputs, where both factors are affine in the
number n of open channels of each group, so the cost of the whole network is one quadratic form:

    MACs(n) = sum_l area_l (A_in n + c_in)_l (A_out n + c_out)_l

With n the *expected* open channels this is the expected cost (gates of different groups being
independent), and with n the open channels of a compact network it is exact, to the unit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from .groups import Group, Layer

COSTS = ("macs", "params", "gates")


class Cost(NamedTuple):
    """Cost of one network: multiply-accumulates per image, and parameters.

    Entries are tensors (differentiable) or ints. FLOPs = 2 x MACs, as PyTorch's flop counter has it.
    """

    macs: Tensor | int
    params: Tensor | int

    def __truediv__(self, dense: "Cost") -> "Cost":
        """Share of the dense network's cost that is kept."""
        return Cost(self.macs / dense.macs, self.params / dense.params)


class CostModel(nn.Module):
    """Cost of a network with given groups and layers.

    Args:
        groups: the gated groups, G of them with N channels in all.
        layers: every convolution and linear layer.
        total_params: parameters of the dense network; what is in no layer counts as constant.
    """

    def __init__(self, groups: Sequence[Group], layers: Sequence[Layer], total_params: int) -> None:
        super().__init__()
        self.layers = list(layers)
        self._column = {g.name: i for i, g in enumerate(groups)}
        dense = [g.channels for g in groups]
        self._put("membership", torch.eye(len(groups)).repeat_interleave(torch.tensor(dense), dim=0))
        self._put("in_matrix", [[layer.spread * (layer.reads == g.name) for g in groups] for layer in layers])
        self._put("in_constant", [0 if layer.reads in self._column else layer.inputs for layer in layers])
        self._put("out_matrix", [[layer.writes == g.name for g in groups] for layer in layers])
        self._put("out_constant", [0 if layer.writes in self._column else layer.outputs for layer in layers])
        self._put("area", [layer.area for layer in layers])
        self._put("kernel", [layer.kernel for layer in layers])
        self._put("per_output", [layer.per_output for layer in layers])
        self._other_params = total_params - int(self.per_layer(dense).params.sum())
        self.dense = self.exact(dense)

    def forward(self, prob_open: Tensor) -> Cost:
        """Expected cost of gates that are open with probabilities `prob_open`, [N] or rows [S, N].

        Rows are averaged. Entries that are 0 or 1 give the exact cost of the compact network. The
        result is in float64.
        """
        # MACs exceed the 24 bits of float32 (Apple's GPUs have no float64)
        dtype = torch.float32 if prob_open.device.type == "mps" else torch.float64
        c = {name: buffer.to(dtype) for name, buffer in self.named_buffers()}
        with torch.autocast(prob_open.device.type, enabled=False):
            open_channels = prob_open.to(dtype) @ c["membership"]
            inputs = open_channels @ c["in_matrix"].T + c["in_constant"]
            outputs = open_channels @ c["out_matrix"].T + c["out_constant"]
            pairs = inputs * outputs
            macs = pairs @ c["area"]
            params = pairs @ c["kernel"] + outputs @ c["per_output"] + self._other_params
        return Cost(macs.mean(), params.mean())

    def exact(self, open_channels: Sequence[int]) -> Cost:
        """Exact cost, as ints, with this many open channels in each gated group."""
        table = self.per_layer(open_channels)
        return Cost(int(table.macs.sum()), int(table.params.sum()) + self._other_params)

    def per_layer(self, open_channels: Sequence[float]) -> pd.DataFrame:
        """A row per layer: layer, inputs, outputs, macs, params, with this many open channels per group."""

        def width(group: str | None, dense: int, spread: int = 1) -> float:
            return open_channels[self._column[group]] * spread if group in self._column else dense

        rows = []
        for layer in self.layers:
            inputs = width(layer.reads, layer.inputs, layer.spread)
            outputs = width(layer.writes, layer.outputs)
            params = inputs * outputs * layer.kernel + outputs * layer.per_output
            rows.append((layer.name, inputs, outputs, inputs * outputs * layer.area, params))
        return pd.DataFrame(rows, columns=["layer", "inputs", "outputs", "macs", "params"])

    def _put(self, name: str, values: Tensor | list) -> None:
        # not persistent: they follow from the network, and are no part of its state; whole numbers, so
        # that they stay exact in net.half() and net.float()
        self.register_buffer(name, torch.as_tensor(values, dtype=torch.int64), persistent=False)
