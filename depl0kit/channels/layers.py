"""Layers whose channels can be cut: on which sides channels lie, and what the layer costs.

A layer is a convolution or linear layer, which mixes channels by a weight matrix, or a norm or PReLU, which
treats each channel by itself. A parameter or buffer outside of them that has an entry per channel, such as
the layer scale of a ConvNeXt, counts as a layer of the second kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrize import is_parametrized

Slot = tuple[str, str]  # (name of a layer, side): where channels lie; sides are "in", "out" or a dimension


@dataclass(frozen=True)
class Layer:
    """A layer, and how its cost depends on its widths.

    With i open inputs and o open outputs it costs `pair_macs i o + output_macs o` multiply-accumulates
    an image, and `pair_params i o + output_params o` parameters. In a grouped convolution every output
    keeps its inputs, so there the part in i o is zero.

    Attributes:
        name: of the module, or of a parameter or buffer outside of layers.
        inputs, outputs: channels (or features) of the dense layer.
        side: where its outputs lie: "out", or the dimension of a parameter or buffer, as text.
    """

    name: str
    inputs: int
    outputs: int
    pair_macs: int = 0
    pair_params: int = 0
    output_macs: int = 0
    output_params: int = 0
    side: str = "out"

    def run_again(self, other: "Layer") -> "Layer":
        """The layer after one more call in the same forward: it computes more, with the same parameters."""
        return replace(
            self,
            pair_macs=self.pair_macs + other.pair_macs,
            output_macs=self.output_macs + other.output_macs,
        )


def is_convolution(module: nn.Module) -> bool:
    """Whether it is a convolution, plain or transposed, in 1, 2 or 3 dimensions."""
    return isinstance(module, _ConvNd)


def is_transposed(module: nn.Module) -> bool:
    return is_convolution(module) and module.transposed


def is_grouped(module: nn.Module) -> bool:
    return is_convolution(module) and module.groups > 1


def is_matrix(module: nn.Module) -> bool:
    """Whether a layer mixes channels by a weight matrix: it reads some and writes others."""
    return is_convolution(module) or isinstance(module, nn.Linear)


def channelwise_width(module: nn.Module) -> int:
    """Channels of a layer that treats each channel (or block of channels) by itself; 0 for any other."""
    if isinstance(module, _BatchNorm | _InstanceNorm):
        return module.num_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return module.num_parameters
    return 0


def widths(module: nn.Module) -> dict[str, int]:
    """Sides of a layer where channels lie, and how many; empty for a layer that cannot be cut."""
    if is_convolution(module):
        return {"in": module.in_channels, "out": module.out_channels}
    if isinstance(module, nn.Linear):
        return {"in": module.in_features, "out": module.out_features}
    width = channelwise_width(module)
    return {"out": width} if width else {}


def has_plain_weights(module: nn.Module) -> bool:
    """Whether rows and columns of the weight can be cut out: not so where it is computed from others."""
    return not is_parametrized(module) and ("weight" in module._parameters or not module._parameters)


def input_dim(module: nn.Module) -> int:
    """Dimension of the weight along which the inputs of a convolution or linear layer lie."""
    return 0 if is_transposed(module) else 1


def tensors_along(module: nn.Module, side: str) -> dict[str, int]:
    """Tensors with an entry per channel of a side, where a layer has them, and the dimension of these."""
    grouped, transposed = is_grouped(module), is_transposed(module)
    if side == "in":  # of a grouped convolution each output keeps its own inputs
        return {} if grouped and not transposed else {"weight": input_dim(module)}
    weight = {} if grouped and transposed else {"weight": int(transposed)}  # or each input its own outputs
    return weight | dict.fromkeys(("bias", "running_mean", "running_var"), 0)


def channel_dim(module: nn.Module, x: Tensor) -> int:
    """Dimension of an activation `x` along which the channels of a layer lie, counted from the end."""
    if isinstance(module, nn.Linear):
        return -1
    if is_convolution(module):
        return 1 - module.weight.dim()
    return 1 - x.dim()


def measured_layer(name: str, module: nn.Module, x: Tensor, y: Tensor, batch: int) -> Layer:
    """The layer with the cost of one call, per image of a `batch`, that read `x` and wrote `y`."""
    if not is_matrix(module):
        width = channelwise_width(module)
        parameters = sum(p.numel() for p in module.parameters(recurse=False))
        return Layer(name, width, width, output_params=parameters // width if width else 0)
    sides, bias = widths(module), int(getattr(module, "bias", None) is not None)
    inputs, outputs = sides["in"], sides["out"]
    groups, kernel = getattr(module, "groups", 1), module.weight[0, 0].numel()
    # every position of the larger image of a transposed convolution is written from the smaller one
    places, wide = (x, inputs) if is_transposed(module) else (y, outputs)
    positions = places.numel() // (wide * batch)
    if groups == 1:
        cost = {"pair_macs": kernel * positions, "pair_params": kernel, "output_params": bias}
    else:
        fan_in = kernel * inputs // groups
        cost = {"output_macs": fan_in * positions, "output_params": fan_in + bias}
    return Layer(name, inputs, outputs, **cost)


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that has a parameter or buffer, and its name there."""
    owner, _, key = name.rpartition(".")
    return model.get_submodule(owner), key


def loose_layers(model: nn.Module) -> Iterator[Layer]:
    """Parameters and buffers outside of layers that have one dimension only, as `Layer`s."""
    for kind, tensors in ((1, model.named_parameters()), (0, model.named_buffers())):
        for name, tensor in tensors:
            owner, _ = owner_of(model, name)
            long = [dim for dim, size in enumerate(tensor.shape) if size > 1]
            if len(long) == 1 and tensor.is_floating_point() and not widths(owner):
                yield Layer(name, tensor.numel(), tensor.numel(), output_params=kind, side=str(long[0]))
