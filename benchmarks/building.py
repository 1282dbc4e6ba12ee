"""How long `Channels` takes to find and try the channels of a network, at 96 pixels.

    python benchmarks/building.py [resnet50 dpn68 ...] [--scope all]

All classifiers of torchvision and a small network of each family of timm, with PyTorch's own number of
threads; vision transformers have the image size for which they are made. Targets on two cores: under
5 s for nine in ten of them, under 20 s for all. Printed are seconds, groups, and the share of the channels
that are gated. Exits with 1 if a target is missed.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torchvision import models as zoo

import depl0kit as dk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/proofs"))
from families import TIMM, timm_network

SIDE = 96
SOON, LATEST, NINE_IN_TEN = 5, 20, 0.9  # seconds, and the share of networks that are done in the first
COPIES = 12  # of a network's parameters must fit into memory
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
TORCHVISION = zoo.list_models(module=zoo)


def network(name: str) -> tuple[nn.Module, int]:
    """The network and the pixels of a side; torchvision's where both have the name."""
    if name not in TORCHVISION:
        return timm_network(name, SIDE)
    model = dk.make_model(name, 3, 10)
    return model, getattr(model, "image_size", 224 if name.startswith("maxvit") else SIDE)


def build(name: str, scope: str) -> float | None:
    """Seconds to build the channels of a network; None where it does not fit into memory."""
    model, side = network(name)
    if sum(4 * p.numel() for p in model.parameters()) * COPIES > MEMORY:
        print(f"{name:34s} {scope:6s} no memory", flush=True)
        return None
    start = time.perf_counter()
    groups = dk.Channels(model, torch.zeros(1, 3, side, side), scope).groups
    seconds = time.perf_counter() - start
    gated, channels = (sum(g.channels for g in some) for some in (groups.gated, groups))
    print(f"{name:34s} {scope:6s} {seconds:7.2f} {len(groups):7d} {gated / channels:6.0%}", flush=True)
    return seconds


def report(scope: str, seconds: dict[str, float]) -> bool:
    """Print how many were done in time; returns whether a target is missed."""
    soon, done = (sum(s < limit for s in seconds.values()) / len(seconds) for limit in (SOON, LATEST))
    slowest = max(seconds, key=seconds.get)
    print(
        f"scope={scope!r}, {len(seconds)} networks: {soon:.0%} under {SOON} s (target {NINE_IN_TEN:.0%}), "
        f"{done:.0%} under {LATEST} s (target 100%), {slowest} {seconds[slowest]:.1f} s"
        + (f", resnet50 {seconds['resnet50']:.1f} s" if "resnet50" in seconds else "")
    )
    return soon < NINE_IN_TEN or done < 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help="names of torchvision or timm (default: all as above)")
    parser.add_argument("--scope", choices=("inner", "all"), help="one of them (default: both)")
    args = parser.parse_args()
    names = args.networks or list(dict.fromkeys([*TORCHVISION, *TIMM]))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'network':34s} {'scope':6s} {'seconds':>7s} {'groups':>7s} {'gated':>6s}")
    build("resnet18", "inner")  # the first one loads code
    missed = False
    for scope in (args.scope,) if args.scope else ("inner", "all"):
        found = {name: build(name, scope) for name in names}
        missed |= report(scope, {name: s for name, s in found.items() if s is not None})
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
