"""What gates add to a training step: time with gates over time without, same network and machine.

    python benchmarks/gate_overhead.py [--device cuda] [--steps 200] [--contiguous] [resnet56 ...]

Steps with and without gates are taken in turn, so that both meet the same state of the machine. A
step is forward, loss (and penalty), backward and optimisers, batch 64. Memory and layout
(channels-last) are as in a `Trainer`; with --contiguous the layout is PyTorch's default, in which
convolutions take longer on a CPU while gates take the same. Printed are the median times and the ratio of the
medians; exits with 1 if a ratio exceeds its bar on a CPU.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import depl0kit as dk
from depl0kit.support.device import keep_freed_memory

BATCH = 64
# name -> input channels, pixels of a side, share of --steps: a VGG16 step takes as long as 100 small ones
NETWORKS = {
    "small": (1, 8, 1.0),
    "vgg16": (3, 32, 0.05),
    "resnet56": (3, 32, 0.1),
    "resnet50": (3, 96, 0.02),
}
BARS = {"mean_field": 1.05, "forward": 1.08}


def make_step(
    network: str,
    posterior: str | None,
    device: torch.device,
    batch: int = BATCH,
    layout: torch.memory_format = torch.channels_last,
) -> Callable[[], None]:
    """One training step of a network, dense where `posterior` is None."""
    torch.manual_seed(0)
    channels, side, _ = NETWORKS[network]
    x = torch.randn(batch, channels, side, side, device=device).contiguous(memory_format=layout)
    y = torch.randint(10, (batch,), device=device)
    net = dk.make_model(network, channels, 10, (side, side)).to(device, memory_format=layout)
    parameters = net.parameters()
    optimisers = []
    if posterior:
        net = dk.GatedModel(net, posterior, example=x)
        parameters = net.model.parameters()
        optimisers.append(torch.optim.Adam(net.posterior.parameters(), 1e-4, fused=True))
    optimisers.append(torch.optim.SGD(parameters, 0.01, 0.9, weight_decay=5e-4, fused=True))

    def step() -> None:
        if posterior:
            logits, prob_open = net.forward_with_prob_open(x)
            loss = F.cross_entropy(logits, y) + 4.0 * net.expected_share("macs", prob_open)
        else:
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()

    return step


def seconds(step: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def compare(
    network: str, posterior: str, steps: int, device: torch.device, layout: torch.memory_format
) -> tuple[float, float]:
    """Median seconds of a step without and with gates."""
    pair = [make_step(network, gates, device, layout=layout) for gates in (None, posterior)]
    times: tuple[list[float], list[float]] = [], []
    for i in range(steps + 3):
        for step, kept in zip(pair, times, strict=True):
            took = seconds(step, device)
            if i >= 3:  # the first steps allocate
                kept.append(took)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps")
    parser.add_argument("--steps", type=int, default=400, help="steps of the small network (default 400)")
    parser.add_argument("--contiguous", action="store_true", help="PyTorch's layout, not channels-last")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=f"any of {', '.join(NETWORKS)}")
    args = parser.parse_args()
    device = torch.device(args.device)
    layout = torch.contiguous_format if args.contiguous else torch.channels_last
    keep_freed_memory()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, batch {BATCH}, {layout}")
    print(f"{'network':8s} {'gates':12s} {'without ms':>11s} {'with ms':>9s} {'ratio':>7s} {'bar':>5s}")
    missed = False
    for network in args.networks:
        for posterior, bar in BARS.items():
            dense, gated = compare(
                network, posterior, int(args.steps * NETWORKS[network][-1]), device, layout
            )
            missed |= device.type == "cpu" and gated / dense > bar
            row = f"{network:8s} {posterior:12s} {1e3 * dense:11.2f} {1e3 * gated:9.2f}"
            print(f"{row} {gated / dense:7.3f} {bar:5.2f}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
