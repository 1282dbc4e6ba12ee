"""depl0kit: understand, teach and analyse L0 sparsification of neural networks.

Everything here works without Jupyter; `depl0kit.lab` adds the interactive explorers.
"""

import importlib
from types import ModuleType

from . import plots
from .compaction import compact
from .config import TrainConfig
from .cost import Cost
from .data import load_data
from .device import best_device
from .exact import ExactPosterior, collinear_data, collinear_regression, gates_in_series, spike_and_slab
from .exact_fits import compare_fits, fit_autoregressive, fit_generator, fit_mean_field
from .finetuning import fine_tune, reestimate_batch_norm
from .fronts import area_intervals, area_under_front, at_matched_cost, paired_differences, pareto_front
from .gated import GatedModel
from .hard_concrete import HardConcrete
from .lambda_path import lambda_path
from .latency import latency
from .models import make_model
from .posterior_report import posterior_report
from .posteriors import Dependency, GatePosterior, MeanField
from .run_folder import RunFolder
from .runs import Run, load_run
from .storage import load_compact, save_compact
from .sweeps import Grid, load_grid, load_results, sweep
from .training import Diverged, Trainer, evaluate, train

__version__ = "0.1.0"
__all__ = [
    "Cost",
    "Dependency",
    "Diverged",
    "ExactPosterior",
    "GatePosterior",
    "GatedModel",
    "Grid",
    "HardConcrete",
    "MeanField",
    "Run",
    "RunFolder",
    "TrainConfig",
    "Trainer",
    "area_intervals",
    "area_under_front",
    "at_matched_cost",
    "best_device",
    "collinear_data",
    "collinear_regression",
    "compact",
    "compare_fits",
    "evaluate",
    "fine_tune",
    "fit_autoregressive",
    "fit_generator",
    "fit_mean_field",
    "gates_in_series",
    "lambda_path",
    "latency",
    "load_compact",
    "load_data",
    "load_grid",
    "load_results",
    "load_run",
    "make_model",
    "paired_differences",
    "pareto_front",
    "plots",
    "posterior_report",
    "reestimate_batch_norm",
    "save_compact",
    "spike_and_slab",
    "sweep",
    "train",
]


def __getattr__(name: str) -> ModuleType:
    """Import `depl0kit.lab` when it is first used, so that the core needs no Jupyter."""
    if name == "lab":
        return importlib.import_module(".lab", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
