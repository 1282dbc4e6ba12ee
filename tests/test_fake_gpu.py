"""The GPU path, on a machine that has no GPU.

On a pretended "cuda" (tensors that have a device and a shape, but no values) an operation that mixes devices
raises, but backward does not work. On "meta" whole runs work, and whatever asks for a value raises; there
`values_of`, by which the package reads all values, returns ones. What these show in no way is whether the
numbers are right: on a CPU the other tests do, on a GPU those of test_gpu.py.
"""

import copy
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from marks import slow_but_the_first
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import depl0kit as dk
from depl0kit.channels import channels as of_channels
from depl0kit.channels.cost import COSTS
from depl0kit.comparison.sweeps import job
from depl0kit.data import Data, MemorySplit
from depl0kit.gates.posteriors import POSTERIORS
from depl0kit.support.device import values_of
from depl0kit.training import layout
from depl0kit.training.runs import recording

pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
STEPS = 3  # of an epoch
BATCH = 8


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
def made(name: str, posterior: str) -> dk.GatedModel:
    torch.manual_seed(0)
    model = Branches() if name == "branches" else dk.make_model(name, 3, 10, (8, 8))
    return dk.GatedModel(model, posterior, torch.zeros(1, 3, 8, 8), scope="all")


@pytest.fixture(params=POSTERIORS)
def posterior(request) -> str:
    return request.param


@pytest.fixture
def noise() -> Data:
    n = STEPS * BATCH
    images, labels = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8), torch.arange(n) % 10
    split = MemorySplit(images, labels, torch.zeros(3), torch.ones(3))
    return Data("noise", split, split, split, tuple("0123456789"), (0.0,) * 3, (1.0,) * 3)


# ---- a pretended GPU


@pytest.fixture(params=["branches", "small", "resnet20"])
def pretended(request, posterior, monkeypatch) -> Iterator[dk.GatedModel]:
    """A network there; what is tried on a copy of it first needs backward, so its result is given."""
    net = copy.deepcopy(made(request.param, posterior))
    monkeypatch.setattr(layout, "try_step", lambda *_: layout.Trial(layout.LAST, False))
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield net.to("cuda")


def test_forward_and_price_stay_on_a_gpu(pretended):
    net, x = pretended, torch.zeros(4, 3, 8, 8, device="cuda")
    with pytest.raises(RuntimeError, match="on the same device"):
        net(x + torch.zeros(4, 3, 8, 8))  # so a tensor that is left behind would be found
    logits, prob_open = net.forward_with_prob_open(x)
    expected = net.expected_cost()
    results = [logits, prob_open, net.train()(x), net.eval()(x), net.posterior.flat_prob_open()]
    results += [net.forward_opposite(x, net.posterior.noise(4))] if net.posterior.antithetic else []
    results += [net.expected_share(cost) for cost in COSTS] + [expected.macs, expected.params]
    results += [gate.source for gate in net._gates if gate.source is not None]  # a CPU's would pass here
    assert {t.device.type for t in results} == {"cuda"}


