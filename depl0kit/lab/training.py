"""Live training: watch channels die, and change lambda, temperature and gate lr while they do."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from ipywidgets import Button

from ..data.loading import Data
from ..gates.gated import GatedModel
from ..support import checks
from ..support.arguments import checked
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

    It trains in a thread beside the kernel, so that other cells, and its buttons, can be used meanwhile.
    Running the cell again, or Reset, starts anew and ends the old run.

    Args:
        make_net: returns a new `GatedModel`; called once per run.
        data: what to train on.
        config: settings of the run; its `lam`, `temperature` and `gate_lr` are where the sliders start.
        name: of the explorer; a new one closes the one of its name.
        folder: keep the run there: Train then resumes what it holds. Without one, the run has a
            temporary folder, which goes with the explorer and at Reset.
        seconds: that a whole run takes at the speed where the slider starts, > 0: long enough to watch, and
            to move a slider. None: as fast as it can.

    Attributes:
        run: history and gates of the present run.
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
        self._take_name(name)  # first: an old training still draws random numbers
        self._prepare()
        super().__init__(self.folder.path, name)

    @property
    def run(self) -> Run:
        return self.trainer.run

    @property
    def net(self) -> GatedModel:
        return self.trainer.net

    def train(self) -> None:
        """Begin, resume after a pause, or begin anew after the end."""
        if self._is_training():
            self.resume()
        else:
            if self._training is not None or self._ended.is_set():
                self._prepare()
            self._begin_training()
        self.redraw()

    def stop(self) -> None:
        """End after the step under way; the network goes back to its last finished epoch."""
        self._end_training()
        self.redraw()

    def reset(self) -> None:
        """A new network, and all sliders back to where they started."""
        self._prepare()
        super().reset()

    def end(self) -> None:
        """End the training and the thread that looks on."""
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
        # "run": what was asked for before a stop is no wish of this run, but these are
        self.folder.ask(state="run", **{name: self.controls[name].value for name in SETTINGS})
        self._training = threading.Thread(target=self._train, name=f"depl0kit-{self._name}", daemon=True)
        self._training.start()
        # a pause that is asked for sooner would be taken for one of the session before
        while self._is_training() and self.folder.status().get("updated") == before:
            time.sleep(0.005)
        self.folder.ask(speed=self.controls["speed"].value)  # each session begins as fast as it can

    def _train(self) -> None:
        try:
            for _ in recorded(self.trainer, self.folder.path):
                pass
        except Diverged as error:
            self._failure = str(error)
        except Exception as error:  # of a thread nobody would see the traceback; the line shows it
            self._failure = f"{type(error).__name__}: {error}"

    def _is_training(self) -> bool:
        return self._training is not None and self._training.is_alive()

    def _end_training(self) -> None:
        while self._is_training():
            self.folder.ask(state="stop")
            self._training.join(1)

    def _ask(self, **requests: Any) -> None:
        if not self._ended.is_set():  # or it would write into a folder that is gone
            super()._ask(**requests)

    # ---- what is shown before there is a run, and after a failure

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

    def _channels(self) -> pd.DataFrame:
        known = super()._channels()
        return self.net.channel_table() if known is None else known

    def _invitation(self) -> str:
        return "press Train"

    def _after_the_end(self) -> str:
        return ""

    def _follow_run(self) -> None:
        """Only while it trains: before and after, the controls are what the next run begins with."""
        if self._is_training():
            super()._follow_run()

    def _enable(self, on: bool) -> None:
        """They can always be moved."""

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
