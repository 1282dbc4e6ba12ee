"""How much of the saved MACs becomes saved time: dense, gated in eval mode, and compact.

    python benchmarks/compaction.py [resnet56 vgg16 resnet50] [--device cuda] [--round 8] [--repeats 20]

The same share of random channels is closed in every group, as large as keeps 75, 50 and 25 % of the
MACs (streams included: scope="all"). Medians of forward passes that take turns. The ideal speed-up is
dense MACs over MACs of the compact network; `reached` is (dense time / compact time) / ideal. With
`--round 8` a compact network whose widths are multiples of 8 takes part in the same turns.
"""

import argparse

import torch

import depl0kit as dk
from depl0kit.gates.posterior import START

SIZES = {"resnet56": 32, "vgg16": 32, "resnet50": 224}  # name -> pixels of a side
KEPT = (0.75, 0.5, 0.25)


def close_channels(net: dk.GatedModel, kept_macs: float) -> None:
    """Close random channels, the same share of every group, until `kept_macs` of the MACs are left."""
    channels = net.channels.sizes

    def counts(share: float) -> list[int]:
        return [max(1, round(share * n)) for n in channels]

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        too_much = (net.channels.cost(counts(middle)) / net.dense_cost).macs > kept_macs
        low, high = (low, middle) if too_much else (middle, high)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for theta, n in zip(net.posterior.split(net.posterior.theta), counts(low), strict=True):
            shut = torch.randperm(len(theta), generator=generator)[n:]
            theta.fill_(START)
            theta[shut] = -20.0


def measure(name: str, kept: float, device: torch.device, round_to: int, repeats: int) -> None:
    torch.manual_seed(0)
    side = SIZES[name]
    x = torch.randn(1, 3, side, side, device=device)
    dense = dk.make_model(name).to(device, memory_format=torch.channels_last).eval()
    net = dk.GatedModel(dense, example=x, scope="all").eval()
    close_channels(net, kept)
    networks = {"dense": dense, "gated": net, "compact": dk.compact(net)}
    costs = {"dense": net.dense_cost.macs, "gated": net.dense_cost.macs, "compact": net.exact_cost().macs}
    if round_to > 1:
        label = f"compact/{round_to}"
        networks[label] = dk.compact(net, round_to)
        counts = zip(net.groups.gated, net.open_channels(), strict=True)
        widths = [min(g.channels, -(-n // round_to) * round_to) for g, n in counts]
        costs[label] = net.channels.cost(widths).macs
    times = dk.latency(networks, x, repeats=repeats)
    for batch, table in times.groupby("batch"):
        ms = table.set_index("network").ms
        for network in networks:
            ideal, got = costs["dense"] / costs[network], ms.dense / ms[network]
            share = f"{got / ideal:8.0%}" if network.startswith("compact") else " " * 8
            print(
                f"{name:9s} {kept:5.0%} {batch:6d} {network:10s} {costs[network] / 1e6:9.1f} "
                f"{ms[network]:9.2f} {got:9.2f} {ideal:7.2f} {share}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list(SIZES), help=f"any of {', '.join(SIZES)}")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps")
    parser.add_argument("--round", type=int, default=1, help="also with widths that are multiples of this")
    parser.add_argument("--repeats", type=int, default=20, help="forward passes of each (default 20)")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    print(
        f"{'network':9s} {'kept':>5s} {'batch':>6s} {'variant':10s} {'M MACs':>9s} {'ms':>9s} "
        f"{'speed-up':>9s} {'ideal':>7s} {'reached':>8s}"
    )
    for name in args.networks:
        for kept in KEPT:
            measure(name, kept, device, args.round, args.repeats)


if __name__ == "__main__":
    main()
