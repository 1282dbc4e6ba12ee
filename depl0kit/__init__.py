"""depl0kit: understand, teach and analyse L0 sparsification of neural networks.

Everything here works without Jupyter; `depl0kit.lab` adds the interactive explorers.
"""

import importlib
from types import ModuleType

from . import comparison, data, gates, plots
from .channels import Channels, Cost
from .comparison import Grid, lambda_path, load_results, paired_differences, pareto_front, sweep
from .data import load_data, make_data
from .gates import (
    Autoregressive,
    Dependency,
    GatedModel,
    GatePosterior,
    HardConcrete,
    MeanField,
    compact,
    exact,
)
from .networks import latency, load_compact, make_model, save_compact
from .support.device import best_device
from .support.versions import version
from .training import (
    Diverged,
    TrainConfig,
    Trainer,
    evaluate,
    fine_tune,
    reestimate_batch_norm,
    train,
)
from .training.runs import RunFolder, load_run

__version__ = version()
__all__ = [
    "Autoregressive",
    "Channels",
    "Cost",
    "Dependency",
    "Diverged",
    "GatePosterior",
    "GatedModel",
    "Grid",
    "HardConcrete",
    "MeanField",
    "RunFolder",
    "TrainConfig",
    "Trainer",
    "best_device",
    "compact",
    "comparison",
    "data",
    "evaluate",
    "exact",
    "fine_tune",
    "gates",
    "lambda_path",
    "latency",
    "load_compact",
    "load_data",
    "load_results",
    "load_run",
    "make_data",
    "make_model",
    "paired_differences",
    "pareto_front",
    "plots",
    "reestimate_batch_norm",
    "save_compact",
    "sweep",
    "train",
]


def __getattr__(name: str) -> ModuleType:
    """Import `depl0kit.lab` when it is first used, so that the core needs no Jupyter."""
    if name == "lab":
        return importlib.import_module(".lab", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
