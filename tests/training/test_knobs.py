"""Lambda, temperature and gate lr: one table says what they are, and all that reads them agrees with it."""

import pytest
import torch

import depl0kit as dk
from depl0kit.training.knobs import KNOBS
from depl0kit.training.runs.recording import recorded

NEW = {"lam": 7.0, "temperature": 0.5, "gate_lr": 0.25}


@pytest.fixture
def trainer(few) -> dk.Trainer:
    torch.manual_seed(0)
    net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=few.example)
    config = dk.TrainConfig(epochs=2, warmup=0, gate_schedule="constant")
    return dk.Trainer(net, few, config)


def refusal(call) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("name", KNOBS)
@pytest.mark.parametrize("value", [-1.0, float("nan"), "1", 0])
def test_settings_trainer_and_requests_refuse_the_same_in_the_same_words(trainer, tmp_path, name, value):
    calls = (
        lambda: dk.TrainConfig(**{name: value}),
        lambda: setattr(trainer, name, value),
        lambda: dk.RunFolder(tmp_path).ask(**{name: value}),
    )
    if value == 0 and name != "temperature":
        for call in calls:
            call()
    else:
        assert {refusal(call) for call in calls} == {refusal(lambda: KNOBS[name].check(name, value))}


def test_what_is_asked_for_is_in_force_and_noted_everywhere(trainer, tmp_path):
    folder = dk.RunFolder(tmp_path)
    assert NEW.keys() == KNOBS.keys()
    folder.ask(**NEW)
    for _ in recorded(trainer, tmp_path):
        assert {name: getattr(trainer, name) for name in KNOBS} == NEW
    status, last = folder.status(), trainer.run.history.iloc[-1]
    assert {name: status[name] for name in KNOBS} == {name: last[name] for name in KNOBS} == NEW
    assert folder.latest_checkpoint().numbers == NEW | {"fine_tuning": False}
    assert [knob.text.format(NEW[name]) for name, knob in KNOBS.items()] == ["λ 7", "β 0.50", "gate lr 0.25"]
