"""What users get wrong: one line in their words, with the value, and a way out."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit.support import checks


def message(call) -> str:
    """First line of the ValueError that `call` raises, with nothing of Python's internals in it."""
    with pytest.raises(ValueError) as caught:
        call()
    first, *_ = str(caught.value).splitlines()
    assert len(first) < 300
    assert not re.search(r"Traceback|<class|object at 0x|\.py\b|Proxy|tensor_meta|NoneType.*attribute", first)
    return first


def gated(model: nn.Module, *shape: int, **settings) -> dk.GatedModel:
    return dk.GatedModel(model, example=torch.zeros(shape), **settings)


def small(**settings) -> dk.GatedModel:
    return gated(dk.make_model("small", 1), 2, 1, 8, 8, **settings)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: checks.number("lam", np.float64(-2.5), 0), "got -2.5."),
        (lambda: checks.number("lam", torch.tensor(-2.5), 0), "got -2.5."),
        (lambda: checks.share("budget", np.float32(2)), "got 2.0."),
        (lambda: checks.whole("epochs", np.int64(0), 1), "got 0."),
        (lambda: checks.one_of("cost", np.str_("mac"), ("macs", "params")), "unknown cost 'mac':"),
        (lambda: dk.HardConcrete(stretch=(np.float64(0.5), np.float64(1.5))), "got (0.5, 1.5);"),
        (lambda: dk.MeanField(np.int64(5)), "got 5."),
        (lambda: dk.Grid(seeds=tuple(np.array([1, 1]))), "holds a value twice: (1, 1)."),
    ],
)
def test_numbers_of_numpy_and_torch_are_shown_as_plain_ones(call, says):
    assert says in message(call)


@pytest.mark.parametrize("posterior", [dk.MeanField, dk.Dependency])
@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ([], "got an empty list"),
        ([3, 0], "got 0"),
        ([-4], "got -4"),
        ([2, 2.5], "got 2.5"),
        ([4.0], "got 4.0"),
        (["3"], "got '3'"),
        ([True], "got True"),
        ([None], "got None"),
        (5, "got 5"),
        (None, "got None"),
    ],
)
def test_sizes(posterior, sizes, says):
    text = message(lambda: posterior(sizes))
    assert "sizes" in text and says in text


@pytest.mark.parametrize("value", [0, -1, 0.0, math.nan, math.inf, "warm", "0.5", [0.5]])
@pytest.mark.parametrize("make", [dk.HardConcrete, dk.TrainConfig])
def test_temperature(make, value):
    text = message(lambda: make(temperature=value))
    assert text == f"temperature must be a number in (0, inf), got {value!r}."


def test_temperature_of_a_posterior():
    posterior = dk.MeanField([2])
    assert "got -0.5" in message(lambda: setattr(posterior, "temperature", -0.5))
    assert posterior.temperature == 2 / 3


@pytest.mark.parametrize(
    "stretch",
    [
        (0.1, 1.1),
        (-0.1, 0.9),
        (math.nan, 1.1),
        (-0.1, math.nan),
        (-math.inf, 1.1),
        (1.1, -0.1),
        (-0.1,),
        0.1,
        None,
    ],
)
def test_stretch(stretch):
    text = message(lambda: dk.HardConcrete(stretch=stretch))
    assert "stretch must include [0, 1]" in text and repr(stretch) in text and "(-0.1, 1.1)" in text


@pytest.mark.parametrize(
    ("call", "name", "given", "nearest"),
    [
        (lambda: small(posterior="meanfield"), "posterior", "meanfield", "mean_field"),
        (lambda: small(posterior="Forward"), "posterior", "Forward", "forward"),
        (lambda: small(scope="inne"), "scope", "inne", "inner"),
        (lambda: small(sampling="examples"), "sampling", "examples", "example"),
        (lambda: dk.make_model("lennet"), "model", "lennet", "lenet"),
        (lambda: dk.make_model("VGG-16"), "model", "VGG-16", "vgg16"),
        (lambda: dk.TrainConfig(cost="mac"), "cost", "mac", "macs"),
        (lambda: small().expected_share("param"), "cost", "param", "params"),
        (lambda: dk.Dependency([2], direction="backwards"), "direction", "backwards", "backward"),
        (lambda: dk.Dependency([2], init="papers"), "init", "papers", "paper"),
        (lambda: dk.MeanField([2], init="equall"), "init", "equall", "equal"),
        (lambda: dk.HardConcrete(test_rule="meadian"), "test_rule", "meadian", "median"),
    ],
)
def test_unknown_names_suggest_the_nearest(call, name, given, nearest):
    text = message(call)
    assert text.startswith(f"unknown {name} {given!r}: choose one of ")
    assert text.endswith(f"Did you mean {nearest!r}?")


def test_a_name_like_nothing_gets_the_list_alone():
    text = message(lambda: dk.make_model("qqq"))
    assert text.startswith("unknown model 'qqq': choose one of 'small', 'medium', 'lenet', 'vgg16'")
    assert text.endswith("classifiers by its name.") and len(text) < 200
    assert message(lambda: checks.one_of("model", 7, ["small"])) == "unknown model 7: choose one of 'small'."
    assert "unknown posterior" in message(lambda: small(posterior=["forward"]))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("lam", v) for v in (-1, math.nan, math.inf, "4", None)),
        *(("budget", v) for v in (0, 1, 1.5, -0.2, math.nan, "half")),
        *((name, -0.1) for name in ("lr", "weight_decay", "warmup", "ramp", "gate_lr", "momentum")),
        *((name, math.nan) for name in ("lr", "warmup", "ramp", "gate_lr")),
        ("momentum", 1.1),
        *((name, v) for name in ("epochs", "batch_size") for v in (0, -3, 2.5, "ten")),
        *(("seed", v) for v in (-1, 0.5)),
    ],
)
def test_training_settings(setting, value):
    text = message(lambda: dk.TrainConfig(**{setting: value}))
    assert text.startswith(f"{setting} must ") and text.endswith(f"got {value!r}.")


