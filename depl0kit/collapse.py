"""Says when the price has closed more of a network than it can do without."""

from collections.abc import Mapping, Sequence

from .config import TrainConfig

NEAR_CHANCE = 1.5  # times the accuracy of guessing
HARDLY_ANY = 0.05  # of the MACs


def collapse_notice(rows: Sequence[Mapping[str, float]], classes: int, config: TrainConfig) -> str:
    """What happened to a run whose accuracy collapsed, and what to change; "" for all others.

    A run has collapsed if its validation accuracy is below half of the best that it had, or if it still is
    that of guessing when hardly any MACs are left.

    Args:
        rows: of `run.history`, in their order.
        classes: how many the data have.
        config: settings of the run.

    Example:
        >>> rows = [{"epoch": 1, "val_accuracy": 0.95, "kept_macs": 0.9, "lam": 64.0},
        ...         {"epoch": 2, "val_accuracy": 0.12, "kept_macs": 0.01, "lam": 64.0}]
        >>> print(collapse_notice(rows, 10, TrainConfig(lam=64)))
        The validation accuracy fell from 0.95 (epoch 1) to 0.12: channels closed faster than the network \
could adapt. Try a smaller lam (now 64), a smaller gate_lr, or a longer warmup and ramp.
    """
    if not rows:
        return ""
    last, best = rows[-1], max(rows, key=lambda row: row["val_accuracy"])
    chance = NEAR_CHANCE / classes
    if best["val_accuracy"] > 2 * chance and last["val_accuracy"] < best["val_accuracy"] / 2:
        what = (
            f"The validation accuracy fell from {best['val_accuracy']:.2f} (epoch {best['epoch']}) "
            f"to {last['val_accuracy']:.2f}"
        )
    elif last["val_accuracy"] <= chance and last["kept_macs"] < HARDLY_ANY:
        what = f"The network guesses (validation accuracy {last['val_accuracy']:.2f})"
    else:
        return ""
    price = "a larger budget" if config.budget is not None else f"a smaller lam (now {last['lam']:g})"
    return (
        f"{what}: channels closed faster than the network could adapt. "
        f"Try {price}, a smaller gate_lr, or a longer warmup and ramp."
    )
