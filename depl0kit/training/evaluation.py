"""How good a classifier is on a split."""

import torch
import torch.nn.functional as F

from ..data.splits import Split
from ..support import checked
from ..support.device import values_of
from ..support.modes import eval_mode
from . import distributed, layout
from .classifier import check_inputs, logits_of


@checked
@torch.no_grad()
def evaluate(net: torch.nn.Module, split: Split, batch_size: int = 1000) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (0..1) of any classifier on a split, in eval mode.

    Where several processes train, each takes a part, and all get the result of the whole.

    Raises:
        ValueError: the network needs several inputs, or returns anything but one tensor.
    """
    check_inputs(net)
    mine = distributed.ranks()
    sums = torch.zeros(2, device=next(net.parameters()).device)
    with eval_mode(net):
        for x, y in split.batches(batch_size, part=(mine.rank, mine.world)):
            logits = logits_of(layout.outputs(net, x), net)
            loss, correct = F.cross_entropy(logits, y, reduction="sum"), (logits.argmax(1) == y).sum()
            sums += torch.stack([loss.float(), correct.float()])
    loss, correct = values_of(distributed.total(sums)).tolist()
    return loss / len(split), correct / len(split)