def test_batch_norms_are_re_estimated_on_a_gpu(pretended, noise):
    """No number is read: momentum=None would do so in every batch norm and every batch."""
    dk.reestimate_batch_norm(pretended, noise)
    norms = [m for m in pretended.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {t.device.type for norm in norms for t in norm.buffers()} == {"cuda"}
    norms[0].momentum = None
    with pytest.raises(DataDependentOutputException):  # this is how it would be found
        pretended.train()(torch.zeros(4, 3, 8, 8, device="cuda"))


def test_half_precision_is_for_the_network_and_not_for_its_gates(pretended, monkeypatch):
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    net, x = pretended.train(), torch.zeros(4, 3, 8, 8, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        logits, prob_open = net.forward_with_prob_open(x)
        share = net.expected_share("macs", prob_open)
    assert (logits.dtype, prob_open.dtype, share.dtype) == (torch.bfloat16, torch.float32, torch.float64)


# ---- runs without values


class Watch(TorchDispatchMode):
    """Counts where tensors move between the CPU and "meta", where operations mix them, and `values_of`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # a number may be a tensor of the CPU: it travels as an argument of the kernel
        given = {
            t.device.type for t in tensors([*args, *kwargs.values()]) if t.dim() or t.device.type == "meta"
        }
        copies = func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
        if given == {"cpu", "meta"} and not copies:
            self.seen[f"mixed by {func}"] += 1
        try:
            result = func(*args, **kwargs)
        except NotImplementedError:
            self.seen["read"] += "meta" in given
            raise
        is_on = {t.device.type for t in tensors([result])}
        self.seen["read"] += "meta" in given and "cpu" in is_on
        self.seen["sent"] += "cpu" in given and "meta" in is_on
        return result

    def values_of(self, x: torch.Tensor) -> torch.Tensor:
        self.seen["values_of"] += x.device.type == "meta"
        return torch.ones(x.shape, dtype=x.dtype) if x.device.type == "meta" else values_of(x)


def tensors(values: Sequence) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


class FusedAdam(torch.optim.Adam):
    """With the state of a fused one, whose count of steps is on the device, and without its formula."""

    def __init__(self, parameters, fused: bool) -> None:
        super().__init__(parameters)

    @torch.no_grad()
    def step(self) -> None:
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                zeros = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                state = self.state[p] or zeros | {"step": torch.zeros((), device=p.device)}
                self.state[p] = {name: value + 1 for name, value in state.items()}
                p -= p.grad


class GeneratorOfCpu(torch.Generator):
    """A random state, whatever the device; a class, as annotations of torch need one."""

    def __new__(cls, *_: object) -> "GeneratorOfCpu":
        return super().__new__(cls)


@pytest.fixture
def watch(monkeypatch) -> Iterator[Watch]:
    """Let everything run on "meta", which has no fused optimisers, random state or autocast of its own."""
    sgd, mode = torch.optim.SGD, Watch()
    monkeypatch.setattr(torch.optim, "SGD", lambda *args, fused, **kwargs: sgd(*args, **kwargs))
    monkeypatch.setattr(torch.optim, "Adam", FusedAdam)
    monkeypatch.setattr(torch, "Generator", GeneratorOfCpu)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "meta", SimpleNamespace(synchronize=lambda: None), raising=False)
    for name, module in list(sys.modules.items()):
        if name.startswith("depl0kit.") and getattr(module, "values_of", None) is values_of:
            monkeypatch.setattr(module, "values_of", mode.values_of)
    job._data.cache_clear()  # of tensors with values
    with mode:
        yield mode


def test_the_watch_sees_what_a_gpu_would_wait_for(watch):
    x = torch.zeros(3, device="meta")
    for read in (x.sum().item, x.sum().__float__, x.sum().__bool__, x.cpu, x.tolist):
        with pytest.raises((NotImplementedError, RuntimeError)):
            read()
    assert watch.seen["read"] == 2  # the others fail before they become an operation
    torch.zeros(3).to(x), x.copy_(torch.zeros(3))
    assert watch.seen["sent"] == 2
    x.index_select(0, torch.zeros(2, dtype=torch.int64))
    assert [name for name in watch.seen if "mixed" in name] == ["mixed by aten.index_select.default"]


def times_of(steps: Iterator, watch: Watch) -> dict[str, set[int]]:
    """What was seen before which steps of an epoch, counted from 0, and after the step before."""
    found: dict[str, set[int]] = {"values_of": set(), "sent": set(), "read": set()}
    for step, _ in enumerate(steps):
        for what, times in found.items():
            times |= {step % STEPS} if watch.seen[what] else set()
            watch.seen[what] = 0
    return found


CASES = [
    ("branches", {"augment": True}),
    ("branches", {"budget": 0.3, "cost": "params"}),
    ("branches", {"cost": "gates", "schedule": "steps", "milestones": (1,), "temperature": 0.5}),
    ("small", {"budget": 0.1, "augment": True}),
    ("resnet20", {"augment": True}),
]


@pytest.mark.parametrize(("name", "settings"), slow_but_the_first(CASES))
def test_nothing_waits_within_an_epoch(name, settings, posterior, noise, watch):
    """A GPU computes steps ahead of Python, until Python asks for a number, or sends a tensor."""
    config = dk.TrainConfig(epochs=2, fine_tune_epochs=1, batch_size=BATCH, **settings)
    net = copy.deepcopy(made(name, posterior)).to("meta")
    trainer = dk.Trainer(net, noise, config)
    watch.seen.clear()
    # gates are read with the last step, the log after it; the order of the images is sent before the first
    assert times_of(iter(trainer), watch) == {"values_of": {STEPS - 1, 0}, "sent": {0}, "read": set()}
    assert not [seen for seen in watch.seen if "mixed" in seen]
    assert len(trainer.run.rows) == 3 and trainer.run.status == "finished"
    assert {p.device.type for p in net.parameters()} == {"meta"}
    assert all("exp_avg" in trainer.optimisers["gates"].state[p] for p in net.posterior.parameters())


# ---- where values are read: by `values_of` alone


def test_evaluation_reads_once(posterior, noise, watch):
    net = copy.deepcopy(made("small", posterior)).to("meta")
    assert dk.evaluate(net, noise.val.to("meta"), batch_size=5) == (1 / len(noise.val),) * 2
    assert (watch.seen["values_of"], watch.seen["read"]) == (1, 0)


def test_fine_tuning_and_re_estimation_of_a_compact_network(noise, watch, monkeypatch):
    net = copy.deepcopy(made("resnet20", "forward")).to("meta")
    monkeypatch.setattr(of_channels, "values_of", lambda gate: torch.arange(len(gate)) % 2.0)
    small = dk.compact(net)
    assert {t.device.type for t in (*small.parameters(), *small.buffers())} == {"meta"}
    assert small.blocks[0].conv1.out_channels == 8
    watch.seen.clear()
    dk.reestimate_batch_norm(small, noise)
    assert watch.seen["values_of"] == watch.seen["read"] == 0
    dk.fine_tune(small, noise, epochs=2, batch_size=BATCH)
    assert (watch.seen["values_of"], watch.seen["read"]) == (2 * 2, 0)  # two losses an epoch
    assert not [seen for seen in watch.seen if "mixed" in seen]


def test_a_run_resumes(posterior, noise, watch, tmp_path):
    config = dk.TrainConfig(epochs=2, fine_tune_epochs=1, batch_size=BATCH)
    trainers = [dk.Trainer(copy.deepcopy(made("small", posterior)).to("meta"), noise, config) for _ in "12"]
    with closing(recording.recorded(trainers[0], tmp_path)) as steps:
        for _ in range(STEPS + 2):  # into the second epoch
            next(steps)
    steps = recording.recorded(trainers[1], tmp_path)
    next(steps)
    assert trainers[1].epoch == 1.0
    assert {t.device.type for t in trainers[1].net.state_dict().values()} == {"meta"}
    for _ in steps:
        pass
    assert dk.RunFolder(tmp_path).history().epoch.tolist() == [1, 2, 3]
    assert watch.seen["read"] == 0 and not [seen for seen in watch.seen if "mixed" in seen]
