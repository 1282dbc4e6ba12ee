"""One gate, posteriors over all gates, and networks with gates (lessons 01 to 04).

`exact` has problems with so few gates that the exact posterior can be computed.
"""

from . import exact
from .autoregressive import Autoregressive
from .bernoulli import Bernoulli
from .compact import compact
from .dependency import Dependency
from .diagnostics import PosteriorReport, correlation_matrix, directions, posterior_report
from .gated import GatedModel
from .hard_concrete import HardConcrete
from .mean_field import MeanField
from .posterior import GatePosterior

__all__ = [
    "Autoregressive",
    "Bernoulli",
    "Dependency",
    "GatePosterior",
    "GatedModel",
    "HardConcrete",
    "MeanField",
    "PosteriorReport",
    "compact",
    "correlation_matrix",
    "directions",
    "exact",
    "posterior_report",
]
