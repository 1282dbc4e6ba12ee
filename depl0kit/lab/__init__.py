"""The interactive explorers: thin widgets over `plots` and `training`."""

from .dependency import DependencyExplorer
from .gate import GateExplorer
from .live_figure import Explorer, LiveFigure, Picture, float_slider, log_slider
from .training import TrainingExplorer

__all__ = [
    "DependencyExplorer",
    "Explorer",
    "GateExplorer",
    "LiveFigure",
    "Picture",
    "TrainingExplorer",
    "float_slider",
    "log_slider",
]
