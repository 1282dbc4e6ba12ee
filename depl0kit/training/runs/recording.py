"""Writes a run to its folder while it trains, and does what the folder's watchers ask for."""

import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import distributed
from ..knobs import KNOBS
from ..trainer import Trainer
from .about import about, environment
from .control import SETTINGS
from .folder import RunFolder
from .run import moments_of

STATUS_SECONDS = 0.2  # between two writes of the status
CHECKPOINT_SHARE = 0.02  # of the training time at most is spent on checkpoints
UNDER_WAY = ("running", "paused")
PAUSE_SECONDS = 0.05  # between two looks whether a pause is over


def recorded(trainer: Trainer, out: str | Path | None) -> Iterator[None]:
    """Step through `trainer` and write its run to the folder `out`; without a folder only step.

    It resumes from the last checkpoint if there is one, and does what watchers ask for (`RunFolder.ask`).
    Of several processes the first writes; all resume from the same checkpoint and follow the same requests.

    Raises:
        ValueError, RuntimeError: as `RunFolder.begin`, `resume_point` and `in_use`; the processes disagree.
        UnwritableError: the folder cannot be written, as on a full disk; what is in it stays good.
    """
    distributed.agree({"out": out is not None})
    if out is None:
        yield from trainer
        return
    folder, first = RunFolder(out), distributed.ranks().first
    with folder.in_use() if first else nullcontext():
        record = _Record(trainer, folder)
        try:
            with _writing(folder):
                record.begin()
            for _ in trainer:
                with _writing(folder):
                    record.step()
                yield
                if trainer.run.status == "stopped":
                    break
            with _writing(folder):
                record.end()
        except UnwritableError:
            raise
        except BaseException as error:  # also an interrupt, a loop that was left, images that were deleted
            record.end_with(error)
            raise


class UnwritableError(OSError):
    """The folder of a run cannot be written."""


@contextmanager
def _writing(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"the run folder {folder.path} cannot be written ({error}). Epochs up to the last checkpoint "
            "are safe in it: make room, and start the same run again to resume it."
        ) from error


