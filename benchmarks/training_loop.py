"""Images a second of a `Trainer` over those of a bare loop: same gated network, data, batches and machine.

    python benchmarks/training_loop.py [--turns 40] [small medium thin_resnet20]

The bare loop is the one of lesson 02: a batch, forward, loss and price, backward, two optimisers, zero_grad,
on images that are ready in memory. The `Trainer` also draws the order of the images and the noise of the
gates by seeds of their own, follows schedules and ramps, and remembers the gates. Both train in turns of a
few steps, so that they meet the same state of the machine. What a run does between epochs, such as
validation and checkpoints, is not in a turn. Printed are medians and the ratio; exits with 1 if one is below
the bar.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F

import depl0kit as dk
from depl0kit.support.device import keep_freed_memory

BAR, BATCH = 0.95, 64
NETWORKS = {"small": (1, 8, 20), "medium": (3, 32, 4), "thin_resnet20": (3, 32, 4)}  # channels, side, steps


def made_up(channels: int, side: int, images: int = 64 * BATCH) -> dk.data.Data:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, channels, side, side), generator=rng, dtype=torch.uint8)
    labels = torch.arange(images) % 10
    return dk.make_data((pixels, labels), val=(pixels[:100], labels[:100]), test=(pixels[:100], labels[:100]))


def gated(network: str, data: dk.data.Data, side: int) -> dk.GatedModel:
    torch.manual_seed(0)
    model = dk.make_model(network, data.in_channels, 10, (side, side))
    return dk.GatedModel(model, "mean_field", data.example)


def trainer_steps(network: str, data: dk.data.Data, side: int) -> Iterator[None]:
    yield from dk.Trainer(gated(network, data, side), data, dk.TrainConfig(epochs=100_000, batch_size=BATCH))


def bare_steps(network: str, data: dk.data.Data, side: int) -> Iterator[None]:
    net = gated(network, data, side).train().to(memory_format=torch.channels_last)
    images = torch.cat([x for x, _ in data.train.batches(BATCH)]).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.cat([y for _, y in data.train.batches(BATCH)])
    optimisers = [
        torch.optim.SGD(net.model.parameters(), 0.05, 0.9, weight_decay=5e-4, fused=True),
        torch.optim.Adam(net.posterior.parameters(), 0.1, fused=True),
    ]
    while True:
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            logits, prob_open = net.forward_with_prob_open(x)
            (F.cross_entropy(logits, y) + 4.0 * net.expected_share("macs", prob_open)).backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            yield


def compare(network: str, turns: int) -> tuple[float, float]:
    """Median images a second of the bare loop and of the `Trainer`."""
    channels, side, steps = NETWORKS[network]
    data = made_up(channels, side)
    loops = [bare_steps(network, data, side), trainer_steps(network, data, side)]
    rates: tuple[list[float], list[float]] = [], []
    for turn in range(turns + 1):
        for loop, kept in zip(loops, rates, strict=True):
            next(loop)  # an epoch may end in it
            start = time.perf_counter()
            for _ in range(steps):
                next(loop)
            if turn:  # the first one allocates
                kept.append(steps * BATCH / (time.perf_counter() - start))
    return statistics.median(rates[0]), statistics.median(rates[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=40, help="of each loop (default 40)")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=f"any of {', '.join(NETWORKS)}")
    args = parser.parse_args()
    keep_freed_memory()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, images a second")
    print(f"{'network':14s} {'bare':>8s} {'Trainer':>8s} {'ratio':>7s} {'bar':>5s}")
    missed = False
    for network in args.networks:
        bare, ours = compare(network, args.turns)
        missed |= ours / bare < BAR
        print(f"{network:14s} {bare:8.0f} {ours:8.0f} {ours / bare:7.3f} {BAR:5.2f}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
