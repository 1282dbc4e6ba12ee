"""An ordinary network: its channels, and a posterior over which of them are open."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..channels.admission import check_network, copied, unwrapped
from ..channels.channels import Channels
from ..channels.cost import COSTS, Cost
from ..channels.groups import Groups
from ..channels.masks import gates_set, place_gates
from ..channels.tracing import Example
from ..support import checks
from ..support.arguments import fitted
from ..support.device import values_of
from ..support.modes import freeze, frozen_parts
from .hard_concrete import HardConcrete
from .posterior import GatePosterior
from .posteriors import make_posterior


class GatedModel(nn.Module):
    """`model` with a gate on every channel that can be removed.

    In training mode each forward draws gates from the posterior; in eval mode it uses the test-time
    gates, so `net.eval()` is deterministic and computes what `compact(net)` computes. The model is
    copied: the one passed in stays as it is, and two `GatedModel`s share no weights. A posterior that
    is passed in as an object is used as it is. Parts of `model` that are in eval mode while the whole is in
    training mode, such as frozen batch norms, stay so while it trains.

    Args:
        model, example, scope: as in `Channels`. Groups whose removal would not be exact stay without gates;
            `net.groups` says which, and why.
        posterior: "mean_field" (L0-HC), "forward" or "backward" (Dep-L0), "autoregressive" (forward,
            reading the sampled gates), "arm" (L0-ARM; its draws have no gradient, see
            `Bernoulli.arm_term`), a `GatePosterior` for `net.groups.gated`'s sizes, or what its `describe`
            returned.
        sampling: "example" draws gates for every example of a batch, "batch" one set for all of it:
            cheaper, and noisier, as all examples of a step see the same mask.
        hard_concrete: distribution of the gates of a posterior given by name.

    Attributes:
        model, channels, posterior: the copy, its `Channels`, and q(z).
        groups, dense_cost: those of `channels`.

    Raises:
        ValueError: as `Channels` does, or nothing in the model can be gated, or an argument is unknown.

    Example:
        >>> net = GatedModel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        ...                  example=torch.zeros(1, 4))
        >>> net.dense_cost.macs
        48
    """

    def __init__(
        self,
        model: nn.Module,
        posterior: str | dict | GatePosterior = "mean_field",
        example: Example | None = None,
        scope: str = "inner",
        sampling: str = "example",
        hard_concrete: HardConcrete | None = None,
    ) -> None:
        super().__init__()
        self.sampling = checks.one_of("sampling", sampling, ("example", "batch"))
        check_network(plain := unwrapped(fitted("model", model, nn.Module)))
        self.model, self._frozen = copied(plain), []
        self.channels = Channels(self.model, example, scope)
        self.channels.require_gated()
        sizes, may_close = self.channels.sizes, self.channels.may_close
        self.posterior = make_posterior(posterior, sizes, hard_concrete, may_close)
        self.posterior.to(next(self.model.parameters()).device)
        self._gates = place_gates(self.model, self.groups.gated)

    def train(self, mode: bool = True) -> "GatedModel":
        """Training or eval mode, but for what the user froze by `.eval()`, which stays in eval mode."""
        if self.model.training:  # else all of it is in eval mode, and only from before is known what froze
            self._frozen = frozen_parts(self.model)
        super().train(mode)
        freeze(self._frozen)
        return self

    @property
    def groups(self) -> Groups:
        return self.channels.groups

    @property
    def dense_cost(self) -> Cost:
        return self.channels.dense_cost

    def forward(self, *inputs: Tensor) -> Any:
        if self.training:
            gates = self.posterior.sample(self._draws(inputs[0]))
        else:
            gates = self.posterior.deterministic()
        with gates_set(self._gates, gates):
            return self.model(*inputs)

    def forward_with_prob_open(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Output under sampled gates, and the posterior's `prob_open_draws()`: a training step in one go.

        Args:
            noise: `posterior.noise(...)`, [batch, N], or [N] for one set of gates for the whole batch;
                drawn afresh if None.
        """
        if noise is None:
            noise = self.posterior.noise(self._draws(x))
        gates, prob_open = self.posterior.draw(noise)
        return self.forward_gated(x, self.posterior.split(gates)), prob_open

    @torch.no_grad()
    def forward_opposite(self, x: Tensor, noise: Tensor) -> Tensor:
        """Output under the gates drawn with 1 - noise, without a gradient, for `Bernoulli.arm_term`.

        Batch norms use the statistics of the batch, as in `forward_with_prob_open`, and do not keep them.
        """
        gates, _ = self.posterior.draw(1 - noise)
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with gates_set(self._gates, self.posterior.split(gates)):
            return functional_call(self.model, buffers, (x,))

    def _draws(self, x: Tensor) -> int | None:
        return len(x) if self.sampling == "example" else None

    def forward_gated(self, x: Tensor, gates: list[Tensor]) -> Tensor:
        """The network's output under given gates: per gated group [channels] or [batch, channels]."""
        with gates_set(self._gates, gates):
            return self.model(x)

    def describe(self) -> dict:
        """What this is, in plain values (for JSON): class of the model, arguments of `make_model` if that
        made it (else None), posterior, scope, sampling, shape of an example, gated groups."""
        return {
            "network": type(self.model).__name__,
            "made_by": getattr(self.model, "made_by", None),
            "posterior": self.posterior.describe(),
            "scope": self.channels.scope,
            "sampling": self.sampling,
            "example": list(self.channels.example_shapes[0]),
            "groups": [[g.name, g.channels] for g in self.groups.gated],
        }

    def plain_copy(self) -> nn.Module:
        """A copy of `model` without gates."""
        return self.channels.plain_copy()

    def expected_cost(self) -> Cost:
        """Expected cost under the posterior, as tensors with a gradient to it."""
        return self.channels.cost_model(self.posterior.prob_open_draws())

    def expected_share(self, cost: str = "macs", prob_open: Tensor | None = None) -> Tensor:
        """Expected cost over dense cost, a scalar in 0..1 with gradient: the price in anybody's own loop.

        Args:
            cost: "macs", "params" or "gates" (the share of open gates, which prices every channel alike).
            prob_open: `posterior.prob_open_draws()`, if a forward pass has computed them already.
        """
        checks.one_of("cost", cost, COSTS)
        prob_open = self.posterior.prob_open_draws() if prob_open is None else prob_open
        if cost == "gates":
            return prob_open.mean()
        return getattr(self.channels.cost_model(prob_open), cost) / getattr(self.dense_cost, cost)

    def open_channels(self) -> list[int]:
        """Channels that are open at test time, per gated group: what `compact` keeps."""
        with torch.no_grad():
            gates = values_of(self.posterior.flat_deterministic())
        return [int((z > 0).sum()) for z in self.posterior.split(gates)]

    def channel_table(self) -> pd.DataFrame:
        """A row per gated group: group, channels, open (at test time), expected_open, sparsity."""
        with torch.no_grad():
            prob_open = values_of(self.posterior.flat_prob_open())
        expected = [float(p.sum()) for p in self.posterior.split(prob_open)]
        table = pd.DataFrame(
            {
                "group": [g.name for g in self.groups.gated],
                "channels": self.channels.sizes,
                "open": self.open_channels(),
                "expected_open": expected,
            }
        )
        return table.assign(sparsity=1 - table.open / table.channels)

    def exact_cost(self) -> Cost:
        """Cost of the network that `compact(net)` returns, in ints."""
        return self.channels.cost(self.open_channels())
