"""Peak memory of a training step with gates over that without, same network.

    python benchmarks/memory.py [--device cuda] [--batch 128] [vgg16 ...]

Each is trained for a few steps in a process of its own. Counted is what torch allocates, weights and
gradients and optimisers included, on a CPU by its profiler. Exits with 1 if a ratio exceeds its bar.
"""

import argparse
import multiprocessing
import sys
from itertools import accumulate

import torch
from gate_overhead import NETWORKS, make_step
from torch.profiler import ProfilerActivity, profile

BAR = 1.10
STEPS = 3


def peak(network: str, posterior: str | None, device: str, batch: int) -> float:
    """Megabytes that a few training steps need at most; call it in a new process."""
    torch.set_num_threads(2)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = make_step(network, posterior, torch.device(device), batch)
        for _ in range(STEPS):
            step()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    changes = [e.nbytes() for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(changes)) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("networks", nargs="*", default=["vgg16"], help=f"any of {', '.join(NETWORKS)}")
    args = parser.parse_args()
    processes, missed = multiprocessing.get_context("spawn"), False
    print(f"torch {torch.__version__}, {args.device}, batch {args.batch}; peak MB of {STEPS} steps")
    print(f"{'network':10s} {'gates':12s} {'without':>8s} {'with':>8s} {'ratio':>6s} {'bar':>5s}")
    for network in args.networks:
        for posterior in ("mean_field", "forward"):
            with processes.Pool(1, maxtasksperchild=1) as pool:
                dense, gated = (
                    pool.apply(peak, (network, p, args.device, args.batch)) for p in (None, posterior)
                )
            missed |= gated / dense > BAR
            print(f"{network:10s} {posterior:12s} {dense:8.0f} {gated:8.0f} {gated / dense:6.3f} {BAR:5.2f}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
