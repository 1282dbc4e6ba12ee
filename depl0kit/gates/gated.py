"""An ordinary network, its channel groups, and a posterior over their gates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ..channels.admission import check_network, copied, first_line, unwrapped
from ..channels.cost import COSTS, Cost, CostModel
from ..channels.groups import Group, Groups, find_groups
from ..channels.masks import gates_set, place_gates, remove_gates
from ..channels.removal import remove_channels
from ..channels.tracing import Layer, check_training_mode, probe_copy, trace
from ..support import checks
from ..support.arguments import fitted
from ..support.modes import freeze, frozen_parts
from .hard_concrete import HardConcrete
from .posterior import GatePosterior
from .posteriors import make_posterior


class GatedModel(nn.Module):
    """`model` with a hard-concrete gate on every channel that can be removed.

    In training mode each forward draws gates from the posterior; in eval mode it uses the test-time
    gates, so `net.eval()` is deterministic and computes what `compact(net)` computes. The model is
    copied: the one passed in stays as it is, and two `GatedModel`s share no weights. A posterior that
    is passed in as an object is used as it is. Parts of `model` that are in eval mode while the whole is in
    training mode, such as frozen batch norms, stay so while it trains.

    Args:
        model: any convolutional classifier whose forward takes a batch of images, of any precision.
            Groups whose removal would not be exact stay without gates; `net.groups` says which, and why.
        posterior: "mean_field" (L0-HC), "forward" or "backward" (Dep-L0), "autoregressive" (forward,
            reading the sampled gates), a `GatePosterior` for `net.groups.gated`'s sizes, or what its
            `describe` returned.
        example: a batch of inputs, [batch, channels, height, width]; only its shape and device count.
        scope: "inner" gates the channels inside blocks, as the papers do; "all" also those of
            residual streams, one shared gate per channel of a stream.
        sampling: "example" draws gates for every example of a batch, "batch" one set for all of it:
            cheaper, and noisier, as all examples of a step see the same mask.
        hard_concrete: distribution of the gates of a posterior given by name.

    Attributes:
        model, posterior, groups: the copy, q(z) and the printable table of channel groups.
        dense_cost: `Cost` of the network with every channel, in ints.

    Raises:
        ValueError: nothing in the model can be gated, it cannot be followed (`check_network`, `find_groups`
            and `trace` say when), has layers or outputs in training mode only, gives NaN or random outputs
            in eval mode, or an argument is unknown.

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
        example: Tensor | None = None,
        scope: str = "inner",
        sampling: str = "example",
        hard_concrete: HardConcrete | None = None,
    ) -> None:
        super().__init__()
        fitted("model", model, nn.Module)
        checks.one_of("scope", scope, ("inner", "all"))
        self.scope, self.sampling = scope, checks.one_of("sampling", sampling, ("example", "batch"))
        check_network(model := unwrapped(model))
        if any(isinstance(part, GatedModel) for part in model.modules()):
            raise ValueError(
                "model is a GatedModel already, or holds one: pass net.plain_copy() to give it other gates."
            )
        self.model, self._frozen = copied(model), []
        with _without_autocast(example):
            layers, total, self.groups = _structure(self.model, example, scope)
        gated = self.groups.gated
        if not gated:
            raise ValueError(
                f"nothing to gate in {type(model).__name__}: it has no channels between two layers "
                f"that can be removed.\n{self.groups}"
            )
        self.posterior = make_posterior(posterior, [g.channels for g in gated], hard_concrete)
        self.posterior.may_close = tuple(g.may_close for g in gated)
        self.posterior.to(next(self.model.parameters()).device)
        self.cost_model = CostModel(gated, layers, total)
        self._gates = place_gates(self.model, gated)
        self._example_shape = example.shape[1:]

    def train(self, mode: bool = True) -> "GatedModel":
        """Training or eval mode, but for what the user froze by `.eval()`, which stays in eval mode."""
        if self.model.training:  # else all of it is in eval mode, and only from before is known what froze
            self._frozen = frozen_parts(self.model)
        super().train(mode)
        freeze(self._frozen)
        return self

    @property
    def dense_cost(self) -> Cost:
        return self.cost_model.dense

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.forward_gated(x, self.posterior.sample(self._draws(x)))
        return self.forward_gated(x, self.posterior.deterministic())

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
            "scope": self.scope,
            "sampling": self.sampling,
            "example": list(self._example_shape),
            "groups": [[g.name, g.channels] for g in self.groups.gated],
        }

    def plain_copy(self) -> nn.Module:
        """A copy of `model` without gates."""
        model = copied(self.model)
        remove_gates(model)
        return model

    def expected_cost(self) -> Cost:
        """Expected cost under the posterior, as tensors with a gradient to it."""
        return self.cost_model(self.posterior.prob_open_draws())

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
        return getattr(self.cost_model(prob_open), cost) / getattr(self.dense_cost, cost)

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


def _structure(model: nn.Module, example: Tensor, scope: str) -> tuple[list[Layer], Cost, Groups]:
    """Layers, cost and groups of a network; `model` stays as it is."""
    layers, macs = _traced(copied(model), example)
    total = Cost(macs, sum(p.numel() for p in model.parameters()))
    example = example[:1]  # groups are the same for a whole batch, whose activations would be kept
    groups = find_groups(model, example, layers, scope)
    return layers, total, _refuse_inexact(model, groups, layers, total, example)


def _traced(model: nn.Module, example: Tensor) -> tuple[list[Layer], int]:
    """As `trace`, of a copy, and that training mode shows nothing else."""
    layers, macs = trace(model.eval(), example)
    check_training_mode(model, layers, example)
    return layers, macs


