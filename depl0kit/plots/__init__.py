"""Every figure, as a pure function of data and an `Axes`; see `base` for their conventions."""

from .base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    HEATMAP,
    ORANGE,
    PINK,
    PROJECTOR,
    SERIES,
    SKY,
    STYLE,
    VERMILLION,
    YELLOW,
    style,
)
from .channels import channel_prices, group_widths, layer_macs, measures
from .comparison import confusion, paired_intervals
from .data import gate_gradient, images
from .gate import gate_cdf, gate_density, gate_samples, spikes
from .network import (
    correlation_matrix,
    gate_correlation,
    gate_pairs,
    history_curves,
    layer_bars,
    log_alpha_flow,
    log_alpha_paths,
    prob_open_heatmap,
    prob_open_image,
)
from .tradeoff import METHODS, accuracy_vs_cost

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "HEATMAP",
    "METHODS",
    "ORANGE",
    "PINK",
    "PROJECTOR",
    "SERIES",
    "SKY",
    "STYLE",
    "VERMILLION",
    "YELLOW",
    "accuracy_vs_cost",
    "channel_prices",
    "confusion",
    "correlation_matrix",
    "gate_cdf",
    "gate_correlation",
    "gate_density",
    "gate_gradient",
    "gate_pairs",
    "gate_samples",
    "group_widths",
    "history_curves",
    "images",
    "layer_bars",
    "layer_macs",
    "log_alpha_flow",
    "log_alpha_paths",
    "measures",
    "paired_intervals",
    "prob_open_heatmap",
    "prob_open_image",
    "spikes",
    "style",
]
