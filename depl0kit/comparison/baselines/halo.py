"""HALO (Seto et al. 2021, "Learning to prune neural networks with shrinkage"), for channels."""

from typing import Any

import torch
from torch import Tensor, nn

from ...channels.channels import Channels
from ...data.loading import Data
from ...support import checks
from ...support.device import values_of
from ...training.config import TrainConfig
from .folding import FoldedNorms
from .pruning import prune
from .scores import relative

# xi psi^2 says how hard the norms are pulled, and xi / psi how large lambda is: here 0.1 at n = 1, so that
# it follows the norms within some steps. With lambda so, psi from 7e-4 to 0.02 changes little on digits
# ("small", 15 epochs, 20 % of MACs, two seeds, validation, after fine-tuning: .967 to .980; "l1_global"
# .977), 0.067 gives .986 (three seeds) and 0.2 harms (.915). On Fashion-MNIST (1200 images, 6 epochs, one
# seed, 30 %) 0.067 gave .65, 0.2 .69 and "l1_global" .67: too close to tell.
XI, PSI = 3.3e-5, 0.067
FLOOR = 1e-3  # of lambda: the gradient grows with 1 / lambda^2, and near 0 it would destroy the weights


def halo(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, xi: float = XI, psi: float = PSI
) -> nn.Module:
    """The channels with the largest norm, relative to the mean of their group, by one threshold, after a run
    that shrinks each channel by a factor of its own, which is learnt too (see `Shrinkage`).

    Args:
        xi, psi: strengths of the penalty, > 0.
    """
    for name, value in (("xi", xi), ("psi", psi)):
        checks.number(name, value, 0, open_low=True)
    return prune(
        model, data, keep, config, relative_norms, lambda channels: Shrinkage(channels, xi, psi).hooks()
    )


def closed_form(n: Tensor, xi: float, psi: float) -> Tensor:
    """The lambda >= 0 at which xi |n| / lambda^2 + psi lambda is least: (2 xi |n| / psi)^(1/3).

    What is left is 1.5 (2 xi psi^2 |n|)^(1/3). A penalty of this power shrinks small norms hard, and large
    ones barely.
    """
    return (2 * xi * n.abs() / psi) ** (1 / 3)


class Shrinkage:
    """The penalty: the sum over channels of xi n / lambda^2 + psi |lambda|, with a trained lambda for each.

    The paper has a lambda per weight, and |w| for n. Here n is that of `FoldedNorms`: where a batch norm
    follows, to shrink a filter would change nothing but its learning rate.

    Attributes:
        lambdas: parameter [channels of all gated groups]. They begin in `closed_form`: short runs would end
            before they come there from 1, where the paper's begin.
    """

    def __init__(self, channels: Channels, xi: float, psi: float) -> None:
        self.xi, self.psi = xi, psi
        self.norms = FoldedNorms(channels)
        self.lambdas = nn.Parameter(closed_form(torch.cat(self.norms()).detach(), xi, psi).clamp(min=FLOOR))

    def penalty(self, _: nn.Module) -> Tensor:
        norms = torch.cat(self.norms())
        return (self.xi * norms / self.lambdas.square() + self.psi * self.lambdas.abs()).sum()

    @torch.no_grad()
    def clamp(self, *_: object) -> None:
        """Keep every lambda at `FLOOR` or above."""
        self.lambdas.clamp_(min=FLOOR)

    def hooks(self) -> dict[str, Any]:
        """Arguments of `train_weights`."""
        return {"penalty": self.penalty, "after_step": self.clamp, "extra": [self.lambdas]}


def relative_norms(channels: Channels) -> list[Tensor]:
    """The norm of each channel, over the mean of its group."""
    return [relative(values_of(norms)) for norms in FoldedNorms(channels)()]