def test_ranges_are_named():
    assert message(lambda: checks.number("x", 3, 0, 1)) == "x must be a number in [0, 1], got 3."
    assert message(lambda: checks.whole("n", 0, 1)) == "n must be a whole number of at least 1, got 0."


def test_good_values_pass():
    dk.TrainConfig(lam=0, budget=0.3, gate_lr=0, momentum=1, warmup=0, ramp=0, epochs=1, batch_size=1, seed=0)
    dk.HardConcrete(1e-3, (0, 1))
    assert dk.MeanField(torch.tensor([2, 3])).sizes == dk.MeanField((2, 3)).sizes == (2, 3)


# --- models ----------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.conv(x)).mean((2, 3)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.relu(self.fc(torch.relu(self.fc(x)))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        hidden = torch.relu(self.a(x))
        return hidden, self.b(hidden)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.inner(x, x, x)[0].mean(1))


class OwnAttention(nn.Module):
    """As in Swin: attention written out, with layers that look ordinary."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        weights = (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1)
        return self.out((weights @ self.v(x)).mean(1))


class NeedsMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x, mask):
        return self.b(self.a(x) * mask)


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x):
        return nn.functional.linear(x, self.weight)


class Silent(nn.Module):
    """Fails without a word."""

    def forward(self, x):
        raise AssertionError


@pytest.mark.parametrize(
    ("model", "shape", "says"),
    [
        (Residual, (1, 1, 8, 8), ["nothing to gate in Residual"]),
        (TwoOutputs, (1, 4), ["nothing to gate in TwoOutputs"]),
        (Twice, (1, 4), ["nothing to gate in Twice"]),
        (Recurrent, (1, 5, 4), ["nothing to gate in Recurrent"]),
        (Bare, (1, 4), ["nothing to gate in Bare"]),
        (Silent, (1, 4), ["the forward of Silent failed", "AssertionError"]),
        (Attention, (1, 5, 8), ["nothing to gate in Attention"]),
        (
            OwnAttention,
            (1, 5, 8),
            ["nothing to gate in OwnAttention"],
        ),
        (NeedsMask, (1, 4), ["takes 2 arguments (x, mask)", "pass a tuple of so many tensors"]),
        (lambda: nn.Sequential(nn.ReLU()), (1, 4), ["nothing to gate in Sequential"]),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
            (1, 1, 4, 4),
            ["nothing to gate in Sequential"],
        ),
        (lambda: dk.make_model("small", 1), (1, 3, 8, 8), ["(1, 3, 8, 8)", "3 channels"]),
        (lambda: dk.make_model("small", 1), (1, 64), ["ConvNet", "(1, 64)"]),
        (lambda: dk.make_model("small", 1), (1, 1, 1, 1), ["ConvNet", "(1, 1, 1, 1)"]),
        (lambda: dk.make_model("lenet", 1), (1, 1, 28, 28), ["LeNet5", "(1, 1, 28, 28)"]),
    ],
)
def test_models_that_cannot_be_gated(model, shape, says, capfd):
    model = model()
    text = message(lambda: gated(model, *shape))
    for words in says:
        assert words in text
    assert capfd.readouterr().err == ""  # nothing printed beside the error


@pytest.mark.parametrize("example", [None, "digits", [[1.0]]])
def test_examples_that_are_no_tensor(example):
    text = message(lambda: dk.GatedModel(dk.make_model("small"), example=example))
    assert text.startswith("example must be") and type(example).__name__ in text


@pytest.mark.parametrize("shape", [(), (8,), (0, 1, 8, 8), (1, 1, 0, 8)])
def test_examples_without_images(shape):
    text = message(lambda: gated(dk.make_model("small", 1), *shape))
    assert text == f"example must be a batch of at least one input, [batch, ...], got shape {shape}."


def test_an_example_on_another_device():
    text = message(lambda: gated(dk.make_model("small", 1).to("meta"), 1, 1, 8, 8))
    assert "the example is on 'cpu' but ConvNet is on 'meta': pass example.to('meta')" in text


def test_a_network_without_a_single_gate_shows_why():
    with pytest.raises(ValueError) as caught:
        gated(Residual(), 1, 1, 8, 8)
    _, header, *rows = str(caught.value).splitlines()
    assert header.startswith("group") and [row.split()[0] for row in rows] == ["stem", "fc", "(1)", "(2)"]
    assert rows[0].endswith("none (1)") and "(1) a residual stream: scope='all' gates it" in rows


def test_an_example_of_the_wrong_precision():
    example = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    assert "Double" in message(lambda: dk.GatedModel(dk.make_model("small", 1), example=example))


def test_a_posterior_for_another_network():
    text = message(lambda: small(posterior=dk.MeanField([24, 24, 48])))
    assert "[24, 24, 48]" in text and "pass sizes=[24, 24, 48, 48]" in text


@pytest.mark.parametrize(("name", "size"), [("vgg16", (28, 28)), ("lenet", (15, 28))])
def test_images_too_small_for_the_model(name, size):
    text = message(lambda: dk.make_model(name, image_size=size))
    assert str(size) in text and "use 'small'" in text
