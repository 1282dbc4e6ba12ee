"""An ordinary network, its channel groups, and a posterior over their gates."""

import copy

import pandas as pd
import torch
from torch import Tensor, nn

from . import checks
from .cost import Cost, CostModel
from .groups import find_groups
from .hard_concrete import HardConcrete
from .posteriors import GatePosterior, make_posterior


class GatedModel(nn.Module):
    """`model` with a hard-concrete gate on every channel that can be removed.

    In training mode each forward draws gates from the posterior; in eval mode it uses the test-time
    gates, so `net.eval()` is deterministic and computes what `compact(net)` computes. The model is
    copied: the one passed in stays as it is, and two `GatedModel`s share no weights. A posterior that
    is passed in as an object is used as it is.

    Args:
        model: a chain of Conv2d, BatchNorm, activation, pooling and Linear layers.
        posterior: "mean_field" (L0-HC), "forward" or "backward" (Dep-L0), "autoregressive" (forward,
            conditioned on sampled gates), or a `GatePosterior` for `net.groups.gated`'s sizes.
        example: a batch of inputs, [batch, channels, height, width]; only its shape and device count.
        scope: "inner" gates the channels inside blocks, as the papers do; "all" also those of
            residual streams. A chain has no streams, so there the two are the same.
        sampling: "example" draws gates for every example of a batch, "batch" one set for all of it:
            cheaper, and noisier, as all examples of a step see the same mask.
        hard_concrete: distribution of the gates of a posterior given by name.

    Attributes:
        model, posterior, groups: the copy, q(z) and the printable table of channel groups.
        dense_cost: `Cost` of the network with every channel, in ints.

    Raises:
        ValueError: nothing in the model can be gated, it is not a chain, or an argument is unknown.

    Example:
        >>> net = GatedModel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        ...                  example=torch.zeros(1, 4))
        >>> net.dense_cost.macs
        48
    """

    def __init__(
        self,
        model: nn.Module,
        posterior: str | GatePosterior = "mean_field",
        example: Tensor | None = None,
        scope: str = "inner",
        sampling: str = "example",
        hard_concrete: HardConcrete | None = None,
    ) -> None:
        super().__init__()
        checks.one_of("scope", scope, ("inner", "all"))
        self.sampling = checks.one_of("sampling", sampling, ("example", "batch"))
        self.groups, layers = find_groups(model, example)
        gated = self.groups.gated
        if not gated:
            raise ValueError(
                f"nothing to gate in {type(model).__name__}: it has no channels between two layers "
                f"that can be removed.\n{self.groups}"
            )
        self.model = copy.deepcopy(model)
        self.posterior = make_posterior(posterior, [g.channels for g in gated], hard_concrete)
        self.posterior.to(next(self.model.parameters()).device)
        total = sum(p.numel() for p in self.model.parameters())
        self.cost_model = CostModel(gated, layers, total)
        self._gates = [Gate() for _ in gated]
        for group, gate in zip(gated, self._gates, strict=True):
            self.model.get_submodule(group.site).register_forward_hook(gate)

    @property
    def dense_cost(self) -> Cost:
        return self.cost_model.dense

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.forward_gated(x, self.posterior.sample(self._draws(x)))
        return self.forward_gated(x, self.posterior.deterministic())

    def forward_with_rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output under sampled gates, and the posterior's `cost_rows()`: a training step in one go."""
        gates, rows = self.posterior.draw(self._draws(x))
        return self.forward_gated(x, self.posterior.split(gates)), rows

    def _draws(self, x: Tensor) -> int | None:
        return len(x) if self.sampling == "example" else None

    def forward_gated(self, x: Tensor, gates: list[Tensor]) -> Tensor:
        """The network's output under given gates: per gated group [channels] or [batch, channels]."""
        try:
            for gate, value in zip(self._gates, gates, strict=True):
                gate.value = value
            return self.model(x)
        finally:
            for gate in self._gates:
                gate.value = None

    def expected_cost(self) -> Cost:
        """Expected cost under the posterior, as tensors with a gradient to it."""
        return self.cost_model(self.posterior.cost_rows())

    def open_channels(self) -> list[int]:
        """Channels that are open at test time, per gated group: what `compact` keeps."""
        with torch.no_grad():
            return [int((z > 0).sum()) for z in self.posterior.deterministic()]

    def channel_table(self) -> pd.DataFrame:
        """A row per gated group: group, channels, open (at test time), expected_open, sparsity."""
        with torch.no_grad():
            expected = [float(p.sum()) for p in self.posterior.prob_open()]
        table = pd.DataFrame(
            {
                "group": [g.name for g in self.groups.gated],
                "channels": [g.channels for g in self.groups.gated],
                "open": self.open_channels(),
                "expected_open": expected,
            }
        )
        return table.assign(sparsity=1 - table.open / table.channels)

    def exact_cost(self) -> Cost:
        """Cost of the network that `compact(net)` returns, in ints."""
        return self.cost_model.exact(self.open_channels())


class Gate:
    """Forward hook that multiplies the channels of a module's output by `value`, if there is one.

    An object, not a closure: a deepcopy of the network copies it along, so copies share no gates.
    """

    value: Tensor | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self.value is None:
            return output
        gate = self.value.to(output.dtype)  # under autocast the output keeps its precision
        return output * gate.reshape(*gate.shape, *[1] * (output.dim() - 2))
