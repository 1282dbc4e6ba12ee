"""One gate under sliders: its density, its distribution function and draws of it."""

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..gates.hard_concrete import HardConcrete
from ..support import checked
from .live import Explorer, Layout, LiveFigure, button, float_slider

DRAWS = 300


class GateExplorer(Explorer):
    """Density with its spikes, distribution function and draws of one hard-concrete gate.

    All draws use the same noise, so each dot moves with the sliders, and moves back with them; "New noise"
    draws new noise.

    Args:
        log_alpha: location of the gate at the start, in [-6, 6].
        temperature: beta at the start, in [1/15, 2].
        stretch: (gamma, zeta) at the start, gamma in [-0.5, 0], zeta in [1, 1.5].

    Raises:
        ValueError: a number outside its range.
    """

    @checked
    def __init__(
        self, log_alpha: float = 0.0, temperature: float = 2 / 3, stretch: tuple[float, float] = (-0.1, 1.1)
    ) -> None:
        gamma, zeta = stretch
        controls = {
            "log_alpha": float_slider("Location log α", log_alpha, -6, 6, 0.1, 1, "Right: more likely open"),
            # steps of 1/30, so that the papers' 2/3 is one of them
            "temperature": float_slider(
                "Temperature β", temperature, 2 / 30, 2, 1 / 30, 2, "Left: nearly 0 or 1. Right: in between"
            ),
            "gamma": float_slider("Stretch γ", gamma, -0.5, 0, 0.02, 2, "Further left: a larger spike at 0"),
            "zeta": float_slider("Stretch ζ", zeta, 1, 1.5, 0.02, 2, "Further right: a larger spike at 1"),
        }
        self._noise = torch.rand(DRAWS, generator=torch.Generator().manual_seed(0))
        again = button("New noise", "random", "Draw all samples again", self.new_noise)
        figure = LiveFigure(
            self._draw, (1060, 320), "abc", "Density, distribution function and samples of one gate",
            narrower=[Layout("ab;cc", 480, 560), Layout("a;b;c", 280, 780)],
        )  # fmt: skip
        super().__init__(figure, controls, [again])

    def new_noise(self) -> None:
        """Draw all samples again."""
        self._noise = torch.rand(DRAWS)
        self.redraw()

    def numbers(self, **state: float) -> str:
        """Probabilities of the three outcomes and of being open, and the gate of the papers' rule."""
        hc, log_alpha = _gate(**state)
        zero, one = plots.spikes(hc, log_alpha)
        gate = float(hc.deterministic(torch.tensor(log_alpha)))
        return (
            f"P(z=0) = {zero:.3f}    P(0<z<1) = {1 - zero - one:.3f}    P(z=1) = {one:.3f}    "
            f"P(z>0) = {1 - zero:.3f}    test-time gate = {gate:.3f}, {'open' if gate > 0 else 'closed'}"
        )

    def _draw(self, left: Axes, middle: Axes, right: Axes, **state: float) -> list[Artist]:
        hc, log_alpha = _gate(**state)
        return [
            *plots.gate_density(hc, log_alpha, left),
            *plots.gate_cdf(hc, log_alpha, middle),
            *plots.gate_samples(hc, log_alpha, self._noise, right),
        ]


def _gate(log_alpha: float, temperature: float, gamma: float, zeta: float) -> tuple[HardConcrete, float]:
    return HardConcrete(temperature, (gamma, zeta)), log_alpha
