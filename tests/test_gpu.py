"""On an accelerator: a step, a resumed run, the compact network, with all posteriors.

Without an accelerator these are skipped. `DEPL0KIT_TEST_DEVICE=cpu` runs them on the CPU, to try the tests.
"""

import os
from dataclasses import replace

import pytest
import torch

import depl0kit as dk
from depl0kit.channels.cost import plain_cost
from depl0kit.data.loading import Data
from depl0kit.gates.posteriors import POSTERIORS
from depl0kit.support.device import best_device
from depl0kit.training.runs import recording

DEVICE = torch.device(os.environ.get("DEPL0KIT_TEST_DEVICE") or best_device())
CONFIG = dk.TrainConfig(epochs=3, fine_tune_epochs=1, lam=8.0, warmup=0, ramp=1, augment=True)
ROUNDING = 1e-2  # of outputs: TensorFloat-32 has 10 bits
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE.type == "cpu" and "DEPL0KIT_TEST_DEVICE" not in os.environ,
        reason="torch finds no accelerator on this machine",
    ),
]


@pytest.fixture(scope="module")
def data() -> Data:
    digits = dk.load_data("digits")
    return replace(digits, train=digits.train.take(512))


@pytest.fixture(params=POSTERIORS)
def net(request, data) -> dk.GatedModel:
    return made(request.param, data)


def made(posterior: str, data: Data, seed: int = 0) -> dk.GatedModel:
    torch.manual_seed(seed)
    model = dk.make_model("small", 1, 10, (8, 8)).to(DEVICE)
    return dk.GatedModel(model, posterior, data.example.to(DEVICE))


def devices(net: dk.GatedModel, trainer: dk.Trainer) -> set[str]:
    """Of all that a step reads and writes."""
    optimisers = trainer.optimisers.values()
    kept = [t for o in optimisers for state in o.state.values() for t in state.values() if t is not None]
    return {t.device.type for t in (*net.parameters(), *net.buffers(), *kept, trainer.data.train.images)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_moves_weights_and_gates_and_stays_on_the_device(net, data, precision):
    trainer = dk.Trainer(net, data, replace(CONFIG, precision=precision))
    before = [p.detach().clone() for p in net.parameters()]
    next(iter(trainer))
    assert devices(net, trainer) == {DEVICE.type}
    moved = [not torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True)]
    assert any(moved[: -len(list(net.posterior.parameters()))]) and any(moved[-1:])
    assert all(bool(p.isfinite().all()) for p in net.parameters())


def test_a_run_resumes_where_it_was_broken_off(net, data, tmp_path):
    """With the numbers of its checkpoint; from there a GPU, which adds in any order, rounds as it likes."""
    loop = recording.recorded(dk.Trainer(net, data, CONFIG), tmp_path)
    for _ in range(2 * len(data.train) // CONFIG.batch_size + 3):  # into the third epoch
        next(loop)
    loop.close()
    folder = dk.RunFolder(tmp_path)
    before, checkpoint = folder.history(), folder.latest_checkpoint()
    other = made(net.describe()["posterior"], data, seed=7)
    trainer = dk.Trainer(other, data, CONFIG)
    steps = recording.recorded(trainer, tmp_path)
    next(steps)
    assert trainer.epoch == 2.0 and devices(other, trainer) == {DEVICE.type}
    assert all(torch.equal(t, trainer.saved.tensors[name]) for name, t in checkpoint.tensors.items())
    for _ in steps:
        pass
    assert trainer.run.status == "finished" and folder.history().epoch.tolist() == [1, 2, 3, 4]
    assert folder.history()[:2].equals(before)
    loaded = dk.load_run(tmp_path)
    results = [dk.evaluate(one.to(DEVICE), data.to(DEVICE).val) for one in (loaded.net, other)]
    assert results[0] == pytest.approx(results[1], rel=ROUNDING)


@pytest.mark.parametrize("scope", ["inner", "all"])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_compact_computes_the_same_there(posterior, scope):
    torch.manual_seed(0)
    model, x = dk.make_model("resnet20").to(DEVICE), torch.randn(8, 3, 32, 32, device=DEVICE)
    net = dk.GatedModel(model, posterior, x, scope)
    with torch.no_grad():
        for p in net.posterior.parameters():  # closes about a third of the gates
            p.copy_(
                0.1 * p if p.dim() > 1 else torch.where(torch.rand_like(p) < 0.35, -4, torch.randn_like(p))
            )
        for _ in range(3):
            net.train()(x)  # statistics of batch norms
    small = dk.compact(net.eval())
    assert 0.1 < net.exact_cost().macs / net.dense_cost.macs < 0.9
    assert {t.device.type for t in (*small.parameters(), *small.buffers())} == {DEVICE.type}
    with torch.no_grad():
        expected, got = net(x), small(x)
    assert float((got - expected).abs().max()) <= ROUNDING * float(expected.abs().max())
    assert plain_cost(small, x) == net.exact_cost()


def test_evaluate_agrees_with_the_cpu(net, data):
    dk.train(net, data, dk.TrainConfig(epochs=6, lam=8.0), progress=False)
    loss, accuracy = dk.evaluate(net, data.test.to(DEVICE))
    loss_cpu, accuracy_cpu = dk.evaluate(net.to("cpu"), data.test)
    assert accuracy > 0.5  # it has learnt
    assert loss == pytest.approx(loss_cpu, rel=ROUNDING)
    assert accuracy == pytest.approx(accuracy_cpu, abs=2 / len(data.test))
