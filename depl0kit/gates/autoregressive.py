"""Autoregressive gates, which are dependent even at fixed parameters: the generator reads sampled gates."""

import torch
from torch import Tensor

from .dependency import Dependency

CHAINS = 64  # sampled chains for P(open) and the expected cost


class Autoregressive(Dependency):
    """Gates of each group given the *sampled gates* of the group before.

    The recurrence of `Dependency` with h_l = z_l, the gates drawn for group l (at test time: its test-time
    gates). So gates of different groups are dependent even at fixed W and b.

    `log_alpha()` and `deterministic()` belong to the chain of test-time gates. `prob_open()` is the mean
    over CHAINS sampled chains with fixed noise; by it, not by the test-time chain, the test rule "expected"
    chooses and counts the gates that stay open.

    Args:
        sizes, direction, hard_concrete, may_close, test_rule: as in `Dependency`.
        init: "equal" also sets W to 0 in all but the first layer, as its input is random.
    """

    _input_size = 1.0
    _noise: Tensor | None = None  # that of `_fixed_noise`, where it was used last

    def flat_log_alpha(self) -> Tensor:
        return self._chain(self._test_gates())[0]

    def flat_sample(self, batch: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        return self._sampled(self.noise(batch, rng))

    def flat_prob_open(self) -> Tensor:
        return self.hard_concrete.prob_open(self._sampled_chains(self._fixed_noise())[0]).mean(0)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self._sampled(noise), self.prob_open_draws()

    def prob_open_draws(self) -> Tensor:
        """The gates of each of CHAINS sampled chains: 1 where open, else 0; shape [CHAINS, N].

        Dependent gates are multiplied as they were drawn, so the mean cost is unbiased, except that the
        noise is fixed. The gradient is that of P(open) given the chain so far ("straight through").
        """
        log_alpha, gates = self._sampled_chains(self._fixed_noise())
        prob = self.hard_concrete.prob_open(log_alpha)
        return prob + ((gates > 0).to(prob.dtype) - prob).detach()

    def _sampled(self, noise: Tensor) -> Tensor:
        """Gates drawn with `noise`, [N] or [batch, N], as is the result."""
        return self._sampled_chains(noise.reshape(-1, noise.shape[-1]))[1].reshape(noise.shape)

    def _sampled_chains(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """log_alpha and gates of the chains with noise [S, N], each [S, N]."""
        uniforms = noise.split(self.sizes, dim=-1)
        return self._chain(
            lambda log_alpha, group: self.hard_concrete.sample(log_alpha, uniforms[group]), (len(noise),)
        )

    def _fixed_noise(self) -> Tensor:
        """The same uniform random numbers [CHAINS, N] at every call; torch's random state does not change.

        They come from the CPU, so that they are the same on every device. They are kept there: a GPU would
        wait for them in every step.
        """
        kept, like = self._noise, self._weight
        if kept is None or (kept.device, kept.dtype) != (like.device, like.dtype):
            rng = torch.Generator().manual_seed(0)
            self._noise = kept = torch.rand(CHAINS, sum(self.sizes), generator=rng).to(like)
        return kept

    @torch.no_grad()
    def _start_equal(self) -> None:
        for linear in self.generator[1:]:
            linear.weight.zero_()
        super()._start_equal()
