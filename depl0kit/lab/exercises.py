"""Checkers of the notebooks' exercises: they print one line that says what is wrong, and never raise.

A checker is a function decorated with `exercise` that looks at what the reader wrote. It returns the
line for a right answer, and raises `Wrong` with the line for a wrong one. What the reader's own
function does, it asks for through `call`, which turns errors, None and non-numbers into `Wrong`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..hard_concrete import HardConcrete
from ..posteriors import BOUND


class Wrong(Exception):
    """An answer that is not right; the text tells the reader why."""


def exercise(checker: Callable[..., str]) -> Callable[..., None]:
    """Make a checker print its verdict."""

    @functools.wraps(checker)
    def check(*answers: Any) -> None:
        try:
            print(f"✓ {checker(*answers)}")
        except Wrong as reason:
            print(f"✗ {reason}")

    return check


def call(function: Callable[..., Any], *arguments: Any) -> float:
    """The number that the reader's function returns.

    Raises:
        Wrong: it is no function, raises, or returns something other than one finite number.
    """
    name = getattr(function, "__name__", "your function")
    shown = f"{name}({', '.join(f'{float(a):g}' for a in arguments)})"
    return number(shown, run(function, shown, *arguments))


def run(function: Callable[..., Any], shown: str, *arguments: Any) -> Any:
    """Whatever the reader's function returns.

    Raises:
        Wrong: it is no function, or raises.
    """
    if not callable(function):
        raise Wrong(f"The function itself is wanted, without brackets after its name; got {function!r}.")
    try:
        return function(*arguments)
    except Exception as error:  # whatever the reader's code does, they get one line
        raise Wrong(f"{shown} raised {type(error).__name__}: {error}") from error


def number(name: str, answer: Any) -> float:
    """`answer` as a float.

    Raises:
        Wrong: it is None (not solved yet), or not one finite number.
    """
    if answer is None or answer is ...:
        raise Wrong(f"{name} is still {answer}: put your answer in its place.")
    try:
        value = None if isinstance(answer, str) else float(answer)
    except Exception:  # a list, a tensor of many entries, ...
        value = None
    if value is None:
        raise Wrong(f"{name} should be one number, not {type(answer).__name__} {answer!r:.60}.")
    if not math.isfinite(value):
        raise Wrong(f"{name} is {answer!r:.60}, not finite: a logarithm of something negative?")
    return value


def near(a: float, b: float) -> bool:
    """Equal up to the rounding of float32."""
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5)


# ---- 00_welcome


@exercise
def check_macs(macs: Callable[..., float], share: float) -> str:
    """Multiply-accumulates of a convolution, and the share of them left at half the inputs and outputs.

    Args:
        macs: function of kernel, inputs, outputs, and height and width of its output.
        share: in 0..1.
    """
    sizes = (3, 5, 7, 11, 13)
    found = call(macs, *sizes)
    if found <= 0:
        raise Wrong(f"A convolution of positive sizes costs something; yours costs {found:g} MACs.")
    for i, argument in enumerate(("kernel", "inputs", "outputs", "height", "width")):
        _check_growth(call(macs, *sizes[:i], 2 * sizes[i], *sizes[i + 1 :]) / found, argument)
    factor = found / (3 * math.prod(sizes))
    if near(factor, 2):
        raise Wrong("That is twice as much: you count FLOPs. A multiply-accumulate is one MAC and two FLOPs.")
    if not near(factor, 1):
        raise Wrong(f"It grows as it should, but is {factor:.3g} times the MACs: is there a factor too many?")
    _check_share(number("share", share))
    return "Right. Cost is a product of inputs and outputs: close half of both, and a quarter of it is left."


def _check_growth(ratio: float, argument: str) -> None:
    """`ratio`: how many times the MACs are with twice the argument."""
    expected = 4 if argument == "kernel" else 2
    if near(ratio, 1):
        raise Wrong(f"The result does not depend on `{argument}`, but the number of products does.")
    if not near(ratio, expected):
        why = ": a kernel of size k has k x k weights." if argument == "kernel" else "."
        raise Wrong(f"Twice the `{argument}` should cost {expected} times the MACs, not {ratio:.3g}{why}")


def _check_share(share: float) -> None:
    if near(share, 0.5):
        raise Wrong("macs is right; share is one half only if just the inputs, or just the outputs, close.")
    if near(share, 0.75):
        raise Wrong("macs is right; for share you give what is saved. What is left?")
    if near(share, 25):
        raise Wrong("macs is right; give share as a number between 0 and 1, not in per cent.")
    if not near(share, 0.25):
        raise Wrong(f"macs is right, share {share:g} is not: divide macs of the halved layer by macs.")


# ---- 01_one_gate


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# what readers write instead of eq. 12, as (formula, what is wrong with it); a: log_alpha, t: temperature
PROB_OPEN_MISTAKES: list[tuple[Callable[[float, float, float, float], float], str]] = [
    (
        lambda a, t, g, z: _sigmoid(a),
        "That is a plain coin, P(u < sigmoid(log α)): the stretch is missing.",
    ),
    (
        lambda a, t, g, z: _sigmoid(a / t),
        "That is the median of s: the stretch is missing, and a probability was asked for.",
    ),
    (
        lambda a, t, g, z: 1 - _sigmoid(a - t * math.log(-g / z)),
        "That is P(z = 0), the gate closed. P(open) is the rest.",
    ),
    (
        lambda a, t, g, z: _sigmoid(a + t * math.log(-g / z)),
        "The sign of β log(-γ/ζ) is turned. With a small overhang -γ few gates are closed.",
    ),
    (
        lambda a, t, g, z: _sigmoid(a - math.log(-g / z)),
        "The temperature β is missing in front of the logarithm.",
    ),
    (
        lambda a, t, g, z: _sigmoid((a - math.log(-g / z)) / t),
        "β belongs to the logarithm only, as a factor: solve s > -γ/(ζ-γ) for logit u once more.",
    ),
    (
        lambda a, t, g, z: _sigmoid(a / t - math.log(-g / z)),
        "Almost: logit u must stand alone, so multiply (logit u + log α)/β > log(-γ/ζ) by β.",
    ),
    (
        lambda a, t, g, z: _sigmoid(a - t * math.log(-g / (z - g))),
        "-γ/(ζ-γ) is the right threshold of s, but its logit is wanted: log of s/(1-s), not of s.",
    ),
]
PROB_OPEN_CASES = (
    *((0.0, 2 / 3, -0.1, 1.1), (1.5, 2 / 3, -0.1, 1.1), (-2.0, 0.3, -0.2, 1.1)),
    *((-1.0, 1.5, -0.1, 1.4), (3.0, 1.0, -0.5, 1.5)),
)


@exercise
def check_prob_open(prob_open: Callable[..., float]) -> str:
    """P(z > 0) of a hard-concrete gate, a function of log_alpha (a tensor), temperature, gamma and zeta."""
    answers = [call(prob_open, torch.tensor(a), *rest) for a, *rest in PROB_OPEN_CASES]
    gates = [(torch.tensor(a), HardConcrete(t, stretch)) for a, t, *stretch in PROB_OPEN_CASES]
    truths = [float(hc.prob_open(log_alpha)) for log_alpha, hc in gates]
    for formula, reason in PROB_OPEN_MISTAKES:
        if all(near(answer, formula(*case)) for answer, case in zip(answers, PROB_OPEN_CASES, strict=True)):
            raise Wrong(reason)
    for case, answer, truth in zip(PROB_OPEN_CASES, answers, truths, strict=True):
        if not near(answer, truth):
            raise Wrong(
                f"{_gate(case)}: yours is {answer:.3f}, but {truth:.3f} of its draws are open. "
                "Start from z > 0, that is s > -γ/(ζ-γ), and take the logit of both sides."
            )
    return "Right: it agrees with the package at five different gates."


def _gate(case: Sequence[float]) -> str:
    a, t, gamma, zeta = case
    return f"log α = {a:g}, β = {t:.2g}, γ = {gamma:g}, ζ = {zeta:g}"


# ---- 02_mean_field


def _penalty(lam: float, prob_open: Sequence[torch.Tensor], macs: Sequence[float]) -> float:
    shares = [1.0, *(float(p.mean()) for p in prob_open)]
    expected = sum(m * i * o for m, i, o in zip(macs, shares, shares[1:], strict=False))
    return lam * expected / sum(macs)


def _cost(
    shares: Callable[[float, float], float], prob_open: Sequence[torch.Tensor], macs: Sequence[float]
) -> float:
    """Expected MACs where a layer's share is this function of the open shares of inputs and outputs."""
    opens = [1.0, *(float(p.mean()) for p in prob_open)]
    return sum(m * shares(i, o) for m, i, o in zip(macs, opens, opens[1:], strict=False))


