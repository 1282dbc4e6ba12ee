"""The variational posterior over *all* gates of a network.

Swapping this one object is the whole difference between L0-HC and Dep-L0:

- `MeanField`: one free log_alpha per gate (Louizos et al. 2018).
- `Dependency(condition_on="log_alpha")`: a chain of small linear layers generates each group's
  log_alphas from those of the group before (Li & Ji 2021). Given the weights of that chain
  the gates are still independent: what they share is the parameterisation.
- `Dependency(condition_on="gates")`: the chain reads the *sampled gates* of the group before,
  which makes the posterior truly autoregressive.

All log_alphas live in one flat tensor of N gates, sampled by one call and handed out as views, one
per group: for networks of many layers that is what keeps gates nearly free.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..support import checks
from ..support.arguments import fitted, is_list
from .hard_concrete import HardConcrete

BOUND = math.log(100)  # |log_alpha| < BOUND; the bound of the Dep-L0 paper, here for every family
START = 3.0  # P(open) = 0.99: every gate starts open, and still has a gradient
SEED_WIDTH = 64  # length of the vector of ones that starts the chain, as in the Dep-L0 reference
LAST_CHANNEL = 0.5  # test-time gate of the one channel that a group always keeps
CHAINS = 64  # sampled chains behind P(open) and the expected cost of an autoregressive posterior
# A P(open) between these says nothing certain about the compact network. The bound on log_alpha keeps
# P(open) above 0.047, so at 0.05 gates would count as undecided that are as shut as they can be.
UNDECIDED = (0.1, 0.9)


def is_undecided(prob_open: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Of each P(open), whether it says nothing certain about the compact network."""
    low, high = UNDECIDED
    return (prob_open > low) & (prob_open < high)


