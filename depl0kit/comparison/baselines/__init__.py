"""What L0 is compared with: simpler ways to a network with fewer channels.

Every method is a function `(model, data, keep, config) -> nn.Module`:

    small = BASELINES["l1_global"](model, data, keep=0.3, config=TrainConfig(epochs=15))

They train the whole network (or a small one) for `config.epochs` (only "small_dense_longer" for more), and
remove channels exactly, as `compact` does, of the groups that `GatedModel(model, example=data.example)`
gates. So all of them end in the same kind of network as L0, but for "low_rank", which removes no channel: it
puts two layers in the place of one. Fine-tuning it (`fine_tune`) is left to the caller, for all alike.

Of `config` count epochs, batch_size, lr, momentum, weight_decay, seed, augment and precision: SGD with one
rise and fall of lr.

Args of each:
    model: a fresh network; it stays as it is. The result is on its device.
    data: trained on the training split.
    keep: share of the dense MACs that may stay, between 0 and 1. What is kept is at most this, and less by
        less than what one more channel costs. "dense" ignores it. Of dynamic methods it is the mean over
        images.

Returns:
    A plain module in eval mode (of dynamic methods a `DynamicModel`); the same seed gives the same network.

Raises:
    ValueError: `keep` is not between 0 and 1, or less than what a channel in every group costs; nothing
        in the network can be removed; the method cannot be applied to it; the loss is not finite.
"""

from collections.abc import Callable

from torch import nn

from ...data.loading import Data
from ...training.config import TrainConfig
from .chex import chex
from .dynamic import fbs, fbs_static, manidp, manidp_static
from .fade_out import fade_out
from .group_norm import group_norm
from .grow_prune import grow_prune
from .growing_reg import growing_reg
from .halo import halo
from .low_rank import low_rank
from .pruning import fpgm, l1_global, l1_uniform, random
from .sensitivity import snip, taylor
from .slimming import slimming
from .whole import dense, small_dense, small_dense_longer

__all__ = ["BASELINES", "FROM_DENSE", "KINDS", "kind_of"]

BASELINES: dict[str, Callable[[nn.Module, Data, float, TrainConfig], nn.Module]] = {
    "dense": dense,
    "random": random,
    "small_dense": small_dense,
    "small_dense_longer": small_dense_longer,
    "l1_uniform": l1_uniform,
    "l1_global": l1_global,
    "slimming": slimming,
    "halo": halo,
    "taylor": taylor,
    "snip": snip,
    "group_norm": group_norm,
    "fpgm": fpgm,
    "low_rank": low_rank,
    "grow_prune": grow_prune,
    "chex": chex,
    "growing_reg": growing_reg,
    "fade_out": fade_out,
    "fbs": fbs,
    "manidp": manidp,
    "fbs_static": fbs_static,
    "manidp_static": manidp_static,
}
# they also take `trained`, the result of "dense"
FROM_DENSE = ("random", "l1_uniform", "l1_global", "taylor", "fpgm", "low_rank")
# What a method makes, and so what its MACs mean: a smaller network ("static"; also of posteriors), one that
# chooses channels for every image ("dynamic": the mean over test images), or layers in two ("factorised")
KINDS: dict[str, str] = dict.fromkeys(BASELINES, "static") | {
    "low_rank": "factorised", "fbs": "dynamic", "manidp": "dynamic",
}  # fmt: skip


def kind_of(method: str) -> str:
    """The kind of a baseline or posterior; posteriors are "static"."""
    return KINDS.get(method, "static")
