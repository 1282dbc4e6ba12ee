"""The interactive explorers: thin widgets over `plots` and `training`."""

from ..support.device import keep_freed_memory
from . import exercises
from .channels import ChannelExplorer
from .dependency import DependencyExplorer
from .exact import CollinearExplorer, SeriesExplorer
from .exercises import *  # noqa: F403
from .gate import GateExplorer
from .live import Explorer, Layout, LiveFigure, NumberSlider, Picture, float_slider, log_slider, projector
from .monitor import Monitor
from .setup import setup
from .tradeoff import TradeoffExplorer
from .training import TrainingExplorer

__all__ = [
    *exercises.__all__,
    "ChannelExplorer",
    "CollinearExplorer",
    "DependencyExplorer",
    "Explorer",
    "GateExplorer",
    "Layout",
    "LiveFigure",
    "Monitor",
    "NumberSlider",
    "Picture",
    "SeriesExplorer",
    "TradeoffExplorer",
    "TrainingExplorer",
    "float_slider",
    "log_slider",
    "projector",
    "setup",
]

keep_freed_memory()  # of a notebook's process, which trains and draws
