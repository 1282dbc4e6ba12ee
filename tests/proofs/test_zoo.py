"""Every classifier of torchvision: what is gated is removed exactly, the rest says which layer forbids it."""

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
MLPS = {  # hidden units of transformers, which have gates in both scopes
    "maxvit": r"\.mlp_layer\.1$",
    "swin": r"\.mlp\.0$",
    "vit": r"\.mlp\.0$",
}
SIDES = {"maxvit": 224, "vit": 224}  # pixels, where a network has its size
ALWAYS = ("a residual stream", "it is the network's output", "it is the network's input", "no layer reads it")
COPIES = 12  # of a network's parameters must fit into memory: a check needs 6 or more, others need some
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
pytestmark = [pytest.mark.proofs, pytest.mark.timeout(3600)]


def test_every_classifier_belongs_to_a_family():
    assert sum(len(names) for names in FAMILIES.values()) == len(NAMES) >= 80


@pytest.mark.parametrize("family", FAMILIES)
def test_networks(family, proved):
    done, large, gates = [], [], 0
    for name in FAMILIES[family]:
        model = dk.make_model(name, 3, 10)
        if sum(4 * p.numel() for p in model.parameters()) * COPIES > MEMORY:
            large.append(name)
        else:
            gates += exact(probe_copy(model), family)
            done.append(name)
    text = f"zoo, {family}: {', '.join(done)} ({gates} gates) exact in {12 * len(done)} removals"
    proved(text + (f", no memory for {', '.join(large)}" if large else ""))


def exact(model: torch.nn.Module, family: str) -> int:
    """Check one network with both scopes; returns how many gates they have."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, *[SIDES.get(family, 80)] * 2)
    gates = 0
    for scope in ("inner", "all"):
        net = check_network(model, x, scope)
        gates += sum(net.posterior.sizes)
        check_reasons(model, net.groups)
        check_hidden_units(model, net.groups, MLPS.get(family))
    return gates


def check_reasons(model: torch.nn.Module, groups: list) -> None:
    """A group without gates says why: where it must stay by nature, or which layer is in the way of it."""
    names = {name for name, _ in (*model.named_modules(), *model.named_parameters()) if name}
    for group in groups:
        if not group.gated and not group.refusal.startswith(ALWAYS):
            words = re.findall(r"[\w.]+", group.refusal)
            assert names & set(words), group.refusal


def check_hidden_units(model: torch.nn.Module, groups: list, pattern: str | None) -> None:
    """Attention refuses its own channels, not the network: every MLP of a transformer is gated."""
    if pattern:
        gated = {name for group in groups if group.gated for name in group.writers}
        hidden = {name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        hidden = {name for name in hidden if re.search(pattern, name)}
        assert hidden and hidden <= gated, hidden - gated
