"""Measurements of a posterior over the gates of a network: one report for all families."""

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.special import entr

from ..channels.cost import Cost
from ..support import checked, checks
from .gated import GatedModel
from .posterior import GatePosterior, is_undecided

MOST_GATES = 512  # whose pairs are measured; in a larger network, so many gates are chosen at random
MOST_NUMBERS = 5e7  # in a Jacobian: 200 MB


@dataclass(frozen=True, eq=False)
class PosteriorReport:
    """What `posterior_report` found.

    Attributes:
        title: family and settings of the posterior.
        summary: the numbers of the whole network, by name:
            gates: N.
            expected_macs, exact_macs, expected_params, exact_params: shares of the dense network's cost;
                expected under the posterior, exact for the network that `compact` returns.
            undecided: share of the gates with 0.1 < P(open) < 0.9.
            entropy: of "open or closed", from the marginals; mean over the gates, in bits, in [0, 1].
            largest_r, mean_abs_r: largest and mean absolute correlation of two gates, over all pairs.
            largest_r_by_chance: the same largest value after each gate's samples were shuffled: noise alone.
            directions: in how many independent directions a gradient step can move the gates, from 1 to
                directions_at_most, the number of gates whose Jacobian was computed; see `spectrum`.
        groups: a row per group: group, channels, open (at test time), expected_open, undecided, entropy.
        correlation: [M, M] of the M measured gates, 0 on the diagonal.
        spectrum: squared singular values, largest first, of the Jacobian of the measured gates' log_alphas in
            all parameters. Its rows have length 1, so the values sum to the number of rows that are not
            zero. `directions` is (sum s)^2 / sum s^2: the number of rows if every gate has its own
            parameter, 1 if gates can only move together. For `Autoregressive`, log_alphas are those of
            the chain of test-time gates.
        looked_at: index of each of the M measured gates among all N.
    """

    title: str
    summary: pd.Series
    groups: pd.DataFrame
    correlation: np.ndarray
    spectrum: np.ndarray
    looked_at: np.ndarray

    def __str__(self) -> str:
        numbers = self.summary.map("{:.3g}".format).to_string()
        return f"{self.title}\n{numbers}\n\n{self.groups.round(3).to_string(index=False)}"

    def _repr_html_(self) -> str:
        numbers = self.summary.map("{:.3g}".format).to_frame("").T.to_html()
        return f"<b>{html.escape(self.title)}</b>{numbers}{self.groups.round(3).to_html(index=False)}"


@checked
def posterior_report(net: GatedModel, draws: int = 2000, seed: int = 0) -> PosteriorReport:
    """Measure the posterior over the gates of `net`; `net` is not changed.

    Args:
        draws: samples of all gates for the correlations, a whole number >= 2.
        seed: of the samples, a whole number >= 0. Torch's global random state does not change.

    Raises:
        ValueError: `net` is not a GatedModel, or a number is out of its range.
    """
    draws, seed = checks.whole("draws", draws, 2), checks.whole("seed", seed, 0)
    rng, n = np.random.default_rng(seed), sum(net.posterior.sizes)
    looked_at = np.sort(rng.choice(n, min(n, MOST_GATES), replace=False))
    with torch.no_grad():
        noise = torch.Generator(next(net.parameters()).device).manual_seed(seed)
        samples = net.posterior.flat_sample(draws, noise).cpu().double().numpy()[:, looked_at]
    correlation = correlation_matrix(samples)
    spectrum = _spectrum(net.posterior, looked_at, rng)
    groups = _groups(net)
    summary = {
        "gates": n,
        **_costs(net),
        "undecided": float((groups.undecided * groups.channels).sum() / n),
        "entropy": float((groups.entropy * groups.channels).sum() / n),
        **_correlations(correlation, correlation_matrix(rng.permuted(samples, axis=0))),
        "directions": directions(spectrum),
        "directions_at_most": len(spectrum),
    }
    about = net.posterior.describe()
    words = [about.pop("family"), *(f"{k}={v}" for k, v in about.items() if k != "hard_concrete")]
    title = f"{', '.join(words)}: {n} gates in {len(groups)} groups"
    return PosteriorReport(title, pd.Series(summary), groups, correlation, spectrum, looked_at)


@torch.no_grad()
def _costs(net: GatedModel) -> dict[str, float]:
    costs = {"expected": net.expected_cost() / net.dense_cost, "exact": net.exact_cost() / net.dense_cost}
    return {f"{kind}_{name}": float(getattr(costs[kind], name)) for name in Cost._fields for kind in costs}


@torch.no_grad()
def _groups(net: GatedModel) -> pd.DataFrame:
    probs = [p.cpu().double() for p in net.posterior.prob_open()]
    table = net.channel_table()[["group", "channels", "open", "expected_open"]]
    return table.assign(
        undecided=[float(is_undecided(p).double().mean()) for p in probs],
        entropy=[float((entr(p) + entr(1 - p)).mean() / np.log(2)) for p in probs],  # bits
    )


def _correlations(found: np.ndarray, shuffled: np.ndarray) -> dict[str, float]:
    pairs = ~np.eye(len(found), dtype=bool)
    return {
        "largest_r": float(np.abs(found).max()),
        "largest_r_by_chance": float(np.abs(shuffled).max()),
        "mean_abs_r": float(np.abs(found[pairs]).sum() / max(pairs.sum(), 1)),  # a single gate has no pair
    }


def _spectrum(posterior: GatePosterior, looked_at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`PosteriorReport.spectrum`; of fewer gates, chosen at random, if the Jacobian would be huge."""
    rows = max(1, int(MOST_NUMBERS / sum(p.numel() for p in posterior.parameters())))
    if rows < len(looked_at):
        looked_at = rng.choice(looked_at, rows, replace=False)
    jacobian = posterior.unit_jacobian(looked_at).cpu().double()
    return np.linalg.svd(jacobian @ jacobian.T, compute_uv=False)


@checked
def correlation_matrix(samples: np.ndarray) -> np.ndarray:
    """Pearson correlations [N, N] of the columns of `samples` [draws, N].

    They are 0 on the diagonal, and for columns that never change.
    """
    checks.shape("samples", samples, None, None)
    centred = samples - samples.mean(0)
    scale = centred.std(0)
    unit = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 1e-9)
    correlation = unit.T @ unit / len(samples)
    np.fill_diagonal(correlation, 0)
    return correlation


@checked
def directions(spectrum: np.ndarray) -> float:
    """Effective number of independent directions: (sum s)^2 / sum s^2 of squared singular values s."""
    return float(spectrum.sum() ** 2 / max((spectrum**2).sum(), 1e-12))
