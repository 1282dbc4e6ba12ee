"""The generator of Dep-L0 under sliders: log alphas from group to group, and correlation of gates."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from torch import nn

from .. import gates, plots
from ..gates.autoregressive import Autoregressive
from ..gates.dependency import Dependency
from ..gates.posterior import BOUND
from .live import Explorer, Layout, LiveFigure, button, float_slider

SIZES = (8, 8, 8, 8)
DRAWS = 4000


class DependencyExplorer(Explorer):
    """A generator of four groups of eight gates, with random weights.

    Left: log_alpha of every gate, and the weights between groups. Right: the correlation of sampled gates
    *at fixed weights*. If the generator reads log α, as in the paper, there is none, wherever the sliders
    are. If it reads the sampled gates (the autoregressive posterior), there is some.
    """

    def __init__(self) -> None:
        controls = {
            "fed_with": widgets.ToggleButtons(
                options=[("log α (paper)", "log_alpha"), ("sampled gates", "gates")], description="Reads"
            ),
            "direction": widgets.ToggleButtons(options=["forward", "backward"], description="Chain"),
            "coupling": float_slider("Coupling", 1.0, 0, 3, 0.1, 1, "Size of the weights between groups"),
            "push": float_slider("Push", 0.0, -3, 3, 0.1, 1, "Added to the first biases of the chain"),
        }
        for name in ("fed_with", "direction"):
            controls[name].style.button_width = "auto"
        self._seed = 0
        again = button("New weights", "random", "Draw other random weights", self.new_weights)
        figure = LiveFigure(
            self._draw, (1060, 400), "ab", "log alphas flowing from group to group, and correlation of gates",
            narrower=[Layout("a;b", 380, 680)], width_ratios=(1.35, 1),
        )  # fmt: skip
        super().__init__(figure, controls, [again])

    def new_weights(self) -> None:
        """Other random weights, at the same sliders."""
        self._seed += 1
        self.redraw()

    def numbers(self, **state: float) -> str:
        """Open gates and the largest correlation."""
        posterior, samples = _generator(self._seed, **state)
        with torch.no_grad():
            open_gates = int((posterior.flat_deterministic() > 0).sum())
        largest = np.abs(gates.correlation_matrix(samples)).max()
        return (
            f"{open_gates} of {sum(SIZES)} gates open at test time    "
            f"largest |r| of two gates: {largest:.2f} in {DRAWS} draws"
        )

    @torch.no_grad()
    def _draw(self, left: Axes, right: Axes, **state: float) -> list[Artist]:
        posterior, samples = _generator(self._seed, **state)
        log_alphas = [a.numpy() for a in posterior.log_alpha()]
        weights = [linear.weight.numpy() for linear in posterior.generator][1:]
        if posterior.direction == "backward":
            weights = [w.T for w in weights[::-1]]
        sizes = {f"group {i + 1}": n for i, n in enumerate(SIZES)}
        threshold = posterior.hard_concrete.open_threshold
        return [
            *plots.log_alpha_flow(log_alphas, weights, threshold, left),
            *plots.gate_correlation(samples, sizes, right),
        ]


@lru_cache(maxsize=1)  # the figure and the line under it show the same one
@torch.no_grad()
def _generator(
    seed: int, fed_with: str, direction: str, coupling: float, push: float
) -> tuple[Dependency, np.ndarray]:
    """A generator with random weights, and DRAWS samples of its gates [DRAWS, N]."""
    posterior = (Autoregressive if fed_with == "gates" else Dependency)(SIZES, direction)
    rng = torch.Generator().manual_seed(seed)
    # a gate is 1 at most, a log_alpha up to BOUND: scaled so that one coupling reaches as far in both
    scale = 0.5 * coupling / (1.0 if fed_with == "gates" else BOUND)
    for step, linear in enumerate(posterior.generator):
        nn.init.normal_(linear.weight, 0, scale if step else 0.0, generator=rng)
        nn.init.normal_(linear.bias, 0, 0.5, generator=rng)
    posterior.generator[0].bias += push
    return posterior, posterior.flat_sample(DRAWS, torch.Generator().manual_seed(0)).numpy()
