"""The time that networks need for a forward pass, measured side by side."""

import statistics
import time
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from ..support import checked, checks
from ..support.modes import eval_mode


@checked
@torch.inference_mode()
def latency(
    networks: Mapping[str, nn.Module],
    example: Tensor,
    batch_sizes: Sequence[int] = (1, 64),
    repeats: int = 30,
) -> pd.DataFrame:
    """Median milliseconds of a forward pass in eval mode, on the device where the networks are.

    The networks take turns, so that other work on the machine slows all of them down equally.

    Args:
        networks: name -> network; each keeps its mode (train or eval).
        example: a batch of inputs, repeated to the batch sizes.
        repeats: timed passes of each network, after three that are not counted.

    Returns:
        A row per network and batch size: network, batch, ms, low, high (quartiles).

    Raises:
        ValueError: a batch size or `repeats` that is not a positive whole number.
    """
    checks.whole("repeats", repeats, 1)
    checks.filled("networks", networks)
    if not example.dim():
        raise ValueError("example must be a batch of inputs, got a single number.")
    device = next(next(iter(networks.values())).parameters()).device
    rows = []
    for batch in batch_sizes:
        copies = -(-checks.whole("batch size", batch, 1) // len(example))
        x = torch.cat([example] * copies)[:batch].to(device)
        with eval_mode(*networks.values()):
            turns = [[_milliseconds(net, x) for net in networks.values()] for _ in range(repeats + 3)]
        times = zip(networks, zip(*turns[3:], strict=True), strict=True)
        rows += [{"network": name, "batch": batch, **_quartiles(ms)} for name, ms in times]
    return pd.DataFrame(rows)


def _milliseconds(net: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    net(x)
    if x.device.type != "cpu":
        getattr(torch, x.device.type).synchronize()
    return 1e3 * (time.perf_counter() - start)


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else 3 * [*values]
    return {"ms": middle, "low": low, "high": high}
