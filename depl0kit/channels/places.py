"""All places of a network where channels lie, and which of them are tied."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from .layers import Layer, Slot, has_plain_weights, is_grouped, widths


class Places:
    """Every input and output channel of every layer has a number, its place. Ties between places, refusals
    and additions are noted here, while `tracer` follows a forward pass.

    Args:
        model: the network whose layers these are.
        layers: in the order in which they run.

    Attributes:
        modules: the layers by name; None for parameters and buffers outside of layers.
        loose: first place of these, and the one after their last.
        start: number of the first place of every slot; `width` is the number of its places.
        count: of places.
        edges: pairs of arrays of places that are tied.
        refused: (places, reason) of channels that cannot be removed.
        added: places whose channels meet others in an addition.
        sites: (places, module, operation) of channels that a slice, a split or a reshape cuts or moves.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        self.modules: dict[str, nn.Module | None] = {}
        self.start: dict[Slot, int] = {}
        self.width: dict[Slot, int] = {}
        self.count = 0
        self.edges: list[tuple[np.ndarray, np.ndarray]] = []
        self.refused: list[tuple[np.ndarray, str]] = []
        self.added: list[np.ndarray] = []
        self.sites: list[tuple[np.ndarray, str, str]] = []
        for layer in layers:
            if layer.side == "out":
                self._number(layer.name, model.get_submodule(layer.name))
        first = self.count
        for layer in layers:
            if layer.side != "out":
                self.modules[layer.name] = None
                self.add((layer.name, layer.side), layer.outputs)
        self.loose = first, self.count
        self._refuse_shared(model)

    def _number(self, name: str, module: nn.Module) -> None:
        self.modules[name] = module
        for side, width in widths(module).items():
            self.add((name, side), width)
        self._tie_blocks(name, module)
        if widths(module) and not has_plain_weights(module):
            self.refuse_weight(name)

    def add(self, slot: Slot, width: int) -> np.ndarray:
        """Number the places of a slot."""
        self.start[slot], self.width[slot] = self.count, width
        self.count += width
        return self.all(slot)

    def all(self, slot: Slot) -> np.ndarray:
        """Numbers of all places of a slot."""
        return self.start[slot] + np.arange(self.width[slot])

    def _tie_blocks(self, name: str, module: nn.Module) -> None:
        """Tie the channels that a grouped layer treats as one block."""
        if isinstance(module, nn.GroupNorm):
            blocks, sides = module.num_groups, ("out",)
        elif is_grouped(module):
            blocks, sides = module.groups, ("in", "out")
        else:
            return
        first = self.all((name, sides[0])).reshape(blocks, -1)[:, :1]
        for side in sides:
            places = self.all((name, side)).reshape(blocks, -1)
            self.edges.append((np.broadcast_to(first, places.shape).ravel(), places.ravel()))

    def refuse_weight(self, name: str) -> None:
        """Refuse both sides of a layer that computes its weight, as weight norms do."""
        for slot in self.start:
            if slot[0] == name:
                why = f"the weight of {name} is computed from other tensors: use a plain layer"
                self.refused.append((self.all(slot), why))

    def _refuse_shared(self, model: nn.Module) -> None:
        """Refuse layers that share a tensor: cut out of one of them, it would be another one in the other."""
        owners: dict[int, list[tuple[str, str]]] = {}
        for name, module in model.named_modules():
            for key, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    owners.setdefault(id(tensor), []).append((name, f"{name}.{key}".lstrip(".")))
        for shared in owners.values():
            tensors = [tensor for _, tensor in shared]
            why = f"{' and '.join(tensors)} are one tensor: give each layer its own"
            for slot in self.start:
                if len(shared) > 1 and slot[0] in (*tensors, *(name for name, _ in shared)):
                    self.refused.append((self.all(slot), why))

    def tie(self, a: Tensor, b: Tensor, how: str = "") -> None:
        """Tie places that lie side by side in two twins of one shape; -1 is no place.

        Args:
            how: the operation in which they meet, in words.
        """
        a, b = a.reshape(-1).numpy().astype(np.int64), b.reshape(-1).numpy().astype(np.int64)
        both = (a >= 0) & (b >= 0) & (a != b)
        if both.any():
            self.edges.append((a[both], b[both]))
        one = (a >= 0) ^ (b >= 0)
        if one.any():
            why = f"it meets padding{how}: padded channels have no gate, let a convolution widen it"
            self.refused.append((np.unique(np.maximum(a, b)[one]), why))

    def refuse(self, twin: Tensor, reason: str) -> None:
        """Refuse all channels of a twin."""
        places = held(twin)
        if len(places):
            self.refused.append((places, reason))

    def layer_of(self, twin: Tensor) -> str:
        """The first layer whose places a twin holds."""
        place = next(iter(held(twin)), -1)
        return next((n for (n, s), start in self.start.items() if 0 <= place - start < self.width[n, s]), "")

    def channels(self) -> np.ndarray:
        """Label of every place; places that are tied, however indirectly, have the same."""
        a, b = np.concatenate([np.empty((2, 0), int), *self.edges], axis=1)
        tied = coo_array((np.ones(len(a), bool), (a, b)), shape=(self.count, self.count))
        return connected_components(tied, directed=False)[1]


def held(twin: Tensor) -> np.ndarray:
    """The places in a twin, each once."""
    places = np.unique(twin.numpy().astype(np.int64))
    return places[places >= 0]
