"""Gates whose log_alphas a network generates group by group: the posterior of Dep-L0 (Li & Ji 2021)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..support import checks
from .hard_concrete import HardConcrete
from .posterior import BOUND, INITS, START, GatePosterior

SEED_WIDTH = 64  # length of the vector of ones that the generator starts from, as in the Dep-L0 reference


class Dependency(GatePosterior):
    """Gates whose log_alphas a *generator* computes, a chain of linear layers (Li & Ji 2021, and their code).

    With h_0 = 1 (a vector of SEED_WIDTH ones) and the groups taken in `direction`,

        log_alpha_l = BOUND tanh(W_l h_{l-1} + b_l),     h_l = log_alpha_l.

    Given W and b the gates are independent: what they share is the parameterisation. In `Autoregressive`
    the generator reads the sampled gates instead.

    Args:
        sizes, hard_concrete, may_close, test_rule: as in `GatePosterior`.
        direction: "forward" goes from the first group to the last, "backward" from the last to the first.
        init: "equal": every log_alpha is START exactly, as in `MeanField`: W keeps PyTorch's
            initialisation and b cancels its effect. "paper": W as PyTorch initialises it and b about 3, so
            that P(open) varies widely and some gates start nearly closed.
    """

    _input_size = START  # absolute value of the entries of h at the start

    def __init__(
        self,
        sizes: Sequence[int],
        direction: str = "forward",
        hard_concrete: HardConcrete | None = None,
        init: str = "equal",
        may_close: Sequence[bool] | None = None,
        test_rule: str | None = None,
    ) -> None:
        super().__init__(sizes, hard_concrete, may_close, test_rule)
        self.direction = checks.one_of("direction", direction, ("forward", "backward"))
        outputs = [self.sizes[i] for i in self._order()]
        inputs = [SEED_WIDTH, *outputs[:-1]]
        self.generator = nn.ModuleList(nn.Linear(i, o) for i, o in zip(inputs, outputs, strict=True))
        if checks.one_of("init", init, INITS) == "equal":
            self._start_equal()
        else:
            for linear in self.generator:
                nn.init.normal_(linear.bias, START, 0.01)

    def default_lr(self, budget: float | None = None, steps: int | None = None) -> float:
        """The rate at which one step moves a log_alpha about as far as in `MeanField`, however long the run.

        A step of Adam changes every weight by its rate, so W h + b moves by rate (1 + sum |h|). At
        ten times this rate the noise of the first epochs closes gates, even at lambda = 0.
        """
        inputs = [linear.in_features for linear in self.generator]
        reach = [1 + n * (self._input_size if step else 1.0) for step, n in enumerate(inputs)]
        return super().default_lr(budget) / (BOUND * sum(reach) / len(reach))

    def flat_log_alpha(self) -> Tensor:
        return self._chain(lambda log_alpha, _: log_alpha)[0]

    def describe(self) -> dict:
        return super().describe() | {"direction": self.direction}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, direction={self.direction}"

    def _chain(
        self, next_input: Callable[[Tensor, int], Tensor], batch: tuple[int, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """Run the generator: log_alpha and h of all gates, each [*batch, N].

        In float32 also under autocast: tanh saturates at other values in half precision.
        """
        parts: list[tuple[Tensor, Tensor]] = [None] * len(self.sizes)  # type: ignore[list-item]
        h = self._weight.new_ones(*batch, SEED_WIDTH)
        with torch.autocast(self._weight.device.type, enabled=False):
            for linear, group in zip(self.generator, self._order(), strict=True):
                log_alpha = BOUND * torch.tanh(linear(h))
                h = next_input(log_alpha, group)
                parts[group] = log_alpha, h
        log_alphas, hs = zip(*parts, strict=True)
        return torch.cat(log_alphas, -1), torch.cat(hs, -1)

    def _order(self) -> list[int]:
        """Indices of the groups, in the order in which the generator computes them."""
        order = list(range(len(self.sizes)))
        return order if self.direction == "forward" else order[::-1]

    @property
    def _weight(self) -> Tensor:
        return self.generator[0].weight

    @torch.no_grad()
    def _start_equal(self) -> None:
        """Give every gate log_alpha = START: b_l = atanh(START / BOUND) - W_l h_{l-1}."""
        for i, linear in enumerate(self.generator):
            h = torch.full((linear.in_features,), 1.0 if i == 0 else START)
            linear.bias.copy_(math.atanh(START / BOUND) - linear.weight @ h)
