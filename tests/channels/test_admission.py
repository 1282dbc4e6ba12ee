"""Networks that carry things, that behave otherwise in training mode, or do not suit the data."""

import copy
import threading
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_any_cnn import Net, conv, set_gates
from test_bad_input import message
from torch import nn
from torch.nn.utils import prune

import depl0kit as dk
from depl0kit.support.modes import eval_mode
from depl0kit.training.prepare import check_fit


def plain(between=lambda m, x: x, **modules) -> Net:
    torch.manual_seed(0)
    return Net(between, **modules)


def gated(model: nn.Module) -> dk.GatedModel:
    return dk.GatedModel(model, example=torch.zeros(1, 2, 6, 6), scope="all")


# --- networks that carry things --------------------------------------------------------------------


def with_mask():
    model = plain()
    prune.l1_unstructured(model.stem, "weight", 0.5)
    return model


def with_weight_norm():
    model = plain()
    nn.utils.weight_norm(model.last)
    return model


def with_spectral_norm():
    model = plain()
    nn.utils.spectral_norm(model.last)
    return model


def with_lock():
    model = plain()
    model.stem.lock = threading.Lock()
    return model


def with_integers():
    model = plain()
    model.table = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
    return model


def scripted():
    return torch.jit.trace(plain(), torch.zeros(1, 2, 6, 6))


def diverged():
    model = plain()
    nn.init.constant_(model.last.weight, float("nan"))
    return model


