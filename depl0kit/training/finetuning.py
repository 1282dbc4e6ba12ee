"""After training: batch-norm statistics for the test-time gates, and a few epochs without a price."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ..channels.admission import unwrapped
from ..data.loading import Data
from ..gates.gated import GatedModel
from ..support import checked, checks
from ..support.modes import eval_mode
from . import layout
from .config import TrainConfig
from .loop import Loop, not_finite, sgd
from .prepare import prepared
from .rates import weight_rate

BATCH = 256  # images of the re-estimation at once: as many as fit easily, since all batches count alike


@checked
@torch.no_grad()
def reestimate_batch_norm(net: nn.Module, data: Data) -> None:
    """Recompute all batch-norm statistics on the training split, with the test-time gates.

    In training the statistics follow *sampled* gates. Where many gates are undecided, those of the test-time
    gates differ, and accuracy is lost for this reason alone. A network without batch norms stays as it is.

    Args:
        net: a `GatedModel`, or a compact or any other network. Changed in place; its weights and its
            mode are not.
        data: the images; labels are not used.
    """
    net = unwrapped(net)
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    device, trial = next(net.parameters()).device, layout.try_step(net, data.train.shape)
    with eval_mode(net), _plain_means(norms):  # no dropout, test-time gates
        # batches of one size, as each counts alike in the mean (a few images are left out); in a random
        # order, as a batch of one class, of sorted data, has too small a variance
        size = max(1, len(data.train) // -(-len(data.train) // BATCH))
        batches = data.to(device).train.batches(size, torch.Generator().manual_seed(0))
        for x, _ in batches if norms else ():
            net(layout.laid(x, trial.layout))


@contextmanager
def _plain_means(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """In this context batch norms gather new statistics, the plain mean over all their calls.

    `momentum=None` means the same, but reads the number of calls from the device, which must then be waited
    for at every call.
    """
    momenta, calls = [norm.momentum for norm in norms], Counter[_BatchNorm]()

    def count(norm: _BatchNorm, _: tuple) -> None:
        calls[norm] += 1
        norm.momentum = 1 / calls[norm]

    hooks = [norm.register_forward_pre_hook(count) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        yield
    finally:
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            norm.momentum = momentum
            hook.remove()


@checked
def fine_tune(
    net: nn.Module,
    data: Data,
    epochs: int = 3,
    lr: float = 0.01,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    seed: int = 0,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    augment: bool = False,
    precision: str = "float32",
    after_step: Callable[[int, Optimizer], object] | None = None,
    extra: Sequence[nn.Parameter] = (),
    before_step: Callable[[Tensor, Tensor], object] | None = None,
) -> pd.DataFrame:
    """Train the weights of `net` for a few epochs, with the gates held at their test-time values, unpriced.

    Args:
        net: a `GatedModel` or a compact network; trained in place, and left in eval mode. The
            posterior of a `GatedModel` does not move, nor do the statistics of batch norms that are in
            eval mode while `net` is in training mode.
        data: its training split is used.
        epochs, batch_size: whole numbers >= 1.
        lr: highest learning rate of SGD, > 0; by default a fifth of that of `TrainConfig`, to keep what was
            learnt. It follows the "one_cycle" of `TrainConfig`.
        momentum, weight_decay: of SGD.
        seed: of the order of the images, and of torch's global random state, from which dropout draws.
        penalty: what every step's loss has besides the cross-entropy: a function of `net`, a scalar with
            gradient. The losses returned are without it.
        augment, precision: as in `TrainConfig`.
        after_step: called after every step with its number, counted from 1, and the optimiser of the weights:
            it may change weights, and what the optimiser remembers of them, in place.
        extra: parameters of `penalty` that are trained too, with the rates of the weights, without decay.
        before_step: called with the images and labels of every step, before it: for penalties that read them.

    Returns:
        A row per epoch: epoch, train_loss, val_loss, val_accuracy, seconds.

    Raises:
        ValueError: an argument is outside its range, the network does not suit the data (see `check_fit`), or
            the loss became infinite or NaN.
    """
    checks.number("lr", lr, 0, open_low=True)
    config = TrainConfig(
        epochs=epochs, lr=lr, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay, seed=seed,
        augment=augment, precision=precision,
    )  # fmt: skip
    data, trial = prepared(net, data, config)
    weights = sgd((net.model if isinstance(net, GatedModel) else net).parameters(), config)
    optimisers = [weights, *([sgd(extra, replace(config, weight_decay=0))] if extra else [])]
    loop = Loop(
        net, data, config, trial, optimisers,
        rates=lambda start, middle: [weight_rate(config, start, middle)] * len(optimisers),
        price=penalty and (lambda _share, _epoch: penalty(net)),
        before_step=before_step,
        after_step=after_step and (lambda step: after_step(step, weights)),
    )  # fmt: skip
    rows = []
    try:
        for epoch in range(1, epochs + 1):
            for _ in loop.epoch(epoch):
                pass
            if what := not_finite(loop.row):
                raise ValueError(f"{what}: try a smaller lr (now {lr:g}).")
            rows.append(loop.row)
    finally:
        net.eval()
    return pd.DataFrame(rows)
