"""The files of one training run: readable while it runs, whole after any kill.

config.json        what is trained, on what, and how; a run with other settings needs another folder
environment.json   versions, device and git commit of each session that trained
history.csv        a row per finished epoch
gates.f32          float32 records (epoch, log_alpha [N], prob_open [N], test-time gates [N])
checkpoints/       the last two states from which training can resume, safetensors with a checksum
status.json        where it is now, a few times a second
control.json       what its watchers ask for: the numbers of `KNOBS`, until_stop, speed; run, pause or stop
control.lock       held, for a moment, by one who asks
lock               held by the process that trains
recipe.json        of a run from the shell: where its images lie
log.txt            of one in the background: what it printed
"""

import csv
import io
import json
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from torch import Tensor

from ...gates.posteriors import described_now
from ...support import checks
from ...support.files import (
    DamagedFileError,
    different_field,
    misfit,
    read_file,
    read_json,
    read_tensors,
    remove_unfinished,
    write_json,
    write_tensors,
)
from ..config import TrainConfig
from ..knobs import KNOBS
from .journal import Journal, Mark

FORMAT = 1
KEPT = 2  # checkpoints: if the last one is damaged, there is the one before
STATES = ("run", "pause", "stop")  # that can be asked for
SETTINGS = (*KNOBS, "until_stop")  # of a `Trainer`, that can change while it runs
LOOK_SECONDS = 0.05  # from look to look at control.json
QUIET_SECONDS = 10  # a running training that writes nothing for longer gives no sign of life
STARTING_SECONDS = 120  # its first step, where it may be compiled, is granted so much more
HISTORY, GATES = "history.csv", "gates.f32"
COLUMNS = {"epoch", "train_loss", "val_loss", "val_accuracy", "kept_macs", "undecided", "lam", "seconds"}

