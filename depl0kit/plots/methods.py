"""How a method looks and what it is called, the same in every figure and table."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..comparison.table import DENSE
from ..support import checked
from .base import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILLION, YELLOW

METHODS = {  # name -> (label, colour, marker)
    "mean_field": ("mean field", BLUE, "o"),
    "forward": ("forward", VERMILLION, ">"),
    "backward": ("backward", ORANGE, "<"),
    "autoregressive": ("autoregressive", GREEN, "D"),
    "arm": ("ARM", SKY, "h"),
    "dense": ("dense", BLACK, "*"),
    "random": ("random", GREY, "X"),
    "small_dense": ("small dense", BLACK, "s"),
    "small_dense_longer": ("small dense, longer", BLACK, "d"),
    "l1_uniform": ("L1, uniform", SKY, "v"),
    "l1_global": ("L1, global", PINK, "^"),
    "slimming": ("slimming", YELLOW, "P"),
    # a score after training, before it, a penalty, channels that come back, other layers: a colour for each
    "fpgm": ("FPGM", PINK, "v"),
    "taylor": ("Taylor", PINK, "D"),
    "snip": ("SNIP", SKY, "p"),
    "halo": ("HALO", YELLOW, "H"),
    "group_norm": ("group norm", YELLOW, "D"),
    "growing_reg": ("growing reg.", YELLOW, "^"),
    "fade_out": ("fade out", YELLOW, "v"),
    "grow_prune": ("grow and prune", GREEN, "p"),
    "chex": ("CHEX", GREEN, "H"),
    "low_rank": ("low rank", VERMILLION, "s"),
}
EDGE = "#444444"  # around markers: without it, yellow is lost on white
FADED, FADED_EDGE = "#D0D0D0", "#B0B0B0"  # of the methods beside a highlighted one


@checked
def look(method: str) -> tuple[str, str, str]:
    """Label, colour and marker of a method; one that is not in METHODS has its own name and is grey."""
    return METHODS.get(method, (method, GREY, "o"))


def method_name(method: Any) -> Any:
    """The name of a method in figures and tables: "mean field" for "mean_field".

    What is no text stays as it is, such as a seed beside it in an index: `table.rename(index=method_name)`.
    """
    return look(method)[0] if isinstance(method, str) else method


def in_order(methods: pd.Series) -> list[str]:
    """Each method once: those of METHODS in their order, then others by name."""
    known, found = list(METHODS), methods.unique()
    return [name for name in known if name in found] + sorted(set(found) - set(known))


def is_faded(method: str, highlight: str | None) -> bool:
    return highlight is not None and method not in (highlight, DENSE)


def colours_of(methods: Sequence[str], highlight: str | None) -> list[str]:
    return [FADED if is_faded(name, highlight) else look(name)[1] for name in methods]


def edges_of(methods: Sequence[str], highlight: str | None) -> list[str]:
    return [FADED_EDGE if is_faded(name, highlight) else EDGE for name in methods]


def one_network(table: pd.DataFrame) -> pd.DataFrame:
    found = sorted(set(zip(table.model, table.data, strict=True)))
    if len(found) != 1:
        several = "; ".join(f"{model} on {data}" for model, data in found) or "no rows"
        raise ValueError(
            f"a figure shows one network on one data set, the table has {several}. "
            'Choose one: table[(table.data == "digits") & (table.model == "lenet")].'
        )
    return table


def network_of(table: pd.DataFrame) -> str:
    return f"{table.model.iloc[0]} on {table.data.iloc[0]}"