class GatePosterior(nn.Module):
    """Base of all posteriors q(z): sizes, sampling, P(open) and test-time gates.

    A subclass says how log_alpha comes about (`flat_log_alpha`); gates that are dependent given the
    parameters also override `flat_sample`, `flat_prob_open` and `cost_rows`.

    Args:
        sizes: channels per group, in the network's order. Their sum is N.
        hard_concrete: the distribution of one gate given its log_alpha.

    Attributes:
        may_close: per group, whether all of its channels may be closed at test time. `GatedModel` sets
            it for residual branches; any other group keeps its most likely channel.

    Raises:
        ValueError: `sizes` is empty or has an entry that is not a positive whole number.
    """

    def __init__(self, sizes: Sequence[int], hard_concrete: HardConcrete | None = None) -> None:
        super().__init__()
        if not is_list(sizes):
            raise ValueError(f"sizes must be a list, the channels of each group, got {checks.shown(sizes)}.")
        self.sizes = tuple(checks.whole("every entry of sizes", n, 1) for n in sizes)
        if not self.sizes:
            raise ValueError("sizes must name at least one group of channels, got an empty list.")
        self.hard_concrete = fitted("hard_concrete", hard_concrete, HardConcrete | None) or HardConcrete()
        self.may_close = (False,) * len(self.sizes)

    @property
    def temperature(self) -> float:
        """beta of the hard-concrete distribution; may be changed at any time."""
        return self.hard_concrete.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        old = self.hard_concrete
        self.hard_concrete = HardConcrete(value, old.stretch, old.test_rule)

    def default_lr(self, budget: float | None = None) -> float:
        """Adam learning rate that moves these gates within a few hundred steps.

        At the papers' 0.001 mean-field gates stand still in short runs; a budget must move them
        further. One weight of a generator moves many log_alphas, so `Dependency` needs far less.
        """
        return 0.1 if budget is None else 0.3

    def flat_log_alpha(self) -> Tensor:
        """log_alpha of all gates, shape [N]."""
        raise NotImplementedError

    def flat_sample(self, batch: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Gates drawn from q, shape [N] or [batch, N], differentiable."""
        return self.hard_concrete.sample(self.flat_log_alpha(), self.noise(batch, generator))

    def flat_prob_open(self) -> Tensor:
        """Marginal P(z > 0) of all gates, shape [N], differentiable."""
        return self.hard_concrete.prob_open(self.flat_log_alpha())

    def flat_deterministic(self) -> Tensor:
        """Test-time gates, shape [N]. A group that may not close keeps its most likely channel."""
        return torch.cat([self._test_gates(log_alpha, i) for i, log_alpha in enumerate(self.log_alpha())])

    def cost_rows(self) -> Tensor:
        """Rows [S, N] of open probabilities over which the mean cost is the expected cost of q.

        Gates that are independent given the parameters need one row, P(open): the cost is
        multilinear in gates of different groups.
        """
        return self.flat_prob_open()[None]

    def noise(self, batch: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Uniforms that become gates, [N] or [batch, N]; from `generator`, or torch's own."""
        like = next(self.parameters())
        shape = (sum(self.sizes),) if batch is None else (batch, sum(self.sizes))
        return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The gates that `noise` ([N] or [batch, N]) becomes, and `cost_rows()`, from one evaluation of
        log_alpha: for a training step."""
        log_alpha = self.flat_log_alpha()
        gates = self.hard_concrete.sample(log_alpha, noise)
        return gates, self.hard_concrete.prob_open(log_alpha)[None]

    def coupling(self) -> Tensor:
        """How far a plain gradient step for one gate moves another: a cosine in [-1, 1], shape [N, N].

        With J the Jacobian of log_alpha in the parameters it is J J^T with unit diagonal: the
        identity if every gate has a parameter of its own, and more if gates share parameters.
        """
        jacobian = self.unit_jacobian(range(sum(self.sizes)))
        return jacobian @ jacobian.T

    def unit_jacobian(self, gates: Sequence[int]) -> Tensor:
        """Rows of the Jacobian of log_alpha in the parameters, of length 1: [len(gates), parameters]."""
        log_alpha = self.flat_log_alpha()
        picks = torch.eye(len(log_alpha))[list(gates)].to(log_alpha)
        rows = torch.autograd.grad(
            log_alpha, list(self.parameters()), picks,
            is_grads_batched=True, allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return F.normalize(torch.cat([r.flatten(1) for r in rows], 1), dim=1)

    def split(self, flat: Tensor) -> list[Tensor]:
        """Views of the last dimension, one per group."""
        return list(flat.split(self.sizes, dim=-1))

    def log_alpha(self) -> list[Tensor]:
        """log_alpha per group, each of shape [channels]."""
        return self.split(self.flat_log_alpha())

    def sample(self, batch: int | None = None, generator: torch.Generator | None = None) -> list[Tensor]:
        """Gates drawn from q per group: [channels], or [batch, channels] for a draw per example.

        The same generator state gives the same draws; without one, torch's own is used.
        """
        return self.split(self.flat_sample(batch, generator))

    def prob_open(self) -> list[Tensor]:
        """P(z > 0) per group, each of shape [channels]."""
        return self.split(self.flat_prob_open())

    def deterministic(self) -> list[Tensor]:
        """Test-time gates per group, each of shape [channels]; open means > 0."""
        return self.split(self.flat_deterministic())

    def describe(self) -> dict:
        """What `make_posterior` needs to make another of this kind; plain values, for JSON."""
        return {"family": type(self).__name__, "hard_concrete": asdict(self.hard_concrete)}

    def extra_repr(self) -> str:
        return f"sizes={list(self.sizes)}, temperature={self.temperature:g}"

    def _test_gates(self, log_alpha: Tensor, group: int) -> Tensor:
        """Test-time gates of one group; where all would close but may not, the most likely one stays open."""
        z = self.hard_concrete.deterministic(log_alpha)
        if self.may_close[group]:
            return z
        top = F.one_hot(log_alpha.argmax(-1), log_alpha.shape[-1]).bool()
        return torch.where(top & (z == 0), LAST_CHANNEL, z)


class MeanField(GatePosterior):
    """Independent gates, one free parameter each (Louizos et al. 2018).

    log_alpha = BOUND tanh(theta / BOUND), which is theta near zero, and bounded as in `Dependency`
    so that the two families can reach the same P(open), from 0.05 to 0.998.

    Args:
        sizes, hard_concrete: as in `GatePosterior`.
        init: "equal": every log_alpha is START. "paper": START plus noise of deviation 0.01.
    """

    def __init__(
        self, sizes: Sequence[int], hard_concrete: HardConcrete | None = None, init: str = "equal"
    ) -> None:
        super().__init__(sizes, hard_concrete)
        noise = 0.01 if checks.one_of("init", init, INITS) == "paper" else 0.0
        log_alpha = START + noise * torch.randn(sum(self.sizes))
        self.theta = nn.Parameter(BOUND * torch.atanh(log_alpha / BOUND))

    def flat_log_alpha(self) -> Tensor:
        return BOUND * torch.tanh(self.theta / BOUND)


class Dependency(GatePosterior):
    """Gates generated group from group (Li & Ji 2021, and their code).

    With h_0 = 1 (a vector of SEED_WIDTH ones) and the groups taken in `direction`,

        log_alpha_l = BOUND tanh(W_l h_{l-1} + b_l),     h_l = log_alpha_l or the sampled gates z_l.

    Args:
        sizes, hard_concrete: as in `GatePosterior`.
        direction: "forward" runs the chain from the first group to the last, "backward" in reverse.
        condition_on: "log_alpha" is the paper's generator: given W and b the gates are independent.
            "gates" feeds the gates drawn for the group before (at test time: its test-time gates),
            so that gates of different groups are dependent even at fixed parameters.
        init: "equal": every log_alpha is START exactly, as in `MeanField`: W keeps PyTorch's
            initialisation and b cancels what W adds (for "gates", whose input is random, W of all
            but the first layer is 0). "paper": W as PyTorch initialises it and b about 3, so that
            P(open) scatters widely and some gates start nearly shut.

    For condition_on="gates", `log_alpha()` and `deterministic()` are those of the chain of
    test-time gates, and `prob_open()` is the mean over CHAINS sampled chains with fixed noise.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        direction: str = "forward",
        condition_on: str = "log_alpha",
        hard_concrete: HardConcrete | None = None,
        init: str = "equal",
    ) -> None:
        super().__init__(sizes, hard_concrete)
        self.direction = checks.one_of("direction", direction, ("forward", "backward"))
        self.condition_on = checks.one_of("condition_on", condition_on, ("log_alpha", "gates"))
        outputs = [self.sizes[i] for i in self._order()]
        inputs = [SEED_WIDTH, *outputs[:-1]]
        self.generator = nn.ModuleList(nn.Linear(i, o) for i, o in zip(inputs, outputs, strict=True))
        checks.one_of("init", init, INITS)
        self._start_equal() if init == "equal" else self._start_as_paper()

    def default_lr(self, budget: float | None = None) -> float:
        """The rate at which one step moves a log_alpha about as far as in `MeanField`.

        A step of Adam changes every weight by its rate, so W h + b moves by rate (1 + sum |h|). At
        ten times this rate the noise of the first epochs alone closes gates, even at lambda = 0.
        """
        inputs = [linear.in_features for linear in self.generator]
        height = START if self.condition_on == "log_alpha" else 1.0
        reach = [1 + n * (height if step else 1.0) for step, n in enumerate(inputs)]
        return super().default_lr(budget) / (BOUND * sum(reach) / len(reach))

    def flat_log_alpha(self) -> Tensor:
        return self._chain(None)[0]

    def flat_sample(self, batch: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        if self.condition_on == "log_alpha":
            return super().flat_sample(batch, generator)
        return self._sampled_chain(self.noise(batch, generator))

    def flat_prob_open(self) -> Tensor:
        if self.condition_on == "log_alpha":
            return super().flat_prob_open()
        return self.hard_concrete.prob_open(self._chain(self._fixed_noise())[0]).mean(0)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        if self.condition_on == "log_alpha":
            return super().draw(noise)
        return self._sampled_chain(noise), self.cost_rows()

    def cost_rows(self) -> Tensor:
        """As in `GatePosterior`; for "gates" one row of open gates (0 or 1) per sampled chain.

        Products of dependent gates are averaged as drawn, so the value is unbiased up to the fixed
        noise; the gradient is that of P(open) given the chain so far ("straight through").
        """
        if self.condition_on == "log_alpha":
            return super().cost_rows()
        log_alpha, gates = self._chain(self._fixed_noise())
        prob = self.hard_concrete.prob_open(log_alpha)
        return prob + ((gates > 0).to(prob.dtype) - prob).detach()

    def describe(self) -> dict:
        return super().describe() | {"direction": self.direction, "condition_on": self.condition_on}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, direction={self.direction}, condition_on={self.condition_on}"

    def _sampled_chain(self, noise: Tensor) -> Tensor:
        """Gates of the chain that feeds sampled gates on, of the shape of `noise`: [N] or [batch, N]."""
        return self._chain(noise.reshape(-1, noise.shape[-1]))[1].reshape(noise.shape)

    def _chain(self, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the generator; return (log_alpha, h), each [N], or [S, N] for noise [S, N].

        Where gates are fed on, h are the sampled gates, or without noise the test-time ones. In
        float32 also under autocast: a chain of tanh saturates differently in half precision.
        """
        parts: list[tuple[Tensor, Tensor]] = [None] * len(self.sizes)  # type: ignore[list-item]
        uniforms = noise.split(self.sizes, dim=-1) if noise is not None else None
        h = self._weight.new_ones(SEED_WIDTH if noise is None else (len(noise), SEED_WIDTH))
        with torch.autocast(self._weight.device.type, enabled=False):
            for linear, i in zip(self.generator, self._order(), strict=True):
                log_alpha = BOUND * torch.tanh(linear(h))
                if self.condition_on == "log_alpha":
                    h = log_alpha
                elif uniforms is None:
                    h = self._test_gates(log_alpha, i)
                else:
                    h = self.hard_concrete.sample(log_alpha, uniforms[i])
                parts[i] = log_alpha, h
        log_alphas, hs = zip(*parts, strict=True)
        return torch.cat(log_alphas, -1), torch.cat(hs, -1)

    def _order(self) -> list[int]:
        """Indices of the groups, in the order in which the chain visits them."""
        order = list(range(len(self.sizes)))
        return order if self.direction == "forward" else order[::-1]

    @property
    def _weight(self) -> Tensor:
        return self.generator[0].weight

    def _fixed_noise(self) -> Tensor:
        """The same uniforms [CHAINS, N] at every call, apart from the global random state."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(CHAINS, sum(self.sizes), generator=generator).to(self._weight)

    @torch.no_grad()
    def _start_equal(self) -> None:
        """Give every gate log_alpha = START: b_l = atanh(START / BOUND) - W_l h_{l-1}."""
        for i, linear in enumerate(self.generator):
            if i > 0 and self.condition_on == "gates":
                linear.weight.zero_()
            h = torch.full((linear.in_features,), 1.0 if i == 0 else START)
            linear.bias.copy_(math.atanh(START / BOUND) - linear.weight @ h)

    @torch.no_grad()
    def _start_as_paper(self) -> None:
        for linear in self.generator:
            nn.init.normal_(linear.bias, START, 0.01)


INITS = ("equal", "paper")
POSTERIORS = {
    "mean_field": MeanField,
    "forward": Dependency,
    "backward": partial(Dependency, direction="backward"),
    "autoregressive": partial(Dependency, condition_on="gates"),
}


def make_posterior(
    posterior: str | dict | GatePosterior, sizes: Sequence[int], hard_concrete: HardConcrete | None = None
) -> GatePosterior:
    """A posterior over groups of `sizes` by name (see POSTERIORS), or the given one if it fits.

    Args:
        posterior: also what `GatePosterior.describe` returned, for a fresh one of that kind.

    Raises:
        ValueError: unknown name, or a posterior made for other sizes.
    """
    if isinstance(posterior, dict):
        return _make_described(posterior, sizes)
    if not isinstance(posterior, GatePosterior):
        make = POSTERIORS[checks.one_of("posterior", posterior, POSTERIORS)]
        return make(sizes, hard_concrete=hard_concrete)
    if posterior.sizes != tuple(sizes):
        raise ValueError(
            f"the posterior was made for groups of {list(posterior.sizes)} channels, "
            f"but this network has {list(sizes)}: pass sizes={list(sizes)} to it."
        )
    return posterior


def _make_described(description: dict, sizes: Sequence[int]) -> GatePosterior:
    if not {"family", "hard_concrete"} <= description.keys():
        raise ValueError("a posterior given as a dict must be what `describe` of another one returned.")
    arguments = dict(description)
    family = checks.one_of("posterior family", arguments.pop("family"), FAMILIES)
    shape = arguments.pop("hard_concrete")
    shape = HardConcrete(**shape | {"stretch": tuple(shape["stretch"])})
    return FAMILIES[family](sizes, hard_concrete=shape, **arguments)


FAMILIES = {"MeanField": MeanField, "Dependency": Dependency}
