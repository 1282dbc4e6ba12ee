"""Many runs, one table: every method with every price and seed, here or on any executor.

results = dk.sweep(dk.Grid(methods=("mean_field", "l1_global"), budget=(0.5, 0.2), seeds=(0, 1, 2)))
"""

from ..table import summary
from .grid import METHODS, Grid, Job, load_grid, spec_description, spec_names
from .results import SweepFolder, load_results
from .runner import sweep

__all__ = [
    "METHODS", "Grid", "Job", "SweepFolder", "load_grid", "load_results", "spec_description", "spec_names",
    "summary", "sweep",
]  # fmt: skip
