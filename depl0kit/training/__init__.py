"""Train the weights and the gates together, in one loop (lessons 02 and 08).

`runs` has the folder of a run, `recipes` the settings of the papers.
"""

from .config import TrainConfig
from .evaluation import evaluate
from .finetuning import fine_tune, reestimate_batch_norm
from .train import train
from .trainer import Diverged, Trainer

__all__ = ["Diverged", "TrainConfig", "Trainer", "evaluate", "fine_tune", "reestimate_batch_norm", "train"]
