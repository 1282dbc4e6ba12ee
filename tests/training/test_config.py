"""Settings of a run: each is checked, and kept as a plain value."""

import json
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch

import depl0kit as dk

PLAIN = dk.TrainConfig(
    lam=3.0, temperature=0.5, epochs=4, fine_tune_epochs=2, batch_size=8, lr=0.25, momentum=0.5,
    weight_decay=0.125, schedule="steps", milestones=(1.0, 2.5), decay=0.5, gate_lr=0.25, warmup=1.0,
    ramp=2.0, augment=True, compile=False, seed=5,
)  # fmt: skip


@pytest.mark.parametrize("scalar", [np.array, torch.tensor, lambda v: np.array(v)[()]])
def test_scalars_of_numpy_and_torch_become_plain_values(scalar):
    given = asdict(PLAIN)
    numbers = {name: scalar(value) for name, value in given.items() if isinstance(value, int | float)}
    config = dk.TrainConfig(**given | numbers | {"milestones": scalar(list(PLAIN.milestones))})
    assert config == PLAIN and json.dumps(asdict(config)) == json.dumps(given)
    assert all(type(getattr(config, f.name)) is type(getattr(PLAIN, f.name)) for f in fields(PLAIN))


def test_whole_numbers_are_kept_as_what_they_stand_for():
    config = dk.TrainConfig(lam=4, milestones=[1, 2], schedule="steps", warmup=1)
    assert (config.lam, config.milestones, config.warmup) == (4.0, (1.0, 2.0), 1.0)
    assert type(config.lam) is type(config.milestones[0]) is type(config.warmup) is float
    assert dk.TrainConfig(milestones=range(3), schedule="steps").milestones == (0.0, 1.0, 2.0)


@pytest.mark.parametrize("name", ["augment", "compile"])
@pytest.mark.parametrize("value", ["no", "False", 0, 1, None, [True], np.array([True])])
def test_text_and_numbers_are_no_switches(name, value):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got "):
        dk.TrainConfig(**{name: value})


ODD = [
    "x",
    b"x",
    [1],
    {},
    object(),
    float("nan"),
    10**400,
    -(10**400),
    1 + 2j,
    np.array([1, 2]),
    torch.ones(2),
]


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("name", [f.name for f in fields(dk.TrainConfig)])
def test_any_other_type_is_refused_in_a_sentence(name, value):
    if name == "milestones" and isinstance(value, list | np.ndarray | torch.Tensor):
        value = "x"  # these are lists of epochs
    with pytest.raises(ValueError, match=name) as caught:
        dk.TrainConfig(**{"schedule": "steps"} | {name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3, "30", None, b"30"])
def test_milestones_are_a_list(value):
    with pytest.raises(ValueError, match=r"milestones must be a list of epochs, such as \(30, 60\), got "):
        dk.TrainConfig(schedule="steps", milestones=value)


@pytest.mark.parametrize("value", ["no", 1, None])
def test_until_stop_of_a_trainer_is_a_switch(value):
    data = dk.load_data("digits")
    trainer = dk.Trainer(dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=data.example), data)
    with pytest.raises(ValueError, match="until_stop must be True or False"):
        trainer.until_stop = value
    assert trainer.until_stop is False
