"""The distribution of one gate.

A hard-concrete gate (Louizos, Welling & Kingma 2018, "Learning Sparse Neural Networks through L0
Regularization", eq. 10-12) is a continuous random number that is clamped: it is exactly 0 or exactly 1 with
positive probability, so it can switch a channel off *and* pass a gradient:

    s = sigmoid((log u - log(1 - u) + log_alpha) / temperature)      u ~ Uniform(0, 1)
    z = clamp(s (zeta - gamma) + gamma, 0, 1)                        gamma < 0, zeta > 1

Everything here is a pure, element-wise function of `log_alpha`, of any shape.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..support import checks
from ..support.arguments import fit_fields

TEST_RULES = ("paper", "median")  # of one gate; `GatePosterior.test_rule` has one more, over a group of gates
# Of Gauss-Legendre quadrature. Error of E[z | z > 0]: below 1e-8 at the papers' stretch and temperatures up
# to 2; 4e-4 at most if gamma = 0 or zeta = 1, where the integrand is steep at that end.
POINTS = 16


@dataclass(frozen=True)
class HardConcrete:
    """Hard-concrete distribution of a gate z in [0, 1], a function of its location `log_alpha`.

    Args:
        temperature: beta > 0. Small: most samples are nearly 0 or 1, and gradients are noisy. Large: most
            samples lie in between, and few are exactly 0. Both papers use 2/3.
        stretch: (gamma, zeta), gamma <= 0 and zeta >= 1. The concrete variable s is stretched to this
            range and then clamped to [0, 1]; the parts outside become the two spikes. With gamma = 0 or
            zeta = 1 there is no spike on that side.
        test_rule: the gate at test time. "paper": sigmoid(log_alpha), stretched and clamped, as in both
            papers. "median": sigmoid(log_alpha / temperature), stretched and clamped, which is the median
            of z. At temperature 2/3 a gate is open from P(open) = 0.31 by the paper's rule, and from 0.5
            by the median rule.

    Raises:
        ValueError: temperature <= 0, `stretch` does not include [0, 1], or an unknown rule.

    Example:
        >>> hc = HardConcrete()
        >>> round(float(hc.prob_open(torch.tensor(0.0))), 3)
        0.832
    """

    temperature: float = 2 / 3
    stretch: tuple[float, float] = (-0.1, 1.1)
    test_rule: str = "paper"

    def __post_init__(self) -> None:
        checks.number("temperature", self.temperature, 0, open_low=True)
        try:
            gamma, zeta = (checks.number("every entry of stretch", end) for end in self.stretch)
        except (TypeError, ValueError):  # not two finite numbers
            gamma = zeta = math.nan
        if not (gamma <= 0 and zeta >= 1):
            raise ValueError(
                f"stretch must include [0, 1]: (gamma <= 0, zeta >= 1), got {checks.shown(self.stretch)}; "
                "the papers use (-0.1, 1.1)."
            )
        fit_fields(self)
        checks.one_of("test_rule", self.test_rule, TEST_RULES)

    def sample(self, log_alpha: Tensor, noise: Tensor | None = None) -> Tensor:
        """Draw z, differentiable in `log_alpha` (eq. 10-11).

        Args:
            log_alpha: any shape. Half precision is computed in float32; the result has its dtype.
            noise: uniform random numbers in [0, 1] that broadcast with `log_alpha`; drawn if None.

        Returns:
            z in [0, 1], of the broadcast shape. The gradient is exactly 0 where z is clamped.
        """
        half = log_alpha.dtype in (torch.float16, torch.bfloat16)
        location = log_alpha.float() if half else log_alpha
        u = torch.rand_like(location) if noise is None else noise.to(location.dtype)
        logistic = torch.logit(u, eps=torch.finfo(location.dtype).eps)  # u = 0 or 1 stays finite
        s = torch.sigmoid((logistic + location) / self.temperature)
        return self._stretch_and_clamp(s).to(log_alpha.dtype)

    def prob_open(self, log_alpha: Tensor) -> Tensor:
        """P(z > 0) = sigmoid(log_alpha - temperature log(-gamma / zeta)), eq. 12."""
        return torch.sigmoid(log_alpha - self._spike)

    def cdf(self, z: Tensor | float, log_alpha: Tensor) -> Tensor:
        """P(gate <= z). It jumps from 0 to P(gate = 0) at z = 0, and to 1 at z = 1."""
        z = torch.as_tensor(z, dtype=log_alpha.dtype, device=log_alpha.device)
        inside = torch.sigmoid(self.temperature * torch.logit(self._unstretch(z)) - log_alpha)
        return torch.where(z < 0, 0.0, torch.where(z >= 1, 1.0, inside))

    def density(self, z: Tensor | float, log_alpha: Tensor) -> Tensor:
        """Density of the continuous part, for 0 < z < 1; zero elsewhere.

        Its integral is 1 - P(gate = 0) - P(gate = 1): the two spikes have no density.
        """
        gamma, zeta = self.stretch
        z = torch.as_tensor(z, dtype=log_alpha.dtype, device=log_alpha.device)
        between = (z > 0) & (z < 1)
        s = self._unstretch(torch.where(between, z, 0.5))  # 0.5: any inner point, masked out below
        q = torch.sigmoid(self.temperature * torch.logit(s) - log_alpha)
        slope = self.temperature * q * (1 - q) / (s * (1 - s) * (zeta - gamma))
        return torch.where(between, slope, 0.0)

    def deterministic(self, log_alpha: Tensor) -> Tensor:
        """The gate used at test time, in [0, 1], by `test_rule`. A channel is *open* where it is > 0."""
        scale = self.temperature if self.test_rule == "median" else 1.0
        return self._stretch_and_clamp(torch.sigmoid(log_alpha / scale))

    def mean_if_open(self, log_alpha: Tensor) -> Tensor:
        """E[z | z > 0], in (0, 1]: how far open a gate is on average, when it is open.

        The mean of a positive number is the integral of its tail: E[z | z > 0] is the integral of
        P(z > t) / P(z > 0) over t in [0, 1]. P(z > t) is elementary and smooth, its integral is not, so this
        takes a quadrature with POINTS fixed points.

        Example:
            >>> round(float(HardConcrete().mean_if_open(torch.tensor(-4.0))), 3)
            0.319
        """
        points, weights = np.polynomial.legendre.leggauss(POINTS)
        log_open = F.logsigmoid(log_alpha - self._spike)
        mean = torch.zeros_like(log_alpha)
        for point, weight in zip(points.tolist(), weights.tolist(), strict=True):
            s = ((point + 1) / 2 - self.stretch[0]) / (self.stretch[1] - self.stretch[0])
            tail = F.logsigmoid(log_alpha - self.temperature * math.log(s / (1 - s)))
            mean = mean + weight / 2 * torch.exp(tail - log_open)  # by logarithms: both may be tiny
        return mean

    @property
    def open_threshold(self) -> float:
        """log_alpha above which a gate is open at test time: -2.4 for the papers' rule and stretch."""
        gamma, zeta = self.stretch
        scale = self.temperature if self.test_rule == "median" else 1.0
        return scale * math.log(-gamma / zeta) if gamma < 0 else -math.inf

    @property
    def _spike(self) -> float:
        """log_alpha at which P(z > 0) is a half."""
        gamma, zeta = self.stretch
        return self.temperature * math.log(-gamma / zeta) if gamma < 0 else -math.inf

    def _stretch_and_clamp(self, s: Tensor) -> Tensor:
        gamma, zeta = self.stretch
        return torch.clamp(s * (zeta - gamma) + gamma, 0, 1)

    def _unstretch(self, z: Tensor) -> Tensor:
        gamma, zeta = self.stretch
        return (torch.clamp(z, 0, 1) - gamma) / (zeta - gamma)
