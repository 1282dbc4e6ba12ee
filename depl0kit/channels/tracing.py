"""One forward pass on an example: which layers a network has, in which order, and what they cost."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.flop_counter import FlopCounterMode

from .admission import copied, first_line


@dataclass(frozen=True)
class Layer:
    """A convolution, linear or normalisation layer, and how its cost depends on its widths.

    With i open inputs and o open outputs it costs `pair_macs i o + output_macs o` multiply-accumulates
    an image, and `pair_params i o + output_params o` parameters. In a grouped convolution every output
    keeps its inputs, so there the part in i o is zero.

    Attributes:
        name: of the module.
        inputs, outputs: channels (or features) of the dense layer.
    """

    name: str
    inputs: int
    outputs: int
    pair_macs: int = 0
    pair_params: int = 0
    output_macs: int = 0
    output_params: int = 0


def is_convolution(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd)


def is_grouped(module: nn.Module) -> bool:
    return is_convolution(module) and module.groups > 1


def trace(model: nn.Module, example: Tensor) -> tuple[list[Layer], int]:
    """Run `model` on `example`; return its layers in the order in which they ran, and its MACs per image.

    The MACs are PyTorch's own count, so they include what is computed outside of the layers.

    Args:
        model: a network in eval mode; it is not changed. In training mode its statistics move.
        example: a batch of inputs, any size.

    Raises:
        ValueError: the example is missing, not a tensor or on another device; the forward fails on it;
            one layer is used at two places; there is an attention layer.
    """
    _check_example(model, example)
    _check_no_attention(model)
    layers: dict[str, Layer] = {}
    shared: set[str] = set()  # without weights: each place may have its own channels

    def record(name: str, module: nn.Module, output: Tensor) -> None:
        if name not in layers:
            layers[name] = _layer(name, module, output)
        elif is_elementwise(module):
            shared.add(name)
        else:
            raise _Reused(f"layer {name!r} is used at two places: give each place a layer of its own.")

    hooks = [
        module.register_forward_hook(lambda m, _, out, name=name: record(name, m, out))
        for name, module in model.named_modules()
        if (module._parameters or module._buffers)
        and not _has_one_slope(module)
        and ".parametrizations." not in f".{name}."
    ]
    flops = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), flops:
            output = model(example)
    except _Reused:
        raise
    except Exception as error:
        raise ValueError(_explain(model, example, error)) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the forward of {type(model).__name__} must return one tensor, the logits,{_in_training(model)} "
            f"got {type(output).__name__}: {_way_out(model)}."
        )
    if not output.is_floating_point():
        raise ValueError(
            f"the forward of {type(model).__name__} must return logits, in floating point, got "
            f"{str(output.dtype).removeprefix('torch.')}: leave out the argmax."
        )
    kept = [layer for name, layer in layers.items() if name not in shared]
    return kept, flops.get_total_flops() // (2 * len(example))


def check_training_mode(model: nn.Module, layers: Sequence[Layer], example: Tensor) -> None:
    """Refuse what only training mode shows: nobody could say what of it may be removed.

    Args:
        model: a copy; it is left in training mode, its statistics moved.
        layers: what ran in eval mode.

    Raises:
        ValueError: layers run in training mode only, such as auxiliary heads, or outputs are no tensor.
    """
    devices = [example.device] if example.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # dropout must not change what is drawn afterwards
        running, _ = trace(model.train(), torch.cat([example[:1]] * 2))  # batch norm needs two images
    known = {layer.name for layer in layers}
    extra = [layer.name for layer in running if layer.name not in known]
    if extra:
        raise ValueError(
            f"layer {extra[0]!r} of {type(model).__name__} runs in training mode only, so that it cannot be "
            f"cut along with the others: {_way_out(model)}."
        )


def _in_training(model: nn.Module) -> str:
    return " in training mode, too," if model.training else ""


def _way_out(model: nn.Module) -> str:
    if model.training:
        return "leave such auxiliary heads out (in torchvision aux_logits=False)"
    return "wrap it in a module that returns them alone"


class _Reused(ValueError):
    """Told apart from the errors of the model's own forward."""


