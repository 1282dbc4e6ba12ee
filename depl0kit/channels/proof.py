"""The proof that channels can be removed: closing them and cutting them out must do the same.

The tracer sees what a forward does with the channels that there are, not whether its code holds widths of
its own, as a slice by a fixed number does. So every group is tried on a copy of the network with random
statistics and random inputs, in float64 on the CPU, where a wrong channel cannot hide in rounding. Masks are
uneven, as half of every group would leave even the halves of a slice in their places.
"""

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .admission import first_line
from .cost import Cost, CostModel
from .groups import Group, Groups
from .layers import Layer
from .masks import gates_set, place_gates, remove_gates
from .removal import remove_channels
from .tracing import MacCounter, output_tensors

TOLERANCE = 1e-9  # of outputs, relative; in float64, removal that is exact is off by some 1e-14


class InFloat64(TorchFunctionMode):
    """Whatever a forward makes or asks for by itself, such as x.half(), it gets in float64."""

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        other = isinstance(made, Tensor) and made.is_floating_point() and made.dtype != torch.float64
        return made.double() if other else made


def refuse_inexact(
    probe: nn.Module, groups: Groups, layers: list[Layer], total: Cost, inputs: Sequence[Tensor]
) -> Groups:
    """Refuse groups whose removal does not do what closed gates do, and say why.

    Args:
        probe: what `probe_copy` returned, in float64 on the CPU; it gets gates and loses them again.
        layers, total: what `trace` found, and the cost of the whole network.
        inputs: of its forward, random ones.

    Raises:
        ValueError: the forward is random.
    """
    trial = Trial(probe, groups, layers, total, inputs)
    bad = trial.failing()
    remove_gates(probe)
    return Groups(
        replace(g, refusal=bad.get(g.name, g.refusal), may_close=g.may_close and trial.may_close)
        for g in groups
    )


@dataclass(frozen=True)
class Failure:
    """Why removal is not exact, the module whose code raised an error, and if widths in code explain it."""

    reason: str
    where: str | None = None
    in_code: bool = True


