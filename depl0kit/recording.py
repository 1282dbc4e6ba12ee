"""Keeps a training in its run folder while it goes on, and lets the folder steer it."""

import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import distributed
from .run_folder import SETTINGS, RunFolder
from .runs import moments_of

if TYPE_CHECKING:
    from .training import Trainer

STATUS_SECONDS = 0.2  # from one status to the next
CHECKPOINT_SHARE = 0.02  # of the time of training, at most, goes into writing checkpoints
UNDER_WAY = ("running", "paused")
PAUSE_SECONDS = 0.05  # from look to look, whether a pause is over


def recorded(trainer: "Trainer", out: str | Path | None) -> Iterator[None]:
    """Step through `trainer` and keep its run in the folder `out`; without a folder only step.

    Goes on from the last checkpoint if there is one, and obeys what watchers ask for (`RunFolder.ask`).
    Of several processes the first keeps the run; all go on from the same checkpoint and obey the same.

    Raises:
        ValueError, RuntimeError: as `RunFolder.begin` and `in_use`.
        OSError: the folder cannot be written, as on a full disk; what is in it stays good.
    """
    if out is None:
        yield from trainer
        return
    folder, first = RunFolder(out), distributed.ranks().first
    with folder.in_use() if first else nullcontext():
        record = _Record(trainer, folder)
        try:
            record.begin()
            for _ in trainer:
                record.step()
                yield
                if trainer.run.status == "stopped":
                    break
            record.end()
        except OSError as error:
            raise OSError(
                f"the run folder {folder.path} cannot be written ({error}). Epochs up to the last checkpoint "
                "are safe in it: make room, and start the same training again to go on."
            ) from error
        except BaseException as error:  # also an interrupt, and a loop that was left
            record.end(error)
            raise


class _Record:
    """What `recorded` does at the beginning, after every step, and at the end."""

    def __init__(self, trainer: "Trainer", folder: RunFolder) -> None:
        self.trainer, self.folder, self.writes = trainer, folder, distributed.ranks().first
        self._begun = False  # until then the folder may hold another run, which stays as it is
        self._rows = self._moments = 0  # how many are in the folder
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
            folder.begin(_about(trainer), _environment(trainer.device))
        distributed.from_first(None)  # the others wait until the folder is ready
        checkpoint = folder.latest_checkpoint()
        if checkpoint is not None:
            trainer.load(checkpoint, folder.history().to_dict("records"), moments_of(folder))
            self._saved_epoch = checkpoint.epoch
        distributed.from_first(None)  # all have read it before it is replaced
        if self.writes:
            self._cut()
            folder.forget_session()
            if checkpoint is None:
                self._save()  # so that a resumed run begins with the same weights, however they came about
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

    def end(self, error: BaseException | None = None) -> None:
        """Write the last epochs, and how it ended."""
        run, text = self.trainer.run, ""
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            if run.status in UNDER_WAY:
                self.trainer.stop()
        elif error is not None:
            text = f"{type(error).__name__}: {error}"
            run.status = "failed" if run.status in UNDER_WAY else run.status
        if self.writes and self._begun:
            self._append()
            self._cut()  # of an epoch that was given up
            if self.trainer.saved.epoch != self._saved_epoch:
                self._save()
            self._status(text)

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
        run = self.trainer.run
        self.folder.append(run.rows[self._rows :], run.moments[self._moments :])
        self._rows, self._moments = len(run.rows), len(run.moments)

    def _cut(self) -> None:
        run = self.trainer.run
        self.folder.cut(len(run.rows))
        self._rows, self._moments = len(run.rows), len(run.moments)

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
            lam=trainer.lam,
            temperature=trainer.temperature,
            gate_lr=trainer.gate_lr,
            until_stop=endless,
            speed=self._speed,
            notice=trainer.run.notice,
            device=str(trainer.device),
            process=os.getpid(),
            host=socket.gethostname(),
            error=error,
        )
        self._status_due = now + STATUS_SECONDS


def _about(trainer: "Trainer") -> dict[str, Any]:
    data = trainer.data
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    config = trainer.config  # with numbers for warmup and ramp: later versions may have other defaults
    numbers = {"warmup": config.warmup_epochs, "ramp": config.ramp_epochs}
    return {
        "version": version(),
        "net": trainer.net.describe(),
        "data": {"name": data.name, "classes": data.num_classes, **sizes},
        "train": asdict(config) | numbers,
    }


def _environment(device: torch.device) -> dict[str, Any]:
    """This session of training: where, with what, by which command."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": distributed.ranks().world,
        **versions(device),
    }


def versions(device: torch.device) -> dict[str, Any]:
    """With what numbers were made: versions, git commit, and name of the device."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "depl0kit": version(),
        "git_commit": _git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }


def version() -> str:
    """Of this package."""
    from . import __version__  # not at the top: the package imports this module

    return __version__


def _git_commit() -> str | None:
    """Of the checkout that the package runs from; None if it is none."""
    try:
        done = subprocess.run(
            ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
