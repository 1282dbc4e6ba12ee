"""What all posteriors over the gates of a network have in common.

The log_alphas of all N gates are one flat tensor: one call samples them all, and each group gets a view.
This keeps gates cheap in networks with many layers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..support import checks
from ..support.arguments import fitted, is_list
from .hard_concrete import TEST_RULES, HardConcrete

BOUND = math.log(100)  # |log_alpha| < BOUND; the bound of the Dep-L0 paper, here for every family
START = 3.0  # P(open) = 0.99: every gate starts open, and still has a gradient
LAST_CHANNEL = 0.5  # test-time gate of the one channel that a group always keeps
INITS = ("equal", "paper")
EXPECTED = "expected"
RULES = (*TEST_RULES, EXPECTED)  # of test-time gates, see `GatePosterior.test_rule`
# A gate with P(open) between these may be open or closed in the compact network. BOUND keeps P(open) above
# 0.047; with a lower limit of 0.05, gates that are as closed as they can be would count as undecided.
UNDECIDED = (0.1, 0.9)


def is_undecided(prob_open: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Whether each P(open) lies strictly between the two limits of UNDECIDED."""
    low, high = UNDECIDED
    return (prob_open > low) & (prob_open < high)


class GatePosterior(nn.Module):
    """Base of all posteriors q(z): sizes, sampling, P(open) and test-time gates.

    A subclass computes log_alpha (`flat_log_alpha`). If its gates are dependent given the parameters, it
    also overrides `flat_sample`, `flat_prob_open`, `prob_open_draws` and `draw`.

    Args:
        sizes: channels per group, in the network's order. Their sum is N.
        hard_concrete: the distribution of one gate given its log_alpha.
        may_close: per group, whether all of its channels may be closed at test time, as in
            `Channels.may_close`; any other group keeps its most likely channel. None: no group may.
        test_rule: which gates are open at test time, see the attribute; None: that of `hard_concrete`.

    Attributes:
        antithetic: of the class: whether its draws have no gradient, so that training estimates one from the
            losses under these draws and under the opposite ones, see `Bernoulli`.

    Raises:
        ValueError: `sizes` is empty or has an entry that is not a positive whole number, `may_close` has
            another length, or an unknown rule.
    """

    antithetic = False

    def __init__(
        self,
        sizes: Sequence[int],
        hard_concrete: HardConcrete | None = None,
        may_close: Sequence[bool] | None = None,
        test_rule: str | None = None,
    ) -> None:
        super().__init__()
        if not is_list(sizes):
            raise ValueError(f"sizes must be a list, the channels of each group, got {checks.shown(sizes)}.")
        self.sizes = tuple(checks.whole("every entry of sizes", n, 1) for n in sizes)
        if not self.sizes:
            raise ValueError("sizes must have an entry for each group of channels, got an empty list.")
        self.hard_concrete = fitted("hard_concrete", hard_concrete, HardConcrete | None) or HardConcrete()
        may_close = [False] * len(self.sizes) if may_close is None else may_close
        if not is_list(may_close) or len(may_close) != len(self.sizes):
            raise ValueError(
                f"may_close must be a list of {len(self.sizes)} booleans, one for each entry of sizes, got "
                f"{checks.shown(may_close)}."
            )
        self.may_close = tuple(checks.switch("every entry of may_close", may) for may in may_close)
        self._keeps_expected = False
        if test_rule is not None:
            self.test_rule = test_rule

    @property
    def temperature(self) -> float:
        """beta of the hard-concrete distribution; may be changed at any time."""
        return self.hard_concrete.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.hard_concrete = replace(self.hard_concrete, temperature=value)

    @property
    def test_rule(self) -> str:
        """How the gates become fixed numbers at test time; may be changed at any time.

        "paper" and "median" look at one gate at a time, see `HardConcrete`. "expected" (as CoFi, Xia et al.
        2022) looks at a group: the likeliest gates stay open, as many as the expected number of open ones,
        the sum of P(open), rounded (a half up); at least one, unless the group may close. So the compact
        network costs about what the expected cost says, also if many gates are undecided. A gate that stays
        open has the papers' value, or E[z | z > 0] where that is 0; equally likely gates stay open in the
        order of their channels. The choice of the gates has no gradient, their values have one.
        """
        return EXPECTED if self._keeps_expected else self.hard_concrete.test_rule

    @test_rule.setter
    def test_rule(self, value: str) -> None:
        self._keeps_expected = checks.one_of("test_rule", value, RULES) == EXPECTED
        rule_of_one = "paper" if self._keeps_expected else value
        self.hard_concrete = replace(self.hard_concrete, test_rule=rule_of_one)

    def default_lr(self, budget: float | None = None, steps: int | None = None) -> float:
        """Adam learning rate that moves these gates within a run of so many steps (a few hundred, if None).

        At the papers' 0.001 mean-field gates hardly move in short runs. A budget needs a higher rate. Adam
        moves a parameter by about its rate in a step: where rate x steps is too small, gates leave 1 and do
        not reach 0. In less than 100 steps there is no good rate: they all have that of 100. One
        weight of a generator moves many log_alphas, so `Dependency` has a much lower rate.
        """
        # `travel`, the least rate x steps: on digits (benchmarks/gate_lr.py, 108 to 432 steps) less than a
        # tenth of the gates are undecided from about there on, and half or more of them below a half of it
        rate, travel = (0.1, 20.0) if budget is None else (0.3, 60.0)
        return rate if steps is None else max(rate, travel / max(steps, 100))

    def flat_log_alpha(self) -> Tensor:
        """log_alpha of all gates, shape [N]."""
        raise NotImplementedError

    def flat_sample(self, batch: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        """Gates drawn from q, shape [N] or [batch, N], differentiable."""
        return self.hard_concrete.sample(self.flat_log_alpha(), self.noise(batch, rng))

    def flat_prob_open(self) -> Tensor:
        """Marginal P(z > 0) of all gates, shape [N], differentiable."""
        return self.hard_concrete.prob_open(self.flat_log_alpha())

    def flat_deterministic(self) -> Tensor:
        """Test-time gates, shape [N]. A group that may not close keeps its most likely channel."""
        test_gates = self._test_gates()
        return torch.cat([test_gates(log_alpha, i) for i, log_alpha in enumerate(self.log_alpha())])

    def prob_open_draws(self) -> Tensor:
        """P(open) of every gate in S draws, shape [S, N]; the mean of their costs is the expected cost.

        Gates that are independent given the parameters need one draw, P(open) itself: the cost is
        multilinear in gates of different groups.
        """
        return self.flat_prob_open()[None]

    def noise(self, batch: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        """Uniform random numbers for `draw`, [N] or [batch, N]; from `rng` or torch's global state."""
        like = next(self.parameters())
        shape = (sum(self.sizes),) if batch is None else (batch, sum(self.sizes))
        return torch.rand(shape, generator=rng, device=like.device, dtype=like.dtype)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Gates drawn with `noise` ([N] or [batch, N]), and `prob_open_draws()`.

        A training step needs both, and here log_alpha is computed once.
        """
        log_alpha = self.flat_log_alpha()
        return self.hard_concrete.sample(log_alpha, noise), self.hard_concrete.prob_open(log_alpha)[None]

    def coupling(self) -> Tensor:
        """How far a plain gradient step for one gate moves another: a cosine in [-1, 1], shape [N, N].

        With J the Jacobian of log_alpha in the parameters it is J J^T with unit diagonal. It is the
        identity if every gate has its own parameter; shared parameters add entries off the diagonal.
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

    def sample(self, batch: int | None = None, rng: torch.Generator | None = None) -> list[Tensor]:
        """Gates drawn from q per group: [channels], or [batch, channels] for a draw per example.

        The same state of `rng` gives the same draws; without it, torch's global random state is used.
        """
        return self.split(self.flat_sample(batch, rng))

    def prob_open(self) -> list[Tensor]:
        """P(z > 0) per group, each of shape [channels]."""
        return self.split(self.flat_prob_open())

    def deterministic(self) -> list[Tensor]:
        """Test-time gates per group, each of shape [channels]; open means > 0."""
        return self.split(self.flat_deterministic())

    def describe(self) -> dict:
        """What `make_posterior` needs to make another of this kind; plain values, for JSON."""
        about = {"family": type(self).__name__, "hard_concrete": asdict(self.hard_concrete)}
        # the other rules are those of hard_concrete, as in the runs of earlier versions
        return about | ({"test_rule": EXPECTED} if self._keeps_expected else {})

    def extra_repr(self) -> str:
        return f"sizes={list(self.sizes)}, temperature={self.temperature:g}"

    def _test_gates(self) -> Callable[[Tensor, int], Tensor]:
        """The function that makes test-time gates of a group's log_alpha and number."""
        if not self._keeps_expected:
            return self._each_by_itself
        with torch.no_grad():
            stay = self.split(self._stay_open())
        return lambda log_alpha, group: self._kept(log_alpha, stay[group])

    def _stay_open(self) -> Tensor:
        """Which gates are open by the rule "expected", [N]; nothing here waits for the device."""
        stay = []
        for prob_open, may_close in zip(self.prob_open(), self.may_close, strict=True):
            order = prob_open.argsort(descending=True, stable=True)
            count = (prob_open.sum() + 0.5).floor().clamp(min=0 if may_close else 1)
            stay.append(order.argsort() < count)  # argsort twice: the rank of each gate
        return torch.cat(stay)

    def _test_gate(self, log_alpha: Tensor) -> Tensor:
        """Test-time gates of any shape, each by itself."""
        return self.hard_concrete.deterministic(log_alpha)

    def _kept(self, log_alpha: Tensor, stay: Tensor) -> Tensor:
        """Gates of one group, of which those in `stay` are open."""
        z = self._test_gate(log_alpha)
        z = torch.where(z > 0, z, self.hard_concrete.mean_if_open(log_alpha))
        return torch.where(stay, z, torch.zeros_like(z))

    def _each_by_itself(self, log_alpha: Tensor, group: int) -> Tensor:
        """Test-time gates of one group; where all would close but may not, the most likely one stays open."""
        z = self._test_gate(log_alpha)
        if self.may_close[group]:
            return z
        top = F.one_hot(log_alpha.argmax(-1), log_alpha.shape[-1]).bool()
        return torch.where(top & (z == 0), LAST_CHANNEL, z)
