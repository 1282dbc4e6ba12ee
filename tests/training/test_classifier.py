"""Training and evaluation are for classifiers: others are told so, before the first step."""

from dataclasses import replace

import pytest
import torch
from test_bad_input import message
from torch import nn

import depl0kit as dk


class Shaped(nn.Module):
    """A classifier whose outputs have another form, always or in training mode only."""

    def __init__(self, form, training_only=False):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 5, 3), nn.Linear(5, 10)
        self.form, self.training_only = form, training_only

    def forward(self, x):
        features = self.second(self.first(x).relu()).mean((2, 3))
        out = self.head(features)
        return out if self.training_only and not self.training else self.form(out, features)


class TwoInputs(Shaped):
    def forward(self, image, scale):
        return super().forward(image * scale[:, None, None, None])


FORMS = {"tuple": lambda *both: both, "dict": lambda a, b: {"logits": a, "features": b}}
CALLS = {
    "train": lambda net, data: dk.train(net, data, dk.TrainConfig(epochs=1), progress=False),
    "fine_tune": lambda net, data: dk.fine_tune(net, data, epochs=1),
    "evaluate": lambda net, data: dk.evaluate(net, data.test),
}
ONLY = "train, fine_tune and evaluate are for classifiers"


@pytest.fixture(scope="module")
def digits():
    data = dk.load_data("digits")
    return replace(data, **{part: getattr(data, part).take(32) for part in ("train", "val", "test")})


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_outputs_that_are_no_tensor(call, form, digits):
    net = dk.GatedModel(Shaped(FORMS[form]), example=digits.example)
    text = message(lambda: CALLS[call](net, digits))
    start = "Shaped must return logits, [batch, classes] in floating point, got "
    assert text == f"{start}{form}: wrap it in a module that does, as {ONLY}."
    assert text == message(lambda: CALLS["evaluate"](net.model, digits))


@pytest.mark.parametrize("call", ["train", "fine_tune"])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_that_are_no_tensor_in_training_mode(call, form, digits):
    net = dk.GatedModel(Shaped(FORMS[form], training_only=True), example=digits.example)
    before = {key: t.clone() for key, t in net.state_dict().items()}
    text = message(lambda: CALLS[call](net, digits))
    assert (
        f"Shaped must return logits, [batch, classes] in floating point in training mode, got {form}" in text
    )
    assert ONLY in text and all(torch.equal(t, before[key]) for key, t in net.state_dict().items())
    assert 0 <= dk.evaluate(net, digits.test)[1] <= 1  # there it is a classifier


@pytest.mark.parametrize("call", CALLS)
def test_several_inputs(call, digits):
    example = digits.example[:1], torch.ones(1)
    net = dk.GatedModel(TwoInputs(lambda out, _: out), example=example)
    text = message(lambda: CALLS[call](net, digits))
    assert text.startswith(
        f"TwoInputs takes 2 inputs (image, scale): {ONLY}, which read one batch of images."
    )
    assert "net.expected_share() as the price" in text


def test_the_loop_of_ones_own_that_is_recommended(digits):
    images, scale = digits.example, torch.ones(len(digits.example))
    net = dk.GatedModel(TwoInputs(lambda out, _: out), example=(images, scale))
    (net(images, scale).square().mean() + net.expected_share()).backward()
    assert float(net.posterior.theta.grad.abs().min()) > 0


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
def test_scripted_classifiers_are_evaluated(digits):
    """Their forward has no signature that Python could read."""
    model = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert 0 <= dk.evaluate(model, digits.test)[1] <= 1
