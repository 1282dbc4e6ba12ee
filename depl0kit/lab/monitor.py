"""Watch a run through its folder, wherever it trains, and steer it."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from ipywidgets import Button, Widget
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..support.arguments import checked
from ..training.knobs import KNOBS
from ..training.runs.control import SETTINGS
from ..training.runs.folder import RunFolder
from ..training.runs.view import RunView
from .live import Explorer, Layout, LiveFigure, button, checkbox, float_slider, log_slider, set_slider
from .progress import FAILED, LIVE, progress, results_in_words, settings_in_words

LOOK_SECONDS = 0.23  # from look to look at the folder: four pictures a second; more would slow the training
REST_SECONDS = 0.1  # between looks at least, however long a picture takes
ASKED_SECONDS = 10  # for which a control stands where it was put, while the run does not say that it obeys
CONTROLS = {*SETTINGS, "speed"}  # by what their values are called in a run


class Monitor(Explorer):
    """P(open) of every channel, open channels per layer, and the curves of a run, as its folder grows.

    The run may train in this kernel, in another process, or on another machine that shares the disk.
    A moved slider, Pause, Resume and Stop write requests into the folder, which the run obeys within
    a tenth of a second or a step; the line shows what is in force, and the sliders follow what others ask
    for. After its end nothing obeys, and they cannot be moved.

    Args:
        folder: of the run; it may not exist yet.
        name: a new monitor closes the one of its name, so that a cell that is run again leaves nothing
            behind; the folder's path if None. A second one in the same notebook takes another name.

    Attributes:
        folder: the `RunFolder`.
        view: what was last read from it (`RunView`).
    """

    reset_hint = None
    _by_name: ClassVar[dict[str, "Monitor"]] = {}
    _name = ""
    _thread: threading.Thread | None = None  # until there is one: ipywidgets closes also what failed to start

    @checked
    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self._take_name(name or str(Path(folder).resolve()))
        self._watch_folder(RunFolder(folder))
        self._outline: tuple | None = None  # for which the panels were arranged
        self._adopting: int | None = None  # the thread that moves sliders to where the run is
        figure = LiveFigure(
            self._draw, (1100, 480), "ab;ac", "P(open) of every channel during training",
            narrower=[Layout("a;b;c", 350, 760, {"height_ratios": (1.4, 1, 1)})], width_ratios=(1.25, 1),
        )  # fmt: skip
        self._buttons = self._make_buttons()
        super().__init__(figure, self._make_controls(), self._buttons)
        self._follow()

    # ---- what it does

    def pause(self) -> None:
        """Ask the run to hold."""
        self._ask(state="pause")

    def resume(self) -> None:
        """Ask the run to resume after a pause."""
        self._ask(state="run")

    def stop(self) -> None:
        """Ask the run to end; it keeps its finished epochs."""
        self._ask(state="stop")

    def redraw(self, change: Mapping[str, Any] | None = None) -> None:
        """Look into the folder, and draw what is new; a moved slider is a request."""
        if self._adopting == threading.get_ident():
            return  # this slider follows the run
        if change is not None:
            name = next(name for name, c in self.controls.items() if c is change["owner"])
            self._asked[name] = change["new"], time.monotonic()  # before the lock: a look may be under way
            self._ask(**{name: change["new"]})
        with self._lock:
            super().redraw()

    def end(self) -> None:
        """End its thread; the picture stays as it is."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()

    def close(self) -> None:
        """Remove it from the page, and end its thread."""
        self.end()
        if self._by_name.get(self._name) is self:
            del self._by_name[self._name]
        super().close()

    def _ask(self, **requests: Any) -> None:
        if self._ended.is_set():
            self._begin_again()
        self.folder.ask(**requests)

    def _begin_again(self) -> None:
        """After `end`.

        Raises:
            RuntimeError: it was closed.
        """
        if self.comm is None:
            raise RuntimeError(
                f"this explorer was closed, as another of the name {self._name!r} took its place: "
                "run its cell again."
            )
        self._take_name(self._name)
        self._follow()

    # ---- its thread

    def _take_name(self, name: str) -> None:
        old = self._by_name.get(name)
        if old not in (None, self):
            old.close()  # its widgets and its figure would stay as long as the kernel
        self._by_name[name] = self
        self._name, self._ended = name, threading.Event()
        self._lock = threading.RLock()  # one look at a time

    def _follow(self) -> None:
        self._thread = threading.Thread(
            target=self._look_on, name=f"depl0kit-watch-{self._name}", daemon=True
        )
        self._thread.start()

    def _look_on(self) -> None:
        due = time.monotonic() + LOOK_SECONDS
        while not self._ended.wait(max(REST_SECONDS, due - time.monotonic())):
            # a late look does not delay those after it, and missed ones are not made up for
            due = max(due + LOOK_SECONDS, time.monotonic())
            self.redraw()

    def _watch_folder(self, folder: RunFolder) -> None:
        with self._lock:
            self.folder, self.view, self._stale = folder, RunView(folder), True
            self._asked: dict[str, tuple[Any, float]] = {}  # by a control: its value, and when
            self._in_force: dict[str, Any] = {}  # the settings of the run, at the look before

    # ---- what it shows

    def _show(self) -> tuple[str, bool]:
        self._stale |= self.view.look()
        self._follow_run()
        if self._stale:
            if self._shape() != self._outline:
                self._outline = self._shape()
                self.figure.arrange_again()
            self.figure.update(**self.state())
            self._stale = False
        return self.numbers(), self._is_wrong()

    def _shape(self) -> tuple[dict[str, int], int] | None:
        """Channels per group, by name, and epochs; None while there is no run."""
        about = self.view.about
        return about and (dict(about["net"]["groups"]), about["train"].all_epochs)

    def numbers(self, **_settings: float) -> str:
        """State of the training; the settings in force, and the results of the last epoch."""
        status = self.view.status
        if self.view.about is None or status["state"] == "new":
            return f"waiting for a run in {self.folder.path}"
        if status["state"] in FAILED:
            return f"{status['state']} in epoch {status['epoch']:.1f}. {status['error']}"
        at_end = "" if status["state"] in LIVE else self._after_the_end()
        numbers = settings_in_words(status) + results_in_words(self.view.history)
        lines = progress(self.view, self._shape()[1]) + at_end, numbers, status.get("notice")
        return "\n".join(filter(None, lines))

    def _after_the_end(self) -> str:
        resumes = self.view.status["state"] != "finished"
        return ". Nothing obeys the sliders any more" + (": the same command resumes it." if resumes else ".")

    def _is_wrong(self) -> bool:
        status = self.view.status
        return status["state"] in FAILED or bool(status.get("notice")) or self.view.silent_since() is not None

    def _channels(self) -> pd.DataFrame | None:
        """A row per group as in `GatedModel.channel_table`; None while no gates are known."""
        last = self.view.gates and self.view.gates.last()
        if last is None:
            return None
        sizes = self._shape()[0]
        starts = np.cumsum([0, *sizes.values()])[:-1]
        prob_open, gates = last
        return pd.DataFrame(
            {
                "group": list(sizes),
                "channels": list(sizes.values()),
                "open": np.add.reduceat((gates > 0).astype(int), starts),
                "expected_open": np.add.reduceat(prob_open, starts),
            }
        )

    def _draw(self, left: Axes, upper: Axes, lower: Axes, **_settings: float) -> list[Artist]:
        shape, channels = self._shape(), self._channels()
        for ax in (left, upper, lower):
            ax.set_axis_off() if shape is None else ax.set_axis_on()
        if shape is None:
            return [plots.base.message(left, "waiting for a run")]
        sizes, epochs = shape[0], self._last_epoch()
        times, prob_open = self.view.gates.columns() if self.view.gates else ([], np.empty((0, 0)))
        bars = (
            [plots.base.message(upper, NO_GATES)] if channels is None else plots.layer_bars(channels, upper)
        )
        return [
            *plots.prob_open_image(prob_open, times, sizes, left, epochs, self._invitation()),
            *bars,
            *plots.history_curves(self.view.history, lower, epochs),
        ]

    def _last_epoch(self) -> float:
        """Right end of the time axis: for a run without an end it moves in few large steps."""
        end = self._shape()[1]
        while end < self.view.status["epoch"]:
            end = 2 * end
        return end

    def _invitation(self) -> str:
        """What is written where the gates will be drawn."""
        return NO_GATES

    # ---- its controls

    def _make_controls(self) -> dict[str, Widget]:
        lam, temperature, gate_lr = KNOBS["lam"], KNOBS["temperature"], KNOBS["gate_lr"]
        controls = {
            "lam": log_slider(lam.label, 4, *lam.usual, first="off", hint=lam.hint),
            "temperature": float_slider(
                temperature.label, 2 / 3, *temperature.usual, 1 / 30, hint=temperature.hint
            ),
            "gate_lr": log_slider(gate_lr.label, 0.1, *gate_lr.usual, hint=gate_lr.hint),
            "speed": log_slider(
                "Epochs a second", None, *SPEEDS, last=FAST, hint="At most; changes no result"
            ),
            "until_stop": checkbox("until Stop", False, UNTIL_STOP),
        }
        for name, value in self._start_settings().items():
            set_slider(controls[name], value)  # also outside the range: a run may begin anywhere
        return controls

    def _start_settings(self) -> dict[str, Any]:
        """Where controls stand until there is a run, if it is not where they are made."""
        return {}

    def _follow_run(self) -> None:
        """Put the controls where the run is; one that was moved here stays until the run obeys."""
        status = self.view.status
        for name in status.keys() & CONTROLS:
            if name in self._asked:
                value, since = self._asked[name]
                if value != status[name] and time.monotonic() - since < ASKED_SECONDS:
                    continue
                del self._asked[name]
            if self._in_force.get(name, ...) != status[name] and self.controls[name].value != status[name]:
                self._adopting = threading.get_ident()
                try:
                    set_slider(self.controls[name], status[name])
                finally:
                    self._adopting = None
            self._in_force[name] = status[name]
        self._enable(status["state"] in LIVE)

    def _enable(self, on: bool) -> None:
        """Let the controls be moved, or not."""
        for part in (*self.controls.values(), *self._buttons):
            part.disabled = not on

    def _make_buttons(self) -> list[Button]:
        return [
            button("Pause", "pause", "Ask the run to pause", self.pause),
            button("Resume", "play", "Ask the run to resume after a pause", self.resume),
            button("Stop", "stop", "Ask the run to end, and to keep its finished epochs", self.stop),
        ]


NO_GATES = "no gates so far"
SPEEDS, FAST = (0.1, 50), "as fast as it can"  # epochs a second
UNTIL_STOP = "Keep training after the last epoch, at the full price and constant learning rates"
