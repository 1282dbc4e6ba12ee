"""Says when the price has closed more of a network than it can do without."""

from collections.abc import Mapping, Sequence

from .config import TrainConfig


def collapse_notice(rows: Sequence[Mapping[str, float]], classes: int, config: TrainConfig) -> str:
    """What happened to a run whose accuracy collapsed, and what to change; "" for all others.

    Accuracies count from that of guessing (0) to all right (1). A run has collapsed if it had more than .2,
    has less than half of its best, and has closed a tenth of the MACs since; or if less than .05 is left at
    less than a twentieth of the MACs.

    Example:
        >>> rows = [{"epoch": 1, "val_accuracy": 0.95, "kept_macs": 0.9, "lam": 64.0},
        ...         {"epoch": 2, "val_accuracy": 0.12, "kept_macs": 0.01, "lam": 64.0}]
        >>> print(collapse_notice(rows, 10, TrainConfig(lam=64)))
        The validation accuracy fell from 0.95 (epoch 1) to 0.12: channels closed faster than the network \
could adapt. Try a smaller lam (now 64), a smaller gate_lr, or a longer warmup and ramp.
    """
    if not rows or classes < 2:
        return ""

    def learnt(row: Mapping[str, float]) -> float:
        return (row["val_accuracy"] - 1 / classes) / (1 - 1 / classes)

    last, best = rows[-1], max(rows, key=learnt)
    closed = last["kept_macs"] < 0.9 * best["kept_macs"]
    if learnt(best) > 0.2 and learnt(last) < learnt(best) / 2 and closed:
        what = (
            f"The validation accuracy fell from {best['val_accuracy']:.2f} (epoch {best['epoch']}) "
            f"to {last['val_accuracy']:.2f}"
        )
    elif learnt(last) < 0.05 and last["kept_macs"] < 0.05:
        what = f"The network guesses (validation accuracy {last['val_accuracy']:.2f})"
    else:
        return ""
    price = "a larger budget, " if config.budget is not None else f"a smaller lam (now {last['lam']:g}), "
    price = price if config.budget is not None or last["lam"] else ""  # there may be none
    return (
        f"{what}: channels closed faster than the network could adapt. "
        f"Try {price}a smaller gate_lr, or a longer warmup and ramp."
    )
