"""After training: batch-norm statistics for the test-time gates, and a few epochs without a price."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import OneCycleLR

from ..data.loading import Data, Split
from ..gates.gated import GatedModel
from ..support import checks
from ..support.arguments import checked
from ..support.modes import eval_mode, freeze, frozen_parts
from . import layout
from .evaluation import evaluate
from .fit import check_fit

BATCH = 256  # of the re-estimation: as many as fit easily, since every batch has its say


@checked
@torch.no_grad()
def reestimate_batch_norm(net: nn.Module, data: Data) -> None:
    """Recompute all batch-norm statistics on the training split, with the test-time gates.

    In training the statistics follow *sampled* gates. Where many gates are undecided, the network of
    test-time gates has others, and loses accuracy for no other reason. A network without batch norms
    stays as it is.

    Args:
        net: a `GatedModel`, or a compact or any other network. Changed in place; its weights and its
            mode are not.
        data: the images; labels are not used.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    device, trial = next(net.parameters()).device, layout.try_step(net, data.train.shape)
    with eval_mode(net):  # no dropout, test-time gates
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over all batches
                norm.train()
            for x, _ in _equal_batches(data.to(device).train) if norms else ():
                net(layout.laid(x, trial.layout))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _equal_batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """All images, but for a few, in batches of one size: each counts alike in the mean.

    In a random order: a batch of one class, as in sorted data, has too small a variance.
    """
    size = max(1, len(split) // -(-len(split) // BATCH))
    return split.batches(size, torch.Generator().manual_seed(0))


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
) -> pd.DataFrame:
    """Train the weights of `net` for a few epochs, gates frozen at their test-time values, nothing priced.

    Args:
        net: a `GatedModel` or a compact network; trained in place, and left in eval mode. The
            posterior of a `GatedModel` does not move, nor do the statistics of batch norms that are in
            eval mode while `net` is in training mode.
        data: trained on its training split.
        epochs, batch_size: whole numbers >= 1.
        lr: highest learning rate of SGD, a fifth of that of `TrainConfig`: what is learnt is kept.
            It rises for 30 % of the steps and falls to 0.
        momentum, weight_decay: of SGD.
        seed: of the order of the images.
        penalty: what every step's loss has besides the cross-entropy: a function of `net`, a scalar with
            gradient. The losses returned are without it.

    Returns:
        A row per epoch: epoch, train_loss, val_loss, val_accuracy, seconds.

    Raises:
        ValueError: an argument outside its range, a network that does not suit the data (see `check_fit`), or
            a loss that is not finite.
    """
    checks.whole("epochs", epochs, 1)
    checks.number("lr", lr, 0, open_low=True)
    checks.number("momentum", momentum, 0, 1)
    checks.number("weight_decay", weight_decay, 0)
    device = next(net.parameters()).device
    check_fit(net, data)
    data = data.to(device)
    trial = layout.try_step(net, data.train.shape)
    batches = max(1, len(data.train) // checks.whole("batch_size", batch_size, 1))
    weights = net.model.parameters() if isinstance(net, GatedModel) else net.parameters()
    optimiser = torch.optim.SGD(weights, lr, momentum, weight_decay=weight_decay)
    schedule = OneCycleLR(optimiser, lr, epochs * batches, cycle_momentum=False)
    order, rows = torch.Generator().manual_seed(seed), []
    frozen = [] if isinstance(net, GatedModel) else frozen_parts(net)  # it sees to its own
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        with _gates_frozen(net):
            freeze(frozen)
            images = ((layout.laid(x, trial.layout), y) for x, y in data.train.batches(batch_size, order))
            loss = _one_epoch(net, images, optimiser, schedule, penalty) / batches
        val_loss, val_accuracy = evaluate(net, data.val)
        if not torch.isfinite(torch.tensor(loss + val_loss)):
            raise ValueError(f"the loss became {loss} in epoch {epoch}: lower lr={lr:g}.")
        row = {"epoch": epoch, "train_loss": loss, "val_loss": val_loss, "val_accuracy": val_accuracy}
        rows.append(row | {"seconds": time.perf_counter() - start})
    return pd.DataFrame(rows)


def _one_epoch(
    net: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: OneCycleLR,
    penalty: Callable[[nn.Module], Tensor] | None,
) -> float:
    """Sum of the batches' losses, without the penalty."""
    total = torch.zeros((), device=next(net.parameters()).device)
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        optimiser.zero_grad()
        (loss if penalty is None else loss + penalty(net)).backward()
        optimiser.step()
        schedule.step()
        total += loss.detach()
    return float(total)


@contextmanager
def _gates_frozen(net: nn.Module) -> Iterator[None]:
    """Training mode for the network, eval mode (test-time gates) for the posterior; eval mode afterwards."""
    frozen = []
    if isinstance(net, GatedModel):
        frozen = [p for p in net.posterior.parameters() if p.requires_grad]
    net.train()
    if isinstance(net, GatedModel):
        net.training = False  # of the gates: `GatedModel.forward` asks for nothing else
    try:
        for p in frozen:
            p.requires_grad_(False)
        yield
    finally:
        for p in frozen:
            p.requires_grad_(True)
        net.eval()
