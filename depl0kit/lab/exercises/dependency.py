"""The exercise of 03_dependency: the forward generator of Dep-L0."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ...gates.posterior import BOUND
from .base import Wrong, exercise, refuse_mistakes, run

Vectors = list[np.ndarray]


def _generate(
    weights: Vectors,
    biases: Vectors,
    bound: float = BOUND,
    squash: Callable[[np.ndarray], np.ndarray] = np.tanh,
    scale_in: float = 1.0,
) -> Vectors:
    """log_alphas of the forward chain; the last three arguments make mistaken ones."""
    h, result = np.ones(weights[0].shape[1]), []
    for w, b in zip(weights, biases, strict=True):
        result.append(bound * squash(w @ h + b))
        h = result[-1] * scale_in
    return result


# what readers write instead, as (chain, what is wrong with it)
MISTAKES: list[tuple[Callable[[Vectors, Vectors], Vectors], str]] = [
    (lambda w, b: _generate(w, b, bound=1.0), "The bound c = log 100 in front of tanh is missing."),
    (
        lambda w, b: _generate(w, b, bound=np.log10(100)),
        "The bound is the natural logarithm: math.log(100) = 4.605.",
    ),
    (lambda w, b: _generate(w, b, squash=lambda x: x), "The tanh is missing: log α would not be bounded."),
    (
        lambda w, b: _generate(w, b, scale_in=1 / BOUND),
        "Pass log α itself, with its factor c, to the next group.",
    ),
    (lambda w, b: _generate(w, [0 * x for x in b]), "The biases are missing."),
    (
        lambda w, b: [_generate([one], [other])[0] for one, other in zip(w, b, strict=True)],
        "Only the first group starts from ones; the others read the log α of the group before.",
    ),
]


def _three_groups() -> tuple[Vectors, Vectors]:
    """Weights and biases."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.3, shape) for shape in ((3, 4), (5, 3), (2, 5))]
    return weights, [rng.normal(0, 0.3, n) for n in (3, 5, 2)]


@exercise
def check_generate(generate: Callable[..., Any]) -> str:
    """The forward generator of Dep-L0: a list of log_alphas from lists of weights and biases."""
    answer = run(generate, "generate(weights, biases)", *_three_groups())
    truth = _generate(*_three_groups())
    vectors = _vectors(answer, [len(log_alpha) for log_alpha in truth])
    differing = [i for i, pair in enumerate(zip(vectors, truth, strict=True)) if not _close(*pair)]
    if not differing:
        return "Right: three groups, bounded by log 100, each computed from the one before."
    refuse_mistakes(MISTAKES, lambda chain: all(map(_close, vectors, chain(*_three_groups()))))
    first = f"Group {differing[0] + 1} is the first that differs."
    raise Wrong(f"{first} It should be c·tanh(W h + b) of the group before.")


def _vectors(answer: Any, sizes: list[int]) -> Vectors:
    """`answer`, if it is a list of one array of finite numbers per group."""
    wanted = f"Expected a list of {len(sizes)} arrays, one per group"
    if not isinstance(answer, list | tuple):
        raise Wrong(f"{wanted}; got {type(answer).__name__}.")
    if len(answer) != len(sizes):
        raise Wrong(f"{wanted} (the ones at the start are not a group); got {len(answer)}.")
    return [_vector(f"Group {i}", *pair) for i, pair in enumerate(zip(answer, sizes, strict=True), 1)]


def _vector(name: str, entry: Any, size: int) -> np.ndarray:
    try:
        vector = np.asarray(entry)
    except Exception:  # lists of unequal lengths, a tensor with a gradient, ...
        vector = np.array(None)
    if vector.dtype.kind not in "fiu":
        raise Wrong(f"{name} should be an array of {size} numbers, not {type(entry).__name__}.")
    if vector.shape != (size,):
        raise Wrong(f"{name} should have the shape ({size},), one log α per channel, not {vector.shape}.")
    if not np.isfinite(vector).all():
        raise Wrong(f"{name} has entries that are not finite: tanh would keep log α within ±{BOUND:.3f}.")
    return vector


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, atol=1e-4)
