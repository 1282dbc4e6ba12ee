"""Watch a run through its folder, wherever it trains, and steer it."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from ipywidgets import Button, Widget
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..channels import Channels
from ..support import checked
from ..training.knobs import KNOBS
from ..training.runs.control import SETTINGS
from ..training.runs.folder import RunFolder
from ..training.runs.view import RunView
from .live import Explorer, Layout, LiveFigure, button, checkbox, float_slider, log_slider, set_slider
from .networks import channels_of
from .progress import FAILED, LIVE, progress, results_in_words, settings_in_words

LOOK_SECONDS = 0.23  # between two looks at the folder: four pictures a second; more would slow the run
REST_SECONDS = 0.1  # the least pause between two looks, however long a picture takes
ASKED_SECONDS = 10  # a moved control keeps its value so long, unless the run confirms it earlier
CONTROLS = {*SETTINGS, "speed"}  # by the names of their values in a run


class Monitor(Explorer):
    """The map of a network, P(open) of every channel, and the curves of a run, as its folder grows.

    The run may train in this kernel, in another process, or on another machine that shares the disk.
    A moved slider, Pause, Resume and Stop write requests into the folder. The run follows them within a tenth
    of a second, or after its current step. The line shows the settings in use, and the sliders also show what
    others requested. After the end of the run, sliders and buttons are disabled. Bars of open channels are
    in place of the map if `make_model` did not make the network.

    Args:
        folder: of the run; it may not exist yet.
        name: a new monitor closes the earlier one with the same name, so that running a cell again leaves
            nothing behind; None: the folder's path. A second monitor of one folder needs another name.

    Attributes:
        folder: the `RunFolder`.
        view: what was last read from it (`RunView`).
    """

    reset_hint = None
    _by_name: ClassVar[dict[str, "Monitor"]] = {}
    _name = ""
    _thread: threading.Thread | None = None  # set here, as ipywidgets also closes what failed in __init__

    @checked
    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self._take_name(name or str(Path(folder).resolve()))
        self._watch_folder(RunFolder(folder))
        self._outline: tuple | None = None  # the shape for which the panels were arranged
        self._adopting: int | None = None  # the thread that sets the sliders to the run's values
        figure = LiveFigure(
            self._draw, (1100, 480), "ab;ac", "A network during training, and P(open) of every channel",
            narrower=[Layout("a;b;c", 380, 820, {"height_ratios": (1.3, 1, 1)})], width_ratios=(1.7, 1),
        )  # fmt: skip
        self._buttons = self._make_buttons()
        super().__init__(figure, self._make_controls(), self._buttons)
        self._follow()

    def pause(self) -> None:
        """Ask the run to pause."""
        self._ask(state="pause")

    def resume(self) -> None:
        """Ask the run to resume after a pause."""
        self._ask(state="run")

    def stop(self) -> None:
        """Ask the run to end; it keeps its finished epochs."""
        self._ask(state="stop")

    def redraw(self, change: Mapping[str, Any] | None = None) -> None:
        """Look into the folder, and draw what is new; a moved slider becomes a request."""
        if self._adopting == threading.get_ident():
            return  # this slider follows the run
        if change is not None:
            name = next(name for name, c in self.controls.items() if c is change["owner"])
            self._asked[name] = change["new"], time.monotonic()  # before the lock: a look may hold it
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
        """Follow the folder again after `end`."""
        if self.comm is None:
            raise RuntimeError(
                f"this explorer was closed because another one named {self._name!r} replaced it: "
                "run its cell again."
            )
        self._take_name(self._name)
        self._follow()

    def _take_name(self, name: str) -> None:
        old = self._by_name.get(name)
        if old not in (None, self):
            old.close()  # its widgets and its figure would stay in memory as long as the kernel
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
            # a late look does not delay the next ones, and missed looks are skipped
            due = max(due + LOOK_SECONDS, time.monotonic())
            self.redraw()

    def _watch_folder(self, folder: RunFolder) -> None:
        with self._lock:
            self.folder, self.view, self._stale = folder, RunView(folder), True
            self._asked: dict[str, tuple[Any, float]] = {}  # by control: the value, and when it was moved
            self._in_force: dict[str, Any] = {}  # the settings of the run, at the previous look
            self._made: tuple[dict | None, Channels | None] = None, None  # for which `about`, and the network

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
        """State of the run; under it, the settings in use and the results of the last epoch."""
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
        hint = "" if self.view.status["state"] == "finished" else ": the same command resumes the run"
        return f". The sliders have no effect now{hint}."

    def _is_wrong(self) -> bool:
        status = self.view.status
        return status["state"] in FAILED or bool(status.get("notice")) or self.view.silent_since() is not None

    def _channels(self) -> Channels | None:
        """Of the network of the run; None if its folder does not tell how to make it."""
        about = self.view.about
        if about is not self._made[0]:
            self._made = about, about and channels_of(about["net"])
        return self._made[1]

    def _openness(self) -> list[np.ndarray] | None:
        """P(open) of each group now; None while no gates are known."""
        last = self.view.gates and self.view.gates.last()
        return None if last is None else self._by_group(last[0])

    def _by_group(self, values: np.ndarray) -> list[np.ndarray]:
        return np.split(values, np.cumsum([*self._shape()[0].values()])[:-1])

    def _draw(self, left: Axes, upper: Axes, lower: Axes, **_settings: float) -> list[Artist]:
        shape = self._shape()
        for ax in (upper, lower):
            ax.set_axis_off() if shape is None else ax.set_axis_on()
        if shape is None:
            left.set_axis_off()
            return [plots.base.message(left, "waiting for a run")]
        sizes, epochs = shape[0], self._last_epoch()
        times, prob_open = self.view.gates.columns() if self.view.gates else ([], np.empty((0, 0)))
        return [
            *plots.prob_open_image(prob_open, times, sizes, upper, epochs, self._invitation()),
            *plots.history_curves(self.view.history, lower, epochs),
            *self._draw_network(left),
        ]

    def _draw_network(self, ax: Axes) -> Sequence[Artist]:
        channels, openness = self._channels(), self._openness()
        if channels is not None:
            return plots.network_map(channels, openness, ax)
        ax.set_axis_on()
        if openness is None:
            return [plots.base.message(ax, NO_GATES)]
        sizes, (_, gates) = self._shape()[0], self.view.gates.last()
        columns = {
            "group": list(sizes),
            "channels": list(sizes.values()),
            "open": [int((one > 0).sum()) for one in self._by_group(gates)],
            "expected_open": [one.sum() for one in openness],
        }
        return plots.layer_bars(pd.DataFrame(columns), ax)

    def _last_epoch(self) -> float:
        """Right end of the time axis: it doubles when a run without a planned end reaches it."""
        end = self._shape()[1]
        while end < self.view.status["epoch"]:
            end = 2 * end
        return end

    def _invitation(self) -> str:
        """The text in the panel of the gates while there are none."""
        return NO_GATES

    def _make_controls(self) -> dict[str, Widget]:
        lam, temperature, gate_lr = KNOBS["lam"], KNOBS["temperature"], KNOBS["gate_lr"]
        controls = {
            "lam": log_slider(lam.label, 4, *lam.usual, first="off", hint=lam.hint),
            "temperature": float_slider(
                temperature.label, 2 / 3, *temperature.usual, 1 / 30, hint=temperature.hint
            ),
            "gate_lr": log_slider(gate_lr.label, 0.1, *gate_lr.usual, hint=gate_lr.hint),
            "speed": log_slider(
                "Epochs a second", None, *SPEEDS, last=FAST, hint="At most; does not change results"
            ),
            "until_stop": checkbox("until Stop", False, UNTIL_STOP),
        }
        for name, value in self._start_settings().items():
            set_slider(controls[name], value)  # also outside its range: a run may start with any value
        return controls

    def _start_settings(self) -> dict[str, Any]:
        """Values of controls before there is a run, where they differ from the defaults."""
        return {}

    def _follow_run(self) -> None:
        """Set the controls to the run's values; one that was moved here waits until the run confirms it."""
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
        """Enable or disable controls and buttons."""
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
