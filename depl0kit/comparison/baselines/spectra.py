"""Which layers of a network may become two of low rank, and the singular values of their weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...channels.layers import Layer, is_convolution
from ...channels.tracing import Example, checked_inputs, trace
from ...networks.factorised import is_factorisable
from ...support.device import values_of
from ...support.modes import eval_mode


class Candidate(NamedTuple):
    """A layer that may become two.

    Attributes:
        name: of the module.
        macs: per image, of the whole layer.
        rank_macs: per image, of each rank of the two layers.
    """

    name: str
    macs: int
    rank_macs: int

    @property
    def most(self) -> int:
        """The largest rank at which the two cost less than the one; 0 if there is none."""
        return (self.macs - 1) // self.rank_macs


class Spectrum(NamedTuple):
    """A weight matrix and what there is to know of its rank, in float64 on the CPU.

    Attributes:
        weight: W [m, n].
        scale: the diagonal of D [m]: gamma / sqrt(var + eps) of the next batch norm, which multiplies rows.
        values: singular values of D W, falling [min(m, n)].
        right: its right singular vectors, as rows [min(m, n), n].
    """

    weight: Tensor
    scale: Tensor
    values: Tensor
    right: Tensor

    @property
    def energies(self) -> Tensor:
        """Share of the squared singular values that each rank from 1 on keeps, rising to 1 [min(m, n)]."""
        squares = self.values.square()
        dropped = squares.flip(0).cumsum(0).flip(0) - squares
        return 1 - dropped / squares.sum().clamp(min=torch.finfo(squares.dtype).tiny)


def candidates(model: nn.Module, example: Example) -> tuple[list[Candidate], int]:
    """The layers that may become two, in the order in which they run, and the MACs of the whole network.

    These are linear layers and convolutions, but for the first convolution, the last layer, convolutions with
    groups or of kernel size 1, layers whose weight is used elsewhere, and those that cost more at rank 1.

    Args:
        example: one input, as in `trace`.
    """
    with eval_mode(model):
        layers, macs = trace(model, example)
    modules = {x.name: model.get_submodule(x.name) for x in layers if x.pair_macs + x.output_macs}
    first = next((name for name, module in modules.items() if is_convolution(module)), None)
    last = next(reversed(modules), None)
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    found = [
        _candidate(layer, modules[layer.name])
        for layer in layers
        if layer.name in modules.keys() - {first, last} and _may_be_two(modules[layer.name], uses)
    ]
    return [layer for layer in found if layer.most], macs


def _may_be_two(module: nn.Module, uses: Mapping[int, int]) -> bool:
    """Whether it can become two layers, has a kernel, if it is a convolution, and a weight of its own."""
    if not is_factorisable(module) or uses[id(module.weight)] > 1:
        return False
    return not is_convolution(module) or module.weight[0, 0].numel() > 1


def _candidate(layer: Layer, module: nn.Module) -> Candidate:
    places = layer.pair_macs // module.weight[0, 0].numel()
    outputs, inputs = module.weight.flatten(1).shape
    return Candidate(layer.name, places * outputs * inputs, places * (outputs + inputs))


def spectra(model: nn.Module, example: Example, names: Sequence[str]) -> dict[str, Spectrum]:
    """The `Spectrum` of each of these layers; D is 1 where no batch norm reads what a layer writes."""
    norms, found = _next_norms(model, example, names), {}
    for name in names:
        weight = values_of(model.get_submodule(name).weight).double().flatten(1)
        norm = norms.get(name)
        is_by_row = norm is not None and norm.num_features == len(weight)  # on tokens it may scale each token
        found[name] = _spectrum(weight, _scale(norm) if is_by_row else weight.new_ones(len(weight)))
    return found


def _spectrum(weight: Tensor, scale: Tensor) -> Spectrum:
    # the QR decomposition comes first as it saves two thirds of the time
    columns, triangle = torch.linalg.qr((scale[:, None] * weight).T)
    _, values, right = torch.linalg.svd(triangle.T, full_matrices=False)
    return Spectrum(weight, scale, values, right @ columns.T)


def _scale(norm: _BatchNorm) -> Tensor:
    scale = (values_of(norm.running_var).double() + norm.eps).rsqrt()
    return scale if norm.weight is None else scale * values_of(norm.weight).double()


@torch.no_grad()
def _next_norms(model: nn.Module, example: Example, names: Sequence[str]) -> dict[str, _BatchNorm]:
    """The batch norm that reads what a layer writes, for each layer that has one."""
    written: dict[int, tuple[str, Tensor]] = {}  # by id of the output, which is kept: its id stays its own
    found = {}

    def write(name: str, output: Tensor) -> None:
        written[id(output)] = name, output

    def read(norm: nn.Module, x: Tensor) -> None:
        if id(x) in written:
            found[written[id(x)][0]] = norm

    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, _x, y, name=name: write(name, y))
        for name in names
    ]
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_var is not None]
    hooks += [norm.register_forward_pre_hook(lambda m, args: read(m, args[0])) for norm in norms]
    try:
        with eval_mode(model):
            model(*checked_inputs(model, example))
    finally:
        for hook in hooks:
            hook.remove()
    return found
