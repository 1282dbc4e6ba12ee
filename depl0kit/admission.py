"""Which networks can be gated, which data they can learn, and safe copies of them.

What cannot be is refused before any work, by its name.
"""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .modes import eval_mode

if TYPE_CHECKING:
    from .data import Data

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
OLD_NORMS = {WeightNorm: "weight_norm", SpectralNorm: "spectral_norm"}


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside of what torch.compile, DataParallel or DistributedDataParallel returned."""
    while isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, WRAPPERS) else model._orig_mod
    return model


def check_network(model: nn.Module) -> None:
    """Refuse what can be neither followed nor trained.

    Raises:
        ValueError: `model` is no module or a scripted one; a weight has a mask or is normalised by a hook;
            a parameter has no shape yet or is of a type without gradients.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    name = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"{name} is a scripted module, which cannot be followed: pass the one before torch.jit."
        )
    for layer, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            _check_hook(hook, layer or name)
    for key, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedTensorMixin):
            raise ValueError(f"parameter {key!r} of {name} has no shape yet: call the model on images once.")
        if not parameter.is_floating_point():
            raise ValueError(
                f"parameter {key!r} of {name} is {_short(parameter.dtype)}, which has no gradients: make it "
                "a buffer, by register_buffer."
            )


def _check_hook(hook: object, layer: str) -> None:
    if isinstance(hook, BasePruningMethod):
        key = hook._tensor_name
        raise ValueError(
            f"layer {layer!r} has a mask of torch.nn.utils.prune on its {key}: make it permanent by "
            f"prune.remove(layer, {key!r})."
        )
    for kind, function in OLD_NORMS.items():
        if isinstance(hook, kind):
            raise ValueError(
                f"layer {layer!r} has the old torch.nn.utils.{function}: call remove_{function}(layer), "
                f"or use torch.nn.utils.parametrizations.{function}."
            )


def check_fit(net: nn.Module, data: "Data") -> None:
    """Refuse, before the first step, a network and data that do not suit each other.

    Args:
        net: with gates or without; its modes stay as they are.

    Raises:
        ValueError: there is one class only; labels are no classes of the data; the forward fails on images of
            this shape; its outputs are no logits, [batch, classes], in floating point.
    """
    if data.num_classes < 2:
        raise ValueError(
            f"the data have {data.num_classes} class: a classifier needs images of two classes at least."
        )
    for part in ("train", "val", "test"):
        _check_labels(getattr(data, part).labels, data.num_classes, part)
    device = next(net.parameters()).device
    images = torch.zeros(1, data.in_channels, *data.image_size, device=device)
    name = type(getattr(net, "model", net)).__name__
    try:
        with eval_mode(net), torch.no_grad():
            logits = net(images)
    except Exception as error:  # of any kind: it is the user's network that fails
        raise ValueError(_why_unread(net, name, images, error)) from error
    _check_logits(logits, name, data.num_classes)


def _check_labels(labels: Tensor, classes: int, part: str) -> None:
    if labels.dtype not in (torch.int64, torch.uint8) or labels.dim() != 1:
        raise ValueError(
            f"labels of data.{part} must be one int64 an image, got {_short(labels.dtype)} of shape "
            f"{tuple(labels.shape)}: take .argmax(1) of one-hot ones, and .long()."
        )
    low, high = (int(x) for x in labels.aminmax()) if len(labels) else (0, 0)
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels of data.{part} must lie in 0..{classes - 1}, as the data have {classes} classes, got "
            f"{low if low < 0 else high}: number the classes from 0."
        )


def _why_unread(net: nn.Module, name: str, images: Tensor, error: Exception) -> str:
    text = f"the forward of {name} failed on an image of the data, float32 {tuple(images.shape)}: "
    text += first_line(error)
    other = next((_short(p.dtype) for p in net.parameters() if p.dtype != images.dtype), None)
    if other is None:
        return text
    return f"{text}; its weights are {other}: call net.float()."


def _check_logits(logits: object, name: str, classes: int) -> None:
    wanted = f"must return logits, [batch, {classes}] in floating point"
    if not isinstance(logits, Tensor):
        raise ValueError(f"{name} {wanted}, got {type(logits).__name__}: wrap it in a module that does.")
    if not logits.is_floating_point():
        raise ValueError(f"{name} {wanted}, got {_short(logits.dtype)}: leave out the argmax.")
    shape = f"{name} {wanted}, got the shape {tuple(logits.shape)} for one image"
    if logits.dim() != 2 or len(logits) != 1:
        raise ValueError(f"{shape}: flatten the outputs, as by .flatten(1).")
    if logits.shape[1] < classes:
        raise ValueError(f"{shape}: give its last layer an output for each of the {classes} classes.")


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, in which activations that the network kept from a forward have lost their history.

    Raises:
        ValueError: an attribute cannot be copied, such as a lock.
    """
    memo = {id(tensor): tensor.detach().clone() for tensor in _activations(model)}
    try:
        return copy.deepcopy(model, dict(memo))
    except Exception as error:  # of any kind: it is the user's attributes that fail
        raise ValueError(
            f"{_uncopyable(model, memo)} cannot be copied ({first_line(error)}): delete it before, and let "
            "the network make it in its forward if it needs it."
        ) from error


def _activations(model: nn.Module) -> Iterator[Tensor]:
    """Tensors with a history, in attributes or in a list or dict there: PyTorch does not copy them."""
    for module in model.modules():
        for value in vars(module).values():
            inside = value.values() if isinstance(value, dict) else value
            found = inside if isinstance(value, dict | list | tuple) else [value]
            yield from (t for t in found if isinstance(t, Tensor) and not t.is_leaf)


def _uncopyable(model: nn.Module, memo: dict[int, Tensor]) -> str:
    """The first attribute that cannot be copied, in words."""
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            try:
                if attribute != "_modules":
                    copy.deepcopy(value, dict(memo))
            except Exception:  # as above
                where = f"{name!r} of {type(model).__name__}" if name else type(model).__name__
                return f"the attribute {attribute!r} of {where}"
    return type(model).__name__


def first_line(error: Exception) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
