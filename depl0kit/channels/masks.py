"""Where gates act: on the inputs of the layers that read a group's channels."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from .groups import Group
from .layers import widths

LARGE = 2_000_000  # entries of a product; the memory of a smaller one is not worth multiplying twice


class Gate:
    """Pair of hooks that multiplies the inputs of a layer by its gates, if there are any.

    `before` multiplies. Between it and `after` autograd keeps the factors of a large product in its place and
    multiplies again in the backward pass: one factor, the layer's input, is kept anyway by what made it.
    Without that, training a gated VGG16 took 1.2 times the memory of the dense one, in the same time.

    An object, not a closure: a deepcopy of the network copies it along, so copies share no gates.

    Args:
        parts: for every gated group that the layer reads its number, and its indices there.
        width: inputs of the layer.

    Attributes:
        value: gates of the layer's inputs, [channels] or [batch, channels]; None lets all through.
        spread: inputs in a row that share a gate, as after a flatten.
    """

    value: Tensor | None = None
    _keeping: saved_tensors_hooks | None = None

    def __init__(self, parts: Sequence[tuple[int, np.ndarray]], width: int) -> None:
        self.groups = [index for index, _ in parts]
        members = np.concatenate([indices for _, indices in parts]) if _alike(parts) else None
        in_a_row = members is not None and np.array_equal(members.ravel(), np.arange(width))
        self.spread = members.shape[1] if in_a_row else 1
        self.source = None if in_a_row else _source(parts, width)

    def set(self, gates: Sequence[Tensor]) -> None:
        """Take this layer's gates from those of all groups."""
        mine = [gates[i] for i in self.groups]
        if self.source is not None:  # the last entry is for inputs without a gate
            mine.append(mine[0].new_ones(*mine[0].shape[:-1], 1))
        value = mine[0] if len(mine) == 1 else torch.cat(mine, -1)
        if self.source is not None:
            self.source = self.source.to(value.device)
            value = value.index_select(-1, self.source)
        self.value = value

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if self.value is None:
            return None
        x = args[0] if args else kwargs["input"]
        gate = self.value.to(x.dtype)  # under autocast the input keeps its precision
        if self.spread > 1:
            gate = gate.repeat_interleave(self.spread, dim=-1)
        if isinstance(module, nn.Linear):
            gate = gate.reshape(*gate.shape[:-1], *[1] * (x.dim() - 2), gate.shape[-1])
        else:
            gate = gate.reshape(*gate.shape, *[1] * (module.weight.dim() - 2))
        product = x * gate
        # compilers do this by themselves
        if product.numel() >= LARGE and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._keeping = _factors_kept(product, x, gate)
            self._keeping.__enter__()
        # a transposed convolution may be told its output's size
        return ((product, *args[1:]), kwargs) if args else (args, {**kwargs, "input": product})

    def after(self, *_: object) -> None:
        if self._keeping is not None:
            self._keeping.__exit__()
            self._keeping = None


def _factors_kept(product: Tensor, x: Tensor, gate: Tensor) -> saved_tensors_hooks:
    """In this context autograd keeps (x, gate) wherever it would keep their product."""
    place, shape, version, x, gate = product.data_ptr(), product.shape, x._version, x.detach(), gate.detach()

    def keep(saved: Tensor) -> Tensor | None:
        return None if saved.data_ptr() == place and saved.shape == shape else saved

    def give(kept: Tensor | None) -> Tensor:
        if kept is not None:
            return kept
        if x._version != version:  # autograd's own check, which these hooks switch off
            raise RuntimeError("the input of a gated layer was changed in place before the backward pass.")
        return x * gate

    return saved_tensors_hooks(keep, give)


def _alike(parts: Sequence[tuple[int, np.ndarray]]) -> bool:
    return len({indices.shape[1] for _, indices in parts}) == 1


def _source(parts: Sequence[tuple[int, np.ndarray]], width: int) -> Tensor:
    """For every input its place among the gates of `parts`, joined; the entry after them means none."""
    start = 0
    total = sum(len(indices) for _, indices in parts)
    source = np.full(width, total)
    for _, indices in parts:
        source[indices] = np.arange(start, start + len(indices))[:, None]
        start += len(indices)
    return torch.from_numpy(source)


def place_gates(model: nn.Module, groups: Sequence[Group]) -> list[Gate]:
    """Put a gate before every layer that reads channels of `groups`."""
    parts: dict[str, list[tuple[int, np.ndarray]]] = {}
    for i, group in enumerate(groups):
        for reader in group.readers:
            parts.setdefault(reader, []).append((i, group.members[reader, "in"]))
    gates = []
    for reader, its_parts in parts.items():
        module = model.get_submodule(reader)
        gates.append(Gate(its_parts, widths(module)["in"]))
        module.register_forward_pre_hook(gates[-1].before, with_kwargs=True)
        module.register_forward_hook(gates[-1].after, always_call=True)
    return gates


def gate_before(module: nn.Module) -> Gate | None:
    """The gate before a layer, if it has one."""
    hooks = module._forward_pre_hooks.values()
    return next((hook.__self__ for hook in hooks if _is_gate(hook)), None)


def has_gates(model: nn.Module) -> bool:
    """Whether any layer has a gate before it."""
    return any(gate_before(module) is not None for module in model.modules())


def remove_gates(model: nn.Module) -> None:
    """Take every gate away again."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key, hook in list(hooks.items()):
                if _is_gate(hook):
                    del hooks[key]
                    module._forward_pre_hooks_with_kwargs.pop(key, None)


def _is_gate(hook: object) -> bool:
    return isinstance(getattr(hook, "__self__", None), Gate)


@contextmanager
def gates_set(gates: Sequence[Gate], values: Sequence[Tensor]) -> Iterator[None]:
    """Let the gates multiply by `values`, one tensor per group, and let all through afterwards."""
    try:
        for gate in gates:
            gate.set(values)
        yield
    finally:
        for gate in gates:
            gate.value = None
