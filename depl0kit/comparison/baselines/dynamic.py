"""Methods that choose channels for every image, and the fixed networks that their choices suggest.

`keep` is the mean over images of the MACs of an image, branches included; fixed networks keep at most `keep`.
"""

import math
from bisect import bisect_right

import torch
from torch import Tensor, nn

from ...data.loading import Data
from ...support import checks
from ...support.modes import eval_mode
from ...training import layout
from ...training.config import TrainConfig
from ...training.loop import steps_per_epoch
from ..dynamic.branches import following
from ..dynamic.measures import mean_gates
from ..dynamic.model import Choices, DynamicModel, open_channels
from .choice import best_channels, in_proportion, structure
from .manidp import EASE, LIKENESS, Losses
from .whole import seeded, train_weights

# Share of the run in which the channels come down from all to their target; the network then trains at it.
# On digits ("small", 15 epochs, 30 % of MACs, two seeds, validation) .3, .5 and .8 do not differ for FBS:
# .985, .983, .985
FALL = 0.5
SPARSITY = 1e-8  # of FBS, as in the paper: the number of channels does not depend on it
IMAGES = 1024  # on which the share of ManiDP is set
SHARES = 1000  # that are tried then


def fbs(
    model: nn.Module, data: Data, keep: float, config: TrainConfig, strength: float = SPARSITY
) -> DynamicModel:
    """Feature boosting and suppression (Gao et al. 2019): the k channels with the largest saliency.

    A linear map of the pooled inputs of the layer that writes a group gives the saliencies, which multiply
    the channels that stay. k is the same for every image, and the same share of every group.

    Args:
        strength: of the sum of an image's saliencies in the loss, >= 0.
    """
    checks.number("strength", strength, 0)
    with seeded(model, config.seed):
        net, shares = _begun(model, data, keep, "fbs")
        heard: dict[str, Choices] = {}
        net.listener = lambda choices, _: heard.update(last=choices)

        def penalty(_: nn.Module) -> Tensor:
            return strength * torch.cat(heard["last"].saliency, 1).sum(1).mean()

        _train(net, data, config, shares, penalty=penalty)
    return net


def manidp(
    model: nn.Module,
    data: Data,
    keep: float,
    config: TrainConfig,
    ease: float = EASE,
    likeness: float = LIKENESS,
) -> DynamicModel:
    """Manifold regularised dynamic pruning (Tang et al. 2021): images with a low loss use fewer channels.

    A squeeze MLP gives the saliencies; of all images together the same share of every group's lies above its
    threshold. At the end that share is set so that the mean MACs of training images are `keep`.

    Args:
        ease, likeness: strengths (>= 0) of the two losses, see `Losses`.
    """
    for name, value in (("ease", ease), ("likeness", likeness)):
        checks.number(name, value, 0)
    with seeded(model, config.seed):
        net, shares = _begun(model, data, keep, "manidp")
        losses = Losses(net, data.num_classes, steps_per_epoch(data, config), ease, likeness)
        _train(net, data, config, shares, penalty=losses.penalty, before_step=losses.read)
        fit_share(net, data, keep)
    return net


def fbs_static(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """The fixed network of the channels that `fbs` opens most often."""
    return fixed(fbs(model, data, keep, config), data, keep)


def manidp_static(model: nn.Module, data: Data, keep: float, config: TrainConfig) -> nn.Module:
    """The fixed network of the channels that `manidp` opens most often."""
    return fixed(manidp(model, data, keep, config), data, keep)


def fixed(net: DynamicModel, data: Data, keep: float) -> nn.Module:
    """A plain network of the channels that are open on most training images, at most `keep` of the MACs.

    One threshold on the share of images holds for all groups. Each channel is multiplied by its mean gate
    over the images on which it was open: without that, accuracy on digits fell from .99 to .55 (one seed).
    """
    opened, means = mean_gates(net, data.to(next(net.parameters()).device).train)
    masks = best_channels(net.channels, opened, keep)
    return net.channels.remove([mask * mean for mask, mean in zip(masks, means, strict=True)])


def _begun(model: nn.Module, data: Data, keep: float, kind: str) -> tuple[DynamicModel, list[float]]:
    """The network with its branches, all channels open, and the share of each group that `keep` allows."""
    channels = structure(model, data, keep)
    net = DynamicModel(channels, kind)
    own = net.branch_macs / channels.dense_cost.macs
    if own >= keep:
        raise ValueError(
            f"keep={keep:g} cannot be reached: the branches of {kind} alone cost {own:.2g} of this network's "
            "MACs."
        )
    any_order = in_proportion([torch.zeros(size) for size in channels.sizes])
    masks = best_channels(channels, any_order, keep - own)
    return net, [float(mask.mean()) for mask in masks]


def _train(net: DynamicModel, data: Data, config: TrainConfig, shares: list[float], **hooks: object) -> None:
    """Train weights and branches, while the share of open channels falls from 1 to `shares`, by a cosine."""
    fall = max(1, round(FALL * config.epochs * steps_per_epoch(data, config)))

    def lower(step: int, _: object) -> None:
        still = (1 + math.cos(math.pi * min(1, step / fall))) / 2
        net.set_share([share + (1 - share) * still for share in shares])

    try:
        train_weights(net, data, config, after_step=lower, **hooks)
    finally:
        net.listener = None


@torch.no_grad()
def fit_share(net: DynamicModel, data: Data, keep: float) -> None:
    """Set the share of open channels, one for all groups, and the thresholds, so that training images cost
    `keep` of the dense MACs in the mean."""
    train = data.to(next(net.parameters()).device).train
    x, _ = next(iter(train.batches(min(IMAGES, len(train)), torch.Generator().manual_seed(0))))

    def mean_macs(step: int) -> float:
        net.set_share((step + 1) / SHARES)
        with eval_mode(net), following(net.branches):
            choices = layout.outputs(net.forward_with_choices, x)[1]
        return float(net.macs_of(open_channels(choices)).double().mean()) / net.channels.dense_cost.macs

    fit = bisect_right(range(SHARES), keep, key=mean_macs)
    mean_macs(max(fit - 1, 0))
