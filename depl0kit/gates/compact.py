"""From a gated network to a plain, physically smaller one that computes the same function."""

import torch
from torch import nn

from ..channels.admission import unwrapped
from ..channels.removal import remove_channels
from ..support import checks
from .gated import GatedModel


def compact(net: GatedModel, round_to: int = 1) -> nn.Module:
    """Fold the test-time gates into the weights and remove every closed channel.

    Of a residual branch whose channels are all closed, pooling and padding are left in the place of its
    convolutions: they keep the shapes, and the branch adds a constant at no MACs.

    Args:
        round_to: keep so many closed channels that every group's number is a multiple of this (or all
            of its channels). 8 suits the matrix units of GPUs. The channels that are kept for it are
            read with weight 0, so the outputs stay what they are; only the cost is higher.

    Returns:
        A copy of `net.model` without gates, hooks or anything else of this package, in eval mode.
        Its outputs equal those of `net.eval()` up to rounding, its cost is `net.exact_cost()`.

    Raises:
        ValueError: `net` has no gates, or `round_to` is not a positive whole number.
    """
    checks.whole("round_to", round_to, 1)
    net = unwrapped(net)
    if not hasattr(net, "plain_copy"):
        raise ValueError(
            f"compact removes the channels that gates closed, and {type(net).__name__} has no gates: pass a "
            "GatedModel(model, example=images)."
        )
    model = net.plain_copy().eval()
    with torch.no_grad():
        gates = net.posterior.deterministic()
    remove_channels(model, net.groups.gated, gates, round_to)
    return model
