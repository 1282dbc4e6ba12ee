"""Scores from the loss itself: how much it changes if a gate on a channel, at 1, is turned down a little."""

from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...channels.channels import Channels
from ...channels.masks import gates_set, place_gates
from ...data.loading import Data
from ...support.modes import freeze, frozen_parts
from ...training import layout
from ...training.config import TrainConfig
from ...training.prepare import prepared
from .choice import best_channels, structure
from .pruning import prune
from .scores import relative
from .whole import seeded, train_weights

# On digits (20 % of MACs, two seeds) 2 gave Taylor .93 and .98, 16 and 64 alike .97 to .98
BATCHES = 16


def taylor(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, trained: nn.Module | None = None
) -> nn.Module:
    """The channels whose removal changes the loss most, to first order and relative to the mean of their
    group, by one threshold.

    The score is the square of an image's dLoss/dgate at gate 1, its mean over images (Molchanov et al. 2019,
    "Importance estimation for neural network pruning", with gates). It is taken in eval mode, where no image
    depends on others. Relative, as here all is cut at once: the paper cuts little by little, with training
    between.
    """

    def score(channels: Channels) -> list[Tensor]:
        slopes = gate_gradients(channels, data, config, training=False)
        # plain, one threshold left 1 of 48 channels of the last groups of "small" (digits, 20 % of MACs, two
        # seeds, validation): .19 and .10 after fine-tuning, .97 both by these
        return [relative(of_image.square().mean(0)) for of_image in slopes]

    return prune(model, data, keep, config, score, trained=trained)


def snip(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """A network that is cut before it is trained: the channels stay whose gates move the loss most.

    The score is |dLoss/dgate| at gate 1 of the network as it is given, over a few batches (Lee et al. 2019,
    "SNIP", with a gate per channel for their gate per weight). Only the small network is trained, which keeps
    the weights given: the cheapest method, to be compared with "small_dense".
    """
    with seeded(model, config.seed):
        channels = structure(model, data, keep)
        slopes = gate_gradients(channels, data, config, training=True)
        scores = [of_image.mean(0).abs() for of_image in slopes]
        small = channels.remove(best_channels(channels, scores, keep))
        train_weights(small, data, config)
    return small


def gate_gradients(channels: Channels, data: Data, config: TrainConfig, training: bool) -> list[Tensor]:
    """Derivatives of each image's cross-entropy by its own gates, all at 1: per group [images, channels].

    Args:
        data: up to `BATCHES` random batches of the training split, not augmented; `config` says of how many
            images, and the seed.
        training: in training mode batch norms use the batch, as they do in the first steps of a run: before
            it, their running statistics say nothing. A gate then moves other images' losses, too, and their
            sum is derived.
    """
    model = channels.plain_copy()
    data, trial = prepared(model, data, config)
    frozen = frozen_parts(model)
    model.train(training)
    freeze(frozen)
    gates, found = place_gates(model.requires_grad_(False), channels.groups.gated), []
    batches = data.train.batches(config.batch_size, torch.Generator().manual_seed(config.seed))
    for x, y in islice(batches, BATCHES):
        ones = [torch.ones(len(x), size, device=x.device, requires_grad=True) for size in channels.sizes]
        with gates_set(gates, ones):
            loss = F.cross_entropy(model(layout.laid(x, trial.layout)), y, reduction="sum")
        found.append(torch.autograd.grad(loss, ones))
    return [torch.cat(of_group) for of_group in zip(*found, strict=True)]
