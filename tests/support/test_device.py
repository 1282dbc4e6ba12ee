"""Devices, and memory between training steps."""

import importlib
import platform
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

import depl0kit as dk
import depl0kit.cli
from depl0kit import lab
from depl0kit.comparison.sweeps import local
from depl0kit.support import device

STEPS = """
import resource, torch
from depl0kit.support.device import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():  # two blocks of 16 MB, as two activations of a convolution
    x = torch.ones(4_000_000)
    return x * 2

torch.set_num_threads(1)
assert keep_freed_memory()
for _ in range(10):  # until aligned blocks have found their places
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what is told")
def test_blocks_that_are_freed_are_there_for_the_next_step():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    pages = 2 * 5 * 16_000_000 // 4096  # that Linux would have to zero otherwise
    assert int(done.stdout) < pages / 2  # without it a little more than all


@pytest.fixture
def told(monkeypatch) -> list[tuple]:
    """What the allocator of this process would be told."""
    calls = []
    libc = SimpleNamespace(mallopt=lambda *words: calls.append(words) or 1)
    monkeypatch.setattr(device, "ctypes", SimpleNamespace(CDLL=lambda _: libc))
    monkeypatch.setattr(device.platform, "libc_ver", lambda: ("glibc", "2.36"))
    return calls


def run_shell(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["depl0kit", "--version"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        dk.cli.run()


def begin_worker(monkeypatch):
    monkeypatch.setattr(local, "end_with_parent", lambda: None)
    local._begin(SimpleNamespace(get=lambda: None))


@pytest.mark.parametrize("program", [run_shell, begin_worker, lambda _: importlib.reload(lab)])
def test_programs_tell_the_allocator(program, told, monkeypatch):
    """The shell, a worker of a sweep, and the explorers of a notebook."""
    program(monkeypatch)
    assert len(told) == 2


def test_a_trainer_leaves_the_allocator_of_its_process_alone(told, few):
    dk.Trainer(dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=few.example), few)
    assert told == []
