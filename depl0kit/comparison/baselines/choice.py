"""From scores of channels to the best ones that fit into a share of the MACs, and to the small network."""

from bisect import bisect_right

import torch
from torch import Tensor, nn

from ...channels.admission import copied, unwrapped
from ...channels.channels import Channels
from ...data.loading import Data
from ...support import checks
from ...support.device import values_of


def structure(model: nn.Module, data: Data, keep: float) -> Channels:
    """The channels of a copy of `model`; `keep` is checked."""
    checks.share("keep", keep)
    model = copied(unwrapped(model))
    channels = Channels(model, data.example.to(next(model.parameters()).device))
    channels.require_gated()
    return channels


def in_proportion(scores: list[Tensor]) -> list[Tensor]:
    """Scores by which one threshold leaves every group the same share of its channels.

    The order within a group stays. The n-th best of C channels gets -(n - 1/2) / C, so that the numbers
    are the share times C, rounded.
    """
    ranks = [score.argsort(descending=True, stable=True).argsort() for score in scores]
    return [-(rank + 0.5) / len(rank) for rank in ranks]


def best_channels(channels: Channels, scores: list[Tensor], keep: float) -> list[Tensor]:
    """Masks (0 or 1, per gated group [channels]) of the channels that stay: those above one threshold.

    The threshold is as low as `keep`, the share of the dense MACs, allows. The best channel of every
    group stays in any case, and so do those with an infinite score.
    """
    scores = [values_of(score) for score in scores]
    scores = [score.index_fill(0, score.argmax(), torch.inf) for score in scores]
    flat, sizes = torch.cat(scores), [len(score) for score in scores]
    order = flat.argsort(descending=True, stable=True)
    group_of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[order]

    def kept_macs(number: int) -> float:
        counts = group_of[:number].bincount(minlength=len(sizes))
        return channels.cost(counts.tolist()).macs / channels.dense_cost.macs

    least = int(flat.isinf().sum())
    fit = bisect_right(range(least, len(flat) + 1), keep, key=kept_macs)
    if not fit:
        raise ValueError(
            f"keep={keep:g} cannot be reached: of this network's MACs at least {kept_macs(least):.2g} stay, "
            "as every group keeps a channel."
        )
    mask = torch.zeros(len(flat)).index_fill(0, order[: least + fit - 1], 1.0)
    return list(mask.split(sizes))
