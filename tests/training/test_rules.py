"""Settings of a run that choose a rule: which gates are open at test time, how a budget becomes a price."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit.comparison.sweeps.grid import Job
from depl0kit.data.loading import Data
from depl0kit.training import objective
from depl0kit.training.runs import recording
from depl0kit.training.runs.checkpoints import Checkpoints

DUAL = dk.TrainConfig(
    budget=0.5, budget_rule="dual", epochs=4, fine_tune_epochs=1, batch_size=16, gate_lr=0.3
)


@pytest.fixture(scope="module")
def few() -> Data:
    data = dk.load_data("digits")
    return replace(data, train=data.train.take(64), val=data.val.take(32), test=data.test.take(32))


def net() -> dk.GatedModel:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
    return dk.GatedModel(nn.Sequential(*layers), example=torch.zeros(1, 1, 8, 8))


def train(few: Data, config: dk.TrainConfig, out=None) -> dk.training.runs.Run:
    return dk.train(net(), few, config, progress=False, out=out)


def timeless(history: pd.DataFrame) -> pd.DataFrame:
    return history.drop(columns="seconds")


def test_a_multiplier_rises_with_the_excess_and_restarts_when_the_budget_is_met():
    mu = torch.tensor(2.0)
    above = objective.next_mu(mu, torch.tensor(0.9, requires_grad=True), 0.5, 100)
    assert float(above) == pytest.approx(2 + objective.MU_RISE / 100 * 0.4) and not above.requires_grad
    for share in (0.5, 0.3):
        assert float(objective.next_mu(mu, torch.tensor(share), 0.5, 100)) == 0
    share = torch.tensor(0.9, requires_grad=True)
    price = objective.dual_penalty(share, mu, 0.5)
    price.backward()
    assert float(price) == pytest.approx(0.8) and float(share.grad) == 2


def test_a_dual_run_notes_its_multiplier_and_closes_gates(few, tmp_path):
    run = train(few, DUAL, tmp_path)
    assert (run.history.mu >= 0).all() and run.history.mu.max() > 0
    assert run.history.expected_macs.iloc[-1] < run.history.expected_macs.iloc[0]
    assert run.history.mu.iloc[-1] == run.history.mu.iloc[-2]  # no price in the epoch of fine-tuning
    assert dk.RunFolder(tmp_path).status()["mu"] == run.history.mu.iloc[-1]
    loaded = dk.load_run(tmp_path, net())
    assert timeless(loaded.history).equals(timeless(run.history)) and loaded.config.budget_rule == "dual"
    assert "mu" not in train(few, replace(DUAL, budget_rule="hinge")).history


def test_a_resumed_dual_run_ends_with_the_same_bits(few, tmp_path, monkeypatch):
    whole = train(few, DUAL)
    monkeypatch.setattr(recording, "CHECKPOINT_SHARE", 1e9)  # a checkpoint an epoch
    with monkeypatch.context() as patch:
        patch.setattr(recording._Record, "end", lambda *_: None)  # it dies without a chance to write more
        steps = recording.recorded(dk.Trainer(net(), few, DUAL), tmp_path)
        for _ in range(10):
            next(steps)
        steps.close()
    checkpoint = next(Checkpoints(tmp_path / "checkpoints").sound())
    assert checkpoint.epoch == 2 and checkpoint.numbers["mu"] > 0
    resumed = train(few, DUAL, tmp_path)
    assert timeless(resumed.history).equals(timeless(whole.history))
    pairs = zip(resumed.net.state_dict().values(), whole.net.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_dual_rule_without_a_budget_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r'^budget_rule="dual" needs a budget, such as budget=0\.3\.$'):
        dk.TrainConfig(budget_rule="dual")


def test_a_run_takes_the_test_rule_and_keeps_it(few, tmp_path):
    config = dk.TrainConfig(lam=8.0, epochs=2, batch_size=16, test_rule="expected")
    run = train(few, config, tmp_path)
    assert run.net.posterior.test_rule == "expected"
    expected = [float(p.sum()) for p in run.net.posterior.prob_open()]
    assert run.net.open_channels() == [int(n + 0.5) for n in expected]
    loaded = dk.load_run(tmp_path, net())
    assert loaded.net.posterior.test_rule == "expected"
    assert loaded.net.exact_cost().macs == run.history.exact_macs.iloc[-1]
    again = train(few, config, tmp_path)  # the run is over: nothing is trained
    assert timeless(again.history).equals(timeless(run.history))


def test_without_a_test_rule_that_of_the_posterior_stays(few):
    network = net()
    network.posterior.test_rule = "median"
    dk.train(network, few, dk.TrainConfig(epochs=1), progress=False)
    assert network.posterior.test_rule == "median"


def test_a_folder_of_an_earlier_version_resumes(few, tmp_path):
    config = dk.TrainConfig(lam=8.0, epochs=2, batch_size=16)
    run = train(few, config, tmp_path)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    for name in ("test_rule", "budget_rule"):
        del content["train"][name]
    file.write_text(json.dumps(content))
    assert dk.load_run(tmp_path, net()).config.budget_rule == "hinge"
    assert timeless(train(few, config, tmp_path).history).equals(timeless(run.history))
    with pytest.raises(ValueError, match="test_rule = None, not 'expected'"):
        train(few, replace(config, test_rule="expected"), tmp_path)


def test_rows_of_a_sweep_of_an_earlier_version_are_those_of_the_same_run():
    job = Job("digits", "small", "mean_field", 0, budget=0.5)
    assert {"test_rule", "budget_rule"}.isdisjoint(job.settings()["train"])
    dual = replace(job, train=dk.TrainConfig(budget=0.5, budget_rule="dual", test_rule="expected"))
    train = dual.settings()["train"]
    assert (train["budget_rule"], train["test_rule"]) == ("dual", "expected")
    assert dual.config().budget_rule == "dual"
    assert replace(dual, method="dense", budget=None).config().budget_rule == "hinge"
