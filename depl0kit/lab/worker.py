"""A training run in a background thread, one per name.

Training in the cell itself would keep the kernel busy: a click on Stop, or a slider, would wait for
the loop to end. Here the loop runs beside the kernel and looks at its orders after every step.
"""

import threading
import time
from collections.abc import Callable
from typing import ClassVar

from ..training import Diverged, Trainer

PICTURE_SECONDS = 0.24  # from picture to picture: more than four a second look alive and cost little


class Worker:
    """Runs a `Trainer` in a thread that can be paused and stopped.

    Args:
        name: a new worker closes the old one of the same name, so that a cell that is run again
            does not leave a second training behind.
        trainer: the run.
        watch: called in the worker's thread after every step.
        show: called in the worker's thread every PICTURE_SECONDS, and once at the end.

    Attributes:
        state: "ready", "running", "paused", "stopped", "finished" or "failed".
        error: what ended a failed run, in one line.
    """

    registry: ClassVar[dict[str, "Worker"]] = {}

    def __init__(
        self, name: str, trainer: Trainer, watch: Callable[[], None], show: Callable[[], None]
    ) -> None:
        if old := self.registry.get(name):
            old.close()
        self.registry[name] = self
        self.trainer, self.state, self.error = trainer, "ready", ""
        self._watch, self._show = watch, show
        self._go, self._end, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"depl0kit-{name}", daemon=True)

    def start(self) -> None:
        """Begin, or go on after a pause."""
        if self.state not in ("ready", "paused"):
            return
        first, self.state = self.state == "ready", "running"
        self._go.set()
        if first:
            self._thread.start()

    def pause(self) -> None:
        """Hold after the step under way."""
        with self._lock:  # or the thread could end between the question and the answer
            if self.state == "running":
                self.state = "paused"
                self._go.clear()

    def stop(self) -> None:
        """End after the step under way; the network goes back to its last finished epoch."""
        if self.state == "ready":  # no thread yet, and one that started later would end at once
            self.state = "stopped"
            return
        self._end.set()
        self._go.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def close(self) -> None:
        """Stop without showing anything more."""
        self._show = lambda: None
        self.stop()

    def _run(self) -> None:
        try:
            self._loop()
        except Diverged as error:
            self._finish("failed", str(error))
        except Exception as error:  # of a thread nobody would see the traceback; the explorer shows it
            self._finish("failed", f"{type(error).__name__}: {error}")
        self._show()

    def _loop(self) -> None:
        due = time.monotonic() + PICTURE_SECONDS
        for _ in self.trainer:
            self._watch()
            if (now := time.monotonic()) >= due:
                self._show()
                due = max(due, now - PICTURE_SECONDS) + PICTURE_SECONDS  # one that is late delays no other
            self._go.wait()
            if self._end.is_set():
                self.trainer.stop()
                return self._finish("stopped")
        self._finish("finished")

    def _finish(self, state: str, error: str = "") -> None:
        with self._lock:
            self.state, self.error = state, error
