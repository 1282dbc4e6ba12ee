"""The files of one training run: readable while it runs, whole after any kill.

config.json        what is trained, on what, and how; a run with other settings needs another folder
environment.json   versions, device and git commit of each session that trained
history.csv        a row per finished epoch
gates.f32          float32 records (epoch, log_alpha [N], prob_open [N], test-time gates [N])
checkpoints/       the last two states from which training can go on, safetensors with a checksum
status.json        where it is now, a few times a second
control.json       what its watchers ask for: lam, temperature, gate_lr, until_stop, speed; run, pause or stop
lock               held by the process that trains
recipe.json        of a training from the shell: where its images lie
log.txt            of one in the background: what it printed
"""

import csv
import io
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from torch import Tensor

from . import checks
from .config import TrainConfig
from .files import (
    DamagedFileError,
    different_field,
    read_json,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)

FORMAT = 1
KEPT = 2  # checkpoints: if the last one is damaged, there is the one before
STATES = ("run", "pause", "stop")  # that can be asked for
LOOK_SECONDS = 0.05  # from look to look at control.json
QUIET_SECONDS = 10  # a running training that writes nothing for longer gives no sign of life
STARTING_SECONDS = 120  # its first step, where it may be compiled, is granted so much more


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training at the end of an epoch.

    Attributes:
        epoch: finished epochs.
        tensors: "part.name" -> tensor on the CPU; parts are net, weights and gates (the optimisers').
        numbers: lam, temperature, gate_lr and until_stop at that time.
    """

    epoch: int
    tensors: dict[str, Tensor]
    numbers: dict[str, float]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, without its name."""
        start = f"{name}."
        return {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)}


