"""The proof that channels can be removed: closing them and cutting them out must do the same.

Torch-Pruning's graph is silently wrong for some operations (chunks, shuffles, padded shortcuts). So every
group is tried on a copy of the network with random statistics and random inputs, in float64 on the CPU,
where a wrong channel cannot hide in rounding.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from .admission import copied, first_line
from .cost import Cost, CostModel
from .groups import Group, Groups
from .masks import gates_set, place_gates
from .removal import remove_channels
from .tracing import Layer, probe_copy

TOLERANCE = 1e-9  # of outputs, relative; in float64, removal that is exact is off by some 1e-14


class _InFloat64(TorchFunctionMode):
    """Whatever a forward makes or asks for by itself, such as x.half(), it gets in float64."""

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        other = isinstance(made, Tensor) and made.is_floating_point() and made.dtype != torch.float64
        return made.double() if other else made


def refuse_inexact(
    model: nn.Module, groups: Groups, layers: list[Layer], total: Cost, example: Tensor
) -> Groups:
    """Refuse groups whose removal does not do what closed gates do; of a set that fails the halves are tried.

    Args:
        model: in any mode; it is not changed.
        layers, total: what `trace` found, and the cost of the whole network.
        example: a batch of inputs, of which only the shape counts.

    Raises:
        ValueError: the forward fails on the CPU in float64, gives NaN or is random in eval mode.
    """
    probe = probe_copy(model).to("cpu", torch.float64)
    with _InFloat64():
        example = _random_input(probe, example)
        bad = _failing(groups.gated, lambda some: _why_inexact(probe, some, layers, total, example))
        good = [g for g in groups.gated if g.name not in bad]
        together = _why_inexact(probe, good, layers, total, example) if bad and good else ""
        if together:  # though each is fine alone
            bad |= {g.name: together for g in good}
            good = []
        closable = [g for g in good if g.may_close]
        if closable and _why_inexact(probe, closable, layers, total, example, closed=True):
            closable = []
    return Groups(replace(g, refusal=bad.get(g.name, g.refusal), may_close=g in closable) for g in groups)


def _random_input(probe: nn.Module, example: Tensor) -> Tensor:
    """Random images of the example's shape, which alone counts: of zeros, a wrong channel may be zero, too.

    Raises:
        ValueError: the forward fails, its outputs are not finite, or others the second time.
    """
    if not example.is_floating_point():
        return example.cpu()
    for draw in (torch.randn, torch.rand):  # some networks take roots or logarithms of the pixels
        images = draw(example.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        outputs = _forward(probe, images)
        if outputs.isfinite().all():
            break
    else:
        raise ValueError(
            f"the forward of {type(probe).__name__} gives NaN or infinite outputs in eval mode: "
            f"{_where_not_finite(probe)}."
        )
    if not _close(outputs, _forward(probe, images)):
        raise ValueError(
            f"the forward of {type(probe).__name__} is random in eval mode: give F.dropout and its like "
            "training=self.training, or use nn.Dropout."
        )
    return images


@torch.no_grad()
def _forward(probe: nn.Module, images: Tensor) -> Tensor:
    try:
        return probe(images)
    except Exception as error:  # of any kind: it is the user's network that fails
        raise ValueError(
            f"the forward of {type(probe).__name__} failed on the CPU in float64, where removal is tried: "
            f"{first_line(error)}"
        ) from error


def _where_not_finite(probe: nn.Module) -> str:
    bad = next((key for key, t in probe.state_dict().items() if not t.isfinite().all()), None)
    return f"{bad!r} holds some" if bad else "look for a division by zero, a root or a logarithm"


def _close(expected: Tensor, got: Tensor) -> bool:
    """Whether outputs are equal but for rounding."""
    bound = TOLERANCE * float(expected.abs().max())
    return expected.shape == got.shape and torch.allclose(expected, got, rtol=0, atol=bound)


def _failing(groups: list[Group], why: Callable[[list[Group]], str]) -> dict[str, str]:
    """The groups at fault, by halving, and what `why` says of each."""
    reason = why(groups) if groups else ""
    if not reason:
        return {}
    if len(groups) == 1:
        return {groups[0].name: reason}
    half = len(groups) // 2
    return _failing(groups[:half], why) | _failing(groups[half:], why)


@torch.no_grad()
def _why_inexact(
    probe: nn.Module,
    groups: list[Group],
    layers: list[Layer],
    total: Cost,
    example: Tensor,
    closed: bool = False,
) -> str:
    """What goes wrong when random channels of `groups` (or all) are removed; empty if nothing does."""
    generator = torch.Generator().manual_seed(0)
    values = [_random_gates(g.channels, generator).to(example) * (not closed) for g in groups]
    masked, small = copied(probe), copied(probe)
    try:
        with gates_set(place_gates(masked, groups), [v.expand(len(example), -1) for v in values]):
            expected = masked(example)
        remove_channels(small, groups, values)
        flops = FlopCounterMode(display=False)
        with flops:
            got = small(example)
    except Exception as error:  # of any kind: it is the user's network that fails on this structure
        return f"removal breaks the network ({first_line(error)})"
    if not _close(expected, got):
        return "its channels are not removed exactly"
    cost = CostModel(groups, layers, total).exact([int((v > 0).sum()) for v in values])
    macs = flops.get_total_flops() // (2 * len(example))
    if cost != (macs, sum(p.numel() for p in small.parameters())):
        return "its cost cannot be told from the widths of its layers"
    return ""


def _random_gates(channels: int, generator: torch.Generator) -> Tensor:
    """Half of the gates closed, the others anywhere in (0, 1]; one at least is open."""
    gates = torch.rand(channels, generator=generator).clamp(min=0.1)
    return gates * (torch.randperm(channels, generator=generator) < max(1, channels // 2))
