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
        self._put("in_matrix", [[l.spread * (l.reads == g.name) for g in groups] for l in layers])
        self._put("in_constant", [0 if l.reads in self._column else l.inputs for l in layers])
        self._put("out_matrix", [[l.writes == g.name for g in groups] for l in layers])
        self._put("out_constant", [0 if l.writes in self._column else l.outputs for l in layers])
        self._put("area", [l.area for l in layers])
        self._put("kernel", [l.kernel for l in layers])
        self._put("per_output", [l.per_output for l in layers])
        self._other_params = total_params - int(self.per_layer(dense).params.sum())
        self.dense = self.exact(dense)

    def forward(self, prob_open: Tensor) -> Cost:
        """Expected cost of gates that are open with probabilities `prob_open`, [N] or rows [S, N].

        Rows are averaged. Entries that are 0 or 1 give the exact cost of the compact network.
        """
        with torch.autocast(prob_open.device.type, enabled=False):  # counts exceed half precision
            open_channels = prob_open @ self.membership
            inputs = open_channels @ self.in_matrix.T + self.in_constant
            outputs = open_channels @ self.out_matrix.T + self.out_constant
            pairs = inputs * outputs
            macs = pairs @ self.area
            params = pairs @ self.kernel + outputs @ self.per_output + self._other_params
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
        for l in self.layers:
            inputs, outputs = width(l.reads, l.inputs, l.spread), width(l.writes, l.outputs)
            params = inputs * outputs * l.kernel + outputs * l.per_output
            rows.append((l.name, inputs, outputs, inputs * outputs * l.area, params))
        return pd.DataFrame(rows, columns=["layer", "inputs", "outputs", "macs", "params"])

    def _put(self, name: str, values: Tensor | list) -> None:
        # not persistent: they follow from the network, and are no part of its state
        self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32), persistent=False)
