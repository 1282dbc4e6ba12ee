"""Independent gates: the posterior of L0-HC (Louizos et al. 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..support import checks
from .hard_concrete import HardConcrete
from .posterior import BOUND, INITS, START, GatePosterior


class MeanField(GatePosterior):
    """Independent gates, one free parameter theta for each (Louizos et al. 2018).

    log_alpha = BOUND tanh(theta / BOUND), which is close to theta near zero. The bound is that of
    `Dependency`, so that both families can reach the same P(open), from 0.05 to 0.998.

    Args:
        sizes, hard_concrete, may_close, test_rule: as in `GatePosterior`.
        init: "equal": every log_alpha is START. "paper": START plus noise with standard deviation 0.01.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        hard_concrete: HardConcrete | None = None,
        init: str = "equal",
        may_close: Sequence[bool] | None = None,
        test_rule: str | None = None,
    ) -> None:
        super().__init__(sizes, hard_concrete, may_close, test_rule)
        noise = 0.01 if checks.one_of("init", init, INITS) == "paper" else 0.0
        log_alpha = START + noise * torch.randn(sum(self.sizes))
        self.theta = nn.Parameter(BOUND * torch.atanh(log_alpha / BOUND))

    def flat_log_alpha(self) -> Tensor:
        return BOUND * torch.tanh(self.theta / BOUND)
