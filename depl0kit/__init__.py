"""depl0kit: understand, teach and analyse L0 sparsification of neural networks.

Everything here works without Jupyter; `depl0kit.lab` adds the interactive explorers.
"""

from . import plots
from .compaction import compact
from .cost import Cost
from .data import load_data
from .gated import GatedModel
from .hard_concrete import HardConcrete
from .models import make_model
from .posteriors import Dependency, GatePosterior, MeanField
from .training import Diverged, Run, TrainConfig, Trainer, evaluate, train

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
    "TrainConfig",
    "Trainer",
    "compact",
    "evaluate",
    "load_data",
    "make_model",
    "plots",
    "train",
]
