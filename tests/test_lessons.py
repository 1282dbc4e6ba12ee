"""What the lessons show besides explorers: figures of data and of gradients, and the setup table."""

import importlib
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import depl0kit
from depl0kit import HardConcrete, load_data
from depl0kit.data.fashion_mnist import FILES
from depl0kit.plots.data import gate_gradient, images
from depl0kit.support.device import best_device

matplotlib.use("agg")
setup = importlib.import_module("depl0kit.lab.setup")  # the package has a function of that name


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def digits_data():
    return load_data("digits")


@pytest.fixture(scope="module")
def digits(digits_data):
    return digits_data.train


def added(ax, figure, *data) -> list:
    """What a figure draws; checks that it returns all of it, and that it can draw again."""
    ax.set_title("")
    before = set(ax.get_children())
    first = figure(*data, ax=ax)
    assert set(first) == set(ax.get_children()) - before
    for artist in first:
        artist.remove()
    return figure(*data, ax=ax)


@pytest.mark.parametrize("count", [1, 5, 12, 30])
def test_images_are_shown_with_their_labels(ax, digits, count):
    mosaic, *labels = added(ax, images, digits, count)
    assert [text.get_text() for text in labels] == [str(int(y)) for y in digits.labels[:count]]
    pixels = mosaic.get_array()
    last = digits.images[count - 1, 0].numpy()
    columns, rows = min(count, 12), -(-count // 12)
    tile = np.split(np.split(pixels, rows)[-1], columns, axis=1)[(count - 1) % 12].squeeze()
    assert (tile[1:9, 1:9] == last).all() and (tile[9:] == 255).all()


def test_images_refuse_none(digits):
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, got 0"):
        images(digits, 0)


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 1.5])
def test_mean_gradient_is_the_slope_and_zeros_are_the_spikes(ax, log_alpha):
    zero, sd, mean, slope, *_ = added(ax, gate_gradient, log_alpha)
    assert np.allclose(mean.get_ydata()[::3], slope.get_ydata(), atol=0.02)
    assert (np.diff(sd.get_ydata()) < 0).all()
    hc, location = HardConcrete(float(zero.get_xdata()[12])), torch.tensor(log_alpha)
    spikes = float(hc.cdf(0.0, location) + 1 - hc.cdf(1 - 1e-6, location))
    assert zero.get_ydata()[12] == pytest.approx(spikes, abs=0.01)


def test_setup_names_versions_device_and_data(monkeypatch, tmp_path):
    monkeypatch.setenv("DEPL0KIT_DATA", str(tmp_path))
    monkeypatch.setattr(setup, "DEBIAN_FOLDER", tmp_path / "debian")
    text = setup.setup()
    assert torch.__version__ in text and f"{best_device().type}:" in text and "1200 + 240 + 357" in text
    assert 'dk.load_data("fashion_mnist")' in text


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_setup_finds_fashion_mnist_only_when_it_is_complete(monkeypatch, tmp_path, suffix):
    monkeypatch.setenv("DEPL0KIT_DATA", str(tmp_path))
    monkeypatch.setattr(setup, "DEBIAN_FOLDER", tmp_path / "debian")
    (tmp_path / "debian").mkdir()
    for name, _ in FILES.values():
        assert "found in" not in setup.setup()
        (tmp_path / "debian" / f"{name}{suffix}").touch()
    assert f"found in {tmp_path / 'debian'}" in setup.setup()


@pytest.mark.parametrize(
    ("cuda", "mps", "device"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_best_device(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == torch.device(device)


@pytest.mark.slow
def test_lesson_04_says_what_such_trainings_show():
    """Its text on steps, rises and undecided gates: with wide margins, as other machines round otherwise."""
    import depl0kit as dk

    data = dk.load_data("digits")
    steps, undecided = {}, {}
    for name in ("mean_field", "forward"):
        for factor, lam in ((1, 16), (1 / 3, 16), (1, 0)):
            torch.manual_seed(0)
            net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), name, example=data.example)
            lr = factor * net.posterior.default_lr()
            run = dk.train(net, data, dk.TrainConfig(lam=lam, epochs=12, gate_lr=lr), progress=False)
            undecided[name, factor, lam] = run.history.undecided.iloc[-1]
            steps[name, factor, lam] = np.diff([moment.log_alpha for moment in run.moments], axis=0)
    pairs = ~np.eye(144, dtype=bool)
    together = {key: dk.gates.correlation_matrix(s)[pairs].mean() for key, s in steps.items()}
    for lam in (16, 0):
        assert together["mean_field", 1, lam] > 0.3 > 0.15 > together["forward", 1, lam]
        assert (steps["mean_field", 1, lam] > 0.5).sum() < 10 < 50 < (steps["forward", 1, lam] > 0.5).sum()
    assert undecided["mean_field", 1 / 3, 16] > 0.4 > 0.2 > undecided["forward", 1 / 3, 16]
    assert max(undecided["mean_field", 1, 16], undecided["forward", 1, 16]) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lam", "epochs", "accuracy", "closed"),
    [
        (64, 20, (0.95, 1), (100, 120)),  # 00: about 120 of 144 channels can go
        (128, 20, (0, 0.95), (120, 144)),
        (64, 12, (0, 0.92), (115, 144)),  # 02: too much for so short a run
    ],
)
def test_lessons_00_and_02_say_what_a_high_price_closes(digits_data, lam, epochs, accuracy, closed):
    torch.manual_seed(0)
    model = depl0kit.make_model("small", 1, 10, (8, 8))
    net = depl0kit.GatedModel(model, "mean_field", example=digits_data.example)
    config = depl0kit.TrainConfig(lam=lam, epochs=epochs)
    with warnings.catch_warnings(action="ignore"):  # of an accuracy that collapses
        depl0kit.train(net, digits_data, config, progress=False)
    found = depl0kit.evaluate(net, digits_data.test)[1]
    assert accuracy[0] <= found <= accuracy[1]
    assert closed[0] <= 144 - sum(net.open_channels()) <= closed[1]
