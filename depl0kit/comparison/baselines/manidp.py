"""The two losses of manifold regularised dynamic pruning (Tang et al. 2021, ManiDP)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dynamic.model import Choices, DynamicModel

# On digits ("small", 15 epochs, 30 % of MACs, validation) easy images took more MACs than hard ones with 0
# (three seeds) and fewer with 1 (three seeds), 3 and 10 (two each); accuracies .986, .993, .977, .975. On
# Fashion-MNIST (3000 images, 5 epochs, one seed) 3 made a large difference: .21 of the MACs against .38.
EASE = 1.0
# As in the paper. On digits (three seeds, with another price of channels) 0 and 0.1 gave the same accuracy, 1
# cost two points before fine-tuning.
LIKENESS = 0.1


class Losses:
    """Easy images pay for their channels, and images that look alike should take like channels.

    In each group, with the gates M [images, channels] of a batch, the pooled inputs F of the group's branch,
    and the soft share o_i of the channels of an image that are open:

        ease * mean over images of w_i * o_i + likeness * |cos(M) - cos(F)|^2 / images^2

    cos() are the cosine similarities of all pairs of images. An image with cross-entropy CE_i below c has
    the weight w_i = (c - CE_i) / c, the others 0; c is half of the mean CE of the epoch before. Neither w nor
    F has a gradient: else the loss would fall by making easy images hard, and images alike.

    In the place of o_i the paper has the mean of the image's gates. That falls if all gates shrink, too,
    which closes nothing, as the threshold then shrinks with them. On digits ("small", 15 epochs, 30 % of
    MACs, two seeds) a strength of it at which easy images took fewer MACs than hard ones, 1, left a
    validation accuracy of .92; with o_i it is .99.

    Args:
        net: whose `listener` this becomes.
        classes: before the first epoch, the mean is that of guessing among them.
        steps: of an epoch.
    """

    def __init__(self, net: DynamicModel, classes: int, steps: int, ease: float, likeness: float) -> None:
        self.ease, self.likeness, self._steps, self._step = ease, likeness, steps, 0
        device = next(net.parameters()).device
        self._branches = net.branches
        self._mean = torch.full((), math.log(classes), device=device)
        self._sum = torch.zeros((), device=device)
        net.listener = self.hear

    def read(self, _: Tensor, labels: Tensor) -> None:
        """The labels of the step that begins."""
        self._labels = labels

    def hear(self, choices: Choices, outputs: Tensor) -> None:
        self._choices, self._outputs = choices, outputs.detach()

    def penalty(self, _: nn.Module) -> Tensor:
        """Of the forward that was heard last."""
        losses = F.cross_entropy(self._outputs.float(), self._labels, reduction="none")
        weights = self._weights(losses)
        choices = self._choices
        pairs = zip(choices.saliency, self._branches, strict=True)
        price = torch.stack([(weights * openness(m, b.threshold)).mean() for m, b in pairs]).sum()
        pairs = zip(choices.gates, choices.pooled, strict=True)
        unlike = torch.stack([(cosines(m) - cosines(f.detach())).square().mean() for m, f in pairs]).sum()
        return self.ease * price + self.likeness * unlike

    def _weights(self, losses: Tensor) -> Tensor:
        """How easy each image is, in 0..1."""
        half = self._mean / 2
        self._sum += losses.mean()
        self._step += 1
        if self._step % self._steps == 0:
            self._mean, self._sum = self._sum / self._steps, torch.zeros_like(self._sum)
        return (1 - losses / half).relu()


def cosines(rows: Tensor) -> Tensor:
    """Cosine similarities of all pairs of rows, [n, d] -> [n, n]."""
    unit = F.normalize(rows.float(), dim=1)
    return unit @ unit.T


def openness(scores: Tensor, threshold: Tensor) -> Tensor:
    """A soft share of the channels above the threshold, with gradient, [images, channels] -> [images].

    The smaller the spread of the scores, the sharper it is.
    """
    width = scores.detach().std().clamp(min=1e-6) / 2
    return ((scores - threshold) / width).sigmoid().mean(1)
