"""Layers of low rank: each weight matrix becomes two, of as many channels as its singular values ask for."""

from collections.abc import Mapping, Sequence

from torch import nn

from ...channels.admission import check_network, copied, unwrapped
from ...data.loading import Data
from ...networks.factorised import factorised
from ...support import checks
from ...training.config import TrainConfig
from .factors import INITS
from .spectra import Candidate, Spectrum, candidates, spectra
from .whole import seeded, train_weights

# "small" on digits (15 epochs and 3 of fine-tuning, two seeds, validation): "svd" .990 at 50 % of MACs and
# .981 at 25 %, "function" .990 and .979. So what takes no time:
INIT = "svd"


def low_rank(
    model: nn.Module,
    data: Data,
    keep: float,
    config: TrainConfig,
    trained: nn.Module | None = None,
    init: str = INIT,
) -> nn.Module:
    """The trained network with layers in two, by one threshold on the share of the squared singular values
    that each keeps. `candidates` says which layers; those where two would cost more than one stay whole.

    The two have the widths of the one, so no channel goes. `load_compact` makes the same layers again.

    Args:
        trained: what `dense` returned for the same model, data and config, which needs no training then.
        init: where the caller's fine-tuning begins. "svd": the nearest matrices of that rank. "function":
            those whose outputs after a ReLU are nearest, for Gaussian inputs.

    Raises:
        ValueError: no layer can become two; `keep` is less than what is left with one channel between the
            two of every layer.
    """
    checks.share("keep", keep)
    checks.one_of("init", init, INITS)
    model = copied(unwrapped(model))
    check_network(model)
    example = data.example[:1].to(next(model.parameters()).device)
    layers, macs = candidates(model, example)
    least = macs - sum(layer.macs - layer.rank_macs for layer in layers)
    _refuse_below(least, keep, macs, model, layers)
    if trained is None:
        with seeded(model, config.seed):
            train_weights(model, data, config)
    else:
        model.load_state_dict(trained.state_dict())
    found = spectra(model, example, [layer.name for layer in layers])
    for name, rank in best_ranks(layers, found, keep * macs - least).items():
        model.set_submodule(name, factorised(model.get_submodule(name), *INITS[init](found[name], rank)))
    return model.eval()


def best_ranks(layers: Sequence[Candidate], spectra: Mapping[str, Spectrum], spare: float) -> dict[str, int]:
    """The ranks of the layers that become two; the others stay whole.

    One threshold on the energy, as high as the MACs allow, sets all of them: from rank 1 everywhere on,
    components are added in the order in which a rising threshold asks for them. Where the next one of a layer
    no longer fits, the others continue, and so use up what is left. A layer of rank `most` becomes whole
    next, which costs no more than a rank.

    Args:
        spare: MACs per image that may be added to those of rank 1 everywhere, >= 0.
    """
    ranks = [1] * len(layers)
    energies = [spectra[layer.name].energies[: layer.most].tolist() for layer in layers]
    for _, i in sorted((energy, i) for i, row in enumerate(energies) for energy in row):
        layer = layers[i]
        price = layer.rank_macs if ranks[i] < layer.most else layer.macs - layer.most * layer.rank_macs
        if price <= spare:  # else it will never fit, as less and less is left
            ranks[i] += 1
            spare -= price
    return {layer.name: rank for layer, rank in zip(layers, ranks, strict=True) if rank <= layer.most}


def _refuse_below(least: int, keep: float, macs: int, model: nn.Module, layers: Sequence[Candidate]) -> None:
    """Raise a ValueError if no layer can become two, or `least` MACs are too many."""
    if not layers:
        raise ValueError(
            f"no layer of {type(model).__name__} can become two of low rank: it needs a convolution without "
            "groups, of kernel size 2 or more, after the first one, or a linear layer before the last layer."
        )
    if least > keep * macs:
        raise ValueError(
            f"keep={keep:g} cannot be reached: of this network's MACs at least {least / macs:.2g} stay, with "
            f"rank 1 in {len(layers)} layers; the others stay whole."
        )
