"""What PyTorch's operations do to channel numbers.

A *twin* is a tensor of the shape of an activation, or of size 1 along every dimension in which it is
constant; it holds the number of the channel to which each element belongs, -1 where it belongs to none.
Each rule here reads the twins of an operation's inputs, notes ties and refusals, and returns the twins of its
outputs. An operation without a rule refuses all channels that it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .places import Places, held

Twin = Tensor | None

# data movement in whose call the code may hold widths of its own
SITES = (
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "slice", "narrow", "select", "split"),
    *("split_with_sizes", "chunk", "unbind", "roll", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
    *("native_channel_shuffle", "index_select", "index", "repeat", "unfold", "tile", "constant_pad_nd"),
)
# all data movement: the same operation on the numbers gives the numbers of the result
MOVES = (
    *SITES,
    *("permute", "transpose", "t", "swapaxes", "movedim", "flip", "rot90", "unsqueeze", "squeeze", "alias"),
    *("clone", "contiguous", "detach", "lift_fresh", "cat", "stack", "reflection_pad1d", "reflection_pad2d"),
    *("reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d"),
)
# the result has the channels of the first input, whatever its values
KEEPING = ("zeros_like", "ones_like", "full_like", "empty_like", "_to_copy", "hardswish", "hardswish_")
KEEPING += ("native_dropout", "threshold_", "gelu_", "log_sigmoid_forward")
# values that do not depend on the input
CONSTANTS = ("new_zeros", "new_ones", "new_full", "new_empty", "sym_size", "size", "is_same_size")
POINTWISE = ("_prelu_kernel", "prelu", "masked_fill", "masked_fill_", "where", "rsub", "lerp")
ADDITIONS = ("add", "add_", "sub", "sub_", "rsub")
POOLS = ("max_pool", "avg_pool", "_adaptive_avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
POOLS += ("upsample_", "_upsample_", "grid_sampler_")
REDUCTIONS = ("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod")
REDUCTIONS += ("norm", "linalg_vector_norm", "logsumexp", "median", "any", "all")
SOFTMAXES = ("_softmax", "_log_softmax", "_safe_softmax")


@dataclass
class Call:
    """One operation as it was called, the twins of its inputs, and where it was.

    Attributes:
        find: the twin of a tensor, or None.
        name_of: the name of a parameter or buffer, or "".
        where: the module that runs.
    """

    func: Any
    args: tuple
    kwargs: dict
    out: Any
    find: Callable[[Tensor], Twin]
    name_of: Callable[[Tensor], str]
    where: str

    @cached_property
    def name(self) -> str:
        return self.func.overloadpacket.__name__

    @cached_property
    def tensors(self) -> list[Tensor]:
        return [t for t in tree_leaves((self.args, self.kwargs)) if isinstance(t, Tensor)]

    @cached_property
    def known(self) -> list[tuple[Tensor, Tensor]]:
        """Inputs that have a twin, with it."""
        found = [(t, self.find(t)) for t in self.tensors]
        return [(t, twin) for t, twin in found if twin is not None]

    @property
    def outputs(self) -> list[Tensor]:
        return [t for t in tree_leaves(self.out) if isinstance(t, Tensor)]

    def argument(self, name: str, default: Any = None) -> Any:
        names = [a.name for a in self.func._schema.arguments]
        return {**dict(zip(names, self.args, strict=False)), **self.kwargs}.get(name, default)


def compressed(twin: Tensor) -> Tensor:
    """The twin with size 1 along every dimension in which it is constant."""
    for dim, size in enumerate(twin.shape):
        if size > 1 and bool((twin == twin.narrow(dim, 0, 1)).all()):
            twin = twin.narrow(dim, 0, 1)
    return twin


def follow(places: Places, call: Call) -> list[Twin]:
    """Apply the rule for `call` to `places`; returns the twins of its outputs."""
    return _rule(call)(places, call)


def _rule(call: Call) -> Callable[[Places, Call], list[Twin]]:
    name = call.name
    if name in MOVES:
        return _move
    if name in CONSTANTS:
        return lambda places, call: [None for _ in call.outputs]
    if name in KEEPING:
        return lambda places, call: [call.find(call.tensors[0]) for _ in call.outputs]
    if name == "copy_":
        return _copy
    if torch.Tag.pointwise in call.func.tags or name in POINTWISE:
        return _pointwise
    if name.startswith(POOLS):
        return _pool
    if name in REDUCTIONS or name in SOFTMAXES:
        return _reduce
    return {"native_layer_norm": _norm, "glu": _glu}.get(name, _refuse)


def why_read(places: Places, call: Call, twin: Tensor) -> str:
    """That an operation mixes channels, in words."""
    return (
        f"{places.layer_of(twin)} is read{_in(call)}, which mixes channels: "
        "put a convolution or linear layer between them"
    )


def _refuse(places: Places, call: Call) -> list[Twin]:
    """Refuse all channels that an operation reads; outputs of the same shape keep their numbers, refused."""
    for _, twin in call.known:
        places.refuse(twin, why_read(places, call, twin))
    x, twin = call.known[0]
    return [twin if out.shape == x.shape else None for out in call.outputs]


def _move(places: Places, call: Call) -> list[Twin]:
    """Data movement, done to the numbers as it was done to the values."""

    def twin_of(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x  # an index
        twin = call.find(x)
        if twin is None:
            return torch.full(x.shape, -1.0, dtype=torch.float64)
        return twin.expand(x.shape).contiguous()

    args = tree_map(twin_of, call.args)
    if call.name == "constant_pad_nd":
        args = (*args[:2], -1.0)
    if call.name in SITES:
        for _, twin in call.known:
            if _varies(twin):
                places.sites.append((held(twin), call.where, call.name.strip("_")))
    moved = [t for t in tree_leaves(call.func(*args, **call.kwargs)) if isinstance(t, Tensor)]
    return [compressed(t) for t in moved]


def _copy(places: Places, call: Call) -> list[Twin]:
    """x.copy_(y), also by an assignment to a slice of x."""
    target, source = (call.find(t) for t in call.tensors[:2])
    if target is not None and source is not None:
        return [_meet(places, call, target, source)]
    twin = target if source is None else source
    places.refuse(twin, f"{places.layer_of(twin)} is copied into a tensor{_in(call)}: use torch.cat")
    return [target]


def _pointwise(places: Places, call: Call) -> list[Twin]:
    """Channels that meet in an element are tied; a tensor without channels must not vary along them."""
    merged = call.known[0][1]
    for _, twin in call.known[1:]:
        merged = _meet(places, call, merged, twin)
    for t in call.tensors:
        if call.find(t) is None and any(t.dim() >= -dim and t.shape[dim] > 1 for dim in _varying(merged)):
            places.refuse(merged, _why_foreign(places, call, merged, t))
    return [_aligned(merged, out.dim()) for out in call.outputs]


def _why_foreign(places: Places, call: Call, twin: Tensor, other: Tensor) -> str:
    name, shape = call.name_of(other), tuple(other.shape)
    what = f"{name}, of shape {shape}" if name else f"a tensor of shape {shape}"
    return (
        f"{places.layer_of(twin)} meets {what}, outside of layers{_in(call)}: a parameter or buffer that "
        "varies along channels alone can be cut with them"
    )


def _meet(places: Places, call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Tie two twins that meet in an elementwise operation; returns the twin of the result."""
    if len(_varying(a)) < len(_varying(b)):
        a, b = b, a
    if _varies(a) and not _varies(b):  # one channel, spread over all others
        places.refuse(b, f"{places.layer_of(b)} is spread over all channels{_in(call)}: write as many")
        return a
    if not set(_varying(b)) <= set(_varying(a)):
        return _crossed(places, call, a, b)
    a, b = torch.broadcast_tensors(a, b)
    places.tie(a, b, _in(call))
    if call.name in ADDITIONS and not any(_is_loose(places, twin) for twin in (a, b)):
        places.added += [held(a), held(b)]
    return compressed(torch.where(a >= 0, a, b))


