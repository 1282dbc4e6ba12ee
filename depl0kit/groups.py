"""Which channels can be removed together, found by following a network from layer to layer.

A *group* is a set of channels that one gate vector switches: here, the outputs of one convolution or
linear layer in a chain (conv / batch norm / activation / pooling / flatten / linear). The gate sits
after the batch norm, so that a closed channel is exactly zero for whoever reads it.
"""

import copy
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

# f(c x) = c f(x) for c >= 0, channel by channel: gate before or after, the result is the same
HOMOGENEOUS = {
    *("relu", "leakyrelu", "maxpool2d", "avgpool2d", "adaptiveavgpool2d", "adaptivemaxpool2d"),
    *("dropout", "dropout2d", "identity", "contiguous"),
}
KEEPS_ZERO = {"tanh", "gelu", "silu", "elu", "celu", "selu", "relu6", "hardswish"}  # f(0) = 0 only
FLATTENING = {"flatten", "view", "reshape"}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Group:
    """Channels that one gate vector switches.

    Attributes:
        name: the module that writes them.
        channels: how many.
        norms: batch norms between the writer and the gate, in order.
        site: the module whose output the gate multiplies.
        readers: the layers that read the channels.
        refusal: why the group cannot be gated; empty if it is gated.
    """

    name: str
    channels: int
    norms: tuple[str, ...] = ()
    site: str = ""
    readers: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def gated(self) -> bool:
        return not self.refusal


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: what its cost depends on.

    Attributes:
        name: of the module.
        inputs, outputs: channels of the dense layer; inputs counts those of one output's window.
        area: multiply-accumulates per (input, output) pair and image: kernel area x output positions.
        kernel: weights per (input, output) pair.
        per_output: parameters per output channel beside the weights: bias, batch norm.
        reads, writes: name of the group at its input and output, None where there is none.
        spread: inputs per channel of the group it reads (more than 1 after a flatten).
    """

    name: str
    inputs: int
    outputs: int
    area: int
    kernel: int
    per_output: int
    reads: str | None
    writes: str | None
    spread: int = 1


class Groups(tuple[Group, ...]):
    """The groups of a network in its order; `print` shows them as a table."""

    @property
    def gated(self) -> list[Group]:
        return [g for g in self if g.gated]

    def __repr__(self) -> str:
        rows = [("group", "channels", "read by", "gate")]
        for g in self:
            status = f"after {g.site}" if g.gated else f"none: {g.refusal}"
            rows.append((g.name, str(g.channels), ", ".join(g.readers) or "-", status))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        pad = [*(f"{{:{w}}}" for w in widths), "{}"]
        return "\n".join("  ".join(pad).format(*row) for row in rows)


def find_groups(model: nn.Module, example: Tensor) -> tuple[Groups, list[Layer]]:
    """Follow `model` from layer to layer on `example` (a batch of inputs, any size).

    Returns:
        The groups, gated or not, and the convolution and linear layers, both in execution order.

    Raises:
        ValueError: the model is not a chain, cannot be followed, or uses one layer at two places.
    """
    if not isinstance(example, Tensor):
        raise ValueError(f"example must be a batch of inputs as a tensor, got {type(example).__name__}.")
    model = copy.deepcopy(model).eval()  # a forward in training mode would move batch-norm statistics
    try:
        with torch.no_grad():
            model(example)  # if it fails, then in PyTorch's words: fx would name its own internals
            graph = fx.symbolic_trace(model)
            ShapeProp(graph).propagate(example)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"cannot follow the forward of {type(model).__name__} on an example of shape "
            f"{tuple(example.shape)}: {reason}"
        ) from error
    return _Walk(model, graph).run()


class _Walk:
    """One pass along the chain. The open end of the chain is `self.group`, until someone reads it."""

    def __init__(self, model: nn.Module, graph: fx.GraphModule) -> None:
        self.modules = dict(model.named_modules())
        self.nodes = [n for n in graph.graph.nodes if hasattr(n.meta.get("tensor_meta"), "shape")]
        self.calls = Counter(n.target for n in graph.graph.nodes if n.op == "call_module")
        self.groups: list[Group] = []
        self.layers: list[Layer] = []
        self.group: Group | None = None
        self.spread = 1
        self.site_moves = False

    def run(self) -> tuple[Groups, list[Layer]]:
        for name in self.calls:
            self._check_cost_known(name, self.modules[name])
        inner = [n for n in self.nodes if n.op not in ("placeholder", "output")]
        for node in inner:
            self._check_chain(node)
            self._visit(node)
        self._close(refusal="it is the network's output")
        return Groups(self.groups), self.layers

    def _check_cost_known(self, name: str, module: nn.Module) -> None:
        has_matrix = any(p.dim() > 1 for p in module.parameters())
        if has_matrix and not isinstance(module, nn.Conv2d | nn.Linear):
            raise ValueError(
                f"layer {name!r} is a {type(module).__name__}, whose cost is not known here: "
                "use Conv2d and Linear layers."
            )

    def _check_chain(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            raise ValueError(
                f"the forward uses the tensor {node.target!r} outside of a layer: "
                "gates need a chain of layers, such as nn.Sequential(nn.Conv2d(...), nn.ReLU(), ...)."
            )
        tensors = [n for n in node.all_input_nodes if n in self.nodes]
        users = [n for n in node.users if n in self.nodes or n.op == "output"]
        if len(tensors) != 1 or len(users) > 1:
            raise ValueError(
                f"this network is not a chain: {node.name!r} reads {len(tensors)} tensors and is read "
                f"by {len(users)} operations. Gates are placed in chains of convolution, batch norm, "
                "activation, pooling and linear layers."
            )

    def _visit(self, node: fx.Node) -> None:
        module = self.modules.get(node.target) if node.op == "call_module" else None
        kind = _kind(node, module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            self._layer(node, module)
        elif isinstance(module, NORMS):
            self._norm(node.target, module)
        elif self.group is None:
            return
        elif kind in FLATTENING:
            self._flatten(node, fixed=kind != "flatten" and not _infers_last_size(node))
        elif kind == "mean":
            self._mean(node)
        elif kind in HOMOGENEOUS:
            if module is not None and self.calls[node.target] == 1 and self.site_moves:
                self.group = replace(self.group, site=node.target)
        else:
            self.site_moves = False
            if kind not in KEEPS_ZERO:
                self._refuse(f"{node.name!r} is not known to keep zeros at zero")

    def _layer(self, node: fx.Node, module: nn.Conv2d | nn.Linear) -> None:
        name = node.target
        if self.calls[name] > 1:
            raise ValueError(f"layer {name!r} is used at {self.calls[name]} places: give each its own layer.")
        shape = node.meta["tensor_meta"].shape
        is_conv = isinstance(module, nn.Conv2d)
        grouped = is_conv and module.groups > 1
        if grouped or (not is_conv and len(shape) != 2):
            self._refuse(f"{name} is not an ordinary convolution or linear layer")
        inputs, outputs = (
            (module.in_channels // module.groups, module.out_channels)
            if is_conv
            else (module.in_features, module.out_features)
        )
        kernel = module.kernel_size[0] * module.kernel_size[1] if is_conv else 1
        area = kernel * (shape[2] * shape[3] if is_conv else shape[1:-1].numel())
        reads = self.group.name if self.group else None
        bias = int(module.bias is not None)
        self.layers.append(Layer(name, inputs, outputs, area, kernel, bias, reads, name, self.spread))
        self._close(reader=name)
        self.group, self.spread, self.site_moves = Group(name, outputs, site=name), 1, True
        if grouped:
            self._refuse(f"{name} is a grouped convolution")

    def _norm(self, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        if self.group is None:
            return
        if module.num_features != self.group.channels or self.calls[name] > 1:
            return self._refuse(f"batch norm {name} does not belong to these channels alone")
        if not module.affine:
            return self._refuse(f"batch norm {name} has no scale that could take up a gate")
        # a batch norm turns zeros into constants, so the gate comes after it
        self.group = replace(self.group, norms=(*self.group.norms, name), site=name)
        self.site_moves = True
        last = self.layers[-1]
        self.layers[-1] = replace(last, per_output=last.per_output + 2)

    def _flatten(self, node: fx.Node, fixed: bool) -> None:
        before, after = (n.meta["tensor_meta"].shape for n in (node.all_input_nodes[0], node))
        self.site_moves = False
        if fixed or len(after) != 2 or after[0] != before[0]:
            return self._refuse(f"{node.name!r} mixes channels or fixes their number")
        if len(before) > 2:
            self.spread = after[1] // self.group.channels

    def _mean(self, node: fx.Node) -> None:
        self.site_moves = False
        dims = len(node.all_input_nodes[0].meta["tensor_meta"].shape)
        axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        axes = axes if isinstance(axes, list | tuple) else [axes]
        if None in axes or {axis % dims for axis in axes} != set(range(2, dims)):
            self._refuse(f"{node.name!r} does not average over all positions, and over them alone")

    def _refuse(self, reason: str) -> None:
        if self.group is not None and not self.group.refusal:
            self.group = replace(self.group, refusal=reason)

    def _close(self, reader: str | None = None, refusal: str = "") -> None:
        if refusal:
            self._refuse(refusal)
        if self.group is not None:
            self.groups.append(replace(self.group, readers=(reader,) if reader else ()))


def _infers_last_size(node: fx.Node) -> bool:
    """Whether the last size of a view or reshape is -1, so that it fits fewer channels too."""
    shape = node.args[1:] or tuple(node.kwargs.values())
    return str(shape).rstrip("]),").endswith("-1")


def _kind(node: fx.Node, module: nn.Module | None) -> str:
    """Name of the operation, the same for a module, a function and a method: "maxpool2d"."""
    target = type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target)
    return str(target).lower().replace("_", "")
