"""Cut the channels that gates closed out of a network's layers, and fold the other gates into them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .groups import Group
from .layers import Slot, input_dim, is_grouped, owner_of, tensors_along, widths


@torch.no_grad()
def remove_channels(
    model: nn.Module, groups: Sequence[Group], gates: Sequence[Tensor], round_to: int = 1
) -> None:
    """Fold `gates` (per group [channels]) into the layers that read them and cut out closed channels.

    Every tensor that changes is replaced by a new one, so that copies of `model` may share them.
    """
    kept: dict[Slot, Tensor] = {}  # which indices stay
    scales: dict[str, Tensor] = {}  # per reader what its inputs are multiplied by
    closed: list[Group] = []
    for group, gate in zip(groups, gates, strict=True):
        gate = gate.cpu()
        keep = _round_up(gate > 0, round_to)
        if not keep.any():
            closed.append(group)
        for (name, side), members in group.members.items():
            indices, width = torch.from_numpy(members), _width(model, name, side)
            kept.setdefault((name, side), torch.ones(width, dtype=torch.bool))[indices[~keep]] = False
            if side == "in" and name in group.readers:
                ones = torch.ones(width, dtype=torch.promote_types(gate.dtype, torch.float32))
                scales.setdefault(name, ones)[indices] = gate[:, None].to(ones.dtype)
    for name in {name for name, _ in kept}:
        sides = {side: mask for (of, side), mask in kept.items() if of == name}
        if sides.keys() <= {"in", "out"}:
            _cut(model.get_submodule(name), sides.get("in"), sides.get("out"))
        else:
            _cut_loose(model, name, sides)
    for name, scale in scales.items():  # after cutting, as there is less to multiply
        _scale_inputs(model.get_submodule(name), scale[kept[name, "in"]])
    for group in closed:
        close_branch(model, group.writers, group.readers, [name for name, _ in group.members])


def close_branch(
    model: nn.Module, writers: Sequence[str], readers: Sequence[str], members: Sequence[str]
) -> None:
    """Replace the layers of a branch without open channels by pooling and padding, which cost no MACs.

    PyTorch has no convolutions of zero channels. So one channel, whose values do not matter, carries
    the shape of the images to the reader, in whose place stand zeros.
    """
    for name in dict.fromkeys(members):
        module = model.get_submodule(name)
        stand_in: nn.Module = nn.Identity()
        if isinstance(module, nn.Conv2d):
            stand_in = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
            if name in readers:
                zeros = nn.ConstantPad3d((0, 0, 0, 0, -1, module.out_channels), 0.0)
                stand_in = nn.Sequential(stand_in, zeros)
            elif module.groups == 1 and name in writers:
                first = nn.ConstantPad3d((0, 0, 0, 0, 0, 1 - module.in_channels), 0.0)
                stand_in = nn.Sequential(first, stand_in)
        model.set_submodule(name, stand_in.train(module.training))


def _round_up(is_open: Tensor, multiple: int) -> Tensor:
    """Also keep the first closed channels, until the number is a multiple or nothing is left."""
    missing = -int(is_open.sum()) % multiple
    keep = is_open.clone()
    keep[(~is_open).nonzero().flatten()[:missing]] = True
    return keep


def _scale_inputs(reader: nn.Module, scale: Tensor) -> None:
    """What the gates did to the inputs of `reader`, done to its weight."""
    if (scale == 1).all():
        return
    dim, old = input_dim(reader), reader.weight
    shape = [-1 if d == dim else 1 for d in range(old.dim())]
    reader.weight = nn.Parameter(old * scale.reshape(shape).to(old), requires_grad=old.requires_grad)


def _width(model: nn.Module, name: str, side: str) -> int:
    if side in ("in", "out"):
        return widths(model.get_submodule(name))[side]
    return getattr(*owner_of(model, name)).shape[int(side)]


def _cut(module: nn.Module, inputs: Tensor | None, outputs: Tensor | None) -> None:
    """Keep the chosen inputs and outputs of a layer, and correct its own account of its shape."""
    grouped = is_grouped(module)
    cuts = [
        (key, dim, mask)
        for side, mask in (("in", inputs), ("out", outputs))
        if mask is not None
        for key, dim in tensors_along(module, side).items()
    ]
    for key, dim, mask in cuts:
        _select(module, key, dim, mask)
    if inputs is not None:
        _set_width(module, ("in_channels", "in_features"), int(inputs.sum()))
    if outputs is not None:
        if grouped:
            module.groups = int(outputs.reshape(module.groups, -1)[:, 0].sum())
        elif isinstance(module, nn.GroupNorm):
            module.num_groups = int(outputs.reshape(module.num_groups, -1)[:, 0].sum())
        _set_width(module, _OUT_WIDTHS, int(outputs.sum()))


_OUT_WIDTHS = ("out_channels", "out_features", "num_features", "num_channels", "num_parameters")


def _cut_loose(model: nn.Module, name: str, sides: dict[str, Tensor]) -> None:
    """Keep the chosen entries of a parameter or buffer outside of layers."""
    for side, mask in sides.items():
        _select(*owner_of(model, name), int(side), mask)


def _select(module: nn.Module, key: str, dim: int, mask: Tensor) -> None:
    old = getattr(module, key, None)
    if old is None or mask.all():
        return
    new = old.index_select(dim, mask.nonzero().flatten().to(old.device))
    if old.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
        new = new.contiguous(memory_format=torch.channels_last)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, key, new)


def _set_width(module: nn.Module, names: Sequence[str], width: int) -> None:
    for name in names:
        if hasattr(module, name):
            setattr(module, name, width)
