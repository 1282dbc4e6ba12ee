"""Problems with so few gates that the posterior is a table, and approximations of it (lesson 04)."""

from .estimators import gradient_estimates
from .fits import compare_fits, fit_autoregressive, fit_generator, fit_mean_field
from .problems import ExactPosterior, collinear_data, collinear_regression, gates_in_series, spike_and_slab

__all__ = [
    "ExactPosterior",
    "collinear_data",
    "collinear_regression",
    "compare_fits",
    "fit_autoregressive",
    "fit_generator",
    "fit_mean_field",
    "gates_in_series",
    "gradient_estimates",
    "spike_and_slab",
]
