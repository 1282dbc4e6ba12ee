"""What the watchers of a run ask for, in control.json."""

import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from ...support import checks
from ...support.files import read_sound_json, write_json
from ..knobs import KNOBS

STATES = ("run", "pause", "stop")  # that can be asked for
SETTINGS = (*KNOBS, "until_stop")  # of a `Trainer`, that can change while it runs
LOOK_SECONDS = 0.05  # between two looks at control.json

_positive = partial(checks.number, low=0, open_low=True)
ASKED: dict[str, Callable[[str, Any], Any]] = {  # what can be asked of a run, and the check of its value
    **{name: knob.check for name, knob in KNOBS.items()},
    "until_stop": checks.switch,
    "speed": lambda name, value: None if value is None else _positive(name, value),
    "state": partial(checks.one_of, allowed=STATES),
}


def _asked(name: str, value: Any) -> Any:
    """The value of a request, checked."""
    return ASKED[checks.one_of("request", name, ASKED)](name, value)


class Control:
    """The requests to the run in a folder; see `RunFolder.ask`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.json"
        self._next_look, self._seen = 0.0, ()

    def lock(self) -> FileLock:
        """Held while control.json is changed; if its holder is killed it is free again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.with_suffix(".lock"))

    def ask(self, requests: Mapping[str, Any]) -> None:
        """Add to what is asked for."""
        requests = {name: _asked(name, value) for name, value in requests.items()}
        with self.lock():  # two who ask at once are both heard
            self._write(read_sound_json(self.path) | requests)

    def forget_session(self) -> None:
        """Drop what was meant for the session before: a stop, and with it until_stop; and a speed."""
        with self.lock():
            asked = read_sound_json(self.path)
            gone = {"state", "speed", *(["until_stop"] if asked.get("state") == "stop" else [])}
            if gone & asked.keys():
                self._write({name: value for name, value in asked.items() if name not in gone})

    def _write(self, asked: Mapping[str, Any]) -> None:
        # not safe in a power cut: a slider must not wait for the disk, and checkpoints hold what is in force
        write_json(self.path, asked, durable=False)

    def requests(self) -> dict[str, Any]:
        """What is asked for, if that is new since the last call; looked up 20 times a second at most.

        Requests that no run knows are named in a warning: the file was edited by hand.
        """
        if time.monotonic() < self._next_look:
            return {}
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        # a file that took its place within the same tick of the clock has another number
        if (seen := (found.st_mtime_ns, found.st_ino, found.st_size)) == self._seen:
            return {}
        self._seen = seen
        asked = {}
        for name, value in read_sound_json(self.path).items():
            try:
                asked[name] = _asked(name, value)
            except ValueError as error:
                warnings.warn(f"{self.path} is damaged: {error} It is ignored.", stacklevel=2)
        return asked
