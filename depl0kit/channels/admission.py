"""Which networks can be gated, and safe copies of them.

What cannot be is refused before any work, by its name.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

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
                f"parameter {key!r} of {name} is {short(parameter.dtype)}, which has no gradients: make it "
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


def copied(model: nn.Module, values: bool = True) -> nn.Module:
    """A deep copy, in which activations that the network kept from a forward have lost their history.

    Args:
        values: False makes its parameters and buffers tensors on the "meta" device, which hold no values.

    Raises:
        ValueError: an attribute cannot be copied, such as a lock.
    """
    memo = {id(tensor): tensor.detach().clone() for tensor in _activations(model)}
    if not values:
        memo |= {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
        memo |= {id(b): b.to("meta") for b in model.buffers()}
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


def short(dtype: torch.dtype) -> str:
    """A type's name without "torch."."""
    return str(dtype).removeprefix("torch.")
