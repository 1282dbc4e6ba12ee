"""The network of a run that trains elsewhere, from what the run's folder says about it."""

from collections.abc import Mapping
from typing import Any

import torch

from ..channels import Channels
from ..networks import make_model


def channels_of(net: Mapping[str, Any]) -> Channels | None:
    """`Channels` of a network like the one described, or None where the description is not enough.

    All weights are 0: the run may train in this process, and drawing weights would take its random numbers.

    Args:
        net: as `GatedModel.describe` returns it.
    """
    if net["made_by"] is None:
        return None
    try:
        with torch.device("meta"):
            model = make_model(**net["made_by"])
        model.to_empty(device="cpu")
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.detach().zero_()
        channels = Channels(model, torch.zeros(1, *net["example"]), net["scope"])
    except Exception:  # of any kind, after somebody edited the file
        return None
    same = [[g.name, g.channels] for g in channels.groups.gated] == net["groups"]
    return channels if same else None
