"""Channel numbers, carried through one forward pass: which places of a network are tied.

The network runs once, in eval mode and without gradients. Every activation has a *twin* that holds, for every
element, the number of the channel to which it belongs (see `operations`). Layers read and write numbers: at
its input a layer ties the numbers that arrive to its own, its output has its own output numbers, and what
happens inside is its own affair. All other operations run a second time, on the numbers: a dispatch mode
sees them, whatever Python code called them. So concatenations, slices, shuffles, additions, tuples between
blocks and attention need no special case; what mixes channels refuses these, not the network.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from .layers import Layer, channel_dim, is_matrix, owner_of, widths
from .operations import Call, Twin, compressed, follow
from .places import Places
from .tracing import output_tensors

PRODUCTS = ("convolution", "_convolution", "linear", "addmm", "mm", "bmm", "baddbmm", "matmul")


class Tracer(TorchDispatchMode):
    """Follows channel numbers while the network runs."""

    def __init__(self, places: Places, model: nn.Module) -> None:
        super().__init__()
        self.places = places
        self.names = {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
        self.twins = WeakTensorKeyDictionary()
        self.running: list[str] = []  # modules, the innermost last
        self.inside: nn.Module | None = None  # the layer that runs now
        self.plain = False  # whether it has used its weight as it is

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.inside is not None:
            self._note_weight(func, args)
            return out
        where = self.running[-1] if self.running else ""
        call = Call(func, args, kwargs or {}, out, self.twins.get, self._name_of, where)
        if call.known:
            for tensor, twin in zip(call.outputs, follow(self.places, call), strict=True):
                self._put(tensor, twin)
        return out

    def _name_of(self, tensor: Tensor) -> str:
        return self.names.get(id(tensor), "")

    def _put(self, tensor: Tensor, twin: Twin) -> None:
        if twin is not None:
            self.twins[tensor] = twin
        elif tensor in self.twins:  # changed in place into something that cannot be followed
            del self.twins[tensor]

    def _note_weight(self, func: Any, args: tuple) -> None:
        """Some layers, such as those with standardised weights, compute the matrix that they multiply by."""
        weight = getattr(self.inside, "weight", None)
        if weight is not None and func.overloadpacket.__name__ in PRODUCTS:
            inside = [t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)]
            self.plain |= weight.untyped_storage().data_ptr() in inside

    # --- layers

    def enter(self, name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.running.append(name)
        if self.inside is None and widths(module):
            self._read(name, module, _first(args, kwargs))
            self.inside, self.plain = module, not is_matrix(module)

    def leave(self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        self.running.pop()
        if self.inside is module:
            self.inside = None
            if not self.plain:
                self.places.refuse_weight(name)
            self._write(name, module, _first(args, kwargs), output)

    def _read(self, name: str, module: nn.Module, x: Tensor) -> None:
        """Tie the channels that arrive to the layer's own; they must be the same at every position."""
        slot = name, "in" if is_matrix(module) else "out"
        twin = self.twins.get(x)
        if slot not in self.places.start:
            if twin is not None and module.state_dict():  # else a norm without tensors, at several places
                why = f"{self.places.layer_of(twin)} is read by {name}, which returns no tensor: "
                self.places.refuse(twin, why + "use a plain layer")
            return
        own = self.places.all(slot)
        if twin is None:
            return self.places.refused.append((own, f"what {name} reads cannot be followed"))
        dim = channel_dim(module, x) % x.dim()
        if any(size > 1 for d, size in enumerate(twin.shape) if d != dim):
            kind = type(module).__name__
            why = f"{self.places.layer_of(twin)} is read by {name} ({kind}), which mixes channels: "
            self.places.refuse(twin, why + "put a convolution or linear layer between them")
            return self.places.refused.append((own, f"{name} reads channels along another dimension"))
        self.places.tie(twin.reshape(-1).expand(len(own)), torch.from_numpy(own).double())

    def _write(self, name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        if not isinstance(y, Tensor):
            return
        if (name, "out") not in self.places.start:
            return self._put(y, self.twins.get(x))
        own = torch.from_numpy(self.places.all((name, "out"))).double()
        if y.shape[channel_dim(module, y)] != len(own):
            kind = type(module).__name__
            why = f"{name} ({kind}) returns other channels than its weight writes: use a plain layer"
            for side in ("in", "out"):
                if (name, side) in self.places.start:
                    self.places.refused.append((self.places.all((name, side)), why))
            return
        shape = [1] * y.dim()
        shape[channel_dim(module, y)] = -1
        self._put(y, compressed(own.reshape(shape)))


def _first(args: tuple, kwargs: dict) -> Tensor:
    """The tensor that a layer reads."""
    return next(t for t in (*args, *kwargs.values()) if isinstance(t, Tensor))


@torch.no_grad()
def follow_channels(model: nn.Module, inputs: Sequence[Tensor], layers: Sequence[Layer]) -> Places:
    """The places of `model`, a copy in eval mode, with their ties, after one forward on `inputs`."""
    places = Places(model, layers)
    tracer = Tracer(places, model)
    for layer in layers:
        if layer.side != "out":
            tensor = getattr(*owner_of(model, layer.name))
            own = torch.from_numpy(places.all((layer.name, layer.side))).double()
            tracer.twins[tensor] = own.reshape(tensor.shape)
    for x in inputs:
        _number_input(tracer, x)
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            for handle in _hooked(tracer, name, module):
                hooks.callback(handle.remove)
        with tracer:
            output = model(*inputs)
    for tensor in output_tensors(output):
        if (twin := tracer.twins.get(tensor)) is not None:
            places.refuse(twin, "it is the network's output")
    return places


def _number_input(tracer: Tracer, x: Tensor) -> None:
    """Channels of the network's input cannot be removed."""
    if x.is_floating_point() and x.dim() > 1:
        own = tracer.places.add((f"input {len(tracer.places.start)}", "out"), x.shape[1])
        tracer.places.refused.append((own, "it is the network's input"))
        tracer.twins[x] = compressed(torch.from_numpy(own).double().reshape(1, -1, *[1] * (x.dim() - 2)))


def _hooked(tracer: Tracer, name: str, module: nn.Module) -> list:
    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        tracer.enter(name, module, args, kwargs)

    def after(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        tracer.leave(name, module, args, kwargs, output)

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]
