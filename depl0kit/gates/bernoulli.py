"""Gates that are exactly 0 or 1, and the gradient that ARM estimates for them (Li & Ji 2019)."""

import torch
from torch import Tensor

from .hard_concrete import HardConcrete
from .mean_field import MeanField

PAPERS = HardConcrete(test_rule="median")  # its gate is open at test time where P(open) > 1/2


def arm_gradients(noise: Tensor, losses: Tensor, opposite: Tensor) -> Tensor:
    """What each example says on the gradient of the expected loss in the gates' logits, [batch, N].

    Args:
        noise: u of the gates, [batch, N], or [N] if all examples share it.
        losses: f(z of u) of each example, [batch].
        opposite: f(z of 1 - u) of each example, [batch].
    """
    return (opposite - losses)[:, None] * (noise - 0.5)


class Bernoulli(MeanField):
    """Independent gates z ~ Bernoulli(p), exactly 0 or 1: the posterior of L0-ARM (Li & Ji 2019).

    A draw is z = [u < p] with u uniform in (0, 1). It has no gradient, so training estimates one by *augment,
    reinforce, merge* (Yin & Zhou 2019). It runs the network a second time, with the opposite noise 1 - u:

        dE[f] / d logit p = E[(f(z of 1 - u) - f(z of u)) (u - 1/2)]

    f is the loss of an example. Where batch norm couples the examples of a batch, f depends on the gates of
    the others as well, and the estimate is unbiased only if all examples share their gates.

    P(open) = p is that of a hard-concrete gate with the same log_alpha, at the papers' temperature and
    stretch; so both have the same start and the same range. The paper has p = sigmoid(k phi) with k = 7 and
    without a bound; here log_alpha plus a constant stands for k phi, as k only multiplies the rate of Adam.

    At test time a gate is 1 where p > 1/2, else 0, by the rules "paper" and "median" alike; by "expected" the
    likeliest gates of a group are 1, as in `GatePosterior`. The channel that a group always keeps has gate 1.

    Args:
        sizes, init, may_close, test_rule: as in `MeanField`.
        hard_concrete: without effect, as gates of 0 and 1 have no temperature; all posteriors take one.

    Example:
        >>> Bernoulli([3, 2]).flat_deterministic()
        tensor([1., 1., 1., 1., 1.])
    """

    antithetic = True

    def default_lr(self, budget: float | None = None, steps: int | None = None) -> float:
        """Adam learning rate of the gates, with a budget and without, in a run of any length."""
        # On digits ("small", 15 epochs, budget 0.15, seeds 1 and 2): at 0.1 three quarters of the gates stay
        # undecided and 3 points of validation accuracy are lost; at 0.6 and more the noise of the estimate
        # drives gates to their bounds before the price counts, and 0.18 or more of the MACs are kept.
        return 0.3

    def flat_sample(self, batch: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        """Gates drawn from q, shape [N] or [batch, N], without a gradient; see `arm_term`."""
        return self.draw(self.noise(batch, rng))[0]

    def flat_prob_open(self) -> Tensor:
        return PAPERS.prob_open(self.flat_log_alpha())

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        prob_open = self.flat_prob_open()
        return (noise < prob_open).to(prob_open.dtype), prob_open[None]

    def flat_deterministic(self) -> Tensor:
        gates = super().flat_deterministic()
        return (gates > 0).to(gates.dtype)

    def arm_term(self, noise: Tensor, losses: Tensor, opposite: Tensor) -> Tensor:
        """What is added to the mean of `losses` for the gates' sake: 0, with the gradient of ARM.

        Args:
            noise: of the gates, [N] or [batch, N].
            losses: of each example under the gates of `noise`, [batch].
            opposite: of each example under those of 1 - noise, [batch].

        Example:
            A step of one's own loop, for images x with labels y:

                noise = net.posterior.noise(len(x))
                logits, prob_open = net.forward_with_prob_open(x, noise)
                losses = F.cross_entropy(logits, y, reduction="none")
                opposite = F.cross_entropy(net.forward_opposite(x, noise), y, reduction="none")
                loss = losses.mean() + net.posterior.arm_term(noise, losses, opposite)
                (loss + lam * net.expected_share("macs", prob_open)).backward()
        """
        gradient = arm_gradients(noise, losses, opposite).mean(0).detach()
        term = (gradient * self.flat_log_alpha()).sum()
        return term - term.detach()

    def extra_repr(self) -> str:
        return f"sizes={list(self.sizes)}"

    def _test_gate(self, log_alpha: Tensor) -> Tensor:
        return PAPERS.deterministic(log_alpha)
