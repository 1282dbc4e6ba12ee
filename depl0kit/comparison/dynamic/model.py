"""A network whose channels are chosen for every image, by a branch at each group of channels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...channels.channels import Channels
from ...channels.layers import widths
from ...channels.masks import gate_before, place_gates
from ...support import checks
from ...support.device import values_of
from ...support.modes import eval_mode
from .branches import BRANCHES, Branch


@dataclass
class Choices:
    """What was chosen in one forward pass; lists with an entry per gated group.

    Attributes:
        pooled: inputs of the branches, [batch, inputs].
        saliency: of every channel, [batch, channels], > 0.
        gates: saliency of the open channels, 0 for closed ones.
    """

    pooled: list[Tensor | None]
    saliency: list[Tensor | None]
    gates: list[Tensor | None]


class DynamicModel(nn.Module):
    """A network that computes other channels for every image.

    The branch of a group reads the inputs of the layer that writes it, before its channels are computed: that
    is what lets a device leave them out. Its gates act where the channels are read, so closed channels are
    exactly zero there. An image costs what the network costs that `channels.remove` cuts for its gates, and
    the branches. Here all channels are computed and multiplied: the MACs are those of a device that leaves
    closed channels out, the measured time is not.

    Training mode and eval mode choose by the same rule.

    Args:
        channels: of the network, `channels.model`, which is used as it is, not copied.
        kind: of the branches, "fbs" (a fixed number of channels) or "manidp" (a threshold).

    Attributes:
        model, channels: as given.
        branches: one per gated group.
        listener: called after every forward pass with its `Choices` and outputs; None for nobody.

    Raises:
        ValueError: nothing can be gated, or a layer before which a branch must stand does not run once a
            forward, on one row for each image.
    """

    listener: Callable[[Choices, Any], object] | None = None

    def __init__(self, channels: Channels, kind: str = "fbs") -> None:
        super().__init__()
        self.kind = checks.one_of("kind", kind, BRANCHES)
        channels.require_gated()
        self.channels, self.model = channels, channels.model
        groups = channels.groups.gated
        self._gates = place_gates(self.model, groups)
        self._writers = [group.writers[0] for group in groups]
        self._readers = [[g for g in self._gates if i in g.groups] for i in range(len(groups))]
        parameter = next(self.model.parameters())
        sizes = zip(self._writers, channels.sizes, strict=True)
        branches = [self._branch(writer, size) for writer, size in sizes]
        self.branches = nn.ModuleList(branches).to(parameter.device).train(self.model.training)
        self.training = self.model.training
        example = torch.zeros(2, *channels.example_shapes[0], dtype=parameter.dtype, device=parameter.device)
        with eval_mode(self), torch.no_grad():
            self(example)  # what cannot be done is refused here

    def _branch(self, writer: str, channels: int) -> Branch:
        layer = self.model.get_submodule(writer)
        return BRANCHES[self.kind](widths(layer)["in"] // _spread(layer), channels)

    def forward(self, x: Tensor) -> Any:
        return self.forward_with_choices(x)[0]

    def forward_with_choices(self, x: Tensor) -> tuple[Any, Choices]:
        """The outputs, and what was chosen for each image of the batch."""
        choices = Choices(*([None] * len(self.branches) for _ in range(3)))
        with self._choosing(len(x), choices):
            outputs = self.model(x)
        for writer, gates in zip(self._writers, choices.gates, strict=True):
            if gates is None:
                raise ValueError(f"layer {writer!r} did not run: its channels cannot be chosen.")
        if self.listener is not None:
            self.listener(choices, outputs)
        return outputs, choices

    @contextmanager
    def _choosing(self, batch: int, choices: Choices) -> Iterator[None]:
        """In this context the branches read what their layers are given, and set the gates.

        The hooks live no longer than a forward, so that copies of the network carry none of them.
        """
        layers = [self.model.get_submodule(writer) for writer in self._writers]
        hooks = [
            layer.register_forward_pre_hook(self._hook(i, batch, choices), with_kwargs=True)
            for i, layer in enumerate(layers)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for gate in self._gates:
                gate.value = None

    def _hook(self, i: int, batch: int, choices: Choices) -> Callable[[nn.Module, tuple, dict], None]:
        def choose(layer: nn.Module, args: tuple, kwargs: dict) -> None:
            pooled = _pooled(layer, args[0] if args else kwargs["input"])
            if len(pooled) != batch or choices.gates[i] is not None:
                raise ValueError(
                    f"layer {self._writers[i]!r} must run once a forward, on one row for each image, for a "
                    f"branch to choose its channels; it got {len(pooled)} rows for {batch} images, or ran "
                    "twice."
                )
            choices.pooled[i] = pooled
            choices.saliency[i], choices.gates[i] = self.branches[i](pooled)
            for gate in self._readers[i]:
                if all(choices.gates[j] is not None for j in gate.groups):
                    gate.set([choices.gates[j] for j in range(len(self.branches))])

        return choose

    @property
    def branch_macs(self) -> int:
        """Multiply-accumulates of all branches, for an image."""
        return sum(branch.macs for branch in self.branches)

    def set_share(self, share: float | Sequence[float]) -> None:
        """Let this share of the channels be open: of all groups, or of each."""
        shares = [share] * len(self.branches) if isinstance(share, int | float) else share
        for branch, value in zip(self.branches, shares, strict=True):
            branch.share = value

    @torch.no_grad()
    def open_per_image(self, x: Tensor) -> Tensor:
        """Channels that are open for each image, int64 [batch, groups], on the CPU; in eval mode."""
        with eval_mode(self):
            return open_channels(self.forward_with_choices(x)[1])

    def macs_per_image(self, x: Tensor) -> Tensor:
        """Multiply-accumulates of each image, branches included, int64 [batch], exact; in eval mode."""
        return self.macs_of(self.open_per_image(x))

    def macs_of(self, open: Tensor) -> Tensor:
        """The same from numbers of open channels, int64 [batch, groups]."""
        macs = self.channels.cost_model.macs_of_rows(open.numpy())
        return torch.from_numpy(macs) + self.branch_macs


def open_channels(choices: Choices) -> Tensor:
    """How many channels were open for each image, int64 [batch, groups], on the CPU."""
    return values_of(torch.stack([(gates > 0).sum(1) for gates in choices.gates], 1))


def _spread(layer: nn.Module) -> int:
    """Inputs in a row that belong to one channel, as after a flatten: they are pooled."""
    gate = gate_before(layer)
    return gate.spread if gate else 1


def _pooled(layer: nn.Module, x: Tensor) -> Tensor:
    """Means over all places of an image, [batch, inputs]."""
    if not isinstance(layer, nn.Linear):
        x = x.movedim(1, -1)  # channels-last: its backward takes half of the time of a mean over dimension 2
    means = x.flatten(1, -2).mean(1) if x.dim() > 2 else x
    spread = _spread(layer)
    return means.unflatten(1, (-1, spread)).mean(2) if spread > 1 else means
