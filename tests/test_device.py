"""Devices, and memory between training steps."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from depl0kit.device import keep_freed_memory

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what is told")
def test_blocks_that_are_freed_are_there_for_the_next_step():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    pages = 2 * 5 * 16_000_000 // 4096  # that Linux would have to zero otherwise
    assert int(done.stdout) < pages / 2  # without it a little more than all
