"""Several processes that train one network, as `torchrun` starts them; in a single process nothing happens.

Which process this is comes from torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK). All processes
see the same data order and noise and take each their own part of every batch, so that together they compute
what one process would (batch-norm statistics apart, which are those of each part).
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# Its functions keep the process group that stands when it is first imported, as the value of an argument.
# That group then lives until Python ends, and a thread of it that still drops a tensor aborts the process.
# So it is imported here, before any group stands; an optimiser would import it during a run.
import torch.distributed.nn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..support.device import best_device
from ..support.files import different_field

# A process that waits so long for the others will wait forever: one of them is gone.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is; rank 0 writes the files and prints."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def slice(self, whole: int) -> slice:
        """This process's part of `whole` rows."""
        return slice(self.rank * whole // self.world, (self.rank + 1) * whole // self.world)


def ranks() -> Ranks:
    """Those of the process group, or of a single process."""
    return Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()


@contextmanager
def joined(device: str | torch.device | None = None) -> Iterator[torch.device]:
    """Join the other processes of this run, if torchrun started any, and yield the device to compute on.

    Without `device` it is the best one; "cuda" is the GPU of the local rank.
    """
    device = torch.device(device) if device is not None else best_device()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # gloo for tensors on the CPU: orders from a monitor, which must not wait for the GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def wrapped(module: nn.Module, device: torch.device, some_unused: bool = False) -> nn.Module:
    """`module`, with gradients averaged over all processes in its backward pass.

    `some_unused`: some parameters may get no gradient.
    """
    if ranks().world == 1:
        return module
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=some_unused)


def agree_on_buffers(module: nn.Module) -> None:
    """Give all processes the first one's buffers, such as the statistics of batch norms."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def total(values: Tensor) -> Tensor:
    """The sum of `values` over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def from_first(value: Any) -> Any:
    """The `value` of the first process, a small object without tensors."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def agree(what: Mapping[str, Any], ignored: Collection[str] = ()) -> None:
    """Raise a ValueError in all processes if they differ in `what`, plain values by name.

    They would compute different things, or wait for each other for ever. `ignored`: names that may differ,
    dotted if they are in a dict within.
    """
    if not dist.is_initialized():
        return
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, dict(what))
    for rank, other in enumerate(everyone):
        if difference := different_field(everyone[0], other, ignored):
            name, first, found = difference
            raise ValueError(
                f"the processes of this run differ in {name}: {first!r} in process 0, {found!r} in process "
                f"{rank}. Start all of them with the same command, on the same files."
            )
