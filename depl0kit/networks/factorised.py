"""A layer of low rank as two layers: the first writes r channels, the second makes all outputs of them.

    W x  ~  U (V x)        with W [m, n], U [m, r], V [r, n]

Of a convolution, W is its weight as [outputs, inputs x kernel]. V is then a convolution with its kernel,
stride and padding, and U one of kernel size 1, with its bias (scheme 1 of Idelbayev and Carreira-Perpinan
2020, "Low-rank compression of neural networks: learning the rank of each layer"). A place of the outputs
costs r (m + n) multiply-accumulates instead of m n.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..support import checks

FACTORISABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # no subclasses: they may compute something else


class LowRank(nn.Sequential):
    """The two layers that stand for one, see `in_two`. They have a class of their own, so that they are
    found in a network that is saved."""

    @property
    def rank(self) -> int:
        """Channels between the two; 1 where none was left, and nothing is computed."""
        first = self[0]
        return getattr(first, "out_features", getattr(first, "out_channels", 1))


def is_factorisable(layer: nn.Module) -> bool:
    """Whether a layer can become two: plain linear ones, and convolutions without groups."""
    return type(layer) in FACTORISABLE and getattr(layer, "groups", 1) == 1


def in_two(layer: nn.Module, rank: int) -> LowRank:
    """The two layers that stand for `layer`, in its mode and with its bias; their weights are not set.

    Args:
        layer: see `is_factorisable`; it is not changed.
        rank: channels between the two, from 1 to the smaller side of the weight matrix.

    Raises:
        ValueError: the layer cannot become two, or the rank is out of its range.
    """
    if not is_factorisable(layer):
        raise ValueError(
            "linear layers and convolutions without groups can become two layers, got "
            f"{checks.with_article(type(layer).__name__)}."
        )
    outputs, inputs = layer.weight.flatten(1).shape
    rank = checks.whole("rank", rank, 1, min(outputs, inputs))
    like = {"bias": False, "device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        pair = LowRank(
            skip_init(nn.Linear, inputs, rank, **like), skip_init(nn.Linear, rank, outputs, **like)
        )
    else:
        places = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")}
        convolution = type(layer)
        pair = LowRank(
            skip_init(convolution, layer.in_channels, rank, layer.kernel_size, **places, **like),
            skip_init(convolution, rank, outputs, 1, **like),
        )
    pair.requires_grad_(layer.weight.requires_grad)
    pair[1].bias = layer.bias
    return pair.train(layer.training)


@torch.no_grad()
def factorised(layer: nn.Module, left: Tensor, right: Tensor) -> LowRank:
    """The two layers that compute `left @ right` in place of the weight matrix of `layer`.

    Args:
        layer: as in `in_two`, which says what is refused.
        left, right: U [m, r] and V [r, n].
    """
    pair = in_two(layer, right.shape[0])
    for part, matrix in zip(pair, (right, left), strict=True):
        part.weight.copy_(matrix.reshape(part.weight.shape))
    return pair
