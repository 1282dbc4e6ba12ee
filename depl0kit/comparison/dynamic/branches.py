"""Branches: small networks that choose the channels of a group for each image.

A branch reads the pooled inputs of the layer that writes the group, [batch, inputs], and gives each channel a
saliency. Channels that it closes have gate 0, the others their saliency.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1e-6  # gate of an open channel: what counts as open, and costs MACs, is then above 0
MOST = 1000.0  # saliencies of ManiDP have no other bound
FOLLOW = 0.1  # share of a batch in the running threshold, as in batch norms


class Branch(nn.Module):
    """From pooled inputs to saliencies and gates.

    Attributes:
        share: of the channels that are open, in (0, 1]; training brings it down.
        follow: share of a batch in the running threshold, where there is one.
    """

    share: float = 1.0
    follow: float = FOLLOW

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Saliencies and gates, [batch, channels] each; at least one channel of an image is open."""
        scores = self.scores(pooled).float()  # under autocast too: ranks need all their digits
        saliency = scores.clamp(LEAST, MOST)
        return saliency, saliency * self.chosen(scores)

    def scores(self, pooled: Tensor) -> Tensor:
        """Saliencies before they are cut off at zero."""
        raise NotImplementedError

    def chosen(self, scores: Tensor) -> Tensor:
        """1 for the channels that are open, else 0."""
        raise NotImplementedError

    @property
    def macs(self) -> int:
        """Multiply-accumulates for an image: every weight is used once."""
        return sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))


class TopChannels(Branch):
    """The branch of FBS: a linear map, and the same number of open channels in every image."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.linear = _to_ones(nn.Linear(inputs, channels))

    @property
    def number(self) -> int:
        """Open channels of every image."""
        return max(1, round(self.share * self.linear.out_features))

    def scores(self, pooled: Tensor) -> Tensor:
        return self.linear(pooled)

    def chosen(self, scores: Tensor) -> Tensor:
        return torch.zeros_like(scores).scatter(1, scores.topk(self.number, 1).indices, 1.0)


class AboveThreshold(Branch):
    """The branch of ManiDP: a squeeze MLP, and one threshold for all images, which may differ in number.

    In training mode the threshold follows the scores of the batches, so that `share` of them all lie above
    it. (ManiDP takes the k-th largest mean of a channel; the share that is open then differs from its
    target.) The best channel of an image is open in any case.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        hidden = channels if channels < 80 else channels // 2
        self.squeeze = nn.Linear(inputs, hidden, bias=False)
        self.linear = _to_ones(nn.Linear(hidden, channels))
        self.register_buffer("threshold", torch.zeros(()))

    def scores(self, pooled: Tensor) -> Tensor:
        return self.linear(self.squeeze(pooled).relu())

    def chosen(self, scores: Tensor) -> Tensor:
        if self.training:
            self.threshold.lerp_(_lowest_kept(scores.detach(), self.share), self.follow)
        best = F.one_hot(scores.argmax(1), scores.shape[1])
        return ((scores >= self.threshold) | (best > 0)).to(scores.dtype)


@contextmanager
def following(branches: Iterable[Branch]) -> Iterator[None]:
    """In this context thresholds become those of each batch alone, also in eval mode."""
    modes = [(branch, branch.training) for branch in branches]
    try:
        for branch, _ in modes:
            branch.training, branch.follow = True, 1.0
        yield
    finally:
        for branch, training in modes:
            branch.training, branch.follow = training, FOLLOW


def _to_ones(linear: nn.Linear) -> nn.Linear:
    """Saliencies begin around 1: no channel is shut from the start."""
    nn.init.ones_(linear.bias)
    return linear


def _lowest_kept(scores: Tensor, share: float) -> Tensor:
    """The score of the last one if `share` of all scores are kept, from the highest on."""
    kept = min(max(1, round(share * scores.numel())), scores.numel())
    return scores.flatten().kthvalue(scores.numel() - kept + 1).values


BRANCHES: dict[str, type[Branch]] = {"fbs": TopChannels, "manidp": AboveThreshold}
