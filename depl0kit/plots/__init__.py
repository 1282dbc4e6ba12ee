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
    panels,
    style,
)
from .channels import channel_prices, group_widths, layer_macs, measures
from .comparison import confusion, lambda_path, paired_intervals
from .data import gate_gradient, images
from .dynamic import macs_of_images, two_images
from .exact import (
    all_open_curve,
    coupling_spectrum,
    gradient_clouds,
    group_entropy,
    kl_curves,
    likeliest_masks,
    open_gates,
    pair_states,
)
from .gate import gate_cdf, gate_density, gate_samples, spikes
from .low_rank import singular_values
from .methods import METHODS, look, method_name
from .network import (
    gate_correlation,
    gate_pairs,
    history_curves,
    layer_bars,
    log_alpha_flow,
    log_alpha_paths,
    prob_open_heatmap,
    prob_open_image,
)
from .network_map import network_map
from .relatives import channel_lives, penalties
from .scales import round_limits
from .tradeoff import accuracy_vs_cost

__all__ = [
    "BLACK", "BLUE", "GREEN", "GREY", "HEATMAP", "METHODS", "ORANGE", "PINK", "PROJECTOR", "SERIES",
    "SKY", "STYLE", "VERMILLION", "YELLOW", "accuracy_vs_cost", "all_open_curve", "channel_lives",
    "channel_prices", "confusion", "coupling_spectrum", "gate_cdf", "gate_correlation", "gate_density",
    "gate_gradient", "gate_pairs", "gate_samples", "gradient_clouds", "group_entropy", "group_widths",
    "history_curves", "images", "kl_curves", "lambda_path", "layer_bars", "layer_macs", "likeliest_masks",
    "log_alpha_flow", "log_alpha_paths", "look", "macs_of_images", "measures", "method_name",
    "network_map", "open_gates", "pair_states", "paired_intervals", "panels", "penalties",
    "prob_open_heatmap", "prob_open_image", "round_limits", "singular_values", "spikes", "style",
    "two_images",
]  # fmt: skip
