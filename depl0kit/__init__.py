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
from .finetuning import fine_tune, reestimate_batch_norm
from .gated import GatedModel
from .hard_concrete import HardConcrete
from .latency import latency
from .models import make_model
from .posteriors import Dependency, GatePosterior, MeanField
from .run_folder import RunFolder
from .runs import Run, load_run
from .storage import load_compact, save_compact
from .training import Diverged, Trainer, evaluate, train

__version__ = "0.1.0"
__all__ = [
    "Cost",
    "Dependency",
    "Diverged",
    "GatePosterior",
    "GatedModel",
    "HardConcrete",
    "MeanField",
    "Run",
    "RunFolder",
    "TrainConfig",
    "Trainer",
    "best_device",
    "compact",
    "evaluate",
    "fine_tune",
    "latency",
    "load_compact",
    "load_data",
    "load_run",
    "make_model",
    "plots",
    "reestimate_batch_norm",
    "save_compact",
    "train",
]


def __getattr__(name: str) -> ModuleType:
    """Import `depl0kit.lab` when it is first used, so that the core needs no Jupyter."""
    if name == "lab":
        return importlib.import_module(".lab", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