def _crossed(places: Places, call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Channels that lie along different dimensions: refused, of whose numbers the result keeps some."""
    for loose, other in ((a, b), (b, a)):
        if _is_loose(places, loose):  # it does not act along channels
            places.refuse(loose, "it acts along another dimension than channels")
            return other
    for twin in (a, b):
        why = f"{places.layer_of(twin)} meets channels along another dimension{_in(call)}: "
        places.refuse(twin, why + "put a convolution or linear layer between them")
    return a


def _is_loose(places: Places, twin: Tensor) -> bool:
    """Whether a twin holds nothing but places of parameters and buffers outside of layers."""
    first, after = places.loose
    return bool(((twin >= first) & (twin < after)).all())


def _pool(places: Places, call: Call) -> list[Twin]:
    """Pooling and interpolation keep channels, if they lie along another dimension."""
    (x, twin), *others = call.known
    spatial = next(int(c) for c in call.name if c.isdigit())  # of "avg_pool2d" two dimensions
    if others or x is not call.tensors[0] or any(size > 1 for size in twin.shape[x.dim() - spatial :]):
        return _refuse(places, call)
    return [twin for _ in call.outputs]


def _reduce(places: Places, call: Call) -> list[Twin]:
    """A mean, sum, maximum or softmax: over branches it ties them, over all channels it refuses them."""
    (x, twin), *others = call.known
    dims = call.argument("dim")
    dims = range(x.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    dims = [dim % x.dim() for dim in dims]
    long = [dim for dim in dims if twin.shape[dim] > 1]
    if others or (long and not any(size > 1 for d, size in enumerate(twin.shape) if d not in dims)):
        return _refuse(places, call)
    for dim in long:
        places.tie(*torch.broadcast_tensors(twin, twin.narrow(dim, 0, 1)), _in(call))
    if call.name in SOFTMAXES:
        return [twin]
    for dim in dims:
        twin = twin.narrow(dim, 0, 1)
    kept = [size for dim, size in enumerate(twin.shape) if dim not in dims]
    return [twin if out.dim() == twin.dim() else twin.reshape(kept) for out in call.outputs]


def _norm(places: Places, call: Call) -> list[Twin]:
    """A layer norm over dimensions along which no channels lie keeps them."""
    x, twin = call.known[0]
    over = len(call.argument("normalized_shape"))
    if x is not call.tensors[0] or any(size > 1 for size in twin.shape[x.dim() - over :]):
        return _refuse(places, call)
    for _, other in call.known[1:]:
        places.refuse(other, "it acts along another dimension than channels")
    return [twin, None, None]


def _glu(places: Places, call: Call) -> list[Twin]:
    """Half of the channels times a sigmoid of the other half, which are tied one by one."""
    x, twin = call.known[0]
    dim = call.argument("dim", -1) % x.dim()
    if twin.shape[dim] == 1:
        return [twin]
    places.sites.append((held(twin), call.where, call.name.strip("_")))
    return [_meet(places, call, *(half.contiguous() for half in twin.chunk(2, dim)))]


def _varying(twin: Tensor) -> list[int]:
    """Dimensions, counted from the end, along which a twin is not constant."""
    return [dim - twin.dim() for dim, size in enumerate(twin.shape) if size > 1]


def _varies(twin: Tensor) -> bool:
    return twin.numel() > 1


def _aligned(twin: Tensor, dims: int) -> Tensor:
    """The twin with as many dimensions as an output."""
    return twin.reshape([1] * (dims - twin.dim()) + list(twin.shape))


def _in(call: Call) -> str:
    """The operation as a user calls it, and where: PyTorch names kernels by what they run on."""
    name = call.name.strip("_").removeprefix("native_")
    name = "scaled_dot_product_attention" if name.startswith("scaled_dot_product") else name
    return f" by {name}" + (f" in {call.where}" if call.where else "")
