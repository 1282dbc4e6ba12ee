"""Weights and images lie channels-last where a network can train so, contiguously where it cannot."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import depl0kit as dk
from depl0kit.data.loading import Data
from depl0kit.training import layout
from depl0kit.training.runs import recording

CONFIG = dk.TrainConfig(epochs=2, fine_tune_epochs=1, batch_size=16, warmup=0)


@pytest.fixture(scope="module")
def few() -> Data:
    data = dk.load_data("digits")
    return replace(data, train=data.train.take(64), val=data.val.take(50), test=data.test.take(50))


class Reshaped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.second, self.last = nn.Conv2d(6, 8, 3), nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(self.second(x)).reshape(x.size(0), -1))


class Viewed(Reshaped):
    """As many a tutorial writes it."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(self.second(x)).view(x.size(0), -1))


class FiveDimensions(Reshaped):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale.reshape(1)


class Volumes(Reshaped):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 6, (1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x.unsqueeze(2)).squeeze(2)))
        return self.last(torch.relu(self.second(x)).flatten(1))


def gated(kind: type[nn.Module], few: Data) -> dk.GatedModel:
    torch.manual_seed(0)
    return dk.GatedModel(kind(), example=few.example)


def strides(net: nn.Module) -> set[bool]:
    """Whether its convolutions over planes are channels-last."""
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.in_channels > 1]
    return {m.weight.is_contiguous(memory_format=layout.LAST) for m in convolutions}


@pytest.mark.parametrize(
    ("kind", "last"), [(Reshaped, True), (Viewed, False), (FiveDimensions, True), (Volumes, True)]
)
def test_each_network_trains_in_its_layout_and_so_does_what_follows(few, kind, last):
    net = gated(kind, few)
    run = dk.train(net, few, CONFIG, progress=False)
    assert run.status == "finished" and strides(net) == {last}
    small = dk.compact(net)
    dk.reestimate_batch_norm(net, few)
    assert len(dk.fine_tune(small, few, 1)) == 1
    for one in (net, small):
        assert 0 <= dk.evaluate(one, few.test)[1] <= 1


def test_a_view_computes_what_a_reshape_does(few):
    runs = [dk.train(gated(kind, few), few, CONFIG, progress=False) for kind in (Reshaped, Viewed)]
    np.testing.assert_allclose(runs[0].history.train_loss, runs[1].history.train_loss, rtol=1e-4)
    np.testing.assert_allclose(runs[0].history.val_loss, runs[1].history.val_loss, rtol=1e-4)


def test_a_run_with_a_view_resumes_with_the_same_bits(few, tmp_path):
    whole = dk.train(gated(Viewed, few), few, CONFIG, False)
    trainer = dk.Trainer(gated(Viewed, few), few, CONFIG)
    loop = recording.recorded(trainer, tmp_path)
    for _ in range(6):
        next(loop)
    loop.close()
    resumed = dk.train(gated(Viewed, few), few, CONFIG, False, tmp_path)
    pairs = zip(whole.net.state_dict().values(), resumed.net.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Drawing(Reshaped):
    """Its forward draws from every generator there is, and counts."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.norm.running_mean += torch.rand(6) + np.random.rand() + random.random()  # noqa: NPY002
        return super().forward(x)


def test_the_trial_changes_nothing(few):
    torch.manual_seed(0)
    net = Drawing()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert layout.try_step(net, few.train.shape) == (layout.LAST, False)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]  # noqa: NPY002
    assert net.calls == 0 and all(p.grad is None for p in net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Broken(Reshaped):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("mine")


def test_a_network_that_fails_either_way_says_so_itself(few):
    net = Broken()
    assert layout.try_step(net, few.train.shape).layout == layout.LAST
    with pytest.raises(RuntimeError, match="mine"):
        dk.evaluate(net, few.test)


class Spare(Reshaped):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)


@pytest.mark.parametrize(("kind", "unused"), [(Spare, True), (Reshaped, False)])
def test_the_trial_knows_of_layers_that_take_no_part(few, kind, unused):
    assert layout.try_step(kind(), few.train.shape).some_unused is unused
    assert dk.train(gated(kind, few), few, CONFIG, progress=False).status == "finished"
