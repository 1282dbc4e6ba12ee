"""What a network costs, as a function of the open channels of each group.

A convolution or linear layer costs (a constant) x inputs x outputs, where both widths are affine in the
numbers n of open channels of the groups, so the cost of the whole network is one quadratic form:

    MACs(n) = sum_l a_l (A_in n + c_in)_l (A_out n + c_out)_l + b_l (A_out n + c_out)_l

The linear part is that of grouped convolutions. With n the open channels of a compact network this is
exact, to the unit. With n the *expected* open channels it is the expected cost of independent gates,
where no layer reads and writes the same group; where one does, as in x + conv(x), the expectation of
n^2 exceeds its square by the variance of n, which is added.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..support.device import values_of
from .groups import Group
from .layers import Layer
from .tracing import Example, trace

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


def plain_cost(model: nn.Module, example: Example) -> Cost:
    """Cost of any network without gates, such as a compact one, in ints; `example` as in `trace`."""
    return Cost(trace(model, example)[1], sum(p.numel() for p in model.parameters()))


class CostModel:
    """Cost of a network with given groups and layers.

    Args:
        groups: the gated groups, G of them with N channels in all.
        layers: every layer with parameters, L of them.
        total: MACs and parameters of the dense network; what is in no layer counts as constant.

    Attributes:
        dense: `Cost` with every channel, in ints.
    """

    def __init__(self, groups: Sequence[Group], layers: Sequence[Layer], total: Cost) -> None:
        self.layers = list(layers)
        self._channels = [g.channels for g in groups]
        self._form = _quadratic_form(groups, layers)
        self._any_shared = bool(self._form[-1].any())
        self._tables: dict[torch.device, tuple[Tensor, ...]] = {}
        self.dense = total
        macs, params = self._evaluate(self._channels)[1].sum(0)
        self._other = Cost(total.macs - int(macs), total.params - int(params))

    def __call__(self, prob_open: Tensor) -> Cost:
        """Expected cost of gates that are open with probabilities `prob_open`, [N] or rows [S, N].

        Rows are averaged. Entries that are 0 or 1 give the exact cost of the compact network. The
        result is in float64 (float32 on Apple's GPUs, which have no float64).
        """
        products, outputs, per_pair, per_output = self._expected_widths(prob_open)
        with torch.autocast(prob_open.device.type, enabled=False):
            totals = products @ per_pair + outputs @ per_output
        macs, params = totals.mean(0).unbind() if totals.dim() > 1 else totals.unbind()
        return Cost(macs + self._other.macs, params + self._other.params)

    def exact(self, open_channels: Sequence[int]) -> Cost:
        """Exact cost, as ints, with this many open channels in each gated group."""
        _, costs = self._evaluate(open_channels)
        macs, params = costs.sum(0)
        return Cost(int(macs) + self._other.macs, int(params) + self._other.params)

    def macs_of_rows(self, open_channels: np.ndarray) -> np.ndarray:
        """Exact MACs for each row of numbers of open channels, [rows, groups] -> int64 [rows].

        A row may be one image, where channels are chosen for every image.
        """
        return self._evaluate(open_channels)[1][..., 0].sum(-1) + self._other.macs

    def per_layer(self, open_channels: Sequence[int]) -> pd.DataFrame:
        """A row per convolution or linear layer: layer, inputs, outputs, macs, params.

        Inputs and outputs are widths; parameters of batch norms are in the totals only.
        """
        widths, costs = self._evaluate(open_channels)
        table = pd.DataFrame(
            {
                "layer": [layer.name for layer in self.layers],
                "inputs": widths[: len(self.layers)],
                "outputs": widths[len(self.layers) :],
                "macs": costs[:, 0],
                "params": costs[:, 1],
            }
        )
        return table[self._computes].reset_index(drop=True)

    @torch.no_grad()
    def expected_macs(self, prob_open: Tensor) -> np.ndarray:
        """Expected MACs of the layers in the rows of `per_layer`, for P(open) [N]; exact for 0 and 1."""
        products, outputs, per_pair, per_output = self._expected_widths(prob_open)
        return values_of(products * per_pair[:, 0] + outputs * per_output[:, 0]).numpy()[self._computes]

    @property
    def _computes(self) -> list[bool]:
        """Of each layer, whether it is a convolution or linear layer."""
        return [layer.pair_macs + layer.output_macs > 0 for layer in self.layers]

    def _expected_widths(self, prob_open: Tensor) -> tuple[Tensor, ...]:
        """Of all layers: expected inputs x outputs and outputs, [..., L], and what each costs, [L, 2]."""
        group_of, widths, constants, per_pair, per_output, shared = self._tables_on(prob_open.device)
        with torch.autocast(prob_open.device.type, enabled=False):
            p = prob_open.to(widths.dtype)
            inputs, outputs = (_group_sums(p, group_of, len(widths)) @ widths + constants).chunk(2, dim=-1)
            products = inputs * outputs
            if self._any_shared:
                products = products + _group_sums(p * (1 - p), group_of, len(widths)) @ shared
        return products, outputs, per_pair, per_output

    def _evaluate(self, open_channels: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Widths (inputs, then outputs) [2 L] and costs (MACs, parameters) [L, 2] of all layers; of rows of
        numbers [rows, groups] the same for each row."""
        open_channels = np.asarray(open_channels, dtype=np.int64)
        if open_channels.shape[-1] != len(self._channels):
            raise ValueError(
                f"open_channels needs {len(self._channels)} numbers, got {open_channels.shape[-1]}."
            )
        factors, constants, per_pair, per_output, _ = self._form
        widths = open_channels @ factors + constants
        inputs, outputs = np.split(widths[..., None], 2, axis=-2)
        return widths, inputs * outputs * per_pair + outputs * per_output

    def _tables_on(self, device: torch.device) -> tuple[Tensor, ...]:
        """The form as tensors. float64, since MACs exceed the 24 bits of float32."""
        if device not in self._tables:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            group_of = np.repeat(np.arange(len(self._channels)), self._channels)
            group_of = torch.from_numpy(group_of).to(device)
            self._tables[device] = (group_of, *(torch.from_numpy(t).to(device, dtype) for t in self._form))
        return self._tables[device]


def _quadratic_form(groups: Sequence[Group], layers: Sequence[Layer]) -> tuple[np.ndarray, ...]:
    """Integer tables: widths of all layers, inputs before outputs, are `n @ factors + constants`
    ([G, 2 L] and [2 L]); costs are linear in their products and in the outputs ([L, 2] each). The
    last, [G, L], counts how often a group is on both sides of a layer.
    """
    slots = [(x.name, "in") for x in layers] + [(x.name, x.side) for x in layers]
    factors = np.array([[g.spread(slot) for slot in slots] for g in groups], dtype=np.int64)
    factors = factors.reshape(len(groups), len(slots))  # also where nothing can be removed
    dense = np.array([x.inputs for x in layers] + [x.outputs for x in layers], dtype=np.int64)
    constants = dense - np.array([g.channels for g in groups], dtype=np.int64) @ factors
    per_pair = [(x.pair_macs, x.pair_params) for x in layers]
    per_output = [(x.output_macs, x.output_params) for x in layers]
    per_pair, per_output = (np.array(t, dtype=np.int64).reshape(-1, 2) for t in (per_pair, per_output))
    shared = factors[:, : len(layers)] * factors[:, len(layers) :]
    return factors, constants, per_pair, per_output, shared


def _group_sums(values: Tensor, group_of: Tensor, groups: int) -> Tensor:
    """Sums over each group, [..., N] -> [..., G], as one operation, however many groups."""
    return values.new_zeros(*values.shape[:-1], groups).index_add(-1, group_of, values)
