"""Tables of `benchmarks/` that come with the package, for lessons that draw them."""

import pandas as pd

from ..support import checked, checks
from ..support.shipped import RESULTS, shipped

TABLE = "measurements.csv"


@checked
def load_measurements(name: str) -> pd.DataFrame:
    """A table that a benchmark has written; which one, and what its columns mean, is said there.

    Args:
        name: "gate-lr" (`benchmarks/gate_lr.py`).

    Raises:
        ValueError: there is no table of this name.

    Example:
        >>> sorted(load_measurements("gate-lr").steps.unique().tolist())
        [108, 216, 432]
    """
    names = sorted(path.parent.name for path in shipped(RESULTS).glob(f"*/{TABLE}"))
    return pd.read_csv(shipped(RESULTS) / checks.one_of("name", name, names) / TABLE)
