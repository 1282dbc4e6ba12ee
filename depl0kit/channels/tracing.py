"""One forward pass on an example: which layers a network has, in which order, and what they cost."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .admission import copied, first_line
from .layers import Layer, channelwise_width, is_matrix, loose_layers, measured_layer

Example = Tensor | Sequence[Tensor]
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)  # no tensors in these


class MacCounter(TorchDispatchMode):
    """Counts multiply-accumulates by PyTorch's own formulas, and so as its `FlopCounterMode` does.

    That mode takes each operation without a formula apart, which costs more than the network does.
    """

    flops = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out

    def per_image(self, images: int) -> int:
        """MACs so far, of one of so many images."""
        return self.flops // (2 * images)


def trace(model: nn.Module, example: Example) -> tuple[list[Layer], int]:
    """Run `model` on `example`; return its layers in the order in which they ran, and its MACs per image.

    The MACs are PyTorch's own count, so they include what is computed outside of the layers. A layer that
    runs at several places has the MACs of all of them. Parameters and buffers outside of layers come last.

    Args:
        model: a network in eval mode; it is not changed. In training mode its statistics move.
        example: a batch of inputs, any size; a tuple or list if the forward takes several.

    Raises:
        ValueError: the example is missing, not a tensor or on another device; the forward fails on it.
    """
    inputs = checked_inputs(model, example)
    layers: dict[str, Layer] = {}
    shared: set[str] = set()  # without tensors: each place may have its own channels

    def record(name: str, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not isinstance(output, Tensor):  # of a class of its own: the tracer refuses what it reads
            return
        given = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        layer = measured_layer(name, module, given[0] if given else output, output, len(inputs[0]))
        if name in layers and not any(True for _ in module.state_dict()):
            shared.add(name)
        layers[name] = layers[name].run_again(layer) if name in layers else layer

    hooks = [
        module.register_forward_hook(
            lambda m, args, kwargs, out, name=name: record(name, m, args, kwargs, out), with_kwargs=True
        )
        for name, module in model.named_modules()
        if _holds_tensors(module) and ".parametrizations." not in f".{name}."
    ]
    try:
        with torch.no_grad(), in_slow_attention(), MacCounter() as macs:
            model(*inputs)
    except Exception as error:
        raise ValueError(_explain(model, inputs, error)) from error
    finally:
        for hook in hooks:
            hook.remove()
    kept = [layer for name, layer in layers.items() if name not in shared]
    return [*kept, *loose_layers(model)], macs.per_image(len(inputs[0]))


def _holds_tensors(module: nn.Module) -> bool:
    return bool(module._parameters or module._buffers or channelwise_width(module) or is_matrix(module))


def _traced_without_values(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Layer] | None:
    """What `trace` finds in training mode on the "meta" device, which computes nothing; None if it fails."""
    try:
        return trace(copied(model, values=False).train(), tuple(t.to("meta") for t in inputs))[0]
    except (ValueError, NotImplementedError, RuntimeError):
        return None


@contextmanager
def in_slow_attention() -> Iterator[None]:
    """PyTorch's fast path computes attention blocks in one piece, past their layers, hooks and counts."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def check_training_mode(model: nn.Module, layers: Sequence[Layer], inputs: Sequence[Tensor]) -> None:
    """Refuse what only training mode shows: nobody could say what of it may be removed.

    Args:
        model: in any mode; it is not changed.
        layers: what ran in eval mode.
        inputs: what `checked_inputs` returned.

    Raises:
        ValueError: layers run in training mode only, such as auxiliary heads.
    """
    two = tuple(torch.cat([t[:1]] * 2) for t in inputs)  # batch norm needs two images
    running = _traced_without_values(model, two)
    if running is None:
        with torch.random.fork_rng([inputs[0].device] if inputs[0].is_cuda else []):
            running, _ = trace(copied(model).train(), two)  # dropout must not change what is drawn afterwards
    known = {layer.name for layer in layers}
    extra = [layer.name for layer in running if layer.name not in known]
    if extra:
        raise ValueError(
            f"layer {extra[0]!r} of {type(model).__name__} runs in training mode only, so that it cannot be "
            "cut along with the others: leave such auxiliary heads out (in torchvision aux_logits=False)."
        )


