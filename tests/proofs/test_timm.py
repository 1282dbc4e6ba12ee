"""A small network of every family of timm: what is gated is removed exactly, the rest says why it stays."""

import re
import time
from dataclasses import dataclass

import pytest
import torch
from families import CHEAP, TIMM, timm_network
from test_any_cnn import CLOSED, OPEN, check_removal, set_gates
from torch import Tensor, nn

import depl0kit as dk
from depl0kit.channels.tracing import probe_copy

SIDE = 96  # pixels, where the network does not fix them
SENSITIVE = ("visformer_tiny",)  # with random scales its softmax saturates, and blows up rounding in float32


def probe(name: str, side: int = SIDE) -> tuple[nn.Module, Tensor]:
    """With random scales and statistics, so that no error hides behind a layer that does nothing."""
    model, side = timm_network(name, side)
    model, x = probe_copy(model), torch.randn(2, 3, side, side)
    return (model.double(), x.double()) if name in SENSITIVE else (model, x)


@dataclass
class Seen:
    """What `check` saw of a network: share of its channels that have gates, CPU seconds to find them."""

    scope: str
    gated: float
    seconds: float
    exact: bool = True

    def __str__(self) -> str:
        what = f"{self.gated:.0%} gated, exact" if self.exact else "nothing to gate, with reasons"
        return f"{self.scope} {what}, built in {self.seconds:.1f} CPU s"


def check(model: nn.Module, x: Tensor, scope: str) -> Seen:
    """Gates of all shares are removed exactly; or there are none, and every group says why."""
    start = time.process_time()
    try:
        net = dk.GatedModel(model, example=x, scope=scope)
    except ValueError as error:
        check_reasons(str(error))
        return Seen(scope, 0.0, time.process_time() - start, exact=False)
    seconds = time.process_time() - start
    assert all(g.refusal for g in net.groups if not g.gated)
    for seed, closed in enumerate((0.1, 0.5, 0.9, 1.0)):  # 1.0 leaves one channel, or none of a branch
        set_gates(net, closed, seed)
        check_removal(net, x, tolerance=1e-4)
    close_one(net)
    check_use(net, check_removal(net, x, tolerance=1e-4), x)
    gated, all_ = (sum(g.channels for g in groups) for groups in (net.groups.gated, net.groups))
    return Seen(scope, gated / all_, seconds)


def check_reasons(table: str) -> None:
    """A network without gates shows its groups, and a reason for each."""
    assert table.startswith("nothing to gate"), table
    needed = set(re.findall(r"none \((\d+)\)$", table, re.MULTILINE))
    assert needed and needed == set(re.findall(r"^\((\d+)\) \S+ \S+", table, re.MULTILINE)), table


def close_one(net: dk.GatedModel) -> None:
    """All gates but one of each group are open."""
    with torch.no_grad():
        for theta in net.posterior.split(net.posterior.theta):
            theta.fill_(OPEN)
            theta[len(theta) // 2] = CLOSED


def check_use(net: dk.GatedModel, small: nn.Module, x: Tensor) -> None:
    """The compact network does what the gated one does with other batches and sizes, and can be trained."""
    wide = torch.randn(1, 3, x.shape[2] + 32, x.shape[3]).to(x)
    inputs = [x, x[:1], torch.cat([x, x[:1]]), *([wide] if takes(net.model, wide) else [])]
    with torch.no_grad():
        for images in inputs:
            expected, got = net(images), small(images)
            assert float((got - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
        assert torch.equal(small(x), small(x))
        assert small.train()(x).isfinite().all()


def takes(model: nn.Module, x: Tensor) -> bool:
    """Whether a network reads images of this size: some know one only."""
    try:
        model(x)
    except Exception:  # of any kind: timm's networks assert, reshape and add
        return False
    return True


def check_both(name: str, side: int = SIDE) -> str:
    seen = [check(*probe(name, side), scope) for scope in ("inner", "all")]
    return f"timm, {name}: {'; '.join(map(str, seen))}"


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
def test_cheap_networks(name, proved):
    proved(check_both(name, 64))


@pytest.mark.proofs
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TIMM)
def test_networks(name, proved):
    proved(check_both(name))
