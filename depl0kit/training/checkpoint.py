"""The state of a run at the end of an epoch: copied out of a network and its optimisers, and put back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .runs.checkpoints import Checkpoint


def take_checkpoint(
    epoch: int, net: nn.Module, optimisers: Mapping[str, Optimizer], numbers: Mapping[str, float]
) -> Checkpoint:
    """Copies of all that training changes, after so many finished epochs.

    `optimisers` by the name of their part of the checkpoint; `numbers`: what else is in force, by name.
    """
    tensors = {f"net.{name}": t for name, t in net.state_dict().items()}
    for part, optimiser in optimisers.items():
        tensors |= {f"{part}.{key}": t for key, t in _state(optimiser).items()}
    copies = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
    return Checkpoint(epoch, copies, dict(numbers))


def restore(checkpoint: Checkpoint, net: nn.Module, optimisers: Mapping[str, Optimizer]) -> None:
    """Put the tensors of a checkpoint back; a ValueError says that it is one of another network."""
    try:
        net.load_state_dict(checkpoint.part("net"))
    except RuntimeError as error:
        raise ValueError(f"the checkpoint belongs to another network than this one: {error}") from error
    for part, optimiser in optimisers.items():
        _load_state(optimiser, checkpoint.part(part))


def _state(optimiser: Optimizer) -> dict[str, Tensor]:
    """ "index.name" -> tensor, of all parameters in their order."""
    parameters = optimiser.param_groups[0]["params"]
    return {
        f"{i}.{name}": value
        for i, parameter in enumerate(parameters)
        for name, value in optimiser.state[parameter].items()
        if value is not None  # the momentum of a parameter that has had no gradient yet
    }


@torch.no_grad()
def _load_state(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser what `_state` returned, laid out in memory like its parameters."""
    parameters = optimiser.param_groups[0]["params"]
    optimiser.state.clear()
    for key, tensor in tensors.items():
        index, name = key.split(".")
        parameter = parameters[int(index)]
        kept = torch.empty_like(parameter if tensor.dim() else tensor, device=parameter.device)
        optimiser.state[parameter][name] = kept.copy_(tensor)