PENALTY_CASE = (3.0, [torch.tensor([0.9, 0.2, 0.4]), torch.tensor([0.7, 0.1])], [500.0, 1200.0])
_lam, _probs, _macs = PENALTY_CASE
PENALTY_MISTAKES = [
    (_cost(lambda i, o: i * o, _probs, _macs), "That is the expected MACs: λ and the division by dense MACs are missing."),
    (_lam * _cost(lambda i, o: i * o, _probs, _macs), "Divide by the dense MACs, so that λ means the same for every network."),
    (_penalty(1.0, _probs, _macs), "The expected share is right; multiply it by λ."),
    (_lam * _cost(lambda i, o: o, _probs, _macs) / sum(_macs), "You scale each layer by its open outputs only: closed channels are not read either."),
    (_lam * _cost(lambda i, o: i, _probs, _macs) / sum(_macs), "You scale each layer by its open inputs only: closed outputs are not computed either."),
    (_lam * _cost(lambda i, o: o * o, _probs, _macs) / sum(_macs), "You take a layer's own share twice: its inputs are the outputs of the layer before."),
    (_lam * _cost(lambda i, o: i + o, _probs, _macs) / sum(_macs), "Inputs and outputs multiply: every output is computed from every input."),
]  # fmt: skip


@exercise
def check_penalty(penalty: Callable[..., Any]) -> str:
    """lambda x expected / dense MACs of a chain, a function of lambda, prob_open per layer and MACs per layer."""
    answer = number("penalty(...)", run(penalty, "penalty(lam, prob_open, macs)", *PENALTY_CASE))
    for value, reason in PENALTY_MISTAKES:
        if near(answer, value):
            raise Wrong(reason)
    truth = _penalty(*PENALTY_CASE)
    if not near(answer, truth):
        raise Wrong(
            f"For λ = 3, prob_open [0.9, 0.2, 0.4] and [0.7, 0.1], and macs [500, 1200] it should be "
            f"{truth:.4f}, yours is {answer:.4f}. The open share of a layer is the mean of its prob_open."
        )
    other = (
        0.5,
        [torch.tensor([1.0, 0.0]), torch.tensor([0.5]), torch.tensor([0.2, 0.6])],
        [10.0, 20.0, 30.0],
    )
    if not near(
        number("penalty(...)", run(penalty, "penalty(...) of three layers", *other)), _penalty(*other)
    ):
        raise Wrong("Right for two layers, but not for three: does it go through all of them?")
    return "Right: a price per multiply-accumulate, whatever the size of the network."


