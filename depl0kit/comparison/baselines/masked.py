"""Training in which channels close and come back: what `grow_prune` and `chex` share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...channels.channels import Channels
from ...channels.masks import place_gates
from ...data.loading import Data
from ...support import checks
from ...training.config import TrainConfig
from ...training.loop import steps_per_epoch
from .choice import best_channels
from .entries import Entries
from .scores import l1_norms
from .whole import train_weights

GROWING = 0.7  # share of the steps in which channels come back; CHEX has 180 of 250 epochs


class Masked:
    """Channels of a network in training that gates of 0 and 1 close and open again.

    What belongs to a closed channel (filters, norms with their statistics, the weights that read it) stays as
    it was when it closed: its gradient is 0, and `hold` undoes what weight decay and momentum did.

    Args:
        channels: gates are placed in their network.
        regrow: with which weights channels come back: "last", those that they had, or "zero", the same, but
            weights 0 where they are read. With zeros on both sides no channel would have a gradient.

    Attributes:
        masks: 0 or 1, per gated group [channels], on the CPU.
    """

    def __init__(self, channels: Channels, regrow: str = "last") -> None:
        self.regrow = checks.one_of("regrow", regrow, ("last", "zero"))
        self.masks = [torch.ones(size) for size in channels.sizes]
        self._gates = place_gates(channels.model, channels.groups.gated)
        self._all, self._reading = Entries(channels, buffers=True), Entries(channels, written=False)

    @torch.no_grad()
    def set(self, masks: Sequence[Tensor]) -> None:
        """Close and open channels between two steps."""
        if self.regrow == "zero":
            stay = [1 - (new > old).float() for new, old in zip(masks, self.masks, strict=True)]
            torch._foreach_mul_(self._reading.tensors, self._reading.open(stay))
        self.masks = list(masks)
        device = self._all.tensors[0].device
        for gate in self._gates:
            gate.set([mask.to(device) for mask in masks])
        self._open = self._all.open(masks)
        self._kept = [t * (1 - is_open) for t, is_open in zip(self._all.tensors, self._open, strict=True)]

    @torch.no_grad()
    def hold(self, optimiser: Optimizer) -> None:
        """After a step: what is closed gets the values back that it had, and momentum 0.

        Else channels would come back with the momentum of the steps before they closed.
        """
        torch._foreach_mul_(self._all.tensors, self._open)
        torch._foreach_add_(self._all.tensors, self._kept)
        pairs = zip(self._all.tensors, self._open, strict=True)
        momenta = [(optimiser.state.get(tensor, {}).get("momentum_buffer"), o) for tensor, o in pairs]
        if momenta := [(momentum, is_open) for momentum, is_open in momenta if momentum is not None]:
            torch._foreach_mul_(*zip(*momenta, strict=True))


def grow_and_prune(
    channels: Channels,
    data: Data,
    keep: float,
    config: TrainConfig,
    phases: int,
    grow: Callable[[list[Tensor], int], list[Tensor]],
    regrow: str = "last",
    on_phase: Callable[[list[Tensor]], object] | None = None,
) -> nn.Module:
    """Train with the best channels open, and others in turn; cut.

    Args:
        phases: of equal length, in the first GROWING of all steps. In the rest the masks stay.
        grow: the masks of a phase, from those of the best channels and the phase's number, counted from 0.
        regrow: see `Masked`.
        on_phase: called at the start of each phase, and of the rest, with the masks (0 or 1, per gated group
            [channels], on the CPU): `on_phase=lives.append` collects them.
    """
    growing = GROWING * config.epochs * steps_per_epoch(data, config)
    masked = Masked(channels, regrow)

    def begin(phase: int) -> None:
        best = best_channels(channels, l1_norms(channels), keep)
        masked.set(grow(best, phase) if phase < phases else best)
        if on_phase is not None:
            on_phase(masked.masks)

    def phase_at(step: int) -> int:
        return min(phases, int(step * phases / growing))

    def after_step(step: int, optimiser: Optimizer) -> None:
        masked.hold(optimiser)
        if phase_at(step) > phase_at(step - 1):
            begin(phase_at(step))

    begin(0)
    train_weights(channels.model, data, config, after_step=after_step)
    return channels.remove(masked.masks)
