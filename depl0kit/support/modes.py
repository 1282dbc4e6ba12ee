"""Training and eval mode, part by part: what a user froze by `.eval()` stays frozen."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def frozen_parts(model: nn.Module) -> list[nn.Module]:
    """Modules that were put in eval mode while the whole is in training mode, such as frozen batch norms.

    Where the whole is in eval mode, nobody can tell, and there are none.
    """
    return [part for part in model.modules() if not part.training] if model.training else []


def freeze(parts: list[nn.Module]) -> None:
    """Eval mode for these modules alone: a part of a frozen part may be in training mode."""
    for part in parts:
        part.training = False


@contextmanager
def eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every module is in the mode that it had."""
    modes = {part: part.training for net in networks for part in net.modules()}
    try:
        for net in networks:
            net.eval()
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
