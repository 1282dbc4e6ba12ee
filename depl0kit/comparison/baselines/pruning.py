"""Baselines that train the whole network and then keep its best channels, by a score."""

from collections.abc import Callable

from torch import Tensor, nn

from ...channels.channels import Channels
from ...data.loading import Data
from ...training.config import TrainConfig
from .choice import best_channels, in_proportion, structure
from .scores import l1_norms, random_scores
from .whole import seeded, train_weights


def random(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """Random channels, the same share of every group: the other methods must beat them."""

    def score(channels: Channels) -> list[Tensor]:
        return in_proportion(random_scores(channels))

    return prune(model, data, keep, config, score)


def l1_uniform(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """The filters with the largest L1 norm, the same share of every group (Li et al. 2017, "Pruning filters
    for efficient ConvNets")."""
    return prune(model, data, keep, config, lambda channels: in_proportion(l1_norms(channels)))


def l1_global(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """The filters with the largest L1 norm, relative to the mean of their layer, by one threshold."""
    return prune(model, data, keep, config, l1_norms)


def prune(
    model: nn.Module,
    data: Data,
    keep: float,
    config: TrainConfig,
    score: Callable[[Channels], list[Tensor]],
    penalty: Callable[[nn.Module], Tensor] | None = None,
) -> nn.Module:
    """Train the whole network, with a penalty if there is one, and cut out all but the best by `score`."""
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        best_channels(channels, score(channels), keep)  # what cannot be done is refused before the run
        train_weights(channels.model, data, config, penalty)
        return channels.remove(best_channels(channels, score(channels), keep))
