"""Baselines that train the whole network and then keep its best channels, by a score."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ...channels.channels import Channels
from ...data.loading import Data
from ...training.config import TrainConfig
from .choice import best_channels, in_proportion, structure
from .scores import l1_norms, median_distances, random_scores
from .whole import seeded, train_weights


def random(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, trained: nn.Module | None = None
) -> nn.Module:
    """Random channels, the same share of every group: the other methods must beat them."""

    def score(channels: Channels) -> list[Tensor]:
        return in_proportion(random_scores(channels))

    return prune(model, data, keep, config, score, trained=trained)


def l1_uniform(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, trained: nn.Module | None = None
) -> nn.Module:
    """The filters with the largest L1 norm, the same share of every group (Li et al. 2017, "Pruning filters
    for efficient ConvNets")."""

    def score(channels: Channels) -> list[Tensor]:
        return in_proportion(l1_norms(channels))

    return prune(model, data, keep, config, score, trained=trained)


def l1_global(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, trained: nn.Module | None = None
) -> nn.Module:
    """The filters with the largest L1 norm, relative to the mean of their layer, by one threshold."""
    return prune(model, data, keep, config, l1_norms, trained=trained)


def fpgm(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, trained: nn.Module | None = None
) -> nn.Module:
    """The filters farthest from the geometric median of their layer, the same share of every group (He et al.
    2019, "Filter pruning via geometric median"): what goes is near to many others, not small."""

    def score(channels: Channels) -> list[Tensor]:
        return in_proportion(median_distances(channels))

    return prune(model, data, keep, config, score, trained=trained)


def prune(
    model: nn.Module,
    data: Data,
    keep: float,
    config: TrainConfig,
    score: Callable[[Channels], list[Tensor]],
    hooks: Callable[[Channels], dict[str, Any]] = lambda channels: {},
    trained: nn.Module | None = None,
) -> nn.Module:
    """Train the whole network, as `hooks` say, and cut out all but the best by `score`.

    Args:
        hooks: makes what training has besides the cross-entropy, such as a penalty, for the channels of the
            network that is trained: arguments of `train_weights`, by name.
        trained: what `dense` returned for the same model, data and config, which needs no training then.
    """
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        best_channels(channels, score(channels), keep)  # what cannot be done is refused before the run
        if trained is None:
            train_weights(channels.model, data, config, **hooks(channels))
        else:
            channels.model.load_state_dict(trained.state_dict())
    with seeded(model, config.seed):  # random scores then do not depend on how the network was trained
        return channels.remove(best_channels(channels, score(channels), keep))
