"""Images per second of training on a GPU: gated against dense, compiled against eager, and memory.

    python benchmarks/gpu.py [--device cuda] [--batch 512] [--steps 30] [vgg16 resnet56 resnet50]

A step is that of a `Trainer`: bfloat16 autocast, channels-last, loss and penalty, backward, optimisers.
Printed are images/s, the share of the device's measured matmul peak that the convolutions' and linear
layers' FLOPs (3 x forward) reach, the share of the dense network's speed (same column of eager or compiled),
and peak memory. Target: ResNet56 with gates at least 0.9 of the dense network's images/s, compiled. On a
CPU it runs too, to try it.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

import depl0kit as dk

NETWORKS = {"vgg16": 32, "resnet56": 32, "resnet50": 224, "resnet20": 32}  # pixels of a side
POSTERIORS = (None, "mean_field", "forward")
SIZE = 8192  # of the matrices whose product measures the peak


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Mean of `repeats` calls in a row, after three that compile and allocate."""
    for _ in range(3):
        work()
    synchronise(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronise(device)
    return (time.perf_counter() - start) / repeats


def matmul_peak(device: torch.device) -> float:
    """FLOPs per second of a large matrix product in bfloat16."""
    size = SIZE if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, 10, device)


class Batch(nn.Module):
    """Loss of a batch, with the price of the gates if there are any."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        if noise is None:
            return F.cross_entropy(self.net(x), y)
        logits, prob_open = self.net.forward_with_prob_open(x, noise)
        return F.cross_entropy(logits, y) + 4.0 * self.net.expected_share("macs", prob_open)


def make_step(
    name: str, posterior: str | None, compiled: bool, batch: int, device: torch.device
) -> tuple[Callable[[], None], int]:
    """One training step, and the dense MACs of an image."""
    torch.manual_seed(0)
    x = torch.randn(batch, 3, NETWORKS[name], NETWORKS[name], device=device)
    x, y = x.contiguous(memory_format=torch.channels_last), torch.randint(10, (batch,), device=device)
    gated = dk.GatedModel(dk.make_model(name, 3, 10), posterior or "mean_field", example=x[:1].cpu())
    net = (gated if posterior else gated.plain_copy()).to(device, memory_format=torch.channels_last).train()
    weights = gated.model.parameters() if posterior else net.parameters()
    optimisers = [torch.optim.SGD(weights, 0.01, 0.9, weight_decay=5e-4, fused=True)]
    if posterior:
        optimisers.append(torch.optim.Adam(gated.posterior.parameters(), 1e-4, fused=True))
    gated.expected_cost()  # makes the tables of the cost, which are no part of a step
    loss_of = torch.compile(Batch(net)) if compiled else Batch(net)

    def step() -> None:
        noise = gated.posterior.noise(batch) if posterior else None
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(x, y, noise)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()

    return step, gated.dense_cost.macs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default=dk.best_device().type)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("networks", nargs="*", default=["vgg16", "resnet56", "resnet50"])
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else args.device
    peak, missed = matmul_peak(device), False
    print(f"torch {torch.__version__}, {name}, batch {args.batch}, matmul peak {peak / 1e12:.1f} TFLOP/s")
    print("network   gates       mode       images/s  of peak  of dense      MB")
    for network, compiled in itertools.product(args.networks, (False, True)):
        dense = 0.0
        for posterior in POSTERIORS:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            step, macs = make_step(network, posterior, compiled, args.batch, device)
            rate = args.batch / seconds(step, args.steps, device)
            dense = dense or rate
            memory = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else float("nan")
            missed |= device.type == "cuda" and network == "resnet56" and compiled and rate < 0.9 * dense
            mode = "compiled" if compiled else "eager"
            row = f"{network:9s} {posterior or 'none':11s} {mode:9s} {rate:9.0f} "
            print(f"{row}{6 * macs * rate / peak:8.1%} {rate / dense:9.3f} {memory:7.0f}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
