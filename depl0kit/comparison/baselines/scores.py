"""Torch-Pruning's importances, for the groups of channels of this package."""

import torch
import torch_pruning as tp
from torch import Tensor, nn

from ...channels.channels import Channels
from ...channels.dependencies import dependency_graph, release, widths
from ...channels.groups import Group
from ...channels.tracing import is_grouped


def channel_scores(channels: Channels, example: Tensor, importance: tp.importance.Importance) -> list[Tensor]:
    """Importance of every channel, per gated group [channels]; of several writers the mean.

    Where the importance knows nothing of a group, as that of batch norms where there is none, its scores
    are infinite: what cannot be judged stays.

    Raises:
        ValueError: Torch-Pruning cannot follow the network.
    """
    model = channels.plain_copy().eval().requires_grad_(True)  # of a frozen network it would see nothing
    names = [layer.name for layer in channels.cost_model.layers]
    graph = dependency_graph(model, example.to(next(model.parameters()).device), names)
    scores = [_group_scores(group, model, graph, importance) for group in channels.groups.gated]
    release(graph)
    return scores


def _group_scores(
    group: Group, model: nn.Module, graph: tp.DependencyGraph, importance: tp.importance.Importance
) -> Tensor:
    writers = {name: model.get_submodule(name) for name in group.writers}
    # a depthwise convolution passes channels on, and Torch-Pruning's importances leave it out
    plain = {name: module for name, module in writers.items() if not is_grouped(module)}
    scores = []
    for name, module in (plain or writers).items():
        pruner = graph.get_pruner_of_module(module).prune_out_channels
        of_outputs = importance(graph.get_pruning_group(module, pruner, list(range(widths(module)["out"]))))
        if of_outputs is not None:
            scores.append(of_outputs[torch.from_numpy(group.members[name, "out"])].mean(1).cpu())
    return torch.stack(scores).mean(0) if scores else torch.full((group.channels,), torch.inf)
