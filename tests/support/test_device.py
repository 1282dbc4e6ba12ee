"""Devices, and memory between training steps."""

import copy
import importlib
import platform
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from marks import slow_but_the_first
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import depl0kit as dk
import depl0kit.cli
from depl0kit import lab
from depl0kit.channels.cost import COSTS
from depl0kit.comparison.sweeps import local
from depl0kit.data import Data, MemorySplit
from depl0kit.gates.posteriors import POSTERIORS
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


def test_a_trainer_leaves_the_allocator_of_its_process_alone(told, noise):
    dk.Trainer(copy.deepcopy(made("mean_field")), noise)
    assert told == []


# ---- what can be known of a GPU without one


class Branches(nn.Module):
    """Layers that read a stream, two groups joined, and a group flattened; one writes what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.same, self.left = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.last, self.head = nn.Conv2d(12, 6, 3, stride=2, padding=1), nn.Linear(6 * 16, 10)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = (x + self.same(x)).relu()
        x = self.last(torch.cat([x, self.left(x).relu()], 1)).relu()
        return self.head(x.flatten(1))


@cache
def made(posterior: str) -> dk.GatedModel:
    torch.manual_seed(0)
    return dk.GatedModel(Branches(), posterior, torch.zeros(1, 3, 8, 8), scope="all")


@pytest.fixture(params=POSTERIORS)
def net(request) -> dk.GatedModel:
    return copy.deepcopy(made(request.param))


def move_to_pretended_gpu(net: dk.GatedModel, mode: FakeTensorMode) -> None:
    """Its tensors are then without values, but with a device, which every operation checks."""
    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            for name, t in tensors.items():
                if t is not None:
                    fake = mode.from_tensor(t.detach()).to("cuda")
                    tensors[name] = fake.requires_grad_(t.requires_grad)


def test_forward_and_price_stay_on_a_gpu(net):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        move_to_pretended_gpu(net, mode)
        x = torch.zeros(4, 3, 8, 8, device="cuda")
        with pytest.raises(RuntimeError, match="on the same device"):
            net(x + torch.zeros(4, 3, 8, 8))  # so a tensor that is left behind would be found
        logits, prob_open = net.forward_with_prob_open(x)
        results = [logits, prob_open, net.train()(x), net.eval()(x), net.posterior.flat_prob_open()]
        results += [net.expected_share(cost) for cost in COSTS]
        results += [gate.source for gate in net._gates if gate.source is not None]  # a CPU's would pass here
        assert {t.device.type for t in results} == {"cuda"}


@pytest.fixture
def without_values(monkeypatch):
    """Let a `Trainer` train on "meta": tensors without values, so that whatever asks for one fails."""
    sgd, adam, generator = torch.optim.SGD, torch.optim.Adam, torch.Generator
    monkeypatch.setattr(torch.optim, "SGD", lambda *args, fused, **kwargs: sgd(*args, **kwargs))
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, fused, **kwargs: adam(*args, **kwargs))
    monkeypatch.setattr(torch, "Generator", lambda *_: generator())  # "meta" has none
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # nor this
    monkeypatch.setattr(dk.Trainer, "_checkpoint", lambda _: None)  # at the end of an epoch: may wait


@pytest.fixture
def noise() -> Data:
    images, labels = torch.randint(256, (256, 3, 8, 8), dtype=torch.uint8), torch.arange(256) % 10
    split = MemorySplit(images, labels, torch.zeros(3), torch.ones(3))
    return Data("noise", split, split, split, tuple("0123456789"), (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    "settings", slow_but_the_first([{"augment": True}, {"budget": 0.3}, {"cost": "gates"}]), ids=str
)
def test_no_step_waits_for_the_device(net, noise, without_values, settings):
    """A GPU computes steps ahead of Python, until Python asks for a number."""
    trainer = dk.Trainer(net.to("meta"), noise, dk.TrainConfig(epochs=2, **settings))
    steps = iter(trainer)
    next(steps), next(steps)
    assert trainer.epoch == 1 / 4
    assert all(p.grad is None and p.device.type == "meta" for p in net.parameters())
    assert all("exp_avg" in trainer.optimisers["gates"].state[p] for p in net.posterior.parameters())
    with pytest.raises(RuntimeError, match="meta"):
        next(net.parameters()).sum().item()  # this is how it would be found
