"""Baselines that train the whole network and then keep its best channels, by a score."""

from collections.abc import Callable

from torch import Tensor, nn

from ...channels.channels import Channels
from ...data.loading import Data
from ...training.config import TrainConfig
from .choice import best_channels, in_proportion, structure
from .scores import l1_norms, random_scores
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


def prune(
    model: nn.Module,
    data: Data,
    keep: float,
    config: TrainConfig,
    score: Callable[[Channels], list[Tensor]],
    penalty: Callable[[nn.Module], Tensor] | None = None,
    trained: nn.Module | None = None,
) -> nn.Module:
    """Train the whole network, with a penalty if there is one, and cut out all but the best by `score`.

    Args:
        trained: what `dense` returned for the same model, data and config, which needs no training then.
    """
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        best_channels(channels, score(channels), keep)  # what cannot be done is refused before the run
        if trained is None:
            train_weights(channels.model, data, config, penalty)
        else:
            channels.model.load_state_dict(trained.state_dict())
    with seeded(model, config.seed):  # random scores then do not depend on how the network was trained
        return channels.remove(best_channels(channels, score(channels), keep))
