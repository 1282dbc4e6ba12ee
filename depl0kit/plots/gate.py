"""Figures of one gate."""

from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from torch import Tensor

from ..gates.hard_concrete import TEST_RULES, HardConcrete
from ..support import checked, checks
from .base import BLACK, BLUE, VERMILLION, prepare

_Z_RANGE = (-0.5, 1.5)  # room for a note on either side
_TEST_LANES = (-0.14, -0.3)  # heights of the test-time gates, under the draws


@checked
def spikes(hc: HardConcrete, log_alpha: float) -> tuple[float, float]:
    """P(z = 0) and P(z = 1), the probabilities that the density of a gate leaves out."""
    location = _scalar(log_alpha)
    gamma, zeta = hc.stretch
    # turning z into 1 - z mirrors the stretch and flips the sign of log_alpha
    mirrored = HardConcrete(hc.temperature, (1 - zeta, 1 - gamma))
    return 1 - float(hc.prob_open(location)), 1 - float(mirrored.prob_open(-location))


@checked
def gate_density(hc: HardConcrete, log_alpha: float, ax: Axes | None = None) -> list[Artist]:
    """Density of one gate between 0 and 1, with its two spikes.

    The spikes have no density but a probability, so each is a bar on a scale of its own, from 0 at
    the bottom to 1 at the top, with its number. The area under the curve is the rest, P(0 < z < 1).
    """
    z = torch.linspace(0, 1, 402)[1:-1]
    density = hc.density(z, _scalar(log_alpha)).numpy()
    top = 2 if density.max() <= 2 else 4  # next to a spike it may be infinite: 4 is the end
    ylabel = "density   (full-height bar: P = 1)"
    ax = _prepare_gate(ax, "Density with two spikes", ylabel, (0, top))
    ax.set_yticks(np.linspace(0, top, 5))
    heights = np.array(spikes(hc, log_alpha))
    return [
        ax.fill_between(z.numpy(), density, color=BLUE, alpha=0.2, linewidth=0),
        *ax.plot(z.numpy(), density, color=BLUE),
        ax.vlines(
            [0, 1], 0, heights, color=VERMILLION, linewidth=3.5 * mpl.rcParams["lines.linewidth"],
            transform=ax.get_xaxis_transform(),
        ),
        *_notes(ax, top * np.clip(heights, 0.08, 0.9), [f"P(z={i})\n{p:.2f}" for i, p in enumerate(heights)]),
    ]  # fmt: skip


@checked
def gate_cdf(hc: HardConcrete, log_alpha: float, ax: Axes | None = None) -> list[Artist]:
    """P(gate <= z): continuous between its jumps at z = 0 and z = 1, which are the two spikes.

    An open dot marks a value that the function approaches, a filled one the value that it takes.
    """
    jumps = np.array(spikes(hc, log_alpha))
    low, high = np.array([0, 1 - jumps[1]]), np.array([jumps[0], 1])
    z = torch.linspace(0, 1, 201)
    inside = hc.cdf(z, _scalar(log_alpha)).numpy()
    inside[-1] = low[1]  # the curve arrives at z = 1 from the left
    left, right = _Z_RANGE
    ax = _prepare_gate(ax, "The same, added up", "P(gate ≤ z)", (-0.04, 1.08))
    return [
        *ax.plot(
            np.r_[left, 0, np.nan, z, np.nan, 1, right], np.r_[0, 0, np.nan, inside, np.nan, 1, 1], color=BLUE
        ),
        ax.vlines([0, 1], low, high, color=VERMILLION, linestyle="dotted"),
        *ax.plot([0, 1], low, "o", color=VERMILLION, markerfacecolor="white", zorder=3),
        *ax.plot([0, 1], high, "o", color=VERMILLION, zorder=3),
        *_notes(ax, np.clip((low + high) / 2, 0.06, 0.94), [f"{p:.2f}" for p in jumps]),
    ]


@checked
def gate_samples(hc: HardConcrete, log_alpha: float, noise: Tensor, ax: Axes | None = None) -> list[Artist]:
    """One dot per draw of the gate, and under them the gate that each test-time rule would use.

    Args:
        noise: uniforms in [0, 1], shape [draws]. Pass the same ones again to see the dots move.
    """
    checks.shape("noise", noise, None)
    z = hc.sample(_scalar(log_alpha), noise).numpy()
    height = 0.03 + 0.94 * (np.arange(len(z)) * 0.6180339887 % 1)  # golden ratio: evenly spread
    between = (z > 0) & (z < 1)
    ax = _prepare_gate(ax, f"{len(z)} draws; test time", "", (-0.42, 1.08))
    ax.set_yticks([0.5, *_TEST_LANES], ["draws", *TEST_RULES])
    ax.tick_params(axis="y", length=0)
    ax.spines.left.set_visible(False)
    dots = {"marker": ".", "linestyle": "none", "alpha": 0.5, "markeredgewidth": 0}
    return [
        *ax.plot(z[between], height[between], color=BLUE, **dots),
        *ax.plot(z[~between], height[~between], color=VERMILLION, **dots),
        *_notes(ax, (0.5, 0.5), [f"{(z == end).sum()}\nat {end}" for end in (0, 1)]),
        *_test_gates(hc, log_alpha, ax),
    ]


def _prepare_gate(ax: Axes | None, title: str, ylabel: str, ylim: tuple[float, float]) -> Axes:
    ax = prepare(ax, title, "gate z", ylabel, _Z_RANGE, ylim)
    ax.set_xticks([0, 0.5, 1])
    return ax


def _scalar(log_alpha: float) -> Tensor:
    return torch.tensor(float(log_alpha))


def _test_gates(hc: HardConcrete, log_alpha: float, ax: Axes) -> list[Artist]:
    artists = []
    for rule, marker, lane in zip(TEST_RULES, "Ds", _TEST_LANES, strict=True):
        gate = float(HardConcrete(hc.temperature, hc.stretch, rule).deterministic(_scalar(log_alpha)))
        gap, side = (-0.08, "right") if gate > 0.5 else (0.08, "left")
        artists += ax.plot(gate, lane, marker, color=BLACK)
        artists.append(ax.text(gate + gap, lane, f"{gate:.2f}", ha=side, va="center", fontsize="small"))
    return artists


def _notes(ax: Axes, heights: Iterable[float], texts: Iterable[str]) -> list[Artist]:
    """A note left of z = 0 and one right of z = 1."""
    return [
        ax.text(x, y, text, ha=side, va="center", color=VERMILLION, fontsize="small")
        for x, y, text, side in zip((-0.08, 1.08), heights, texts, ("right", "left"), strict=True)
    ]
