"""The path: one training, lambda growing, and what is measured on the way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import depl0kit as dk
from depl0kit.comparison.lambda_path import lambda_path

COLUMNS = [
    *("snapshot", "epoch", "lam", "raw_val_accuracy", "val_accuracy", "test_accuracy", "macs", "params"),
    *("kept_macs", "kept_params", "undecided", "groups", "channels", "open"),
]


@pytest.fixture(scope="module")
def data():
    return dk.load_data("digits")


def make_net(data, posterior="mean_field"):
    torch.manual_seed(0)
    model = dk.make_model("small", data.in_channels, data.num_classes, data.image_size)
    return dk.GatedModel(model, posterior, example=data.example)


def short_path(data, **settings):
    net, data = make_net(data), replace(data, train=data.train.take(256))
    config = dk.TrainConfig(epochs=4, warmup=1, gate_lr=0.5, batch_size=32, seed=3)
    options = {"lams": (2, 200), "snapshots": 3, "fine_tune_epochs": 1, "progress": False}
    return net, lambda_path(net, data, config, **options | settings)


@pytest.fixture(scope="module")
def path(data):
    return short_path(data)


def test_snapshots_lie_evenly_and_lambda_grows_geometrically(path):
    _, table = path
    assert table.columns.tolist() == COLUMNS
    assert table.snapshot.tolist() == [1, 2, 3] and table.epoch.tolist() == pytest.approx([2, 3, 4])
    assert table.lam.iloc[-1] == pytest.approx(200)
    ratios = table.lam.to_numpy()[1:] / table.lam.to_numpy()[:-1]
    assert ratios[0] == pytest.approx(ratios[1])
    assert table.lam[0] == pytest.approx(2 * 100 ** (1 / 3), rel=0.2)


def test_costs_are_those_of_the_open_channels(path):
    net, table = path
    for row in table.itertuples():
        assert (row.macs, row.params) == net.channels.cost(row.open)
        assert row.kept_macs == row.macs / net.dense_cost.macs
        assert row.kept_params == row.params / net.dense_cost.params
        assert row.groups == [g.name for g in net.groups.gated] and row.channels == [24, 24, 48, 48]
    assert table.macs.is_monotonic_decreasing and table.macs.iloc[-1] < table.macs[0]
    assert table.open.iloc[-1] == net.open_channels()  # the last is taken at the very end
    assert (
        table[["raw_val_accuracy", "val_accuracy", "test_accuracy", "undecided"]].stack().between(0, 1).all()
    )


@pytest.mark.slow
def test_the_same_seed_gives_the_same_path(data, path):
    net, table = short_path(data, lams=np.array([2, 200]))  # and an array the same numbers
    assert table.equals(path[1])
    for one, other in zip(net.parameters(), path[0].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_snapshots_leave_no_trace_in_the_training(data, path):
    net, table = short_path(data, snapshots=6, fine_tune_epochs=2)
    assert table.lam[[1, 3, 5]].tolist() == path[1].lam.tolist()
    for one, other in zip(net.parameters(), path[0].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lams": (4, 4)}, "lams must increase"),
        ({"lams": (9, 4)}, "lams must increase"),
        ({"lams": (0, 4)}, r"every entry of lams must be a number in \(0, inf\), got 0"),
        ({"lams": (1, float("nan"))}, "every entry of lams must be a finite number"),
        ({"lams": (1, 2, 3)}, "lams must be two numbers"),
        ({"lams": "12"}, "lams must be two numbers"),
        ({"lams": 5}, "lams must be two numbers"),
        ({"lams": {4, 9}}, "lams must be two numbers"),
        ({"lams": (1, 10**400)}, "every entry of lams must be a finite number"),
        ({"lams": np.array([9.0, 4.0])}, r"lams must increase, got \(9.0, 4.0\)"),
        ({"snapshots": 1}, "snapshots must be a whole number of at least 2"),
        ({"snapshots": 2.5}, "snapshots must be a whole number, got 2.5"),
        ({"fine_tune_epochs": 0}, "fine_tune_epochs must be a whole number of at least 1"),
        ({"config": dk.TrainConfig(budget=0.3)}, "a path has no budget, got budget=0.3"),
        (
            {"config": dk.TrainConfig(epochs=2, warmup=2)},
            "warmup must be shorter than the run, got warmup=2 of 2 epochs",
        ),
        (
            {"config": dk.TrainConfig(epochs=3, warmup=2), "snapshots": 100},
            "snapshots must be at most 18, the steps after the warm-up, got 100",
        ),
    ],
)
def test_bad_input(path, data, settings, says):
    net, _ = path  # no matter which: it is not trained
    with pytest.raises(ValueError, match=says):
        lambda_path(net, data, progress=False, **settings)


@pytest.mark.slow
def test_the_whole_front_from_one_training(data):
    table = lambda_path(make_net(data), data, progress=False)
    assert table.kept_macs.iloc[0] > 0.8 and table.kept_macs.iloc[-1] < 0.15
    assert (table.kept_macs.diff()[1:] <= 0).all() and (table.kept_macs.diff()[1:] > -0.4).all()
    assert table.val_accuracy.min() > 0.96 and table.test_accuracy.min() > 0.96
    assert (table.val_accuracy >= table.raw_val_accuracy - 0.01).all()
