"""A compact network in one file: weights as safetensors, and JSON in its header that rebuilds the layers.

Nothing in the file is ever executed: it has no pickle, and the JSON names only widths, ranks and three kinds
of layers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..channels.admission import check_network, copied, unwrapped
from ..channels.layers import channelwise_width, loose_layers, owner_of
from ..channels.masks import has_gates
from ..support import checked
from ..support.device import values_of
from ..support.files import DamagedFileError, read_tensors, write_tensors
from .compact_header import WIDTHS, build_stand_in, checked_header, header_of
from .factorised import in_two
from .models import MODELS, make_model

KEY = "depl0kit"  # of the JSON in the header of the file
PHOTO = (224, 224)  # an image size for all networks of torchvision


@checked
def save_compact(model: nn.Module, path: str | Path) -> Path:
    """Write a compact (or any plain) network to `path`, atomically.

    Args:
        model: what `compact` returned, of any precision. Of a compiled or parallel network the network
            inside is written. If `make_model` made the dense one, `load_compact(path)` needs nothing else.
        path: usually `name.safetensors`; an old file is replaced when the new one is complete.

    Raises:
        OSError: the file cannot be written; an old file is kept.
        ValueError: `model` has gates, or an entry of its state_dict is not a tensor.
    """
    path, model = Path(path), unwrapped(model)
    if has_gates(model):
        raise ValueError("save_compact writes networks without gates, got a GatedModel: pass compact(net).")
    state = model.state_dict()
    if other := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"{other[0]!r} of {type(model).__name__} is not a tensor: remove it from the state_dict."
        )
    tensors = {key: values_of(t).contiguous() for key, t in (state | _unsaved(model)).items()}
    write_tensors(path, tensors, {KEY: json.dumps(header_of(model))})
    return path


@checked
def load_compact(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The network that `save_compact` wrote, in eval mode, on the CPU.

    Args:
        model: a new network of the same architecture with all channels, needed if `make_model` did not
            make the saved one. It is copied.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is damaged, not a file of `save_compact`, or has another architecture than `model`.
    """
    path, fresh = Path(path), model is None
    header, tensors = read_network(path, KEY, checked_header, "save_compact(model, path)")
    model = to_be_filled(model, header["made_by"], tensors, path)
    try:
        _reshape_loose(model, tensors)
        _reshape(model, header, tensors)
        _load(model, tensors, assign=fresh)  # a fresh one may be on "meta", without memory
        for name, module in model.named_modules():
            if not _has_its_widths(module):
                raise RuntimeError(f"the widths of {name} do not match its weights")
        if fresh:
            _check_forward(model, header["made_by"])
    except (AttributeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} holds another architecture than {type(model).__name__}: {reason}"
        ) from error
    return model.eval()


