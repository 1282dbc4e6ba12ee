"""Explore the runs of a sweep: error against cost, and what the networks behind the points look like."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..comparison.table import COLUMNS, DENSE, reported, require_columns
from ..gates.posteriors import POSTERIORS
from ..plots.tradeoff import circle_run, drawn_errors
from ..support import checked
from .live import Explorer, Layout, LiveFigure

SHOWN = {  # which methods' points are drawn
    "all methods": lambda method, chosen: True,
    "posteriors": lambda method, chosen: method in POSTERIORS or method == DENSE,
    "baselines": lambda method, chosen: method not in POSTERIORS,
    "the chosen method": lambda method, chosen: method in (chosen, DENSE),
}
COSTS = [("MACs kept", "kept_macs"), ("parameters kept", "kept_params"), ("latency", "latency_ms")]
OF_KIND = {"dynamic": " (mean over images)"}  # MACs kept
ALL = "all"  # seeds
PARTS = ("network", "method", "seed")  # controls that decide which runs the slider has


@dataclass(frozen=True)
class _Points:
    """The scatter: its table, axes and values of controls, the runs in it, and the artists drawn."""

    results: pd.DataFrame
    ax: Axes
    state: dict[str, Any]
    runs: pd.DataFrame
    artists: list[Artist]


class TradeoffExplorer(Explorer):
    """Error against cost of all runs; a slider, or a click on a point, chooses the run shown in detail.

    The method of this run is drawn in colour, the others in grey. Beside the points are the errors of the
    run; below them are its open channels per group and, for posteriors, its gates during training.

    Args:
        results: of `sweep` or `load_results`; None: no runs yet, as before a sweep that shows each run:
            `dk.sweep(grid, on_row=explorer.show)`.

    Attributes:
        results: the finished runs that can be chosen.
        chosen: the row shown in detail; None if there is none.

    Raises:
        ValueError: the table lacks columns.
    """

    _outline: str | None = None  # for which the panels were arranged
    _points: _Points | None = None

    @checked
    def __init__(self, results: pd.DataFrame | None = None) -> None:
        self.results = pd.DataFrame(columns=list(COLUMNS))
        self.chosen: pd.Series | None = None
        controls = {
            "network": widgets.Dropdown(description="Network"),
            "method": widgets.Dropdown(description="Method"),
            "seed": widgets.Dropdown(description="Seed"),
            "run": widgets.IntSlider(0, min=0, max=0, description="Run", readout=False, tooltip="Fewer MACs"),
            "shown": widgets.Dropdown(options=list(SHOWN), description="Show"),
            "cost": widgets.Dropdown(options=COSTS, description="Axis"),
        }
        figure = LiveFigure(
            self._draw,
            (1080, 570),
            "ab;cd",
            "Test error against cost of all runs, and the errors, channels and gates of the chosen one",
            narrower=[Layout("a;b;c;d", 400, 1280)],
            width_ratios=(1.5, 1),
            height_ratios=(1.25, 1),
        )
        super().__init__(figure, controls)
        figure.on_pointer(self._pick)
        if results is not None:
            self.show(results)

    @checked
    def show(self, results: pd.DataFrame) -> None:
        """Show another table, or the same one with more runs; the chosen run stays chosen if it is there."""
        require_columns(results, *COLUMNS)
        good = reported(results)
        self.results = good.assign(network=good.model + " on " + good.data)
        with self._unwatched():
            self._offer("network", list(self.results.network.unique()))
            self._offer_parts()
        super().redraw()

    def redraw(self, change: Mapping[str, Any] | None = None) -> None:
        if change is not None and any(change["owner"] is self.controls[name] for name in PARTS):
            with self._unwatched():
                self._offer_parts()
        super().redraw()

    def reset(self) -> None:
        """Choose the first of all options, and draw once."""
        with self._unwatched():
            self.chosen = None
            for name, control in self.controls.items():
                if name != "run" and control.options:
                    control.index = 0
                    self._offer_parts()
            self.controls["run"].value = 0
        super().redraw()

    def walk(self) -> pd.DataFrame:
        """The runs of the slider, from most MACs kept to fewest."""
        own = self._network()
        own = own[own.method == self.controls["method"].value]
        if self.controls["seed"].value != ALL:
            own = own[own.seed == self.controls["seed"].value]
        return own.sort_values(["kept_macs", "run"], ascending=[False, True])

    @checked
    def choose(self, run: str) -> None:
        """Show a run by its name."""
        row = self.results[self.results.run == run].iloc[0]
        with self._unwatched():
            self.controls["network"].value = row.network
            self.chosen = row
            self._offer_methods()
            self.controls["method"].value = row.method
            if self.controls["seed"].value != ALL:
                self.controls["seed"].value = int(row.seed)
            self._offer_parts()
        super().redraw()

    def numbers(self, **_state: Any) -> str:
        """What the chosen run is, and its results."""
        row = self.chosen
        if row is None:
            return "no finished run so far"
        price = f"λ {row.lam:g}" if np.isfinite(row.lam) else f"budget {row.budget:.0%}"
        price = "" if np.isnan(row.lam) and np.isnan(row.budget) else f"  {price}"
        lr = f"  gate lr {row.gate_lr:.2g}" if np.isfinite(row.gate_lr) else ""
        undecided = f"   undecided {row.undecided:.0%}" if np.isfinite(row.undecided) else ""
        return (
            f"{plots.method_name(row.method)}{price}{lr}  seed {row.seed}\n"
            f"test error {1 - row.test_accuracy:.2%}   MACs kept {row.kept_macs:.1%}"
            f"{OF_KIND.get(row.kind, '')}   "
            f"parameters {row.kept_params:.1%}   {row.latency_ms:.1f} ms per 64 images{undecided}"
        )

    def _network(self) -> pd.DataFrame:
        return self.results[self.results.network == self.controls["network"].value]

    def _offer(self, name: str, options: list, labels: list[str] | None = None) -> None:
        """New options for a control; it keeps its value if that is among them."""
        control, shown = self.controls[name], list(zip(labels, options, strict=True)) if labels else options
        if list(control.options) != shown:
            before = control.value
            control.options = shown
            if options:
                control.value = before if before in options else options[0]

    def _offer_methods(self) -> None:
        methods = list(self._network().method.unique())
        self._offer("method", methods, [plots.method_name(method) for method in methods])

    def _offer_parts(self) -> None:
        """Options that depend on earlier choices; the slider stays at its run, or moves to the nearest."""
        self._offer_methods()
        own = self._network()
        seeds = own.seed[own.method == self.controls["method"].value]
        self._offer("seed", [ALL, *sorted(map(int, seeds.unique()))])
        walk, slider = self.walk(), self.controls["run"]
        slider.max = max(0, len(walk) - 1)
        if self.chosen is not None and len(walk):
            same = (walk.run == self.chosen.run).to_numpy()
            nearest = (walk.kept_macs - self.chosen.kept_macs).abs().to_numpy().argmin()
            slider.value = int(same.argmax() if same.any() else nearest)

    def _pick(self, panel: int, x: float, y: float) -> None:
        """A press in the scatter chooses the point that is nearest on the screen."""
        runs = self._drawn(self.controls["shown"].value)
        if panel or runs.empty:
            return
        to_pixels = self.figure.axes[0].transData.transform
        costs = runs[self.controls["cost"].value].to_numpy(float)
        points = to_pixels(np.column_stack([costs, drawn_errors(runs)]))
        self.choose(runs.run.iloc[int(np.hypot(*(points - to_pixels((x, y))).T).argmin())])

    def _drawn(self, shown: str) -> pd.DataFrame:
        """The runs in the scatter."""
        own, chosen = self._network(), self.controls["method"].value
        own = own[[SHOWN[shown](method, chosen) for method in own.method]]
        seed = self.controls["seed"].value
        return own if seed == ALL else own[own.seed == seed]

    def _show(self) -> tuple[str, bool]:
        outline = self.controls["network"].value
        if outline != self._outline:  # other groups, other labels
            self._outline = outline
            self.figure.arrange_again()
        return super()._show()

    def _draw(
        self, scatter: Axes, errors: Axes, widths: Axes, gates: Axes, run: int, cost: str, **others: Any
    ) -> list[Artist]:
        walk = self.walk() if len(self.results) else self.results
        self.chosen = walk.iloc[min(run, len(walk) - 1)] if len(walk) else None
        for ax in (scatter, errors, widths, gates):
            ax.set_axis_off() if self.chosen is None else ax.set_axis_on()
        if self.chosen is None:
            self._points = None
            return [plots.base.message(scatter, "no finished run so far")]
        row = self.chosen
        table = pd.DataFrame({"group": row.groups, "channels": row.channels, "open": row.open})
        details = [
            *plots.confusion(row.confusion, errors),
            *plots.layer_bars(table, widths),
            *self._gates(row, gates),
        ]
        self._points = points = self._all_points(scatter, {"cost": cost, **others})
        return [*points.artists, circle_run(points.runs, row.run, scatter, cost), *details]

    def _all_points(self, ax: Axes, state: dict[str, Any]) -> _Points:
        """The scatter without its circle. It takes half of the figure's time, and stays as it is while only
        another run is chosen."""
        results, known = self.results, self._points
        if known is not None and known.results is results and known.ax is ax and known.state == state:
            return known
        runs, method = self._drawn(state["shown"]), state["method"]
        highlight = method if (runs.method == method).any() else None  # None: it is filtered away
        artists = plots.accuracy_vs_cost(runs, ax, state["cost"], highlight=highlight)
        return _Points(results, ax, state, runs, artists)

    def _gates(self, row: pd.Series, ax: Axes) -> list[Artist]:
        sizes = dict(zip(row.groups, map(int, row.channels), strict=True))
        times = [] if row.prob_open is None else list(row.times)
        prob_open = (
            np.frombuffer(row.prob_open or b"", np.uint8).reshape(len(times), sum(sizes.values())) / 255
        )
        return plots.prob_open_image(prob_open, times, sizes, ax, float(row.epochs), "no gates: a baseline")
