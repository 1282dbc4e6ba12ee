"""The posteriors by name. To go from L0-HC to Dep-L0, replace this one object and nothing else.

- `MeanField`: one free log_alpha per gate (Louizos et al. 2018).
- `Dependency`: a generator computes each group's log_alphas from those of the group before (Li & Ji 2021).
- `Autoregressive`: the generator reads the *sampled gates* of the group before.
- `Bernoulli`: independent gates of 0 and 1, trained by ARM (Li & Ji 2019); its name is "arm".
"""

from collections.abc import Sequence
from functools import partial

from ..support import checks
from .autoregressive import Autoregressive
from .bernoulli import Bernoulli
from .dependency import Dependency
from .hard_concrete import HardConcrete
from .mean_field import MeanField
from .posterior import GatePosterior

POSTERIORS = {
    "mean_field": MeanField,
    "forward": Dependency,
    "backward": partial(Dependency, direction="backward"),
    "autoregressive": Autoregressive,
    "arm": Bernoulli,
}
FAMILIES = {family.__name__: family for family in (MeanField, Dependency, Autoregressive, Bernoulli)}


def make_posterior(
    posterior: str | dict | GatePosterior,
    sizes: Sequence[int],
    hard_concrete: HardConcrete | None = None,
    may_close: Sequence[bool] | None = None,
) -> GatePosterior:
    """A posterior over groups of `sizes` by name (see POSTERIORS), or the given one if its sizes match.

    Args:
        posterior: may also be what `GatePosterior.describe` returned: this makes a new one of that kind.

    Raises:
        ValueError: unknown name, or a posterior made for other sizes, or one that closes groups that must
            keep a channel.
    """
    if isinstance(posterior, dict):
        return _make_described(posterior, sizes, may_close)
    if not isinstance(posterior, GatePosterior):
        make = POSTERIORS[checks.one_of("posterior", posterior, POSTERIORS)]
        return make(sizes, hard_concrete=hard_concrete, may_close=may_close)
    if posterior.sizes != tuple(sizes):
        raise ValueError(
            f"the posterior was made for groups of {list(posterior.sizes)} channels, "
            f"but this network has {list(sizes)}: pass sizes={list(sizes)} when you make it."
        )
    may_close = posterior.may_close if may_close is None else may_close
    if any(closes and not may for closes, may in zip(posterior.may_close, may_close, strict=True)):
        raise ValueError(
            "the posterior lets a group close that must keep a channel: pass "
            f"may_close={list(may_close)} to it."
        )
    return posterior


def described_now(description: dict) -> dict:
    """What `GatePosterior.describe` would return now, for a description that an older version saved.

    There `Dependency` had an argument `condition_on`; with "gates" it was what is now `Autoregressive`.
    """
    description = dict(description)
    if description.pop("condition_on", None) == "gates":
        description["family"] = Autoregressive.__name__
    return description


def _make_described(
    description: dict, sizes: Sequence[int], may_close: Sequence[bool] | None
) -> GatePosterior:
    if not {"family", "hard_concrete"} <= description.keys():
        raise ValueError(
            "a posterior given as a dict needs the keys 'family' and 'hard_concrete': pass the result of "
            "another posterior's describe()."
        )
    arguments = described_now(description)
    family = checks.one_of("posterior family", arguments.pop("family"), FAMILIES)
    shape = arguments.pop("hard_concrete")
    shape = HardConcrete(**shape | {"stretch": tuple(shape["stretch"])})
    return FAMILIES[family](sizes, hard_concrete=shape, may_close=may_close, **arguments)
