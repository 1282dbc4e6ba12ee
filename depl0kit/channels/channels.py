"""The channels of a network: which can go together, what they cost, and the network without them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..support import checks
from ..support.arguments import fitted, is_list
from ..support.device import values_of
from .admission import check_network, copied, unwrapped
from .cost import Cost, CostModel
from .groups import Groups, find_groups, refuse_single
from .layers import Layer
from .masks import has_gates, remove_gates
from .proof import InFloat64, random_inputs, refuse_inexact
from .removal import remove_channels
from .tracing import (
    Example,
    check_training_mode,
    checked_inputs,
    in_slow_attention,
    probe_copy,
    trace,
)


class Channels:
    """What can be removed from a network, what it costs, and its removal. There is no probability here.

    `print(channels)` shows the table of groups. A group is gated if its channels can be removed one by one
    and exactly; this is tried out here, on a copy. The others say why they cannot.

    Args:
        model: any network, of any precision, whose outputs may be a tensor, a tuple, a list or a dict. It is
            not changed, and not copied: `remove` cuts the weights that it has then.
        example: a batch of inputs, such as images [batch, channels, height, width]; a tuple of batches if the
            forward takes several. Only shapes and device count.
        scope: "inner" is the channels inside blocks, as in the Dep-L0 paper; "all" also those of
            residual streams, which several layers write.

    Attributes:
        model, scope: as given; a compiled or data-parallel model is unwrapped.
        groups: the printable table of all groups; `groups.gated` lists those that can be removed.
        dense_cost: `Cost` (MACs per image, parameters) of the whole network, in ints.
        cost_model: the cost as a function of open channels, with a gradient.

    Raises:
        ValueError: the network cannot be followed (`check_network`, `trace` and `find_groups` say when), has
            layers or outputs in training mode only, or gives NaN or random outputs in eval mode.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> channels = Channels(model, example=torch.zeros(1, 4))
        >>> channels.dense_cost.macs, channels.cost([3]).macs
        (48, 18)
        >>> keep = torch.tensor([1, 0, 0, 1, 0, 0, 0, 1])
        >>> channels.remove([keep])[0]
        Linear(in_features=4, out_features=3, bias=True)
    """

    def __init__(self, model: nn.Module, example: Example | None = None, scope: str = "inner") -> None:
        fitted("model", model, nn.Module)
        self.scope = checks.one_of("scope", scope, ("inner", "all"))
        self.model = unwrapped(model)
        check_network(self.model)
        if has_gates(self.model):
            raise ValueError(
                "model is a GatedModel already, or holds one: pass net.plain_copy() to give it other gates."
            )
        with _without_autocast(example), in_slow_attention():
            inputs = checked_inputs(self.model, example)
            # one image: what does not depend on the images, as a table of positions, runs once a batch
            layers, macs = trace(probe := probe_copy(self.model), [t[:1] for t in inputs])
            check_training_mode(self.model, layers, inputs)
            total = Cost(macs, sum(p.numel() for p in self.model.parameters()))
            self.groups = _proved_groups(probe, inputs, layers, total, scope)
        self.cost_model = CostModel(self.groups.gated, layers, total)
        self.example_shapes = [t.shape[1:] for t in inputs]

    @property
    def dense_cost(self) -> Cost:
        return self.cost_model.dense

    @property
    def sizes(self) -> list[int]:
        """Channels of each gated group."""
        return [g.channels for g in self.groups.gated]

    @property
    def may_close(self) -> list[bool]:
        """Of each gated group, whether all of its channels may go."""
        return [g.may_close for g in self.groups.gated]

    def require_gated(self) -> None:
        """Raise ValueError, with the table of groups, if nothing can be removed."""
        if not self.groups.gated:
            raise ValueError(
                f"nothing to gate in {type(self.model).__name__}: it has no channels between two layers "
                f"that can be removed.\n{self.groups}"
            )

    def cost(self, open: Sequence[int]) -> Cost:
        """Exact cost, in ints, of the network with this many open channels in each gated group."""
        return self.cost_model.exact(open)

    @torch.no_grad()
    def remove(self, gates: Sequence[Tensor], round_to: int = 1) -> nn.Module:
        """Fold gates into the weights and cut out every channel whose gate is 0.

        Of a residual branch whose channels are all closed, pooling and padding are left in the place of its
        convolutions: they keep the shapes, and the branch adds a constant at no MACs.

        Args:
            gates: per gated group a tensor [channels] of numbers >= 0, or a mask (bool, or 0 and 1).
            round_to: keep so many closed channels that every group's number is a multiple of this (or all
                of its channels). 8 suits the matrix units of GPUs. The channels that are kept for it are
                read with weight 0, so the outputs stay what they are; only the cost is higher.

        Returns:
            A copy of `model` without gates, hooks or anything else of this package, in eval mode. Its
            outputs are those of the network whose channels are multiplied by `gates`, up to rounding.

        Raises:
            ValueError: `gates` do not fit the groups, close all of a group that may not close, or `round_to`
                is not a positive whole number.
        """
        checks.whole("round_to", round_to, 1)
        gates = self._checked(gates)
        model = self.plain_copy().eval()
        remove_channels(model, self.groups.gated, gates, round_to)
        return model

    def plain_copy(self) -> nn.Module:
        """A copy of `model` without gates."""
        model = copied(self.model)
        remove_gates(model)
        return model

    def _checked(self, gates: Sequence[Tensor]) -> list[Tensor]:
        groups = self.groups.gated
        if not is_list(gates) or len(gates) != len(groups):
            raise ValueError(f"gates must be a list of {len(groups)} tensors, one for each gated group.")
        gates = [values_of(torch.as_tensor(gate)) for gate in gates]
        for group, gate in zip(groups, gates, strict=True):
            if gate.shape != (group.channels,) or not (gate >= 0).all() or not gate.isfinite().all():
                raise ValueError(
                    f"gates of {group.name!r} must be {group.channels} numbers >= 0, got "
                    f"{checks.shown(gate.tolist())}."
                )
            if not group.may_close and not gate.any():
                raise ValueError(f"all channels of {group.name!r} are closed: keep one of them at least.")
        return [gate.float() if gate.dtype == torch.bool else gate for gate in gates]

    def __repr__(self) -> str:
        return repr(self.groups)

    def _repr_html_(self) -> str:
        return self.groups._repr_html_()


def _proved_groups(
    probe: nn.Module, inputs: Sequence[Tensor], layers: list[Layer], total: Cost, scope: str
) -> Groups:
    """Groups, found and tried in float64 on the CPU, on one random input of the given shapes."""
    probe = probe.to("cpu", torch.float64)
    one = random_inputs(probe, [t[:1] for t in inputs])
    with InFloat64():
        found = find_groups(probe, one, layers, scope)
    return refuse_single(refuse_inexact(probe, found, layers, total, one))


@contextmanager
def _without_autocast(example: object) -> Iterator[None]:
    """Whatever the user has switched on: what is looked at is the network itself."""
    first = example[0] if isinstance(example, tuple | list) and example else example
    kind = first.device.type if isinstance(first, Tensor) else "cpu"
    with torch.autocast("cpu", enabled=False), torch.autocast(kind, enabled=False):
        yield
