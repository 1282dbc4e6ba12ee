"""Baselines that prune nothing: the whole network, and one that is small from the start."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...channels.admission import copied, unwrapped
from ...data.loading import Data
from ...support import checks
from ...training.config import TrainConfig
from ...training.finetuning import fine_tune
from .choice import best_channels, in_proportion, structure


def dense(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """The whole network, trained; `keep` is ignored. The mark for all others."""
    model = copied(unwrapped(model))
    with seeded(model, config.seed):
        train_weights(model, data, config)
    return model


def small_dense(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """A network of which every group has the same share of its channels, trained from scratch.

    What any pruning must beat to be worth its while (Liu et al. 2019, "Rethinking the value of network
    pruning"). All weights are drawn anew by the layers' `reset_parameters`, for the new widths.
    """
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        any_order = in_proportion([torch.zeros(size) for size in channels.sizes])
        small = channels.remove(best_channels(channels, any_order, keep))
        _reset(small)
        train_weights(small, data, config)
    return small


def small_dense_longer(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """As `small_dense`, trained for `epochs` / `keep` epochs, rounded: for as many MACs as the whole network.

    Methods that prune train the whole network for `epochs`, so this is the narrow network at equal compute,
    where `small_dense` is it at equal epochs.
    """
    checks.share("keep", keep)
    return small_dense(model, data, keep, replace(config, epochs=round(config.epochs / keep)))


def train_weights(
    model: nn.Module,
    data: Data,
    config: TrainConfig,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    after_step: Callable[[int, Optimizer], object] | None = None,
    extra: Sequence[nn.Parameter] = (),
    before_step: Callable[[Tensor, Tensor], object] | None = None,
) -> None:
    """Train in place as `config` says; see `fine_tune`."""
    hooks = {"penalty": penalty, "after_step": after_step, "extra": extra, "before_step": before_step}
    fine_tune(model, data, config.epochs, config.lr, **hooks, **config.sgd)


@contextmanager
def seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed torch's global random state, from which dropout and new weights are drawn, and give it back."""
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _reset(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        elif next(module.parameters(recurse=False), None) is not None:
            raise ValueError(
                f"small_dense cannot draw the weights of {name or 'the network'} anew: "
                f"{type(module).__name__} has parameters, but no reset_parameters()."
            )
