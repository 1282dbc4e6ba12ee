"""The states from which a run can resume: the last two, safetensors files with a checksum."""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...support.device import values_of
from ...support.files import DamagedFileError, read_tensors, write_tensors
from .journal import Mark

KEPT = 2  # if the last one is damaged, there is the one before


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at the end of an epoch."""

    epoch: int  # finished ones
    tensors: dict[str, Tensor]  # "part.name" -> tensor on the CPU; parts: net, weights and gates (optimisers)
    numbers: dict[str, float]  # those of `KNOBS`, and fine_tuning (see `Trainer`), at that time
    # how far history.csv and gates.f32 had grown; only of a checkpoint that was read from a folder, not of
    # one by an earlier version of the package
    marks: dict[str, Mark] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, without its name."""
        start = f"{name}."
        return {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)}


class Checkpoints:
    """The folder with the checkpoints of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> list[Path]:
        """Newest first."""
        return sorted(self.path.glob("epoch-*.safetensors"), key=_by_epoch, reverse=True)

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:05d}.safetensors"

    def save(self, checkpoint: Checkpoint, marks: dict[str, Mark]) -> None:
        """Write a checkpoint, and delete all but the last two."""
        notes = {"epoch": checkpoint.epoch, "numbers": checkpoint.numbers, "marks": marks}
        notes = {name: json.dumps(note) for name, note in notes.items()}
        write_tensors(self._file(checkpoint.epoch), checkpoint.tensors, notes)
        for old in self.files()[KEPT:]:
            old.unlink()

    def sound(self) -> Iterator[Checkpoint]:
        """Newest first; a damaged one is named in a warning."""
        for path in self.files():
            try:
                tensors, notes = read_tensors(path)
            except DamagedFileError as error:
                warnings.warn(f"{error}. The checkpoint before it is used.", stacklevel=3)
                continue
            marks = {name: Mark(*mark) for name, mark in json.loads(notes.get("marks", "{}")).items()}
            yield Checkpoint(int(notes["epoch"]), tensors, json.loads(notes["numbers"]), marks)

    def go_back(self, epoch: int) -> None:
        """Delete what came after an epoch: damaged files, or those that go with another history."""
        for later in self.files():
            if _by_epoch(later) > _by_epoch(self._file(epoch)):
                later.unlink()


def _by_epoch(file: Path) -> tuple[int, str]:
    """Sorts by number, also beyond five digits."""
    return len(file.name), file.name


def take_checkpoint(
    epoch: int, net: nn.Module, optimisers: Mapping[str, Optimizer], numbers: Mapping[str, float]
) -> Checkpoint:
    """Copies of all that training changes, after so many finished epochs.

    `optimisers` by the name of their part of the checkpoint; `numbers`: what else is in force, by name.
    """
    tensors = {f"net.{name}": t for name, t in net.state_dict().items()}
    for part, optimiser in optimisers.items():
        tensors |= {f"{part}.{key}": t for key, t in _state(optimiser).items()}
    copies = {name: values_of(t) for name, t in tensors.items()}
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