class RunFolder:
    """The folder of one run; see the module for its files.

    Args:
        path: is made when something is first written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = checks.folder(path)
        self._next_look, self._seen = 0.0, 0

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # ---- whose it is, and what

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep every other process from training in this folder; a killed one keeps nobody out.

        Raises:
            RuntimeError: another process trains here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(
                f"another process is training in {self.path}: wait for its end, ask it to stop "
                f"(RunFolder({str(self.path)!r}).ask(state='stop')), or use another folder."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def about(self) -> dict[str, Any]:
        """What is trained ("net"), on what ("data") and how ("train", a `TrainConfig`).

        Raises:
            FileNotFoundError: there is no run here.
            ValueError: it is of another version, or damaged.
        """
        try:
            content = read_json(self.path / "config.json")
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no run in {self.path}: it has no config.json.") from None
        except DamagedFileError as error:
            raise ValueError(str(error)) from error
        if content.get("format") != FORMAT:
            raise ValueError(
                f"{self.path} was written by depl0kit {content.get('version')} in format "
                f"{content.get('format')}; this version reads format {FORMAT}."
            )
        train = content["train"]
        return content | {"train": TrainConfig(**train | {"milestones": tuple(train["milestones"])})}

    def begin(self, about: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Note what is trained here and by which session; refuse if it is not what was trained here.

        Args:
            about: "net", "data" and "train" as plain values; and the version that wrote it.

        Raises:
            ValueError: the folder holds a run that differs; the text names the first field.
        """
        config = self.path / "config.json"
        content = json.loads(json.dumps({"format": FORMAT, **about}))
        if config.exists():
            self.about()  # refuses other formats
            _refuse_difference(self.path, read_json(config), content)
        else:
            write_json(config, content)
        sessions = self.path / "environment.json"
        earlier = read_json(sessions)["sessions"] if sessions.exists() else []
        write_json(sessions, {"sessions": [*earlier, environment]})

    # ---- history and gates

    def append(self, rows: list[dict], moments: list[tuple]) -> None:
        """Add rows to the history and moments (epoch, log_alpha, prob_open, gates) to the gates."""
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, rows[0], lineterminator="\n")
            if not (self.path / "history.csv").exists():
                writer.writeheader()
            writer.writerows(rows)
            _append(self.path / "history.csv", text.getvalue().encode())
        if moments:
            records = [np.concatenate([[epoch], *gates]) for epoch, *gates in moments]
            _append(self.path / "gates.f32", np.array(records, np.float32).tobytes())

    def history(self) -> pd.DataFrame:
        """A row per finished epoch; empty before the first."""
        return parse_history(self.history_text())

    def history_text(self) -> str:
        """What history.csv holds, without a line that is being written, or never was finished."""
        try:
            text = (self.path / "history.csv").read_text()
        except FileNotFoundError:
            return ""
        return text[: text.rfind("\n") + 1]

    def gates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Times [T] in epochs, and [T, N] each: log_alpha, P(open), test-time gates."""
        n = sum(channels for _, channels in self.about()["net"]["groups"])
        try:
            numbers = np.fromfile(self.path / "gates.f32", np.float32)
        except FileNotFoundError:
            numbers = np.empty(0, np.float32)
        records = numbers[: len(numbers) // (1 + 3 * n) * (1 + 3 * n)].reshape(-1, 1 + 3 * n)
        return records[:, 0], *np.split(records[:, 1:], 3, axis=1)

    def cut(self, epoch: int) -> None:
        """Forget what came after the end of `epoch`: training goes on from there."""
        history, times = self.history(), self.gates()[0]
        if len(history):
            kept = history[history.epoch <= epoch]
            write_atomically(self.path / "history.csv", lambda file: kept.to_csv(file, index=False))
        gates = self.path / "gates.f32"
        if gates.exists():
            size = 4 * (1 + 3 * self.gates()[1].shape[1])
            os.truncate(gates, size * int((times <= epoch).sum()))

    # ---- checkpoints

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and delete all but the last two."""
        for name in ("history.csv", "gates.f32"):  # first: no checkpoint may be ahead of them
            if (self.path / name).exists():
                with (self.path / name).open("rb") as file:
                    os.fsync(file.fileno())
        notes = {"epoch": str(checkpoint.epoch), "numbers": json.dumps(checkpoint.numbers)}
        folder = self.path / "checkpoints"
        write_tensors(folder / f"epoch-{checkpoint.epoch:05d}.safetensors", checkpoint.tensors, notes)
        for old in self._checkpoints()[KEPT:]:
            old.unlink()

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest sound checkpoint, or None; a damaged one is named in a warning."""
        for path in self._checkpoints():
            try:
                tensors, notes = read_tensors(path)
            except DamagedFileError as error:
                warnings.warn(f"{error}. The checkpoint before it is used.", stacklevel=2)
            else:
                return Checkpoint(int(notes["epoch"]), tensors, json.loads(notes["numbers"]))
        return None

    def _checkpoints(self) -> list[Path]:
        """Newest first."""
        return sorted((self.path / "checkpoints").glob("epoch-*.safetensors"), reverse=True)

    # ---- what goes on now, and what is asked for

    def status(self) -> dict[str, Any]:
        """state, epoch, epochs, images_per_second, seconds_left, updated, ...; state "new" before all."""
        try:
            return read_json(self.path / "status.json")
        except FileNotFoundError:
            return {"state": "new", "epoch": 0.0, "error": ""}

    def set_status(self, **status: Any) -> None:
        write_json(self.path / "status.json", status | {"updated": time.time()}, durable=False)

    def ask(self, **requests: Any) -> None:
        """Ask the run for something else. It obeys within a tenth of a second or a step, and, when it is
        resumed, remembers all but `state`.

        Args:
            requests: lam >= 0, temperature > 0 and gate_lr >= 0; until_stop, True or False (see `Trainer`);
                speed, in epochs a second at most, > 0, or None for as fast as it can, which changes no
                number of the run; state, "run", "pause" or "stop".

        Raises:
            ValueError: a name or value that no run takes.
        """
        for name, value in requests.items():
            checks.one_of("request", name, tuple(ASKED))
            ASKED[name](name, value)
        control = self.path / "control.json"
        earlier = read_json(control) if control.exists() else {}
        write_json(control, earlier | requests, durable=False)

    def forget_state_request(self) -> None:
        """A stop that was asked for ended the session before, and is no wish of this one."""
        control = self.path / "control.json"
        if control.exists() and read_json(control).pop("state", None):
            write_json(control, {k: v for k, v in read_json(control).items() if k != "state"}, durable=False)

    def requests(self) -> dict[str, Any]:
        """What is asked for, if that is new since the last call; looked up 20 times a second at most."""
        if time.monotonic() < self._next_look:
            return {}
        self._next_look = time.monotonic() + LOOK_SECONDS
        control = self.path / "control.json"
        try:
            changed = control.stat().st_mtime_ns
            if changed == self._seen:
                return {}
            self._seen = changed
            return read_json(control)
        except FileNotFoundError:
            return {}
        except DamagedFileError as error:  # edited by hand: no reason to lose a training
            warnings.warn(f"{error}. Nothing in it is obeyed.", stacklevel=2)
            return {}


def _positive(name: str, value: Any) -> None:
    checks.number(name, value, 0, open_low=True)


def _not_negative(name: str, value: Any) -> None:
    checks.number(name, value, 0)


def _speed(name: str, value: Any) -> None:
    if value is not None:
        _positive(name, value)


def _switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}.")


def _state(name: str, value: Any) -> None:
    checks.one_of(name, value, STATES)


ASKED = {  # what can be asked of a run, and the check of its value
    "lam": _not_negative,
    "temperature": _positive,
    "gate_lr": _not_negative,
    "until_stop": _switch,
    "speed": _speed,
    "state": _state,
}


def parse_history(text: str) -> pd.DataFrame:
    """The rows of a history.csv; pandas's own reader rounds the last digit in some versions."""
    rows = csv.DictReader(io.StringIO(text))
    return pd.DataFrame([{name: _number(value) for name, value in row.items()} for row in rows])


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _refuse_difference(path: Path, old: dict, new: dict) -> None:
    difference = different_field(old, new, IGNORED)
    if difference is not None:
        key, before, now = difference
        raise ValueError(
            f"{path} holds a run with {key} = {before!r}, not {now!r}: train with the same "
            "settings to go on with it, or in another folder."
        )


# newer code may go on with an old run; the temperature of a network that was trained may have moved
IGNORED = ("version", "net.posterior.hard_concrete.temperature")


def patience(about: Mapping[str, Any], status: Mapping[str, Any]) -> float:
    """Seconds in which a running training need not write anything: some steps, or its validation.

    Args:
        about: see `RunFolder.about`.
        status: see `RunFolder.status`.
    """
    images, rate = 5 * about["train"].batch_size + about["data"]["val"], status["images_per_second"]
    return QUIET_SECONDS + (images / rate if rate else STARTING_SECONDS)