# What the small files hold at least, in the words of `misfit`; they may have been edited, or copied in part.
SIZES = {"classes": int, "train": int, "val": int, "test": int}
POSTERIOR = {"family?": str, "direction?": str, "condition_on?": str}  # condition_on: see `described_now`
ABOUT = {
    "net": {
        "network": str, "groups": [list], "posterior": POSTERIOR, "made_by": (dict, None), "example": [int],
    },
    "data": {"name": str, **SIZES},
    "train": {"milestones?": [float]},
}  # fmt: skip
NEW = {"state": "new", "epoch": 0.0, "error": ""}  # the status before all
STATUS = {
    "state": str, "epoch": float, "error": str, "images_per_second": float, "seconds_left": (float, None),
    "updated": float, "epochs?": int, **{f"{name}?": float for name in KNOBS},
    "until_stop?": bool, "speed?": (float, None), "notice?": str, "host?": str,
}  # fmt: skip
SESSIONS = {"sessions": [dict]}


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at the end of an epoch.

    Attributes:
        epoch: finished epochs.
        tensors: "part.name" -> tensor on the CPU; parts are net, weights and gates (the optimisers').
        numbers: those of `KNOBS`, and fine_tuning (see `Trainer`), at that time.
        marks: how far history.csv and gates.f32 had grown; of one that was read from a folder, and by an
            earlier version of the package not even then.
    """

    epoch: int
    tensors: dict[str, Tensor]
    numbers: dict[str, float]
    marks: dict[str, Mark] = field(default_factory=dict)

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
        self._next_look, self._seen = 0.0, ()
        self._history = Journal(self.path / HISTORY, lambda row: row["epoch"], _encode_row)
        self._gates = Journal(self.path / GATES, lambda moment: moment[0], _encode_moment)

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
            os.utime(self.path / "lock")  # what is older was left by those who held it before
            yield
        finally:
            lock.release()

    def about(self) -> dict[str, Any]:
        """What is trained ("net"), on what ("data") and how ("train", a `TrainConfig`).

        Raises:
            FileNotFoundError: there is no run here.
            ValueError: it is of another version, or damaged.
        """
        content = self._content()
        return content | {"train": _settings(self.path / "config.json", content["train"])}

    def _content(self) -> dict[str, Any]:
        """What config.json holds, as this version would write it."""
        config = self.path / "config.json"
        try:
            content = read_json(config)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"there is no run in {self.path}: it has no config.json.") from None
        except DamagedFileError as error:
            raise ValueError(str(error)) from error
        if content.get("format") != FORMAT:
            raise ValueError(
                f"{self.path} was written by depl0kit {content.get('version')} in format "
                f"{content.get('format')}; this version reads format {FORMAT}."
            )
        if wrong := misfit(content, ABOUT) or _wrong_groups(content["net"]["groups"]):
            raise ValueError(f"{config} is damaged: {wrong}.")
        content["net"]["posterior"] = described_now(content["net"]["posterior"])
        return content

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
            self.about()  # refuses other formats, and what is damaged
            _refuse_difference(self.path, self._content(), content)
        elif self._has_begun():
            raise ValueError(
                f"{self.path} holds a history but no config.json that says of what: train in another folder, "
                "or delete this one to start anew."
            )
        else:
            write_json(config, content)
        earlier = self._small_file("environment.json", SESSIONS).get("sessions", [])
        write_json(self.path / "environment.json", {"sessions": [*earlier, environment]})

    def _small_file(self, name: str, form: Mapping[str, Any]) -> dict[str, Any]:
        """What a small file holds; {} if it is not there or, with a warning, if it is not what it should be:
        no reason to lose a run."""
        try:
            content = read_json(self.path / name)
            if wrong := misfit(content, form):
                raise DamagedFileError(f"{self.path / name} is damaged: {wrong}")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except DamagedFileError as error:
            warnings.warn(f"{error}. It is ignored.", stacklevel=3)
            return {}
        return content

    # ---- history and gates

    def append(self, rows: list[dict], moments: list[tuple]) -> None:
        """Add to the history and to the gates what they do not have of all rows, and of all moments
        (epoch, log_alpha, prob_open, gates)."""
        self._history.write(rows)
        self._gates.write(moments)

    def history(self, until: Checkpoint | None = None) -> pd.DataFrame:
        """A row per finished epoch; empty before the first.

        Args:
            until: of this folder: only what it had counted.

        Raises:
            ValueError: history.csv is damaged.
        """
        text = self.history_text()
        if until is not None and HISTORY in until.marks:
            text = text[: until.marks[HISTORY].size]  # of ASCII
        return self.parse_history(text)

    def history_text(self) -> str:
        """What history.csv holds, without a line that is being written, or never was finished.

        Raises:
            ValueError: it is damaged.
        """
        try:
            text = read_file(self.path / HISTORY).decode("ascii")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (DamagedFileError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path / HISTORY} is damaged: {error}.") from error
        return text[: text.rfind("\n") + 1]

    def parse_history(self, text: str) -> pd.DataFrame:
        """The rows of a history.csv; pandas's own reader rounds the last digit in some versions.

        Raises:
            ValueError: it is damaged.
        """
        lines = csv.reader(io.StringIO(text))
        try:
            names = next(lines, [])
            if text and not set(names) >= COLUMNS:
                raise ValueError(f"expected the names of columns, found {names}")
            rows = [dict(zip(names, map(_number, line), strict=True)) for line in lines]
        except (ValueError, csv.Error) as error:
            raise ValueError(
                f"line {lines.line_num} of {self.path / HISTORY} is damaged: {error}."
            ) from error
        return pd.DataFrame(rows)

    def gates(self, until: Checkpoint | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Times [T] in epochs, and [T, N] each: log_alpha, P(open), test-time gates.

        Args:
            until: as of `history`.
        """
        size = self._record_size()
        content = self._gates_content()
        if until is not None and GATES in until.marks:
            content = content[: until.marks[GATES].size]
        content = bytearray(content[: len(content) // size * size])  # which may be written to
        records = np.frombuffer(content, np.float32).reshape(-1, size // 4)
        return records[:, 0], *np.split(records[:, 1:], 3, axis=1)

    def _record_size(self) -> int:
        """Bytes of a moment in gates.f32."""
        return 4 * (1 + 3 * sum(channels for _, channels in self.about()["net"]["groups"]))

    def _gates_content(self) -> bytes:
        try:
            return read_file(self.path / GATES)
        except FileNotFoundError:
            return b""
        except DamagedFileError as error:
            raise ValueError(f"{error}.") from error

    def cut(self, epoch: int) -> None:
        """Forget what this process wrote of the time after the end of `epoch`."""
        self._history.cut(epoch)
        self._gates.cut(epoch)

    # ---- checkpoints

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and delete all but the last two."""
        for journal in (self._history, self._gates):  # first: no checkpoint may be ahead of them
            journal.flush()
        marks = {HISTORY: self._history.at(checkpoint.epoch), GATES: self._gates.at(checkpoint.epoch)}
        notes = {"epoch": checkpoint.epoch, "numbers": checkpoint.numbers, "marks": marks}
        path = self._checkpoint_path(checkpoint.epoch)
        write_tensors(path, checkpoint.tensors, {name: json.dumps(note) for name, note in notes.items()})
        for old in self._checkpoints()[KEPT:]:
            old.unlink()

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest sound checkpoint, or None; a damaged one is named in a warning."""
        return next(self._sound_checkpoints(), None)

    def resume_point(self) -> Checkpoint | None:
        """The newest sound checkpoint that history and gates go with; None if nothing was trained here.

        Raises:
            ValueError: something was trained, but there is none.
        """
        for checkpoint in self._sound_checkpoints():
            if fitting := self._fitting(checkpoint):
                return fitting
            warnings.warn(
                f"{HISTORY} and {GATES} in {self.path} are not those that the checkpoint of epoch "
                f"{checkpoint.epoch} counted. The checkpoint before it is used.",
                stacklevel=2,
            )
        if self._has_begun():
            raise ValueError(
                f"the run in {self.path} cannot be resumed, as it has no sound checkpoint that its history "
                "goes with: train in another folder, or delete this one to start anew."
            )
        return None

    def _has_begun(self) -> bool:
        grown = [self.path / name for name in (HISTORY, GATES)]
        return bool(self._checkpoints()) or any(path.exists() and path.stat().st_size for path in grown)

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Forget what came after a resume point, which others may be reading meanwhile."""
        self._history.go_back(checkpoint.marks[HISTORY])
        self._gates.go_back(checkpoint.marks[GATES])
        for later in self._checkpoints():
            if _by_epoch(later) > _by_epoch(self._checkpoint_path(checkpoint.epoch)):
                later.unlink()  # damaged, or counted by another history

    def _fitting(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint, with its marks, if history and gates hold what it had counted."""
        marks = checkpoint.marks or self._marks_at(checkpoint.epoch)
        if marks[HISTORY].items != checkpoint.epoch:
            return None
        found = self._history.read(marks[HISTORY]), self._gates.read(marks[GATES])
        return None if None in found else replace(checkpoint, marks=marks)

    def _marks_at(self, epoch: int) -> dict[str, Mark]:
        """For a checkpoint of an earlier version, which counted nothing: what there is up to its epoch."""
        rows = self.history_text().splitlines(keepends=True)[: 1 + epoch] if epoch else []
        history = "".join(rows).encode()
        times, size = self.gates()[0], self._record_size()
        moments = int((times <= epoch).sum())
        gates = self._gates_content()[: size * moments]
        epochs = self.parse_history("".join(rows)).get("epoch", pd.Series(dtype=int)).tolist()
        is_whole = epochs == [*range(1, epoch + 1)] and (not epoch or epoch in times[:moments])
        return {
            HISTORY: Mark(epoch if is_whole else -1, epoch, len(history), zlib.crc32(history)),
            GATES: Mark(moments, epoch, len(gates), zlib.crc32(gates)),
        }

    def _sound_checkpoints(self) -> Iterator[Checkpoint]:
        """Newest first."""
        for path in self._checkpoints():
            try:
                tensors, notes = read_tensors(path)
            except DamagedFileError as error:
                warnings.warn(f"{error}. The checkpoint before it is used.", stacklevel=3)
                continue
            marks = {name: Mark(*mark) for name, mark in json.loads(notes.get("marks", "{}")).items()}
            yield Checkpoint(int(notes["epoch"]), tensors, json.loads(notes["numbers"]), marks)

    def _checkpoint_path(self, epoch: int) -> Path:
        return self.path / "checkpoints" / f"epoch-{epoch:05d}.safetensors"

    def _checkpoints(self) -> list[Path]:
        """Newest first."""
        found = (self.path / "checkpoints").glob("epoch-*.safetensors")
        return sorted(found, key=_by_epoch, reverse=True)

    def tidy(self) -> None:
        """Delete what killed processes left unfinished; for the one who holds the lock."""
        with self._control_lock():  # or somebody may be asking
            for folder in (self.path, self.path / "checkpoints"):
                remove_unfinished(folder, before=(self.path / "lock").stat().st_mtime)

    # ---- what happens now, and what is asked for

    def status(self) -> dict[str, Any]:
        """state, epoch, epochs, images_per_second, seconds_left, updated, ...; state "new" before all."""
        return self._small_file("status.json", STATUS) or dict(NEW)

    def set_status(self, **status: Any) -> None:
        write_json(self.path / "status.json", status | {"updated": time.time()}, durable=False)

    def ask(self, **requests: Any) -> None:
        """Ask the run for something else. It obeys within a tenth of a second or a step.

        When it is resumed it remembers the numbers of `KNOBS`, after a kill also until_stop.

        Args:
            requests: lam, temperature, gate_lr (see `KNOBS`); until_stop, True or False (see `Trainer`);
                speed, in epochs a second at most, > 0, or None for as fast as it can, which changes no
                number of the run; state, "run", "pause" or "stop".

        Raises:
            ValueError: a name or value that no run takes.
        """
        requests = {name: _asked(name, value) for name, value in requests.items()}
        with self._control_lock():  # two who ask at once are both heard
            self._write_control(self._small_file("control.json", {}) | requests)

    def _write_control(self, asked: Mapping[str, Any]) -> None:
        # not for a power cut: a slider must not wait for the disk, and checkpoints hold what is in force
        write_json(self.path / "control.json", asked, durable=False)

    def _control_lock(self) -> FileLock:
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / "control.lock")  # of a killed process it is free again

    def forget_session(self) -> None:
        """Drop what was asked of the session before and is no wish of this one: a stop, and with it
        until_stop; a speed, which is for those who watch."""
        with self._control_lock():
            asked = self._small_file("control.json", {})
            gone = {"state", "speed", *(["until_stop"] if asked.get("state") == "stop" else [])}
            if gone & asked.keys():
                self._write_control({name: value for name, value in asked.items() if name not in gone})

    def requests(self) -> dict[str, Any]:
        """What is asked for, if that is new since the last call; looked up 20 times a second at most.

        What no run takes is named in a warning: the file was edited by hand.
        """
        if time.monotonic() < self._next_look:
            return {}
        self._next_look = time.monotonic() + LOOK_SECONDS
        control = self.path / "control.json"
        try:
            found = control.stat()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        # a file that took its place within the same tick of the clock has another number
        if (seen := (found.st_mtime_ns, found.st_ino, found.st_size)) == self._seen:
            return {}
        self._seen = seen
        asked = {}
        for name, value in self._small_file("control.json", {}).items():
            try:
                asked[name] = _asked(name, value)
            except ValueError as error:
                warnings.warn(f"{control} is damaged: {error} It is ignored.", stacklevel=2)
        return asked


_positive = partial(checks.number, low=0, open_low=True)
ASKED: dict[str, Callable[[str, Any], Any]] = {  # what can be asked of a run, and what makes its value plain
    **{name: knob.check for name, knob in KNOBS.items()},
    "until_stop": checks.switch,
    "speed": lambda name, value: None if value is None else _positive(name, value),
    "state": partial(checks.one_of, allowed=STATES),
}


def _asked(name: str, value: Any) -> Any:
    """The value of a request, checked."""
    return ASKED[checks.one_of("request", name, ASKED)](name, value)


def _wrong_groups(groups: list[list]) -> str:
    """What is wrong with the groups of a config.json, each [name, channels]; "" if all is well."""
    for group in groups:
        if len(group) != 2 or misfit(group[0], str) or misfit(group[1], int) or group[1] < 1:
            return f"expected a group to be a name and its channels, found {group!r}"
    return ""


def _settings(config: Path, train: dict[str, Any]) -> TrainConfig:
    """The settings in a config.json.

    Raises:
        ValueError: it has others than this version knows, or values out of their range.
    """
    unknown = train.keys() - {f.name for f in fields(TrainConfig)}
    if unknown:
        raise ValueError(
            f"{config} has a setting that this version of depl0kit does not know, {min(unknown)!r}: "
            "install the version that wrote it, or a newer one."
        )
    try:
        return TrainConfig(**train | {"milestones": tuple(train.get("milestones", ()))})
    except ValueError as error:
        raise ValueError(f"{config} is damaged: {error}") from error


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def _encode_row(row: dict[str, float], is_first: bool) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, row, lineterminator="\n")
    if is_first:
        writer.writeheader()
    writer.writerow(row)
    return text.getvalue().encode("ascii")


def _encode_moment(moment: tuple, _is_first: bool) -> bytes:
    epoch, *gates = moment
    return np.concatenate([[epoch], *gates]).astype(np.float32).tobytes()


def _by_epoch(checkpoint: Path) -> tuple[int, str]:
    """Sorts by number, also beyond five digits."""
    return len(checkpoint.name), checkpoint.name


def _refuse_difference(path: Path, old: dict, new: dict) -> None:
    difference = different_field(old, new, IGNORED)
    if difference is not None:
        key, before, now = difference
        raise ValueError(
            f"{path} holds a run with {key} = {before!r}, not {now!r}: train with the same "
            "settings to go on with it, or in another folder."
        )


# newer code may resume an old run; the temperature of a network that was trained may have moved
IGNORED = ("version", "net.posterior.hard_concrete.temperature")


def patience(about: Mapping[str, Any], status: Mapping[str, Any]) -> float:
    """Seconds in which a running training need not write anything: some steps, or its validation.

    Args:
        about: see `RunFolder.about`.
        status: see `RunFolder.status`.
    """
    images, rate = 5 * about["train"].batch_size + about["data"]["val"], status["images_per_second"]
    return QUIET_SECONDS + (images / rate if rate else STARTING_SECONDS)
