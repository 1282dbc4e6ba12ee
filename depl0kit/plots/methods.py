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
    "fbs": ("FBS", ORANGE, "h"),
    "manidp": ("ManiDP", PINK, "p"),
    "fbs_static": ("FBS, fixed", ORANGE, "H"),
    "manidp_static": ("ManiDP, fixed", PINK, "d"),
}
STATIC = "static"
HOLLOW = {"dynamic": "mean over images", "factorised": "layers in two"}  # kinds, and what to know of them
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


def marker_colours(
    methods: Sequence[str], kinds: Sequence[str], highlight: str | None = None
) -> tuple[list[str], list[str]]:
    """Faces and edges of markers; hollow where the costs are not those of one small network."""
    colours, edges = colours_of(methods, highlight), edges_of(methods, highlight)
    hollow = [kind != STATIC for kind in kinds]
    faces = ["white" if h else colour for h, colour in zip(hollow, colours, strict=True)]
    return faces, [c if h else edge for h, c, edge in zip(hollow, colours, edges, strict=True)]


def with_kind(name: str, kind: str) -> str:
    """A method's name, followed by its kind unless that is static."""
    return name if kind == STATIC else f"{name} ({kind})"


def kind_notes(kinds: Sequence[str]) -> str:
    """What hollow markers mean, a line for each kind that is drawn hollow, each after a line break."""
    return "".join(f"\nhollow, {kind}: {note}" for kind, note in HOLLOW.items() if kind in set(kinds))


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
