"""Live training: watch channels die, and change lambda, temperature and gate lr while they do."""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..data import Data
from ..gated import GatedModel
from ..training import Run, TrainConfig, Trainer
from .live_figure import Explorer, LiveFigure, button, float_slider, log_slider
from .worker import Worker

COLUMNS_PER_EPOCH = 4  # of the heatmap: fine enough to see a channel close


class TrainingExplorer(Explorer):
    """Train, Pause, Stop and Reset a network, with sliders that act on the running loop.

    Left, P(open) of every channel over time; right, the open channels of each layer and the curves
    of accuracy and cost. Running the cell again, or Reset, starts anew and ends the old training.

    Args:
        make_net: returns a new `GatedModel`; called once per training.
        data: what to train on.
        config: settings of the run; its `lam`, `temperature` and `gate_lr` are where the sliders start.
        name: of the background training; explorers of one name replace each other.

    Attributes:
        run: history and gates of the present training.
        net: its network.
        worker: its thread; `worker.state` is "ready", "running", "paused", "stopped", "finished", ...
    """

    worker: Worker | None = None  # until there is one: ipywidgets closes also what failed to start

    def __init__(
        self,
        make_net: Callable[[], GatedModel],
        data: Data,
        config: TrainConfig | None = None,
        name: str = "training",
    ) -> None:
        self._make_net, self._data, self._name = make_net, data, name
        self._config = config or TrainConfig(epochs=20)
        self._prepare()
        trainer = self.worker.trainer
        controls = {
            "lam": log_slider("Price λ", trainer.lam, 0.5, 100, off=True, hint="Right: fewer channels"),
            "temperature": float_slider(
                "Temperature β", trainer.temperature, 2 / 30, 2, 1 / 30, 2, "Of the gates"
            ),
            "gate_lr": log_slider("Gate lr", trainer.gate_lr, 1e-4, 1, hint="Learning rate of the gates"),
        }
        figure = LiveFigure(
            self._draw,
            (1060, 480),
            "ab;ac",
            "P(open) of every channel during training",
            aside=True,
            width_ratios=(1.25, 1),
        )
        super().__init__(figure, controls, self._make_buttons())

    @property
    def run(self) -> Run:
        return self.worker.trainer.run

    @property
    def net(self) -> GatedModel:
        return self.run.net

    def train(self) -> None:
        """Begin, go on after a pause, or begin anew after the end."""
        if self.worker.state in ("stopped", "finished", "failed"):
            self._prepare()
        self._obey_sliders()
        self.worker.start()
        self.redraw()

    def pause(self) -> None:
        self.worker.pause()
        self.redraw()

    def stop(self) -> None:
        self.worker.stop()
        self.redraw()

    def reset(self) -> None:
        """A new network, and all sliders back to where they started."""
        self._prepare()
        super().reset()

    def redraw(self, _change: object = None) -> None:
        self._obey_sliders()
        super().redraw()

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
        super().close()

    def numbers(self, lam: float, temperature: float, gate_lr: float) -> str:
        """State of the training, the settings in force, and the last epoch's results."""
        trainer, epochs = self.worker.trainer, self._config.epochs
        if self.worker.state == "failed":
            return self.worker.error
        text = f"{self.worker.state}: epoch {trainer.epoch:.1f} of {epochs}    "
        text += f"λ {lam:g}  β {temperature:.2f}  gate lr {gate_lr:.3g}"
        if self.run.rows:
            row = self.run.rows[-1]
            text += f"    validation accuracy {row['val_accuracy']:.3f}    MACs kept {row['kept_macs']:.0%}"
        return text

    def _make_buttons(self) -> list:
        actions = [
            ("Train", "play", "Begin, or go on", self.train),
            ("Pause", "pause", "Hold; Train goes on", self.pause),
            ("Stop", "stop", "End, and keep the finished epochs", self.stop),
        ]
        buttons = [button(label, icon, hint) for label, icon, hint, _ in actions]
        for b, (*_, action) in zip(buttons, actions, strict=True):
            b.on_click(lambda _, action=action: action())
        return buttons

    def _prepare(self) -> None:
        """A new network and a worker that is ready to train it."""
        if old := Worker.registry.get(self._name):
            old.close()  # first: it still draws random numbers, and remembers its steps
        trainer = Trainer(self._make_net(), self._data, self._config)
        self.worker = Worker(self._name, trainer, self._remember, self.redraw)
        self._steps = 0
        self._times: list[float] = []
        self._prob_open: list[np.ndarray] = []

    @torch.no_grad()
    def _remember(self) -> None:
        """Remember P(open), a few times in an epoch."""
        self._steps += 1
        per_epoch = self.worker.trainer.steps_per_epoch
        if self._steps % max(1, per_epoch // COLUMNS_PER_EPOCH) == 0:
            self._prob_open.append(self.net.posterior.flat_prob_open().float().cpu().numpy())
            self._times.append(self._steps / per_epoch)

    def _obey_sliders(self) -> None:
        trainer = self.worker.trainer
        for name, control in self.controls.items():
            setattr(trainer, name, control.value)

    def _draw(self, left: Axes, upper: Axes, lower: Axes, **_settings: float) -> list[Artist]:
        n, epochs = len(self._times), self._config.epochs
        sizes = {g.name: g.channels for g in self.net.groups.gated}
        return [
            *plots.prob_open_image(np.array(self._prob_open[:n]), self._times[:n], sizes, left, epochs),
            *plots.layer_bars(self.net.channel_table(), upper),
            *plots.history_curves(self.run.history, lower, epochs),
        ]
