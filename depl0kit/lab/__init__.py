"""The interactive explorers: thin widgets over `plots` and `training`."""

from ..support.device import keep_freed_memory
from .channels import ChannelExplorer
from .dependency import DependencyExplorer
from .exact import CollinearExplorer, SeriesExplorer
from .exercises import (
    check_channel_macs,
    check_coordinate,
    check_fold,
    check_front,
    check_generate,
    check_macs,
    check_penalty,
    check_prob_open,
    check_recipe,
)
from .gate import GateExplorer
from .live import Explorer, Layout, LiveFigure, NumberSlider, Picture, float_slider, log_slider, projector
from .monitor import Monitor
from .setup import setup
from .tradeoff import TradeoffExplorer
from .training import TrainingExplorer

__all__ = [
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
    "check_channel_macs",
    "check_coordinate",
    "check_fold",
    "check_front",
    "check_generate",
    "check_macs",
    "check_penalty",
    "check_prob_open",
    "check_recipe",
    "float_slider",
    "log_slider",
    "projector",
    "setup",
]

keep_freed_memory()  # of a notebook's process, which trains and draws