@contextmanager
def _without_autocast(example: object) -> Iterator[None]:
    """Whatever the user has switched on: what is looked at is the network itself."""
    kind = example.device.type if isinstance(example, Tensor) else "cpu"
    with torch.autocast("cpu", enabled=False), torch.autocast(kind, enabled=False):
        yield


TOLERANCE = 1e-9  # of outputs, relative; in float64, removal that is exact is off by some 1e-14


class _InFloat64(TorchFunctionMode):
    """Whatever a forward makes or asks for by itself, such as x.half(), it gets in float64."""

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        other = isinstance(made, Tensor) and made.is_floating_point() and made.dtype != torch.float64
        return made.double() if other else made


def _refuse_inexact(
    model: nn.Module, groups: Groups, layers: list[Layer], total: Cost, example: Tensor
) -> Groups:
    """Take the gates from groups whose removal does not do what closed gates do.

    Torch-Pruning's graph is silently wrong for some operations (chunks, shuffles, padded shortcuts), so
    every group is tried on a copy with random statistics and random inputs, in float64 on the CPU, where a
    wrong channel cannot hide in rounding; of a set that fails the halves are tried.
    """
    probe = probe_copy(model).to("cpu", torch.float64)
    with _InFloat64():
        example = _random_input(probe, example)
        bad = _failing(groups.gated, lambda some: _why_inexact(probe, some, layers, total, example))
        good = [g for g in groups.gated if g.name not in bad]
        together = _why_inexact(probe, good, layers, total, example) if bad and good else ""
        if together:  # though each is fine alone
            bad |= {g.name: together for g in good}
            good = []
        closable = [g for g in good if g.may_close]
        if closable and _why_inexact(probe, closable, layers, total, example, closed=True):
            closable = []
    return Groups(replace(g, refusal=bad.get(g.name, g.refusal), may_close=g in closable) for g in groups)


def _random_input(probe: nn.Module, example: Tensor) -> Tensor:
    """Random images of the example's shape, which alone counts: of zeros, a wrong channel may be zero, too.

    Raises:
        ValueError: the forward fails, its outputs are not finite, or others the second time.
    """
    if not example.is_floating_point():
        return example.cpu()
    for draw in (torch.randn, torch.rand):  # some networks take roots or logarithms of the pixels
        images = draw(example.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        outputs = _forward(probe, images)
        if outputs.isfinite().all():
            break
    else:
        raise ValueError(
            f"the forward of {type(probe).__name__} gives NaN or infinite outputs in eval mode: "
            f"{_where_not_finite(probe)}."
        )
    if not _close(outputs, _forward(probe, images)):
        raise ValueError(
            f"the forward of {type(probe).__name__} is random in eval mode: give F.dropout and its like "
            "training=self.training, or use nn.Dropout."
        )
    return images


@torch.no_grad()
def _forward(probe: nn.Module, images: Tensor) -> Tensor:
    try:
        return probe(images)
    except Exception as error:  # of any kind: it is the user's network that fails
        raise ValueError(
            f"the forward of {type(probe).__name__} failed on the CPU in float64, where removal is tried: "
            f"{first_line(error)}"
        ) from error


def _where_not_finite(probe: nn.Module) -> str:
    bad = next((key for key, t in probe.state_dict().items() if not t.isfinite().all()), None)
    return f"{bad!r} holds some" if bad else "look for a division by zero, a root or a logarithm"


def _close(expected: Tensor, got: Tensor) -> bool:
    """Whether outputs are equal but for rounding."""
    bound = TOLERANCE * float(expected.abs().max())
    return expected.shape == got.shape and torch.allclose(expected, got, rtol=0, atol=bound)


def _failing(groups: list[Group], why: Callable[[list[Group]], str]) -> dict[str, str]:
    """The groups at fault, by halving, and what `why` says of each."""
    reason = why(groups) if groups else ""
    if not reason:
        return {}
    if len(groups) == 1:
        return {groups[0].name: reason}
    half = len(groups) // 2
    return _failing(groups[:half], why) | _failing(groups[half:], why)


@torch.no_grad()
def _why_inexact(
    probe: nn.Module,
    groups: list[Group],
    layers: list[Layer],
    total: Cost,
    example: Tensor,
    closed: bool = False,
) -> str:
    """What goes wrong when random channels of `groups` (or all) are removed; empty if nothing does."""
    generator = torch.Generator().manual_seed(0)
    values = [_random_gates(g.channels, generator).to(example) * (not closed) for g in groups]
    masked, small = copied(probe), copied(probe)
    try:
        with gates_set(place_gates(masked, groups), [v.expand(len(example), -1) for v in values]):
            expected = masked(example)
        remove_channels(small, groups, values)
        flops = FlopCounterMode(display=False)
        with flops:
            got = small(example)
    except Exception as error:  # of any kind: it is the user's network that fails on this structure
        return f"removal breaks the network ({first_line(error)})"
    if not _close(expected, got):
        return "its channels are not removed exactly"
    cost = CostModel(groups, layers, total).exact([int((v > 0).sum()) for v in values])
    macs = flops.get_total_flops() // (2 * len(example))
    if cost != (macs, sum(p.numel() for p in small.parameters())):
        return "its cost cannot be told from the widths of its layers"
    return ""


def _random_gates(channels: int, generator: torch.Generator) -> Tensor:
    """Half of the gates closed, the others anywhere in (0, 1]; one at least is open."""
    gates = torch.rand(channels, generator=generator).clamp(min=0.1)
    return gates * (torch.randperm(channels, generator=generator) < max(1, channels // 2))
