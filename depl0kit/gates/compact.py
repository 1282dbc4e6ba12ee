"""From a gated network to a plain, physically smaller one that computes the same function."""

import torch
from torch import nn

from ..channels.admission import unwrapped
from .gated import GatedModel


def compact(net: GatedModel, round_to: int = 1) -> nn.Module:
    """Fold the test-time gates into the weights and remove every closed channel: `Channels.remove`.

    Args:
        round_to: as in `Channels.remove`.

    Returns:
        A copy of `net.model` without gates, hooks or anything else of this package, in eval mode.
        Its outputs equal those of `net.eval()` up to rounding, its cost is `net.exact_cost()`.

    Raises:
        ValueError: `net` has no gates, or `round_to` is not a positive whole number.
    """
    net = unwrapped(net)
    if not isinstance(net, GatedModel):
        raise ValueError(
            f"compact removes the channels that gates closed, and {type(net).__name__} has no gates: pass a "
            "GatedModel(model, example=images)."
        )
    with torch.no_grad():
        gates = net.posterior.deterministic()
    return net.channels.remove(gates, round_to)