def _layer(name: str, module: nn.Module, output: Tensor) -> Layer:
    bias = int(getattr(module, "bias", None) is not None)
    if is_convolution(module):
        positions, kernel = output.shape[2:].numel(), module.weight[0, 0].numel()
        if module.groups == 1:
            cost = {"pair_macs": kernel * positions, "pair_params": kernel, "output_params": bias}
        else:
            fan_in = module.weight[0].numel()
            cost = {"output_macs": fan_in * positions, "output_params": fan_in + bias}
        return Layer(name, module.in_channels, module.out_channels, **cost)
    if isinstance(module, nn.Linear):
        positions = output.shape[1:-1].numel()
        cost = {"pair_macs": positions, "pair_params": 1, "output_params": bias}
        return Layer(name, module.in_features, module.out_features, **cost)
    width = channelwise_width(module)
    parameters = sum(p.numel() for p in module.parameters(recurse=False))
    return Layer(name, width, width, output_params=parameters // width if width else 0)


def channelwise_width(module: nn.Module) -> int:
    """Channels of a layer that treats each channel (or block of channels) by itself; 0 for any other."""
    if isinstance(module, _BatchNorm | _InstanceNorm):
        return module.num_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return module.num_parameters
    return 0


def is_elementwise(module: nn.Module) -> bool:
    """Whether a layer treats each channel by itself and holds nothing that could be cut."""
    empty = all(t is None for t in (*module._parameters.values(), *module._buffers.values()))
    return _has_one_slope(module) or (isinstance(module, _BatchNorm | _InstanceNorm) and empty)


def _has_one_slope(module: nn.Module) -> bool:
    return isinstance(module, nn.PReLU) and module.num_parameters == 1


def _check_example(model: nn.Module, example: Tensor) -> None:
    if not isinstance(example, Tensor):
        raise ValueError(
            f"example must be a batch of inputs as a tensor, got {type(example).__name__}: pass "
            "example=torch.zeros(1, channels, height, width), of the size of your images."
        )
    if example.dim() < 2 or not example.numel():
        raise ValueError(
            f"example must be a batch of at least one input, [batch, ...], got shape {tuple(example.shape)}."
        )
    device = next((p.device for p in model.parameters()), example.device)
    if device != example.device:
        raise ValueError(
            f"the example is on {str(example.device)!r} but {type(model).__name__} is on "
            f"{str(device)!r}: pass example.to({str(device)!r})."
        )


def _check_no_attention(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            raise ValueError(attention_refusal(model, name))


def attention_refusal(model: nn.Module, where: str) -> str:
    return (
        f"{type(model).__name__} computes attention ({where}), as transformers do: it mixes channels in "
        "heads, which gates on channels cannot remove. Use a convolutional network."
    )


def _explain(model: nn.Module, example: Tensor, error: Exception) -> str:
    """Why a forward failed: in PyTorch's words, or that it wants more than one argument."""
    name, shape = type(model).__name__, tuple(example.shape)
    text = f"the forward of {name} failed on an example of shape {shape}"
    text += f"{' in training mode' if model.training else ''}: {first_line(error)}"
    needed = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if len(needed) != 1:
        text += (
            f". It takes {len(needed)} arguments ({', '.join(needed)}): wrap it in a module whose forward "
            "takes the images alone."
        )
    return text


def probe_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode with gradients on, and with every scale, shift and statistic drawn at random.

    A fresh network is no probe: its batch norms pass channels on unchanged, and scales that start at
    0 or 1e-6 hide what comes through them.
    """
    probe = copied(model).eval().requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    matrices = {id(m.weight) for m in probe.modules() if is_convolution(m) or isinstance(m, nn.Linear)}
    tensors = [*probe.parameters(), *probe.buffers()]
    with torch.no_grad():
        for t in tensors:
            if id(t) not in matrices and t.is_floating_point():
                t.copy_(torch.empty(t.shape).uniform_(0.5, 1.5, generator=generator))
    return probe


def has_plain_weights(module: nn.Module) -> bool:
    """Whether rows and columns of the weight can be cut out: not so where it is computed from others."""
    return not is_parametrized(module) and ("weight" in module._parameters or not module._parameters)
