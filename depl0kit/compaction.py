"""From a gated network to a plain, physically smaller one that computes the same function."""

import copy

import torch
from torch import Tensor, nn

from .gated import Gate, GatedModel
from .groups import Group


@torch.no_grad()
def compact(net: GatedModel) -> nn.Module:
    """Fold the test-time gates into the weights and remove every closed channel.

    Returns:
        A copy of `net.model` without gates, hooks or anything else of this package, in eval mode.
        Its outputs equal those of `net.eval()` up to rounding, its cost is `net.exact_cost()`.
    """
    model = copy.deepcopy(net.model).eval()
    spreads = {layer.name: layer.spread for layer in net.cost_model.layers}
    for group, gate in zip(net.groups.gated, net.posterior.deterministic(), strict=True):
        _remove_hook(model.get_submodule(group.site))
        _fold(model, group, gate)
        keep = gate.nonzero().flatten()
        _shrink_writer(model, group, keep)
        for reader in group.readers:
            _shrink_reader(model.get_submodule(reader), keep, spreads[reader])
    return model


def _remove_hook(site: nn.Module) -> None:
    for key, hook in list(site._forward_hooks.items()):
        if isinstance(hook, Gate):
            del site._forward_hooks[key]


def _fold(model: nn.Module, group: Group, gate: Tensor) -> None:
    """Scale the group's channels by its gate, in the last batch norm or, without one, the writer."""
    last = model.get_submodule(group.norms[-1] if group.norms else group.name)
    last.weight.mul_(gate.reshape(-1, *[1] * (last.weight.dim() - 1)))
    if last.bias is not None:
        last.bias.mul_(gate)


def _shrink_writer(model: nn.Module, group: Group, keep: Tensor) -> None:
    for name in (group.name, *group.norms):
        module = model.get_submodule(name)
        for key in ("weight", "bias", "running_mean", "running_var"):
            _select(module, key, 0, keep)
        _set_width(module, "out", len(keep))


def _shrink_reader(reader: nn.Module, keep: Tensor, spread: int) -> None:
    """Keep the inputs of open channels; after a flatten each channel has `spread` of them in a row."""
    columns = (keep[:, None] * spread + torch.arange(spread, device=keep.device)).flatten()
    _select(reader, "weight", 1, columns)
    _set_width(reader, "in", len(columns))


def _select(module: nn.Module, key: str, dim: int, index: Tensor) -> None:
    old = getattr(module, key, None)
    if old is None:
        return
    new = old.index_select(dim, index)
    if old.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
        new = new.contiguous(memory_format=torch.channels_last)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, key, new)


def _set_width(module: nn.Module, side: str, width: int) -> None:
    """Correct the module's own account of its shape: what `print(model)` and exporters read."""
    for name in (f"{side}_channels", f"{side}_features", "num_features"):
        if hasattr(module, name):
            setattr(module, name, width)