class Trial:
    """Tries the removal of groups of channels, against gates that close them.

    Args:
        probe, layers, total, inputs: as in `refuse_inexact`.
        groups: all of them; those that are not refused yet get gates and are tried.
    """

    def __init__(
        self,
        probe: nn.Module,
        groups: Groups,
        layers: list[Layer],
        total: Cost,
        inputs: Sequence[Tensor],
    ) -> None:
        self.probe, self.all_groups, self.groups, self.inputs = probe, groups, groups.gated, inputs
        self.cost = CostModel(self.groups, layers, total)
        self.gates = place_gates(probe, self.groups)
        self.is_odd = {group.name: bool(i % 2) for i, group in enumerate(self.groups)}
        self.may_close = True  # whether branches without open channels are removed exactly, too

    def failing(self) -> dict[str, str]:
        """Names of the groups whose removal is not exact under one of the masks, and what goes wrong."""
        bad: dict[str, str] = {}
        for draw in (_uneven, _nearly_all, _one_of_all):
            last: list[Group] = []
            while failure := self.why_inexact(good := self._others(bad), draw):
                if draw is _one_of_all and self.may_close and any(g.may_close for g in good):
                    self.may_close = False  # perhaps it was this
                    continue
                at_fault = self._at_fault(good, failure, draw)
                bad |= {g.name: self._why(g, failure) for g in at_fault}
                last += at_fault[-1:] if len(at_fault) > 1 else []
            # after a split by a fixed width, the rest of the channels may well be narrower
            if last and not self.why_inexact(good + last, draw):
                bad = {name: why for name, why in bad.items() if name not in {g.name for g in last}}
        return bad

    def _gates(self, draw: "Draw", group: Group, generator: torch.Generator) -> Tensor:
        """What `draw` gives; where it would leave one channel open, a branch that may close has none."""
        gates = draw(group.channels, self.is_odd[group.name], generator).double()
        return gates * (draw is not _one_of_all or not (self.may_close and group.may_close))

    def _why(self, group: Group, failure: "Failure") -> str:
        """The reason for one group, with the operation that is likely to have a width of its own."""
        if not failure.in_code:
            return failure.reason
        behind = group.sites.keys() & self._code_behind(failure.where)
        site = next((site for site in group.sites if site in behind or not behind), None)
        where = "" if site is None else f" ({group.sites[site]}{f' in {site}' if site else ''})"
        return f"{failure.reason}: its code may hold widths of its own{where}, let it read them from x.shape"

    def _others(self, bad: dict[str, str]) -> list[Group]:
        return [g for g in self.groups if g.name not in bad]

    def _at_fault(self, groups: list[Group], failure: "Failure", draw: "Draw") -> list[Group]:
        """Of groups that fail together those that pass the code at fault, a slice, a split or a reshape.

        Where no error tells which code that is, those of the first half that fails, and so on down to one.
        """
        at_fault = self._code_behind(failure.where)
        passing = [g for g in groups if g.sites.keys() & at_fault]
        if passing or len(groups) == 1:  # of streams, which pass the code of many blocks, it is likelier
            return [g for g in passing if g.stream] or passing or groups
        groups = sorted(groups, key=lambda g: not g.sites)  # these are likelier
        half = len(groups) // 2
        for part in (groups[:half], groups[half:]):
            if failure := self.why_inexact(part, draw):
                return self._at_fault(part, failure, draw)
        return groups  # though each half is fine alone

    def _code_behind(self, where: str | None) -> set[str]:
        """Modules whose code may have led to an error in `where`: itself, or those on the way to a layer."""
        layer = {(where, "in"), (where, "out")}
        slots = {(where, "in")} if any((where, "in") in g.members for g in self.all_groups) else layer
        reaching = [g.sites for g in self.all_groups if slots & g.members.keys()]
        return {where}.union(*reaching)

    @torch.no_grad()
    def why_inexact(self, groups: list[Group], draw: "Draw") -> "Failure | None":
        """What goes wrong when channels of `groups` that `draw` closes are removed; None if nothing does."""
        if not groups:
            return None
        generator = torch.Generator().manual_seed(0)
        ones = [torch.ones(g.channels, dtype=torch.float64) for g in self.groups]
        names = {g.name for g in groups}
        values = [
            self._gates(draw, g, generator) if g.name in names else one
            for g, one in zip(self.groups, ones, strict=True)
        ]
        with restored(self.probe) as small:
            remove_channels(small, self.groups, values)
            parameters = sum(p.numel() for p in small.parameters())
            try:
                with MacCounter() as macs, InFloat64():
                    got = small(*self.inputs)
            except Exception as error:  # of any kind: it is the user's network that fails on this structure
                where = _raised_in(small, error)
                inside = f" in {where}" if where else ""
                return Failure(f"removal breaks the network{inside} ({first_line(error)})", where)
        with gates_set(self.gates, [v.expand(len(self.inputs[0]), -1) for v in values]), InFloat64():
            expected = self.probe(*self.inputs)
        if not _close(expected, got):
            check_not_random(self.probe, self.inputs)
            return Failure("its channels are not removed exactly")
        cost = self.cost.exact([int((v > 0).sum()) for v in values])
        if cost != (macs.per_image(len(self.inputs[0])), parameters):
            return Failure("its cost cannot be told from the widths of its layers", in_code=False)
        return None


@contextmanager
def restored(model: nn.Module) -> Iterator[nn.Module]:
    """Afterwards the model has the modules, tensors and attributes that it had; no tensor is copied."""
    registries = ("_modules", "_parameters", "_buffers")
    before = [
        (module, {key: dict(v) if key in registries else v for key, v in vars(module).items()})
        for module in model.modules()
    ]
    try:
        yield model
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


# --- masks: gates of a group, in 0..1, from its channels and whether its number is odd
#
# Code that halves the channels that are left (`chunk`, or a slice up to the half) is right by chance where
# both halves keep equally many, or one of them one more. So neighbours keep different numbers: by at least
# two under one of the masks, or, of two channels, once the first and once the second of them more.

