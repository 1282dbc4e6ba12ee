"""Many runs in one table, and what can be said from it (lesson 06)."""

from .fronts import area_under_front, at_matched_cost, pareto_front
from .intervals import area_intervals, paired_differences
from .lambda_path import lambda_path
from .measurements import load_measurements
from .sweeps import Grid, load_grid, load_results, sweep

__all__ = [
    "Grid", "area_intervals", "area_under_front", "at_matched_cost", "lambda_path", "load_grid",
    "load_measurements", "load_results", "paired_differences", "pareto_front", "sweep",
]  # fmt: skip
