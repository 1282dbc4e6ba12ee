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
from torch import Tensor

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


class CostModel:
    """Cost of a network with given groups and layers.

    Args:
        groups: the gated groups, G of them with N channels in all.
        layers: every convolution and linear layer, L of them.
        total_params: parameters of the dense network; what is in no layer counts as constant.

    Attributes:
        dense: `Cost` with every channel, in ints.
    """

    def __init__(self, groups: Sequence[Group], layers: Sequence[Layer], total_params: int) -> None:
        self.layers = list(layers)
        self._column = {g.name: i for i, g in enumerate(groups)}
        self._tables = {torch.device("cpu"): self._make_tables(groups, layers)}
        dense = [g.channels for g in groups]
        self._other_params = total_params - int(self.per_layer(dense).params.sum())
        self.dense = self.exact(dense)

    def __call__(self, prob_open: Tensor) -> Cost:
        """Expected cost of gates that are open with probabilities `prob_open`, [N] or rows [S, N].

        Rows are averaged. Entries that are 0 or 1 give the exact cost of the compact network. The
        result is in float64 (float32 on Apple's GPUs, which have no float64).
        """
        widths, constants, per_pair, per_output = self._tables_on(prob_open.device)
        with torch.autocast(prob_open.device.type, enabled=False):
            both = prob_open.to(widths.dtype) @ widths + constants
            inputs, outputs = both.chunk(2, dim=-1)
            totals = (inputs * outputs) @ per_pair + outputs @ per_output
        macs, params = totals.mean(0).unbind() if totals.dim() > 1 else totals.unbind()
        return Cost(macs, params + self._other_params)

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

    def _make_tables(self, groups: Sequence[Group], layers: Sequence[Layer]) -> tuple[Tensor, ...]:
        """The quadratic form: input and output widths of all layers, side by side, are affine in
        prob_open ([N, 2L] and [2L]); MACs and parameters are linear in their products and in the
        outputs ([L, 2] each). float64, since MACs exceed the 24 bits of float32.
        """
        reads = [[layer.spread * (layer.reads == g.name) for layer in layers] for g in groups]
        writes = [[int(layer.writes == g.name) for layer in layers] for g in groups]
        channels = torch.tensor([g.channels for g in groups])
        widths = torch.cat([torch.tensor(reads), torch.tensor(writes)], 1).repeat_interleave(channels, 0)
        constants = [0 if layer.reads in self._column else layer.inputs for layer in layers]
        constants += [0 if layer.writes in self._column else layer.outputs for layer in layers]
        per_pair = [(layer.area, layer.kernel) for layer in layers]
        per_output = [(0, layer.per_output) for layer in layers]
        tables = (widths, constants, per_pair, per_output)
        return tuple(torch.as_tensor(t, dtype=torch.float64) for t in tables)

    def _tables_on(self, device: torch.device) -> tuple[Tensor, ...]:
        if device not in self._tables:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            cpu = self._tables[torch.device("cpu")]
            self._tables[device] = tuple(t.to(device, dtype) for t in cpu)
        return self._tables[device]