Draw = Callable[[int, bool, torch.Generator], Tensor]


def _uneven(channels: int, odd: bool, generator: torch.Generator) -> Tensor:
    """At most half of the channels open, of odd groups at least three quarters; gates anywhere in (0, 1]."""
    share = 0.25 + 0.25 * torch.rand(1, generator=generator)
    count = math.ceil(channels * (0.5 + share)) if odd else max(1, int(channels * share))
    gates = torch.rand(channels, generator=generator).clamp(min=0.1)
    return gates * (torch.randperm(channels, generator=generator) < count)


def _nearly_all(channels: int, odd: bool, generator: torch.Generator) -> Tensor:
    """One channel closed, of odd groups two; of two channels none, of odd groups one."""
    closed = 1 + odd if channels > 2 else int(odd and channels == 2)
    return (torch.randperm(channels, generator=generator) >= closed).float()


def _one_of_all(channels: int, odd: bool, generator: torch.Generator) -> Tensor:
    """One channel open."""
    return torch.zeros(channels).index_fill(0, torch.randint(channels, (1,), generator=generator), 1.0)


def _raised_in(model: nn.Module, error: Exception) -> str | None:
    """Name of the innermost module in whose code an error was raised."""
    names = {id(module): name for name, module in model.named_modules()}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside = [names.get(id(frame.f_locals.get("self"))) for frame in frames]
    return next((name for name in reversed(inside) if name is not None), None)


# --- inputs and outputs


def random_inputs(probe: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Random images of the inputs' shapes, which alone count: of zeros, a wrong channel may be zero, too.

    Raises:
        ValueError: the forward fails, or its outputs are not finite.
    """
    for draw in (torch.randn, torch.rand):  # some networks take roots or logarithms of the pixels
        generator = torch.Generator().manual_seed(0)
        images = [
            draw(t.shape, dtype=torch.float64, generator=generator) if t.is_floating_point() else t.cpu()
            for t in inputs
        ]
        outputs = _forward(probe, images)
        if all(t.isfinite().all() for t in output_tensors(outputs)):
            break
    else:
        raise ValueError(
            f"the forward of {type(probe).__name__} gives NaN or infinite outputs in eval mode: "
            f"{_where_not_finite(probe)}."
        )
    return images


def check_not_random(probe: nn.Module, images: Sequence[Tensor]) -> None:
    """Raise ValueError if a second forward gives other outputs: no removal would then seem exact."""
    if not _close(_forward(probe, images), _forward(probe, images)):
        raise ValueError(
            f"the forward of {type(probe).__name__} is random in eval mode: give F.dropout and its like "
            "training=self.training, or use nn.Dropout."
        )


@torch.no_grad()
def _forward(probe: nn.Module, images: Sequence[Tensor]) -> Any:
    try:
        with InFloat64():
            return probe(*images)
    except Exception as error:  # of any kind: it is the user's network that fails
        raise ValueError(
            f"the forward of {type(probe).__name__} failed on the CPU in float64, where removal is tried: "
            f"{first_line(error)}"
        ) from error


def _where_not_finite(probe: nn.Module) -> str:
    bad = next((key for key, t in probe.state_dict().items() if not t.isfinite().all()), None)
    return f"{bad!r} holds some" if bad else "look for a division by zero, a root or a logarithm"


def _close(expected: Any, got: Any) -> bool:
    """Whether outputs are equal but for rounding."""
    expected, got = output_tensors(expected), output_tensors(got)
    return len(expected) == len(got) and all(_same(a, b) for a, b in zip(expected, got, strict=True))


def _same(expected: Tensor, got: Tensor) -> bool:
    if expected.shape != got.shape:
        return False
    if not expected.is_floating_point() or not expected.numel():
        return torch.equal(expected, got)
    bound = TOLERANCE * float(expected.abs().max())
    return torch.allclose(expected, got, rtol=0, atol=bound)
