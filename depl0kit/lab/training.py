"""Live training: watch channels die, and change lambda, temperature and gate lr meanwhile."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ipywidgets import Button
from torch import Tensor

from ..channels import Channels
from ..data.loading import Data
from ..gates.gated import GatedModel
from ..support import checked, checks
from ..training.config import TrainConfig
from ..training.runs.control import SETTINGS
from ..training.runs.folder import RunFolder
from ..training.runs.recording import recorded
from ..training.runs.run import Run
from ..training.trainer import Diverged, Trainer
from .live import button
from .monitor import CONTROLS, SPEEDS, Monitor
from .progress import settings_in_words


class TrainingExplorer(Monitor):
    """Train, Pause, Stop and Reset a network in this kernel, and watch it as a `Monitor` does.

    It trains in a thread of its own, so that other cells and the buttons work meanwhile. Running the cell
    again, or Reset, ends the run and prepares a new one.

    Args:
        make_net: returns a new `GatedModel`; called once per run.
        data: what to train on.
        config: settings of the run; the sliders start at its `lam`, `temperature` and `gate_lr`.
        name: a new explorer closes the earlier one with the same name.
        folder: where the run is kept: Train resumes a run that it holds. None: a temporary folder, which is
            removed at Reset and with the explorer.
        seconds: duration of a whole run at the first value of the speed slider, > 0: long enough to watch,
            and to move a slider. None: as fast as possible.

    Attributes:
        run: history and gates of the current run.
        net: its network.
        trainer: the `Trainer` itself.
    """

    reset_hint = "A new network, and all sliders back to where they started"
    _training: threading.Thread | None = None
    _temporary: TemporaryDirectory | None = None

    @checked
    def __init__(
        self,
        make_net: Callable[[], GatedModel],
        data: Data,
        config: TrainConfig | None = None,
        name: str = "training",
        folder: str | Path | None = None,
        seconds: float | None = 30,
    ) -> None:
        self._make_net, self._data, self._folder = make_net, data, folder
        self._config = config or TrainConfig(epochs=20)
        self._seconds = None if seconds is None else checks.number("seconds", seconds, 0, open_low=True)
        self._take_name(name)  # first, as it ends an old run, which still draws random numbers
        self._prepare()
        super().__init__(self.folder.path, name)

    @property
    def run(self) -> Run:
        return self.trainer.run

    @property
    def net(self) -> GatedModel:
        return self.trainer.net

    def train(self) -> None:
        """Start, resume after a pause, or start again after the end."""
        if self._is_training():
            self.resume()
        else:
            if self._training is not None or self._ended.is_set():
                self._prepare()
            self._begin_training()
        self.redraw()

    def stop(self) -> None:
        """End after the current step; the network returns to the state of its last finished epoch."""
        self._end_training()
        self.redraw()

    def reset(self) -> None:
        """A new network, and all sliders back to where they started."""
        self._prepare()
        super().reset()

    def end(self) -> None:
        """End the run and the thread that watches it."""
        if self._thread is not None and not self._ended.is_set():
            self.stop()
        super().end()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _prepare(self) -> None:
        """A new network that is ready to train, in a new folder if none is given."""
        if self._thread is not None and self._ended.is_set():
            self._begin_again()
        self._end_training()
        trainer, old = Trainer(self._make_net(), self._data, self._config), self._temporary
        if self._folder is None:
            self._temporary = TemporaryDirectory(prefix="depl0kit-", ignore_cleanup_errors=True)
        with self._lock:
            self.trainer, self._training, self._failure = trainer, None, ""
            self._watch_folder(RunFolder(self._folder or self._temporary.name))
        if old is not None:
            old.cleanup()

    def _begin_training(self) -> None:
        before = self.folder.status().get("updated")
        # "run" replaces an earlier "stop", with which the new session would discard until_stop
        self.folder.ask(state="run", **{name: self.controls[name].value for name in SETTINGS})
        self._training = threading.Thread(target=self._train, name=f"depl0kit-{self._name}", daemon=True)
        self._training.start()
        # an earlier pause would be discarded, as a request to the session before
        while self._is_training() and self.folder.status().get("updated") == before:
            time.sleep(0.005)
        self.folder.ask(speed=self.controls["speed"].value)  # each session discards earlier speeds

    def _train(self) -> None:
        try:
            for _ in recorded(self.trainer, self.folder.path):
                pass
        except Diverged as error:
            self._failure = str(error)
        except Exception as error:  # nobody sees the traceback of a thread; the line shows the error
            self._failure = f"{type(error).__name__}: {error}"

    def _is_training(self) -> bool:
        return self._training is not None and self._training.is_alive()

    def _end_training(self) -> None:
        while self._is_training():
            self.folder.ask(state="stop")
            self._training.join(1)

    def _ask(self, **requests: Any) -> None:
        if not self._ended.is_set():  # then its folder may be removed already
            super()._ask(**requests)

    def numbers(self, **_settings: float) -> str:
        if self._failure:
            return self._failure
        if self.view.about is not None:
            return super().numbers()
        settings = {name: self.controls[name].value for name in CONTROLS}
        return f"ready: epoch 0.0 of {self._config.all_epochs}\n{settings_in_words(settings)}"

    def _is_wrong(self) -> bool:
        return bool(self._failure) or super()._is_wrong()

    def _shape(self) -> tuple[dict[str, int], int]:
        return {g.name: g.channels for g in self.net.groups.gated}, self._config.all_epochs

    def _channels(self) -> Channels:
        return self.net.channels

    def _openness(self) -> Sequence[np.ndarray | Tensor]:
        known = super()._openness()
        return self.net.posterior.prob_open() if known is None else known

    def _invitation(self) -> str:
        return "press Train"

    def _after_the_end(self) -> str:
        return ""

    def _follow_run(self) -> None:
        """Only during a run: before and after it, the controls hold the settings of the next run."""
        if self._is_training():
            super()._follow_run()

    def _enable(self, on: bool) -> None:
        """They are always enabled."""

    def _start_settings(self) -> Mapping[str, Any]:
        speed = None if self._seconds is None else self._config.all_epochs / self._seconds
        if speed is not None and speed > SPEEDS[1]:
            speed = None
        start = {name: getattr(self.trainer, name) for name in SETTINGS}
        return start | {"speed": speed and max(speed, SPEEDS[0])}

    def _make_buttons(self) -> list[Button]:
        return [
            button("Train", "play", "Start, or resume after a pause", self.train),
            button("Pause", "pause", "Pause; Train resumes", self.pause),
            button("Stop", "stop", "End, and keep the finished epochs", self.stop),
        ]
