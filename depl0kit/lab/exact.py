"""Explorers of posteriors over a few gates: the exact one, the best mean field, and a chain."""

import asyncio
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..gates.exact.fits import Fit, fit_autoregressive, fit_mean_field
from ..gates.exact.problems import ExactPosterior, collinear_regression, gates_in_series
from ..support import checked, checks
from .live import Explorer, Layout, LiveFigure, NumberSlider, float_slider

CORRELATIONS = (*(i / 20 for i in range(20)), 0.99)
GAINS = np.linspace(0, 30, 61)
PAUSE = 0.05  # seconds between two fits in advance


class CollinearExplorer(Explorer):
    """Eight features in four near-duplicate pairs: which of them does a regression need?

    Above, the states of every pair under the exact posterior, the best mean field and the best chain (each
    gate sees those before it); below, the likeliest masks. The fits of a slider position are kept.

    Args:
        correlation: within a pair, at the start, in [0, 0.99].

    Raises:
        ValueError: `correlation` is outside its range.
    """

    @checked
    def __init__(self, correlation: float = 0.9) -> None:
        slider = NumberSlider(
            value=checks.number("correlation", correlation, 0, CORRELATIONS[-1]),
            numbers=CORRELATIONS,
            description="Correlation",
            tooltip="Right: the two features of a pair are nearly equal",
        )
        figure = LiveFigure(
            self._draw, (1120, 520), "abc;ddd", "Three posteriors over the gates of collinear features",
            narrower=[Layout("ab;cc;dd", 560, 760), Layout("a;b;c;d", 380, 960)],
        )  # fmt: skip
        super().__init__(figure, {"correlation": slider})

    def numbers(self, correlation: float) -> str:
        """KL divergence and optima of the fits, and the correlation of the first pair's gates."""
        target, mean_field, chain = _collinear(correlation)
        # rounded, and + 0.0: no "-0.00"
        r = [round(float(p.correlation()[0, 1]), 2) + 0.0 for p in (target, mean_field, chain)]
        optima = f"{mean_field.optima} {'optimum' if mean_field.optima == 1 else 'optima'} found"
        return (
            f"KL from exact: mean field {mean_field.kl:.3f} ({optima}), "
            f"chain {chain.kl:.3f}    correlation of gates 1 and 2: "
            f"exact {r[0]:.2f}, mean field {r[1]:.2f}, chain {r[2]:.2f}"
        )

    def _draw(self, a: Axes, b: Axes, c: Axes, d: Axes, correlation: float) -> list[Artist]:
        target, mean_field, chain = _collinear(correlation)
        probs = {"exact": target.prob, "mean field": mean_field.prob, "chain": chain.prob}
        artists = []
        for ax, (name, prob) in zip((a, b, c), probs.items(), strict=True):
            table = torch.stack([target.pair(2 * i, 2 * i + 1, prob) for i in range(target.n // 2)])
            artists += plots.pair_states(table.numpy(), name, ax)
        exact = probs.pop("exact").numpy()
        return artists + plots.likeliest_masks(exact, {name: p.numpy() for name, p in probs.items()}, d)


class SeriesExplorer(Explorer):
    """Four gates in series: a gain if all of them are open, and a price for each open one.

    At every gain, mean field starts from its last optimum, as it would during training. So it depends on the
    path: drag to the right and back. A fast drag takes the same steps as a slow one: positions that the
    slider skips are fitted too. The chain is fitted from scratch at every gain.

    Args:
        gain: at the start, in [0, 30].

    Attributes:
        trail: (gain, P(all open) of mean field, of the chain) of every step since Reset.

    Raises:
        ValueError: `gain` is outside its range.
    """

    reset_hint = "Back to the start; mean field starts from scratch"

    @checked
    def __init__(self, gain: float = 3.0) -> None:
        slider = float_slider("Gain g", gain, 0, float(GAINS[-1]), 0.5, 1, "Paid if all gates are open")
        self._forget()
        figure = LiveFigure(
            self._draw, (1000, 380), "ab", "P(all gates open) over the gain, and how many gates are open",
            narrower=[Layout("a;b", 330, 640)], width_ratios=(1.6, 1),
        )  # fmt: skip
        super().__init__(figure, {"gain": slider})
        _fit_ahead(sorted(map(float, GAINS), key=lambda g: abs(g - gain)))

    def reset(self) -> None:
        """The slider back to its start; the trail and the last optimum are dropped."""
        self._forget()
        super().reset()

    def numbers(self, gain: float) -> str:
        """P(all open) and KL at this gain."""
        target, chain = _series(gain)
        exact, found = float(target.prob[-1]), self._mean_field
        return (
            f"g = {gain:g}    P(all open): exact {exact:.3f}, mean field {float(found.prob[-1]):.3f}, "
            f"chain {float(chain.prob[-1]):.3f}    "
            f"KL from exact: mean field {found.kl:.3f}, chain {chain.kl:.3f}"
        )

    def _forget(self) -> None:
        self._mean_field: Fit | None = None
        self.trail: list[tuple[float, float, float]] = []

    def _move(self, gain: float) -> None:
        """Go to this gain through every slider position in between."""
        last = self.trail[-1][0] if self.trail else gain
        between = [float(g) for g in GAINS if min(last, gain) < g < max(last, gain)]
        for step in [*(between if last < gain else reversed(between)), gain]:
            self._step(step)

    def _step(self, gain: float) -> None:
        """Fit mean field from its last optimum."""
        target, chain = _series(gain)
        start = None if self._mean_field is None else self._mean_field.marginals()
        self._mean_field = fit_mean_field(target, start=start)
        self.trail.append((gain, float(self._mean_field.prob[-1]), float(chain.prob[-1])))

    def _draw(self, left: Axes, right: Axes, gain: float) -> list[Artist]:
        if not self.trail or self.trail[-1][0] != gain:
            self._move(gain)
        target, chain = _series(gain)
        visited, mean_field, chained = zip(*self.trail, strict=True)
        trails = {"mean field": (visited, mean_field), "chain": (visited, chained)}
        fits = {"exact": target.prob, "mean field": self._mean_field.prob, "chain": chain.prob}
        probs = {name: target.open_gates(prob).numpy() for name, prob in fits.items()}
        return [
            *plots.all_open_curve(GAINS, _exact_curve(), trails, left),
            *plots.open_gates(probs, right),
        ]


@cache
def _collinear(correlation: float) -> tuple[ExactPosterior, Fit, Fit]:
    target = collinear_regression(correlation)
    return target, fit_mean_field(target), fit_autoregressive(target)


@cache
def _series(gain: float) -> tuple[ExactPosterior, Fit]:
    target = gates_in_series(gain)
    return target, fit_autoregressive(target)


def _fit_ahead(gains: Sequence[float]) -> None:
    """Fit the chain at one gain after another, with pauses in which the kernel can do other things.

    A fit takes about 60 ms: fifty of them after a fast drag would take too long.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # a script: there every gain is fitted when it is needed
        return
    if gains:
        loop.call_later(PAUSE, lambda: (_series(gains[0]), _fit_ahead(gains[1:])))


@cache
def _exact_curve() -> np.ndarray:
    return np.array([float(gates_in_series(g).prob[-1]) for g in GAINS])
