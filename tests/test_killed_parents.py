"""SIGKILL leaves nothing behind: the workers of a killed process end, and what they held is free again."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import depl0kit as dk
from depl0kit.comparison import sweeps
from depl0kit.comparison.sweeps import Grid, load_results
from depl0kit.comparison.sweeps.job import run_job

SECONDS = 5  # in which all must be gone
QUICK = dk.TrainConfig(epochs=1, fine_tune_epochs=1, warmup=0, ramp=0)

STREAM = """
import sys, time
import depl0kit as dk
if __name__ == "__main__":
    data = dk.load_data(sys.argv[1] + "/", size=32, stream=True)
    object.__setattr__(data.train, "workers", 2)
    for _ in data.train.batches(4):
        print("reading", flush=True)
        time.sleep(60)
"""
SWEEP = """
import sys
import depl0kit as dk
if __name__ == "__main__":
    train = dk.TrainConfig(epochs=12, fine_tune_epochs=1, warmup=0, ramp=0)
    grid = dk.Grid(methods="mean_field", lam=4, seeds=range(2), train=train)
    dk.sweep(grid, sys.argv[1], workers=2, progress=False)
    print("done", flush=True)
"""


def group(leader: int) -> list[int]:
    """The living processes that belong to a process which began a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group, *_ = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process_group) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def begin(tmp_path: Path, script: str, argument: Path) -> subprocess.Popen:
    file = tmp_path / "script.py"
    file.write_text(script)
    return subprocess.Popen(
        [sys.executable, str(file), str(argument)], start_new_session=True, stdout=subprocess.PIPE, text=True
    )


def killed(process: subprocess.Popen) -> None:
    """Kill only the process itself; all of its group must then be gone in a moment."""
    assert len(group(process.pid)) >= 3  # itself, and workers
    os.kill(process.pid, signal.SIGKILL)
    start = time.monotonic()
    process.wait()
    while left := group(process.pid):
        if time.monotonic() > start + SECONDS:
            names = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in left]
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"after {SECONDS} s there are still the processes {names}")
        time.sleep(0.02)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("ape", "bee"):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
        for i in range(40):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / "train" / name / f"{i}.png")
    return tmp_path / "pets"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_readers_and_their_fork_server_end_with_a_killed_run(tmp_path, photographs):
    process = begin(tmp_path, STREAM, photographs)
    assert process.stdout.readline() == "reading\n"
    killed(process)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_a_killed_sweep_and_the_same_call_finds_all_locks_free(tmp_path):
    out = tmp_path / "out"
    process = begin(tmp_path, SWEEP, out)
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/checkpoints/*")):  # in the middle of a run
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    killed(process)
    again = begin(tmp_path, SWEEP, out)
    assert again.communicate()[0] == "done\n"
    assert (load_results(out).error == "").all()


@pytest.mark.slow
def test_a_run_waits_for_a_lock_that_is_about_to_be_released(tmp_path):
    job = Grid(methods=("dense",), train=QUICK).jobs()[0]
    lock = FileLock(tmp_path / "job.lock", thread_local=False)
    lock.acquire()
    release = threading.Timer(0.5, lock.release)
    release.start()
    start = time.monotonic()
    assert run_job(job, tmp_path)["error"] == ""
    assert time.monotonic() - start >= 0.5


def test_a_run_that_another_process_keeps_is_a_failure_that_leaves_no_trace(tmp_path, monkeypatch):
    """The other one will write its result."""
    monkeypatch.setattr(sweeps.job, "LOCK_SECONDS", 0.1)
    job = Grid(methods=("dense",), train=QUICK).jobs()[0]
    with FileLock(tmp_path / "job.lock"):
        row = run_job(job, tmp_path)
    assert "another process is at work in" in row["error"] and "sweep again" in row["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["job.lock"]
