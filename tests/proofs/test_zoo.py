"""Every classifier of torchvision: convolutional networks are removed from exactly, transformers refused."""

import itertools
import os
import re

import pytest
import torch
from test_any_cnn import check_network
from torchvision import models as zoo

import depl0kit as dk
from depl0kit.channels.tracing import probe_copy

NAMES = zoo.list_models(module=zoo)
FAMILIES = {
    family: list(names) for family, names in itertools.groupby(NAMES, lambda n: re.match("[a-z]+", n)[0])
}
TRANSFORMERS = ("maxvit", "swin", "vit")
COPIES = 12  # of a network's parameters must fit into memory: a check needs 6 or more, others need some
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
pytestmark = [pytest.mark.proofs, pytest.mark.timeout(3600)]


def test_every_classifier_belongs_to_a_family():
    assert sum(len(names) for names in FAMILIES.values()) == len(NAMES) >= 80


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in TRANSFORMERS])
def test_convolutional_networks(family, proved):
    done, large, gates = [], [], 0
    for name in FAMILIES[family]:
        model = dk.make_model(name, 3, 10)
        if sum(4 * p.numel() for p in model.parameters()) * COPIES > MEMORY:
            large.append(name)
        else:
            gates += exact(probe_copy(model))
            done.append(name)
    text = f"zoo, {family}: {', '.join(done)} ({gates} gates) exact in {12 * len(done)} removals"
    proved(text + (f", no memory for {', '.join(large)}" if large else ""))


def exact(model: torch.nn.Module) -> int:
    """Check one network with both scopes; returns how many gates they have."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 80, 80)
    nets = (check_network(model, x, scope) for scope in ("inner", "all"))
    return sum(sum(net.posterior.sizes) for net in nets)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_transformers_are_refused_in_a_line(family, proved):
    for name in FAMILIES[family]:
        with pytest.raises(ValueError, match=r"computes attention \(.*\), as transformers do") as caught:
            dk.GatedModel(dk.make_model(name, 3, 10), example=torch.zeros(1, 3, 224, 224))
        assert "\n" not in str(caught.value)
    proved(f"zoo, {family}: transformers refused in a line that says why: {len(FAMILIES[family])}")