def checked_inputs(model: nn.Module, example: Example) -> tuple[Tensor, ...]:
    """The inputs of one forward, each a batch of the same size.

    Raises:
        ValueError: one is not a tensor, is empty or is on another device than the network.
    """
    inputs = tuple(example) if isinstance(example, tuple | list) else (example,)
    if not inputs or not all(isinstance(t, Tensor) for t in inputs):
        wrong = next((t for t in inputs if not isinstance(t, Tensor)), None)
        raise ValueError(
            f"example must be a batch of inputs as a tensor, got {type(wrong).__name__}: pass "
            "example=torch.zeros(1, channels, height, width), of the size of your images, or a tuple of such "
            "if the forward takes several."
        )
    batch = inputs[0].shape[:1]
    for t in inputs:
        if (t.dim() < 2 and len(inputs) == 1) or not t.numel() or t.shape[:1] != batch:
            raise ValueError(
                f"example must be a batch of at least one input, [batch, ...], got shape {tuple(t.shape)}."
            )
        device = next((p.device for p in model.parameters()), t.device)
        if device != t.device:
            raise ValueError(
                f"the example is on {str(t.device)!r} but {type(model).__name__} is on "
                f"{str(device)!r}: pass example.to({str(device)!r})."
            )
    return inputs


def _explain(model: nn.Module, inputs: tuple[Tensor, ...], error: Exception) -> str:
    """Why a forward failed: in PyTorch's words, or that it wants another number of arguments."""
    name, shapes = type(model).__name__, [tuple(t.shape) for t in inputs]
    text = f"the forward of {name} failed on an example of shape {', '.join(map(str, shapes))}"
    text += f"{' in training mode' if model.training else ''}: {first_line(error)}"
    needed = required_arguments(model)
    if len(needed) != len(inputs):
        text += f". It takes {len(needed)} arguments ({', '.join(needed)}): pass a tuple of so many tensors."
    return text


def required_arguments(model: nn.Module) -> list[str]:
    """Names of the arguments without which a forward cannot be called; none if it does not tell."""
    single = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    single += (inspect.Parameter.KEYWORD_ONLY,)
    try:
        arguments = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # of a scripted module
        return []
    return [p.name for p in arguments if p.default is p.empty and p.kind in single]


def output_tensors(outputs: Any) -> list[Tensor]:
    """All tensors of an output: of a tuple, list, dict or dataclass, nested as they may be.

    Raises:
        ValueError: it holds an object in which nobody could look for tensors.
    """
    found: list[Tensor] = []
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):  # a class of its own, as in Hugging Face's models
            found += output_tensors(list(leaf.values()))
        elif is_dataclass(leaf):
            found += output_tensors([getattr(leaf, field.name) for field in fields(leaf)])
        elif isinstance(leaf, tuple | list):
            found += output_tensors(list(leaf))
        elif not isinstance(leaf, PLAIN):
            raise ValueError(
                f"the network returns an object of type {type(leaf).__name__}, in which its outputs cannot "
                "be found: return a tensor, or a tuple, list, dict or dataclass of tensors."
            )
    return found


def probe_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode with gradients on, and with every scale, shift and statistic drawn at random.

    A fresh network is no probe: its batch norms pass channels on unchanged, and scales that start at
    0 or 1e-6 hide what comes through them, and so do weight matrices that start at 0, as some heads do. Its
    layout is the ordinary one: in channels-last, as training leaves it, some operations become others that
    the tracer does not know.
    """
    probe = copied(model).eval().requires_grad_(True).to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    matrices = {id(m.weight) for m in probe.modules() if is_matrix(m)}
    tensors = [*probe.parameters(), *probe.buffers()]
    with torch.no_grad():
        for t in tensors:
            if id(t) not in matrices and t.is_floating_point():
                t.copy_(torch.empty(t.shape).uniform_(0.5, 1.5, generator=generator))
            elif id(t) in matrices and not t.any():
                t.copy_(torch.empty(t.shape).normal_(0, t[0].numel() ** -0.5, generator=generator))
    return probe