# ---- 03_dependency


def _generate(
    weights: list, biases: list, bound: float = BOUND, squash: Any = np.tanh, scale_in: float = 1.0
) -> list:
    """log_alphas of the forward chain, or of a mistaken one."""
    h, result = np.ones(weights[0].shape[1]), []
    for w, b in zip(weights, biases, strict=True):
        result.append(bound * squash(w @ h + b))
        h = result[-1] * scale_in
    return result


def _from_ones(weights: list, biases: list) -> list:
    return [BOUND * np.tanh(w @ np.ones(w.shape[1]) + b) for w, b in zip(weights, biases, strict=True)]


_rng = np.random.default_rng(0)
GENERATE_CASE = (
    [_rng.normal(0, 0.3, shape) for shape in ((3, 4), (5, 3), (2, 5))],
    [_rng.normal(0, 0.3, n) for n in (3, 5, 2)],
)
GENERATE_MISTAKES = [
    (_generate(*GENERATE_CASE, bound=1.0), "The bound c = log 100 in front of tanh is missing."),
    (_generate(*GENERATE_CASE, bound=math.log10(100)), "The bound is the natural logarithm: math.log(100) = 4.605."),
    (_generate(*GENERATE_CASE, squash=lambda x: x), "The tanh is missing: log α would not be bounded."),
    (_generate(*GENERATE_CASE, scale_in=1 / BOUND), "Hand on log α itself, with its factor c, to the next group."),
    (_generate(GENERATE_CASE[0], [0 * b for b in GENERATE_CASE[1]]), "The biases are missing."),
    (_from_ones(*GENERATE_CASE), "Only the first group starts from ones; the others read the log α of the group before."),
]  # fmt: skip


@exercise
def check_generate(generate: Callable[..., Any]) -> str:
    """The forward generator of Dep-L0: a list of log_alphas from lists of weights and biases."""
    answer = run(generate, "generate(weights, biases)", *GENERATE_CASE)
    if answer is None or answer is ...:
        raise Wrong(f"generate(...) still returns {answer}: return the list of log α, one array per group.")
    truth = _generate(*GENERATE_CASE)
    if not isinstance(answer, list | tuple) or len(answer) != len(truth):
        raise Wrong(f"A list of {len(truth)} arrays is wanted, one per group; got {type(answer).__name__}.")
    if _same(answer, truth):
        return "Right: three groups, bounded by log 100, each computed from the one before."
    for chain, reason in GENERATE_MISTAKES:
        if _same(answer, chain):
            raise Wrong(reason)
    first = next(i for i in range(len(truth)) if not _same(answer[i : i + 1], truth[i : i + 1]))
    raise Wrong(
        f"Group {first + 1} is the first that differs. It should be c·tanh(W h + b) of the group before."
    )


def _same(answer: Sequence, chain: Sequence) -> bool:
    """Whether two lists hold the same arrays, whatever the answer is made of."""
    try:
        return all(
            np.shape(a) == np.shape(b) and np.allclose(a, b, atol=1e-4)
            for a, b in zip(answer, chain, strict=True)
        )
    except (TypeError, ValueError):  # not numbers at all
        return False
