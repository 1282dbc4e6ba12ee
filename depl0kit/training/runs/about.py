"""What a run is, in plain values: the network, the data, the settings, the machine."""

import platform
import socket
import sys
import time
from dataclasses import asdict
from typing import Any

import torch

from ...data.loading import Data
from ...gates.gated import GatedModel
from ...support.versions import version, versions
from .. import distributed
from ..config import TrainConfig


def about(net: GatedModel, data: Data, config: TrainConfig) -> dict[str, Any]:
    """What is trained, on what, and how, as plain values: config.json."""
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    # with numbers for warmup and ramp: later versions may have other defaults
    numbers = {"warmup": config.warmup_epochs, "ramp": config.ramp_epochs}
    return {
        "version": version(),
        "net": net.describe(),
        "data": {"name": data.name, "classes": data.num_classes, **sizes},
        "train": asdict(config) | numbers,
    }


def environment(device: torch.device) -> dict[str, Any]:
    """This session of training: where, with what, by which command."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": distributed.ranks().world,
        **versions(device),
    }
