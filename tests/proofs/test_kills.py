"""SIGKILL at any moment, again and again: what resumes ends with the same bits as what was never stopped."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sessions import RUNS, begin

import depl0kit as dk

KINDS = [*RUNS, "folder of images", "sweep"]
KILLS = 25  # at least, of each kind: 200 in all
MOST = 40  # in one run
MEAN = 1.0  # seconds at most from kill to kill; less in short runs
# Its processes begin as copies of one that has imported everything but has computed nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["depl0kit", "sklearn.datasets", "torch._dynamo"])
long = [pytest.mark.proofs, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(120):
        path = folder / ("train" if number < 90 else "test") / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 100, (8, 8, 3), dtype=np.uint8)
        pixels[..., number % 3] += 100
        Image.fromarray(pixels).save(path)
    return folder


def session(kind: str, out: Path, images: Path, seconds: float | None = None) -> float:
    """A process that works, killed after so many seconds; returns how long it took to finish, 0 if killed."""
    here, there = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=begin, args=(kind, out, images, there))
    process.start()
    there.close()
    assert here.recv() == "ready"
    start = time.perf_counter()
    process.join(seconds)
    took = time.perf_counter() - start
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return took if process.exitcode == 0 else 0.0


def kill_until_finished(kind: str, out: Path, images: Path, chance: random.Random, mean: float) -> int:
    kills = 0
    while not session(kind, out, images, chance.expovariate(1 / mean) if kills < MOST else None):
        kills += 1
    return kills


def assert_same_run(cut: Path, whole: Path) -> None:
    """Network, history, gates, and the optimisers of the last checkpoint."""
    a, b = (dk.load_run(folder) for folder in (cut, whole))
    assert a.status == b.status == "finished"
    assert a.history.epoch.tolist() == [*range(1, b.config.all_epochs + 1)]
    assert a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))
    assert a.gates.equals(b.gates)
    a, b = (dk.RunFolder(folder).latest_checkpoint() for folder in (cut, whole))
    assert a.epoch == b.epoch and a.numbers == b.numbers and a.tensors.keys() == b.tensors.keys()
    assert all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items())


def assert_same(kind: str, cut: Path, whole: Path) -> None:
    runs = [whole]
    if kind == "sweep":
        timed = ["seconds", "latency_ms", "latency_1_ms"]
        a, b = (dk.load_results(out).drop(columns=timed) for out in (cut, whole))
        pd.testing.assert_frame_equal(a, b, check_exact=True)
        runs = [path.parent for path in whole.glob("runs/*/checkpoints")]
        assert len(runs) == 2 and (b.error == "").all()
    for run in runs:
        assert_same_run(cut / run.relative_to(whole), run)


def kill(kind: str, at_least: int, tmp_path: Path, images: Path) -> str:
    """Kill runs of a kind until there were so many kills; compare each with one that was left alone."""
    chance, kills, runs = random.Random(0), 0, 0
    seconds = session(kind, tmp_path / "whole", images)
    while kills < at_least:
        cut = tmp_path / f"cut {runs}"
        kills += kill_until_finished(kind, cut, images, chance, min(MEAN, seconds / 6))
        assert_same(kind, cut, tmp_path / "whole")
        runs += 1
    return f"kills, {kind}: {kills} in runs of {seconds:.1f} s that ended with the same bits: {runs}"


@pytest.mark.slow
def test_killed_again_and_again_a_run_ends_as_if_nothing_had_been(tmp_path, images, proved):
    proved(kill("forward", 5, tmp_path, images))


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=long) for kind in KINDS])
def test_killed_hundreds_of_times(kind, tmp_path, images, proved):
    proved(kill(kind, KILLS, tmp_path, images))
