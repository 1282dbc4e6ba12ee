"""Which places of a network are tied: where the channels of one layer go, found by Torch-Pruning.

Its dependency graph (Fang et al. 2023, "DepGraph") follows PyTorch's autograd graph from the outputs of
a layer to everything that must lose a channel with them: batch norms, readers, the other writers of a
residual stream. It knows offsets of concatenations and strides of a flatten. What it cannot follow is
noted here as a refusal, with the reason.
"""

import warnings
from collections.abc import Collection, Sequence

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from .admission import first_line
from .tracing import (
    attention_refusal,
    channelwise_width,
    has_plain_weights,
    is_convolution,
    is_elementwise,
    is_grouped,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns about optional packages that nothing here uses
    import torch_pruning as tp

Slot = tuple[str, str]  # (name of a module, "in" or "out"): a side of a layer where channels lie

ATTENTION_OPS = ("BmmBackward", "ScaledDotProduct")
# what may lie between the softmax of attention and the product that it weighs
LAYOUT_OPS = (
    "View",
    "Reshape",
    "Expand",
    "Clone",
    "Permute",
    "Transpose",
    "queeze",
    "Dropout",
    "Mul",
    "ToCopy",
)


class _Graph(tp.DependencyGraph):
    """Torch-Pruning's graph, which takes every reshape for a flatten and divides by zero in a shuffle."""

    def _build_dependency(self, module2node: dict) -> None:
        for node in module2node.values():
            if _is_shuffle(node):  # whether its channels can be removed after all, a trial will show
                node.type = tp.ops.OPTYPE.ELEMENTWISE
        super()._build_dependency(module2node)


def _is_shuffle(node: object) -> bool:
    """Whether a reshape of images is read by anything but linear layers."""
    fn = node.grad_fn
    sizes = getattr(fn, "_saved_self_sym_sizes", None) or getattr(fn, "_saved_self_sizes", ())
    if node.type != tp.ops.OPTYPE.RESHAPE or len(sizes) < 4:
        return False
    ahead, seen = list(node.outputs), set()
    while ahead:
        reader = ahead.pop()
        if is_convolution(reader.module) or channelwise_width(reader.module):
            return True
        if not isinstance(reader.module, nn.Linear) and reader not in seen:
            ahead += reader.outputs
        seen.add(reader)
    return False


def dependency_graph(model: nn.Module, example: Tensor, names: Collection[str]) -> _Graph:
    """Torch-Pruning's graph of `model`, a copy in eval mode with gradients on.

    Args:
        names: of the layers that may be cut. Others that treat each channel by itself are replaced by an
            activation, as Torch-Pruning ties together all places where it finds one and the same module.

    Raises:
        ValueError: it cannot be followed at all, or computes attention.
    """
    kept = [model.get_submodule(name) for name in names]
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and module not in kept and is_elementwise(module):
            model.set_submodule(name, nn.SiLU())
    try:
        with torch.enable_grad():
            graph = _Graph().build_dependency(model, (example,), verbose=False)
    except Exception as error:  # of any kind: it is Torch-Pruning that fails on this network
        _check_no_attention(model, example)
        raise ValueError(
            f"Torch-Pruning cannot follow {type(model).__name__}: {first_line(error)}"
        ) from error
    if any(op in str(node.grad_fn) for node in graph.module2node.values() for op in ATTENTION_OPS):
        _check_no_attention(model, example)
    return graph


def _check_no_attention(model: nn.Module, example: Tensor) -> None:
    """Refuse a fused attention, or a matrix product with what came out of a softmax."""
    with torch.enable_grad():
        ahead = [model(example).grad_fn]
    seen = set()
    while ahead:
        fn = ahead.pop()
        if fn is None or fn in seen:
            continue
        seen.add(fn)
        if "ScaledDotProduct" in fn.name() or ("Bmm" in fn.name() and _weighs(fn)):
            raise ValueError(attention_refusal(model, fn.name()))
        ahead += [before for before, _ in fn.next_functions]


def _weighs(product: object) -> bool:
    """Whether a factor of a matrix product comes straight from a softmax."""
    ahead = [before for before, _ in product.next_functions]
    while ahead:
        fn = ahead.pop()
        if fn is not None and "Softmax" in fn.name():
            return True
        if fn is not None and any(op in fn.name() for op in LAYOUT_OPS):
            ahead += [before for before, _ in fn.next_functions]
    return False


def release(graph: _Graph) -> None:
    """Free a graph that is done with: its nodes hold each other, and with them the model and activations."""
    for node in graph.module2node.values():
        vars(node).clear()


class Ties:
    """All places of a network where channels lie, numbered through, and which of them are tied.

    Attributes:
        modules: the layers by name, in the order in which they run.
        start: number of the first place of every slot.
        count: of places.
        edges: pairs of arrays of places that are tied.
        refused: (places, reason) of channels that cannot be removed.
        added: places whose channels meet others in an addition.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.modules = {name: model.get_submodule(name) for name in names}
        self.names = {module: name for name, module in self.modules.items()}
        self.start: dict[Slot, int] = {}
        self.count = 0
        self.edges: list[tuple[np.ndarray, np.ndarray]] = []
        self.refused: list[tuple[np.ndarray, str]] = []
        self.added: list[int] = []
        for name, module in self.modules.items():
            self._number(name, module)

    def _number(self, name: str, module: nn.Module) -> None:
        for side, width in widths(module).items():
            self.start[name, side] = self.count
            self.count += width
        if isinstance(module, nn.GroupNorm):
            self._tie_blocks(name, module.num_groups, ("out",))
        elif is_grouped(module):
            self._tie_blocks(name, module.groups, ("in", "out"))
        if not has_plain_weights(module):
            for side in widths(module):
                why = f"the weight of {name} is computed from other tensors"
                self._refuse(self.all(name, side), why)

    def _tie_blocks(self, name: str, blocks: int, sides: Sequence[str]) -> None:
        """Tie the channels that a grouped layer treats as one block."""
        first = self.all(name, sides[0]).reshape(blocks, -1)[:, :1]
        for side in sides:
            places = self.all(name, side).reshape(blocks, -1)
            self.edges.append((np.broadcast_to(first, places.shape).ravel(), places.ravel()))

    def all(self, name: str, side: str) -> np.ndarray:
        """Numbers of all places of a slot."""
        return self.start[name, side] + np.arange(widths(self.modules[name])[side])

    def _refuse(self, places: np.ndarray, reason: str) -> None:
        self.refused.append((places, reason))

    def channels(self) -> np.ndarray:
        """Label of every place; places that are tied, however indirectly, have the same."""
        a, b = np.concatenate([np.empty((2, 0), int), *self.edges], axis=1)
        tied = coo_array((np.ones(len(a), bool), (a, b)), shape=(self.count, self.count))
        return connected_components(tied, directed=False)[1]

    def follow(self, graph: _Graph) -> None:
        """Add the ties that Torch-Pruning finds from the outputs of every layer."""
        reached = np.zeros(self.count, dtype=bool)
        for name, module in self.modules.items():
            is_root = is_matrix(module) and module in graph.module2node
            if not is_root or reached[self.all(name, "out")].all():
                continue
            try:
                pruner = graph.get_pruner_of_module(module).prune_out_channels
                items = graph.get_pruning_group(module, pruner, list(range(widths(module)["out"])))
            except Exception as error:  # of any kind: it is Torch-Pruning that fails on this structure
                why = f"Torch-Pruning cannot follow {name} ({type(error).__name__})"
                self._refuse(self.all(name, "out"), why)
                continue
            for item in items:
                roots = self.start[name, "out"] + np.asarray(item.root_idxs)
                self._add(graph, item, roots, reached)

    def _add(self, graph: _Graph, item: object, roots: np.ndarray, reached: np.ndarray) -> None:
        node, handler = item.dep.target, item.dep.handler
        module = node.module
        name = self.names.get(module)
        writes = graph.is_out_channel_pruning_fn(handler)
        if name is not None and widths(module):
            side = "out" if writes or not is_matrix(module) else "in"
            if len(item.idxs) != len(roots) or max(item.idxs, default=0) >= widths(module)[side]:
                return self._refuse(roots, f"Torch-Pruning loses its channels on the way to {name}")
            places = self.start[name, side] + np.asarray(item.idxs)
            self.edges.append((roots, places))
            reached[places] = True
            ends = side == "out" and not node.outputs
        else:
            ends = not node.outputs
            if name is not None or isinstance(module, nn.Parameter):
                self._refuse(roots, _why_unsupported(module, name))
        if ends:
            self._refuse(roots, "it is the network's output")
        if "AddBackward" in str(module) and sum(_carries_channels(n) for n in node.inputs) > 1:
            self.added += roots.tolist()


def is_matrix(module: nn.Module) -> bool:
    """Whether a layer mixes channels by a weight matrix: it reads some and writes others."""
    return is_convolution(module) or isinstance(module, nn.Linear)


def widths(module: nn.Module) -> dict[str, int]:
    """Sides of a layer where channels lie, and how many; empty for a layer that cannot be cut."""
    if is_convolution(module):
        return {"in": module.in_channels, "out": module.out_channels}
    if isinstance(module, nn.Linear):
        return {"in": module.in_features, "out": module.out_features}
    width = channelwise_width(module)
    return {"out": width} if width else {}


def _carries_channels(node: object) -> bool:
    return not isinstance(node.module, nn.Parameter)


def _why_unsupported(module: nn.Module, name: str | None) -> str:
    if name is None:
        return f"a parameter of shape {tuple(module.shape)} is used outside of a layer"
    return f"{name} ({type(module).__name__}) works on all channels together"
