"""Figures of images, and of the gradient of a gate."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ..data.splits import Split
from ..gates.hard_concrete import HardConcrete
from ..support import checked, checks
from .base import BLACK, BLUE, GREEN, GREY, VERMILLION, prepare

COLUMNS = 12
DRAWS = 50_000


@checked
def images(split: Split, count: int = 36, ax: Axes | None = None) -> list[Artist]:
    """`count` images of a split, twelve in a row, each with its label under it.

    Which ones, `Split.take` says. Floating-point images are shown from their lowest number (black) to their
    highest (white), those of other than one or three channels as the mean of these.

    Raises:
        ValueError: count < 1.
    """
    checks.whole("count", count, 1)
    shown = split.take(count)
    tiles = _tiles(_bytes(shown.images.cpu()))
    rows, height, columns, width, _ = tiles.shape
    right, bottom = columns * width, rows * height
    ax = prepare(ax, "Images and their labels", "", "", (0, right), (bottom, 0))
    ax.set_axis_off()
    mosaic = ax.imshow(
        tiles.reshape(bottom, right, -1), cmap="gray", vmin=0, vmax=255, interpolation="nearest",
        extent=(0, right, bottom, 0),
    )  # fmt: skip
    under = height - 0.05 * width
    texts = [
        ax.text((i % columns + 0.5) * width, i // columns * height + under, f"{label}", ha="center")
        for i, label in enumerate(shown.labels.tolist())
    ]
    return [mosaic, *texts]


@checked
def gate_gradient(
    log_alpha: float,
    stretch: tuple[float, float] = (-0.1, 1.1),
    ax: Axes | None = None,
) -> list[Artist]:
    """The gradient dz/dlog_alpha of one draw of a gate, against the temperature.

    Its mean over draws (blue) lies on the exact slope of E[z] (dots), its standard deviation is the
    noise of training, and the third curve is the share of draws whose gradient is exactly 0.
    """
    temperatures = np.geomspace(1 / 15, 2, 25)
    noise = torch.rand(DRAWS, generator=torch.Generator().manual_seed(0))
    table = [_gradient(HardConcrete(float(t), stretch), log_alpha, noise) for t in temperatures]
    mean, sd, zero, slope = np.array(table).T
    ax = prepare(ax, "Gradient of one draw", "temperature β", "", (1 / 16, 2.1), (0, 1.04))
    ax.set_xscale("log")
    ax.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    ax.set_xticks([], minor=True)
    i = len(temperatures) // 3  # where the curves are farthest apart
    small = {"fontsize": "small"}
    above, below = {"va": "bottom"} | small, {"va": "top"} | small
    start, here = temperatures[0], temperatures[i]
    return [
        *(ax.plot(temperatures, y, color=c)[0] for y, c in ((zero, GREEN), (sd, VERMILLION), (mean, BLUE))),
        *ax.plot(temperatures[::3], slope[::3], ".", color=BLACK),
        ax.axvline(2 / 3, color=GREY, linestyle="dotted", linewidth=1),
        ax.text(here, zero[i] + 0.03, "share that is exactly 0", color=GREEN, **above),
        ax.text(here, sd[i] - 0.03, "standard deviation", color=VERMILLION, ha="right", **below),
        ax.text(start, mean[0] - 0.03, "mean (dots: exact slope of E[z])", color=BLUE, **below),
        ax.text(0.69, 1.0, "2/3, the papers' value", color=GREY, **below),
    ]


def _bytes(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, C, H, W], with C of 1 or 3."""
    if images.shape[1] not in (1, 3):
        images = images.float().mean(1, keepdim=True)
    if not images.is_floating_point():
        return images
    low, high = images.aminmax()
    return (255 * (images - low) / (high - low).clamp(min=1e-12)).round().to(torch.uint8)


def _tiles(pixels: torch.Tensor) -> np.ndarray:
    """[N, C, H, W] as [rows, height, columns, width, C], with white space around and room for a label."""
    columns = min(len(pixels), COLUMNS)
    side, below = max(1, pixels.shape[3] // 8), pixels.shape[2] // 2
    empty = -len(pixels) % columns
    padded = F.pad(pixels, (side, side, side, below, 0, 0, 0, empty), value=255)
    n, c, height, width = padded.shape
    return padded.view(n // columns, columns, c, height, width).permute(0, 3, 1, 4, 2).numpy()


def _gradient(hc: HardConcrete, log_alpha: float, noise: torch.Tensor) -> tuple[float, float, float, float]:
    """Mean, standard deviation and share of zeros of dz/dlog_alpha, and the exact slope of E[z]."""
    location = torch.full_like(noise, log_alpha, requires_grad=True)
    (gradient,) = torch.autograd.grad(hc.sample(location, noise).sum(), location)
    # E[z] is the integral of 1 - F, and F(z) = sigmoid(... - log_alpha), whose slope is -F (1 - F)
    z = (torch.arange(4000) + 0.5) / 4000
    below = hc.cdf(z, torch.tensor(float(log_alpha)))
    zero = (gradient == 0).float().mean()
    return float(gradient.mean()), float(gradient.std()), float(zero), float((below * (1 - below)).mean())
