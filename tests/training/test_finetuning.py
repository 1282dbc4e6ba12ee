"""After training: statistics of the test-time gates, and epochs without price or noise."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import depl0kit as dk
from depl0kit.training.rates import one_cycle


@pytest.fixture(scope="module")
def data():
    return dk.load_data("digits")


def make_net(data, seed=0, theta=None):
    torch.manual_seed(seed)
    model = dk.make_model("small", 1, 10, data.image_size)
    net = dk.GatedModel(model, example=data.example)
    if theta is not None:
        with torch.no_grad():
            net.posterior.theta.copy_(theta)
    return net


def test_statistics_are_those_of_the_test_time_gates(data):
    torch.manual_seed(3)
    net = make_net(data, theta=torch.randn(144))
    dk.reestimate_batch_norm(net, data)
    small = dk.compact(net)
    seen = []
    small.features[3].register_forward_hook(lambda m, i, out: seen.append(out))
    with torch.no_grad():
        for x, _ in data.train.batches(1000):
            small(x)
    inputs = torch.cat(seen)
    torch.testing.assert_close(small.features[4].running_mean, inputs.mean((0, 2, 3)), atol=0.02, rtol=0.02)
    torch.testing.assert_close(small.features[4].running_var, inputs.var((0, 2, 3)), atol=0.05, rtol=0.05)


def test_statistics_are_all_that_changes(data):
    net = make_net(data).train()
    net.model.features[1].eval()  # a mode that somebody chose
    before = {k: t.clone() for k, t in net.state_dict().items()}
    dk.reestimate_batch_norm(net, data)
    changed = {k for k, t in net.state_dict().items() if not torch.equal(t, before[k])}
    assert changed and all("running_" in k or "num_batches" in k for k in changed)
    assert net.training and not net.model.features[1].training
    assert net.model.features[1].momentum == 0.1
    again = {k: t.clone() for k, t in net.state_dict().items()}
    dk.reestimate_batch_norm(net, data)  # deterministic: no noise, no order
    assert all(torch.equal(t, again[k]) for k, t in net.state_dict().items())


def test_a_batch_norm_that_runs_twice_counts_both(few):
    """Bit for bit what momentum=None computes, which makes a GPU wait."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    layers = nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3), norm, nn.Flatten(), nn.Linear(64, 10)
    net = nn.Sequential(*layers)
    other = copy.deepcopy(net)
    few = replace(few, train=few.test)  # one batch
    dk.reestimate_batch_norm(net, few)
    other[1].momentum = None
    with torch.no_grad():
        for x, _ in few.train.batches(8, torch.Generator().manual_seed(0)):
            other.train()(x)
    assert net[1].momentum == 0.1 and not net[1]._forward_pre_hooks
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize("images", [200, 257, 513])
def test_any_number_of_images_will_do(data, images):
    few = replace(data.train, images=data.train.images[:images], labels=data.train.labels[:images])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    dk.reestimate_batch_norm(net, replace(data, train=few))
    assert bool(net[2].running_var.isfinite().all())


def test_order_of_the_images_does_not_matter(data):
    order = data.train.labels.argsort()
    by_class = replace(data.train, images=data.train.images[order], labels=data.train.labels[order])
    nets = [make_net(data), make_net(data)]
    for net, split in zip(nets, (data.train, by_class), strict=True):
        dk.reestimate_batch_norm(net, replace(data, train=split))
    one, other = (net.model.features[11].running_var for net in nets)
    torch.testing.assert_close(one, other, rtol=0.05, atol=0)


def test_a_network_without_batch_norm_stays_as_it_is(data):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    dk.reestimate_batch_norm(net, data)


def test_gates_do_not_move_and_loss_falls(data):
    net = make_net(data, theta=torch.linspace(-3, 3, 144))
    theta, gates = net.posterior.theta.detach().clone(), net.posterior.flat_deterministic().detach()
    history = dk.fine_tune(net, data, epochs=6, lr=0.05)
    assert torch.equal(net.posterior.theta, theta) and net.posterior.theta.requires_grad
    assert torch.equal(net.posterior.flat_deterministic(), gates)
    assert history.epoch.tolist() == [1, 2, 3, 4, 5, 6] and history.train_loss.is_monotonic_decreasing
    assert history.val_accuracy.iloc[-1] > 0.9
    assert not net.training and not any(m.training for m in net.modules())


def test_gated_and_compact_learn_the_same(data):
    """Folded or not, it is the same network: the first epoch's loss agrees but for weight decay."""
    net = make_net(data, theta=torch.where(torch.arange(144) % 3 == 0, -4.4, 4.5))
    gates = net.posterior.flat_deterministic()
    assert set(gates.unique().tolist()) == {0.0, 1.0}  # else the slices would learn at another rate
    small = dk.compact(net)
    one, other = (dk.fine_tune(n, data, epochs=1, weight_decay=0.0) for n in (net, small))
    assert other.train_loss[0] == pytest.approx(one.train_loss[0], rel=1e-3)