@pytest.mark.filterwarnings("ignore")  # the old functions are deprecated
@pytest.mark.parametrize(
    ("model", "says"),
    [
        (with_mask, ["layer 'stem'", "torch.nn.utils.prune", "prune.remove(layer, 'weight')"]),
        (with_weight_norm, ["layer 'last'", "remove_weight_norm(layer)", "parametrizations.weight_norm"]),
        (with_spectral_norm, ["layer 'last'", "remove_spectral_norm(layer)"]),
        (with_lock, ["attribute 'lock' of 'stem' of Net cannot be copied", "lock", "delete it"]),
        (with_integers, ["parameter 'table' of Net is int64", "register_buffer"]),
        (scripted, ["a scripted module", "pass the one before torch.jit"]),
        (diverged, ["Net gives NaN or infinite outputs in eval mode", "'last.weight' holds some"]),
        (lambda: nn.Sequential(nn.LazyConv2d(3, 3)), ["'0.weight' of Sequential has no shape yet"]),
        (lambda: gated(plain()), ["a GatedModel already", "net.plain_copy()"]),
        (lambda: nn.Sequential(nn.BatchNorm2d(2), gated(plain())), ["or holds one", "net.plain_copy()"]),
        (lambda: "resnet18", ["model must be a network (an nn.Module), got 'resnet18'"]),
        (lambda: plain(lambda m, x: F.dropout(x)), ["random in eval mode", "training=self.training"]),
        (
            lambda: plain(lambda m, x: x if x.dtype == torch.float32 else {}[x.dtype]),
            ["the forward of Net failed on the CPU in float64, where removal is tried: torch.float64"],
        ),
        (lambda: plain(lambda m, x: x / 0), ["gives NaN or infinite outputs", "division by zero"]),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(model, says):
    model = model()
    text = message(lambda: gated(model))
    for words in says:
        assert words in text, text


def test_a_kept_activation_is_no_obstacle_before_and_after_training():
    """PyTorch does not copy tensors with a history; here one is kept anew in every forward."""

    def keeping(m, x):
        m.kept = {"last": x}
        m.stem.also = x
        return x

    model = plain(keeping)
    model(torch.randn(2, 2, 6, 6))
    assert not model.kept["last"].is_leaf
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)  # or the test shows nothing
    net = gated(model)
    x = torch.randn(3, 2, 6, 6)
    net.train()(x).sum().backward()
    set_gates(net.eval(), 0.5, 0)
    with torch.no_grad():
        torch.testing.assert_close(dk.compact(net)(x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow  # importing the compiler takes ten seconds
def test_wrapped_networks_are_those_inside():
    x = torch.randn(2, 2, 6, 6)
    expected = [g.name for g in gated(plain()).groups.gated]
    for wrapped in (
        nn.DataParallel(plain()),
        torch.compile(plain()),
        nn.DataParallel(torch.compile(plain())),
    ):
        net = gated(wrapped)
        assert type(net.model) is Net and [g.name for g in net.groups.gated] == expected
    set_gates(net.eval(), 0.5, 0)
    with torch.no_grad():
        torch.testing.assert_close(dk.compact(nn.DataParallel(net))(x), dk.compact(net)(x))


@pytest.mark.parametrize("model", [lambda: plain(), lambda: dk.compact(gated(plain()))])
def test_compact_needs_gates(model):
    text = message(lambda: dk.compact(model()))
    assert "Net has no gates" in text and "GatedModel(model, example=images)" in text


def test_products_of_activations_refuse_the_channels_that_they_read():
    """Bilinear pooling and attention: the rest of the network is gated."""

    def bilinear(m, x):
        x = m.b(m.a(x).relu()).flatten(2)
        return (x @ x.transpose(1, 2)).reshape(-1, 6, 6, 1)

    def attention(m, x):
        x = m.b(m.a(x).relu()).flatten(2)
        return ((x @ x.transpose(1, 2)).softmax(-1) @ x).reshape(-1, 6, 6, 6)

    for between in (bilinear, attention):
        net = gated(plain(between, head=6, a=conv(8, 8), b=conv(8, 6)))
        assert [g.name for g in net.groups.gated] == ["stem", "a", "last"]
        assert "b is read by bmm, which mixes channels" in net.groups[2].refusal


# --- training mode ---------------------------------------------------------------------------------


class Auxiliary(Net):
    """With a second head in training mode, whose outputs are added, or given beside the others."""

    def __init__(self, beside):
        super().__init__(lambda m, x: x)
        self.aux, self.beside = nn.Linear(72, 3), beside

    def forward(self, x):
        out = super().forward(x)
        if not self.training:
            return out
        extra = self.aux(x.flatten(1))
        return {"tuple": (out, extra), "dict": {"out": out, "aux": extra}}.get(self.beside, out + extra)


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        (None, "layer 'aux' of Auxiliary runs in training mode only"),
        ("tuple", "layer 'aux' of Auxiliary runs in training mode only"),
        ("dict", "layer 'aux' of Auxiliary runs in training mode only"),
    ],
)
def test_what_only_training_mode_does_is_refused(beside, says):
    text = message(lambda: gated(Auxiliary(beside)))
    assert says in text and "leave such auxiliary heads out" in text
    assert "in training mode" in text


def test_a_forward_that_fails_in_training_mode_is_refused():
    text = message(lambda: gated(plain(lambda m, x: x if not m.training else x.missing)))
    assert "the forward of Net failed on an example of shape (2, 2, 6, 6) in training mode" in text


def test_looking_at_training_mode_leaves_no_trace():
    model = plain(lambda m, x: F.dropout(x, training=m.training))
    before = {key: t.clone() for key, t in model.state_dict().items()}
    drawn = []
    for network in (plain(), model):  # gates draw some numbers; dropout must give its own back
        torch.manual_seed(5)
        net = gated(network)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    for state in (model.state_dict(), net.model.state_dict()):
        assert all(torch.equal(t, before[key]) for key, t in state.items())


# --- frozen parts ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    data = dk.load_data("digits")
    return replace(data, **{part: getattr(data, part).take(128) for part in ("train", "val", "test")})


def small_with_frozen_norm(data):
    torch.manual_seed(0)
    model = dk.make_model("small", 1, 10, data.image_size).train()
    model.features[1].eval()
    return model


def statistics(model):
    return [model.features[i].running_mean.clone() for i in (1, 4)]


@pytest.mark.parametrize("kind", ["train", "fine_tune", "fine_tune plain"])
def test_a_frozen_batch_norm_stays_frozen(digits, kind):
    model = small_with_frozen_norm(digits)
    net = model if kind == "fine_tune plain" else dk.GatedModel(model, example=digits.example)
    if kind == "train":
        dk.train(net, digits, dk.TrainConfig(epochs=2, fine_tune_epochs=1), progress=False)
    else:
        dk.fine_tune(net, digits, epochs=2)
    frozen, other = statistics(model if net is model else net.model)
    assert not frozen.any() and other.any()  # they start at 0


def test_what_is_frozen_can_be_changed_later(digits):
    net = dk.GatedModel(small_with_frozen_norm(digits), example=digits.example)
    first, second = net.model.features[1], net.model.features[4]
    net.eval().train()
    assert not first.training and second.training and net.model.training
    first.train()
    second.eval()
    net.eval().train()
    assert first.training and not second.training
    again = copy.deepcopy(net)
    again.eval().train()
    assert not again.model.features[4].training and again.model.features[1].training


def test_a_network_in_eval_mode_as_a_whole_is_not_frozen(digits):
    net = dk.GatedModel(dk.make_model("small", 1).eval(), example=digits.example)
    assert all(m.training for m in net.train().modules())


def test_measuring_leaves_every_mode_as_it_was(digits):
    model = small_with_frozen_norm(digits)
    modes = [m.training for m in model.modules()]
    dk.evaluate(model, digits.val)
    dk.latency({"a": model}, digits.example, batch_sizes=(1,), repeats=1)
    with pytest.raises(KeyError), eval_mode(model):
        assert not any(m.training for m in model.modules())
        raise KeyError
    assert [m.training for m in model.modules()] == modes


# --- networks and data that do not suit each other -------------------------------------------------


class Answer(nn.Module):
    """A network with any outputs."""

    def __init__(self, outputs=10, change=lambda x: x):
        super().__init__()
        self.conv, self.head, self.change = conv(1, 4), conv(4, outputs), change

    def forward(self, x):
        return self.change(self.head(self.conv(x).relu()).mean((2, 3)))


class Other(nn.Module):
    """A stand-in for what a `GatedModel` refuses by itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


@pytest.mark.parametrize(
    "call", [lambda net, data: dk.Trainer(net, data), lambda net, data: dk.fine_tune(net, data)]
)
@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: Answer(7), ["got the shape (1, 7) for one image", "an output for each of the 10 classes"]),
        (lambda: Answer(10, lambda x: x[:, :, None, None]), ["got the shape (1, 10, 1, 1)", ".flatten(1)"]),
        (lambda: Answer(10, lambda x: x[0]), ["got the shape (10,)", ".flatten(1)"]),
        (lambda: Answer(10, lambda x: x.argmax(1)), ["int64", "leave out the argmax"]),
        (lambda: Answer().bfloat16(), ["float32 (1, 1, 8, 8)", "its weights are bfloat16: call net.float()"]),
    ],
)
def test_outputs_that_are_no_logits_of_the_data(model, says, call, digits):
    model = model()
    example = digits.example.to(next(model.parameters()).dtype)
    text = message(lambda: call(dk.GatedModel(model, example=example), digits))
    for words in ["Answer", *says]:
        assert words in text, text


def test_outputs_that_are_no_tensor(digits):
    text = message(lambda: dk.fine_tune(Other(nn.Sequential(nn.Flatten(), Tuple())), digits))
    assert "got tuple: wrap it in a module that does" in text


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(x), x


def test_more_outputs_than_classes_are_fine(digits):
    dk.fine_tune(Answer(12), digits, epochs=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": ("0",)}, "the data have 1 class: a classifier needs images of at least two classes"),
        (
            {"classes": tuple("01234567")},
            "labels of data.train must lie in 0..7, as the data have 8 classes, got 9",
        ),
        ({"shift": -1}, "labels of data.train must lie in 0..9, as the data have 10 classes, got -1"),
        ({"one_hot": True}, "one int64 number per image, got int64 of shape (128, 10): use .argmax(1)"),
        ({"type": torch.float32}, "one int64 number per image, got float32 of shape (128,)"),
        ({"type": torch.int32}, "got int32 of shape (128,): use .argmax(1) on one-hot labels, then .long()"),
    ],
)
def test_labels_that_are_no_classes(change, says, digits):
    labels = digits.train.labels
    if "shift" in change:
        labels = labels + change["shift"]
    elif "one_hot" in change:
        labels = F.one_hot(labels, 10)
    elif "type" in change:
        labels = labels.to(change["type"])
    data = replace(
        digits, train=replace(digits.train, labels=labels), classes=change.get("classes", digits.classes)
    )
    assert says in message(lambda: check_fit(Answer(), data))


def test_what_suits_is_let_through_and_nothing_moves(digits):
    model = small_with_frozen_norm(digits)
    before = {key: t.clone() for key, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    check_fit(model, digits)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