def read_network(
    path: Path, key: str, checked_header: Callable[[Any], dict[str, Any]], saver: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header of a file, as JSON under `key`, and its tensors.

    Args:
        checked_header: raises a ValueError if a header is not as it should be.
        saver: the call that writes such files, as errors name it.
    """
    name = saver.partition("(")[0]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}: {saver} writes one.")
    try:
        tensors, notes = read_tensors(path)
        return checked_header(json.loads(notes[key])), tensors
    except (DamagedFileError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged or not a file of {name} ({str(error) or type(error).__name__}): "
            f"write it again with {name}."
        ) from error


def to_be_filled(
    model: nn.Module | None, made_by: dict | None, tensors: dict[str, Tensor], path: Path
) -> nn.Module:
    """A copy of `model`, or if it is None a new network with the arguments in the file, for its weights.

    New ones of `MODELS` are on "meta", without memory, until they get their weights.
    """
    if model is None:
        return _made(made_by, tensors, path)
    check_network(model)
    return copied(unwrapped(model))


def _made(made_by: dict | None, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """A new network with the arguments in the file, if its weights have that number of classes."""
    if made_by is None:
        raise ValueError(
            f"{path} holds a network that make_model did not make: pass model=, a new network of the same "
            "architecture with all channels."
        )
    known = any(made_by["classes"] in t.shape[:1] for t in tensors.values())
    try:
        if not known:
            raise ValueError(f"no tensor has {made_by['classes']} classes")
        # "meta" needs no memory, whatever sizes a file asks for
        with torch.device("meta" if made_by["name"] in MODELS else "cpu"):
            return make_model(**made_by)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, make_model cannot make its network: {str(error)[:200]}"
        ) from error


@torch.no_grad()
def _check_forward(model: nn.Module, made_by: dict) -> None:
    """Raise the error of a forward pass if layers do not match; nothing is computed."""
    size = made_by["image_size"] if made_by["name"] in MODELS else PHOTO  # torchvision ignores it
    images = torch.zeros(1, made_by["in_channels"], *size, device="meta")
    state = {key: tensor.to("meta") for key, tensor in model.state_dict().items()}
    torch.func.functional_call(model.eval(), state, (images.to(next(model.parameters()).dtype),))


def _has_its_widths(module: nn.Module) -> bool:
    """Whether the width attributes of a layer match its weights; True if it has none."""
    weight, width = getattr(module, "weight", None), channelwise_width(module)
    if isinstance(module, nn.Linear):
        width = module.out_features
        good = weight.shape == (width, module.in_features)
    elif isinstance(module, _ConvNd):
        inputs, width, groups = module.in_channels, module.out_channels, module.groups
        wide = (inputs, width) if module.transposed else (width, inputs)
        whole = groups > 0 and inputs % groups == width % groups == 0
        good = whole and weight.shape[:2] == (wide[0], wide[1] // groups)
    elif width:
        blocks = getattr(module, "num_groups", 1)
        good = blocks > 0 and width % blocks == 0 and (weight is None or weight.shape == (width,))
    else:
        return True
    others = (getattr(module, key, None) for key in ("bias", "running_mean", "running_var"))
    return good and all(t is None or t.shape == (width,) for t in others)


def _reshape(model: nn.Module, header: dict, tensors: dict[str, Tensor]) -> None:
    """Give `model` the modules and widths of the file; its weights are loaded afterwards."""
    for name, rank in header["factorised"].items():
        model.set_submodule(name, in_two(model.get_submodule(name), rank))
    for name, spec in header["stand_ins"].items():
        if name and any(True for _ in model.get_submodule(name).parameters()):
            model.set_submodule(name, build_stand_in(spec))
    for name, widths in header["widths"].items():
        module = model.get_submodule(name)
        for attribute, width in widths.items():
            if attribute not in WIDTHS or not hasattr(module, attribute):
                raise AttributeError(f"{name} has no {attribute}")
            setattr(module, attribute, int(width))
        for key, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            new = tensors.get(f"{name}.{key}" if name else key)
            if new is None or (new.shape, new.dtype) == (old.shape, old.dtype):
                continue
            # they may differ only in precision and widths
            alike = new.is_floating_point() == old.is_floating_point() and new.dim() == old.dim()
            if not alike or new.shape[2:] != old.shape[2:]:
                raise AttributeError(f"{name}.{key} cannot be {new.dtype} of shape {tuple(new.shape)}")
            _make_room(module, key, new)


def _unsaved(model: nn.Module) -> dict[str, Tensor]:
    """Buffers along channels that the state_dict leaves out: cut ones cannot be made again."""
    saved = model.state_dict().keys()
    rest = {name: t for name, t in model.named_buffers() if name not in saved and t.is_floating_point()}
    return {name: t for name, t in rest.items() if sum(size > 1 for size in t.shape) <= 1}


def _reshape_loose(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Cut parameters and buffers outside of layers as those of the file are; their values come later."""
    for layer in list(loose_layers(model)):
        module, key = owner_of(model, layer.name)
        old, new = getattr(module, key), tensors.get(layer.name)
        if new is not None and _is_cut(new.shape, old.shape, int(layer.side)):
            _make_room(module, key, new)


def _is_cut(new: torch.Size, old: torch.Size, dim: int) -> bool:
    """Whether a shape is another one with fewer entries along one dimension."""
    return len(new) == len(old) and 0 < new[dim] < old[dim] and new == (*old[:dim], new[dim], *old[dim + 1 :])


def _make_room(module: nn.Module, key: str, new: Tensor) -> None:
    """Give a parameter or buffer the shape and precision of a new one."""
    empty = torch.empty_like(new)
    is_parameter = isinstance(getattr(module, key), nn.Parameter)
    setattr(module, key, nn.Parameter(empty) if is_parameter else empty)


def _load(model: nn.Module, tensors: dict[str, Tensor], assign: bool) -> None:
    """Give `model` the values and the precision of the file, also of buffers outside of the state_dict."""
    for name, old in _unsaved(model).items():
        if name in tensors:
            module, key = owner_of(model, name)
            setattr(module, key, tensors.pop(name).reshape(old.shape).to(old.device))
    for name, old in (*model.named_parameters(), *model.named_buffers()):
        if name in tensors and old.is_floating_point() and tensors[name].is_floating_point():
            old.data = old.data.to(tensors[name].dtype)
    model.load_state_dict(tensors, assign=assign)