def test_the_same_seed_gives_the_same_numbers(few):
    tables = [dk.fine_tune(dk.compact(make_net(few)), few, epochs=2, batch_size=8, seed=5) for _ in range(2)]
    assert tables[0].drop(columns="seconds").equals(tables[1].drop(columns="seconds"))


def test_dropout_follows_the_seed(few):
    layers = nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)
    nets = [nn.Sequential(*copy.deepcopy(layers)) for _ in range(2)]
    tables = [dk.fine_tune(net, few, epochs=1, batch_size=8).drop(columns="seconds") for net in nets]
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_it_trains_at_the_rates_of_a_run(data):
    """One one-cycle: fine-tuning for two epochs has the rates of a run of two."""
    rates = {}
    hook = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.setdefault(optimiser, []).append(optimiser.param_groups[0]["lr"])
    )
    try:
        dk.fine_tune(dk.compact(make_net(data)), data, epochs=2, lr=0.05, batch_size=200)
        trainer = dk.Trainer(make_net(data), data, dk.TrainConfig(epochs=2, lr=0.05, batch_size=200))
        for _ in trainer:
            pass
    finally:
        hook.remove()
    fine_tuned, *_ = rates.values()
    assert fine_tuned == rates[trainer.optimisers["weights"]] and len(fine_tuned) == 12
    assert fine_tuned == [0.05 * one_cycle((step + 0.5) / 12) for step in range(12)]


@pytest.mark.slow
def test_the_penalty_counts_in_every_step_and_not_in_the_losses(data):
    def pull(net):
        return 1e3 * net.model.features[0].weight.square().sum()

    free, pulled = make_net(data), make_net(data)
    first, second = (dk.fine_tune(net, data, 1, 1e-4, penalty=p) for net, p in ((free, None), (pulled, pull)))
    sizes = [float(net.model.features[0].weight.detach().square().sum()) for net in (free, pulled)]
    assert sizes[1] < 0.1 * sizes[0]
    assert second.train_loss[0] < 2 * first.train_loss[0] < 1e3 * sizes[0]


def test_after_step_sees_every_step_and_what_it_writes_stays(few):
    net = dk.compact(make_net(few))
    frozen, *_ = net.parameters()
    before, seen = frozen.detach().clone(), []

    def hold(step, optimiser):
        seen.append(step)
        with torch.no_grad():
            frozen.copy_(before)
            optimiser.state[frozen]["momentum_buffer"].zero_()

    dk.fine_tune(net, few, 2, batch_size=16, after_step=hold)
    assert seen == list(range(1, 2 * (len(few.train) // 16) + 1))
    assert torch.equal(frozen, before)


def test_parameters_of_a_penalty_are_trained_without_decay(few):
    net, extra, idle = dk.compact(make_net(few)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
    goal = torch.tensor([1.0, -1.0])
    dk.fine_tune(
        net, few, 20, lr=0.1, weight_decay=0.5, batch_size=8, extra=[extra, idle],
        penalty=lambda _: ((extra - goal) ** 2).sum() + 0 * idle.sum(),
    )  # fmt: skip
    torch.testing.assert_close(extra.detach(), goal, atol=0.05, rtol=0)
    assert torch.equal(idle.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"lr": 0}, r"lr must be a number in \(0, inf\), got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"lr": 1e30}, r"loss became (nan|inf) in epoch 1: try a smaller lr \(now 1e\+30\)\.$"),
    ],
)
def test_bad_settings(few, settings, says):
    with pytest.raises(ValueError, match=says):
        dk.fine_tune(make_net(few), few, **settings)


def test_latency_takes_turns_and_restores_modes():
    order = []

    class Spy(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name, self.weight = name, nn.Parameter(torch.zeros(1))

        def forward(self, x):
            order.append((self.name, len(x), self.training))
            return x * self.weight

    nets = {name: Spy(name) for name in "ab"}
    table = dk.latency(nets, torch.zeros(3, 2), batch_sizes=(1, 7), repeats=2)
    assert order == [(n, b, False) for b in (1, 7) for _ in range(5) for n in "ab"]
    assert table[["network", "batch"]].values.tolist() == [["a", 1], ["b", 1], ["a", 7], ["b", 7]]
    assert (table.low <= table.ms).all() and (table.ms <= table.high).all()
    assert all(net.training for net in nets.values())
    with pytest.raises(ValueError, match="repeats must be a whole number"):
        dk.latency(nets, torch.zeros(1, 2), repeats=0)
