"""From scores of channels to the best ones that fit into a share of the MACs, and to the small network."""

from bisect import bisect_right

import torch
from torch import Tensor, nn

from ...channels.removal import remove_channels
from ...data.loading import Data
from ...gates.gated import GatedModel
from ...support import checks


def structure(model: nn.Module, data: Data, keep: float) -> GatedModel:
    """A copy of `model` with its groups of channels and what they cost; `keep` is checked.

    The gates play no part in the baselines, but what is gated is what may be removed.
    """
    checks.share("keep", keep)
    return GatedModel(model, example=data.example.to(next(model.parameters()).device))


def in_proportion(scores: list[Tensor]) -> list[Tensor]:
    """Scores by which one threshold leaves every group the same share of its channels.

    The order within a group stays. The n-th best of C channels gets -(n - 1/2) / C, so that the numbers
    are the share times C, rounded.
    """
    ranks = [score.argsort(descending=True, stable=True).argsort() for score in scores]
    return [-(rank + 0.5) / len(rank) for rank in ranks]


def best_channels(net: GatedModel, scores: list[Tensor], keep: float) -> list[Tensor]:
    """Masks (0 or 1, per gated group [channels]) of the channels that stay: those above one threshold.

    The threshold is as low as `keep`, the share of the dense MACs, allows. The best channel of every
    group stays in any case, and so do those with an infinite score.

    Raises:
        ValueError: that alone costs more than `keep`.
    """
    scores = [score.cpu().index_fill(0, score.cpu().argmax(), torch.inf) for score in scores]
    flat, sizes = torch.cat(scores), [len(score) for score in scores]
    order = flat.argsort(descending=True, stable=True)
    group_of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[order]

    def kept_macs(channels: int) -> float:
        counts = group_of[:channels].bincount(minlength=len(sizes))
        return net.cost_model.exact(counts.tolist()).macs / net.dense_cost.macs

    least = int(flat.isinf().sum())
    fit = bisect_right(range(least, len(flat) + 1), keep, key=kept_macs)
    if not fit:
        raise ValueError(
            f"keep={keep:g} cannot be reached: of this network's MACs at least {kept_macs(least):.2g} stay, "
            "as every group keeps a channel."
        )
    mask = torch.zeros(len(flat)).index_fill(0, order[: least + fit - 1], 1.0)
    return list(mask.split(sizes))


def cut(net: GatedModel, masks: list[Tensor]) -> nn.Module:
    """The plain network of the channels that stay, in eval mode."""
    model = net.plain_copy().eval()
    remove_channels(model, net.groups.gated, masks)
    return model