class _Record:
    """What `recorded` does at the beginning, after every step, and at the end."""

    def __init__(self, trainer: Trainer, folder: RunFolder) -> None:
        self.trainer, self.folder, self.writes = trainer, folder, distributed.ranks().first
        self._begun = False  # until it has, the folder may hold another run, which must not change
        self._saved_epoch = -1
        self._save_due = self._status_due = 0.0
        self._asked = "run"
        self._speed: float | None = None  # epochs a second at most
        self._next_step = 0.0  # when it is due
        self._rate = 0.0  # epochs a second, a moving average
        self._counted = time.monotonic(), 0.0  # time and epoch of its last update

    def begin(self) -> None:
        trainer, folder = self.trainer, self.folder
        self._keep_warmup()
        if self.writes:
            folder.begin(about(trainer.net, trainer.data, trainer.config), environment(trainer.device))
        distributed.from_first(None)  # the other processes wait until the folder is ready
        checkpoint = folder.resume_point()
        distributed.agree({"last epoch": checkpoint and checkpoint.epoch})  # all processes have read it
        if checkpoint is not None:
            rows = folder.history(checkpoint).to_dict("records")
            trainer.load(checkpoint, rows, moments_of(folder, checkpoint))
            self._saved_epoch = checkpoint.epoch
        distributed.from_first(None)  # and has loaded it before it is replaced
        if self.writes:
            folder.tidy()
            folder.control.forget_session()
            if checkpoint is None:
                self._append()
                self._save()  # so that a resumed run begins with the same weights, wherever they come from
            else:
                folder.go_back(checkpoint)
        self._counted = time.monotonic(), trainer.epoch
        self._begun = True
        self._take(distributed.from_first(folder.control.requests() if self.writes else None))
        self._status()

    def _keep_warmup(self) -> None:
        """A resumed run keeps its warm-up and ramp, even if their defaults were different when it began."""
        if (self.folder.path / "config.json").exists():
            config, saved = self.trainer.config, self.folder.about()["train"]
            own = {name: getattr(saved, name) for name in ("warmup", "ramp") if getattr(config, name) is None}
            if own and saved.epochs == config.epochs:
                self.trainer.config = self.trainer.run.config = replace(config, **own)

    def step(self) -> None:
        """Write what is new, and do what is asked for."""
        if self.writes:
            self._append()
            if self.trainer.saved.epoch > self._saved_epoch and time.monotonic() >= self._save_due:
                self._save()
            if time.monotonic() >= self._status_due:
                self._status()
        self._follow_requests()

    def end(self, text: str = "") -> None:
        """Write the last epochs, and how it ended."""
        if self.writes and self._begun:
            self._append()
            self.folder.cut(len(self.trainer.run.rows))  # drops an epoch that was not finished
            if self.trainer.saved.epoch != self._saved_epoch:
                self._save()
            self._status(text)

    def end_with(self, error: BaseException) -> None:
        """`end`, after an error or an interrupt; a folder that cannot be written hides no other error."""
        run, text = self.trainer.run, ""
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            if run.status in UNDER_WAY:
                self.trainer.stop()
        else:
            text = f"{type(error).__name__}: {error}"
            run.status = "failed" if run.status in UNDER_WAY else run.status
        try:
            self.end(text)
        except OSError as unwritten:
            text = f"the end of the run in {self.folder.path} was not written: {unwritten}"
            warnings.warn(text, stacklevel=2)

    def _follow_requests(self) -> None:
        """Do what is asked for; returns when the next step is due, or training must stop."""
        # a late step does not make the next ones faster
        self._next_step = max(self._next_step, time.monotonic() - PAUSE_SECONDS)
        if self._speed is not None:
            self._next_step += 1 / (self._speed * self.trainer.steps_per_epoch)
        while True:
            early = self._next_step - time.monotonic()
            asked = (self.folder.control.requests(), early) if self.writes else None
            requests, early = distributed.from_first(asked)
            self._take(requests)
            if self._asked == "stop":
                self.trainer.stop("stopped")
            if self._asked == "pause" and self.trainer.run.status != "paused":
                self.trainer.run.status = "paused"
                self._status()
            if self._asked != "pause" and (early <= 0 or self._speed is None or self._asked == "stop"):
                break
            if time.monotonic() >= self._status_due:
                self._status()
            time.sleep(PAUSE_SECONDS if self._asked == "pause" else min(early, PAUSE_SECONDS))
        if self.trainer.run.status == "paused":
            self.trainer.run.status = "running"
            self._counted = time.monotonic(), self.trainer.epoch
            self._status()

    def _take(self, requests: dict[str, Any]) -> None:
        for name in requests.keys() & SETTINGS:
            setattr(self.trainer, name, requests[name])
        if "speed" in requests and requests["speed"] != self._speed:
            self._speed, self._next_step = requests["speed"], time.monotonic()
            self._rate = 0.0  # the old rate was of the old speed
            self._counted = time.monotonic(), self.trainer.epoch
        self._asked = requests.get("state", self._asked)
        if requests:
            self._status()  # watchers wait to see that it was heard

    def _append(self) -> None:
        self.folder.append(self.trainer.run.rows, self.trainer.run.moments)

    def _save(self) -> None:
        start = time.monotonic()
        self.folder.save(self.trainer.saved)
        self._saved_epoch = self.trainer.saved.epoch
        self._save_due = time.monotonic() + (time.monotonic() - start) / CHECKPOINT_SHARE

    def _status(self, error: str = "") -> None:
        if not self.writes:
            return
        trainer, now = self.trainer, time.monotonic()
        then, before = self._counted
        if trainer.epoch != before:  # otherwise it waits, and there is nothing to count
            self._counted = now, trainer.epoch
        if now > then and trainer.epoch > before:
            rate = (trainer.epoch - before) / (now - then)
            self._rate = 0.8 * self._rate + 0.2 * rate if self._rate else rate
        epochs, endless = trainer.config.all_epochs, trainer.until_stop and not trainer.fine_tuning
        self.folder.set_status(
            state=trainer.run.status,
            epoch=trainer.epoch,
            epochs=epochs,
            images_per_second=self._rate * len(trainer.data.train),
            seconds_left=(epochs - trainer.epoch) / self._rate if self._rate and not endless else None,
            **{name: getattr(trainer, name) for name in KNOBS},
            # of the last epoch's end: that of now would wait for the device
            **{name: value for name, value in trainer.saved.numbers.items() if name == "mu"},
            until_stop=endless,
            speed=self._speed,
            notice=trainer.run.notice,
            device=str(trainer.device),
            process=os.getpid(),
            host=socket.gethostname(),
            error=error,
        )
        self._status_due = now + STATUS_SECONDS
