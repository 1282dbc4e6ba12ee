"""Keeps a run in its folder while it trains, and lets the folder steer it."""

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
from .folder import SETTINGS, RunFolder
from .run import moments_of

STATUS_SECONDS = 0.2  # from one status to the next
CHECKPOINT_SHARE = 0.02  # of the time of training, at most, goes into writing checkpoints
UNDER_WAY = ("running", "paused")
PAUSE_SECONDS = 0.05  # from look to look, whether a pause is over


def recorded(trainer: Trainer, out: str | Path | None) -> Iterator[None]:
    """Step through `trainer` and keep its run in the folder `out`; without a folder only step.

    Goes on from the last checkpoint if there is one, and obeys what watchers ask for (`RunFolder.ask`).
    Of several processes the first keeps the run; all resume from the same checkpoint and obey the same.

    Raises:
        ValueError, RuntimeError: as `RunFolder.begin`, `resume_point` and `in_use`; the processes differ.
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
        except BaseException as error:  # also an interrupt, a loop that was left, images that are gone
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
            "are safe in it: make room, and start the same training again to go on."
        ) from error


class _Record:
    """What `recorded` does at the beginning, after every step, and at the end."""

    def __init__(self, trainer: Trainer, folder: RunFolder) -> None:
        self.trainer, self.folder, self.writes = trainer, folder, distributed.ranks().first
        self._begun = False  # until then the folder may hold another run, which stays as it is
        self._saved_epoch = -1
        self._save_due = self._status_due = 0.0
        self._asked = "run"
        self._speed: float | None = None  # epochs a second at most
        self._next_step = 0.0  # when it is due
        self._rate = 0.0  # epochs a second, of late
        self._counted = time.monotonic(), 0.0  # when it was taken, at which epoch

    def begin(self) -> None:
        trainer, folder = self.trainer, self.folder
        self._keep_warmup()
        if self.writes:
            folder.begin(about(trainer.net, trainer.data, trainer.config), environment(trainer.device))
        distributed.from_first(None)  # the others wait until the folder is ready
        checkpoint = folder.resume_point()
        distributed.agree({"last epoch": checkpoint and checkpoint.epoch})  # all have read it
        if checkpoint is not None:
            rows = folder.history(checkpoint).to_dict("records")
            trainer.load(checkpoint, rows, moments_of(folder, checkpoint))
            self._saved_epoch = checkpoint.epoch
        distributed.from_first(None)  # and loaded it before it is replaced
        if self.writes:
            folder.tidy()
            folder.forget_session()
            if checkpoint is None:
                self._append()
                self._save()  # so that a resumed run begins with the same weights, however they came about
            else:
                folder.go_back(checkpoint)
        self._counted = time.monotonic(), trainer.epoch
        self._begun = True
        self._take(distributed.from_first(folder.requests() if self.writes else None))
        self._status()

    def _keep_warmup(self) -> None:
        """A run that is resumed keeps its warm-up and ramp, also if it began with another default."""
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
        self._obey()

    def end(self, text: str = "") -> None:
        """Write the last epochs, and how it ended."""
        if self.writes and self._begun:
            self._append()
            self.folder.cut(len(self.trainer.run.rows))  # of an epoch that was given up
            if self.trainer.saved.epoch != self._saved_epoch:
                self._save()
            self._status(text)

    def end_with(self, error: BaseException) -> None:
        """`end`, after an error or an interrupt; that the folder cannot be written then hides no error."""
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

    def _obey(self) -> None:
        """Do what is asked for; returns when the next step is due, or training shall stop."""
        # lost time is not made up for
        self._next_step = max(self._next_step, time.monotonic() - PAUSE_SECONDS)
        if self._speed is not None:
            self._next_step += 1 / (self._speed * self.trainer.steps_per_epoch)
        while True:
            now = (self.folder.requests(), self._next_step - time.monotonic()) if self.writes else None
            requests, early = distributed.from_first(now)
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
            self._rate, self._counted = 0.0, (time.monotonic(), self.trainer.epoch)  # of the speed before
        self._asked = requests.get("state", self._asked)
        if requests:
            self._status()  # its watchers wait to see it

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
        if trainer.epoch != before:  # else it waits, and there is nothing to count
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
            until_stop=endless,
            speed=self._speed,
            notice=trainer.run.notice,
            device=str(trainer.device),
            process=os.getpid(),
            host=socket.gethostname(),
            error=error,
        )
        self._status_due = now + STATUS_SECONDS
