"""The checkers of the exercises: right answers pass, wrong ones are told what is wrong."""

import itertools
import math
import runpy
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from depl0kit.lab import exercises
from depl0kit.lab.exercises import (
    channel_cost,
    check_channel_macs,
    check_coordinate,
    check_fold,
    check_front,
    check_generate,
    check_macs,
    check_penalty,
    check_prob_open,
    check_recipe,
    check_shrinkage,
    coordinate,
    folding,
    front,
    shrinkage,
)

LESSONS = [
    *("00_welcome", "01_one_gate", "02_mean_field", "03_dependency"),
    *(
        "04_when_independence_fails",
        "05_what_a_channel_costs",
        "06_accuracy_vs_flops",
        "07_make_it_small",
        "08_train_at_scale",
        "09_relatives",
    ),
]
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LOG_100 = math.log(100)


@pytest.fixture
def verdict(capsys):
    """What a checker prints: one line, with its mark."""

    def run(checker, *answers) -> str:
        assert checker(*answers) is None
        printed = capsys.readouterr().out
        assert printed.count("\n") == 1 and printed[:2] in ("✓ ", "✗ ")
        return printed

    return run


@pytest.mark.parametrize("name", LESSONS)
def test_solution_passes_its_own_check(name, capsys):
    runpy.run_path(str(NOTEBOOKS / "solutions" / f"{name}.py"))
    assert capsys.readouterr().out.startswith("✓ ")


@pytest.mark.parametrize("name", LESSONS)
def test_notebook_has_the_exercise_unsolved_and_its_check(name, verdict):
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
    (cell,) = (c for c in cells if c.cell_type == "code" and "dk.lab.check_" in c.source)
    answers = {"dk": type("depl0kit", (), {"lab": exercises})}
    code, check = cell.source.rsplit("\n", 1)
    exec(code, answers)
    assert "still None" in verdict(lambda: eval(check, answers))


CHECKERS = [getattr(exercises, name) for name in exercises.__all__]


@pytest.mark.parametrize(
    "answers",
    [(None,), (), (lambda: 1,), (1, 2, 3), ("text",)],
    ids=["none", "nothing", "function", "numbers", "text"],  # the same in all processes of pytest-xdist
)
@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_strict_raises_what_would_be_printed(checker, answers, verdict, capsys):
    printed = verdict(checker, *answers)
    assert printed.startswith("✗")
    with pytest.raises(AssertionError) as error:
        checker(*answers, strict=True)
    assert f"{error.value}\n" == printed and error.value.__cause__ is error.value.__context__ is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", LESSONS)
def test_strict_accepts_the_solutions(name, capsys):
    solution, end, _ = (NOTEBOOKS / "solutions" / f"{name}.py").read_text().rpartition(")\n")
    assert end
    exec(f"{solution}, strict=True)", {})
    assert capsys.readouterr().out.startswith("✓ ")


def macs(kernel, inputs, outputs, height, width):
    return kernel**2 * inputs * outputs * height * width


@pytest.mark.parametrize("share", [0.25, 1 / 4, torch.tensor(0.25)])
def test_right_macs(verdict, share):
    assert verdict(check_macs, macs, share).startswith("✓")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda k, i, o, h, w: k * i * o * h * w, "k x k"),
        (lambda k, i, o, h, w: k**2 * i * o, "does not depend on `height`"),
        (lambda k, i, o, h, w: k**2 * o * h * w, "does not depend on `inputs`"),
        (lambda k, i, o, h, w: k**2 * (i + o) * h * w, "Twice the `inputs` should cost 2 times"),
        (lambda k, i, o, h, w: k**2 * i * o * h**2, "Twice the `height`"),
        (lambda k, i, o, h, w: 2 * macs(k, i, o, h, w), "FLOPs"),
        (lambda k, i, o, h, w: macs(k, i, o, h, w) / 1000, "0.001 times"),
        (lambda k, i, o, h, w: 0, "costs something"),
    ],
)
def test_wrong_macs_are_told_why(verdict, wrong, says):
    line = verdict(check_macs, wrong, 0.25)
    assert line.startswith("✗") and says in line


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (None, "share is still None"),
        (0.5, "just the inputs"),
        (0.75, "what is saved"),
        (25, "per cent"),
        (0.1, "divide"),
        ("1/4", "one number"),
        (math.nan, "finite"),
    ],
)
def test_wrong_share_is_told_why(verdict, share, says):
    line = verdict(check_macs, macs, share)
    assert line.startswith("✗") and says in line


def prob_open(log_alpha, temperature, gamma, zeta):
    return torch.sigmoid(log_alpha - temperature * math.log(-gamma / zeta))


def test_right_prob_open(verdict):
    assert verdict(check_prob_open, prob_open).startswith("✓")
    by_cdf = lambda a, t, g, z: 1 - torch.sigmoid(t * torch.logit(torch.tensor(-g / (z - g))) - a)  # noqa: E731
    assert verdict(check_prob_open, by_cdf).startswith("✓")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda a, t, g, z: torch.sigmoid(a), "stretch is missing"),
        (lambda a, t, g, z: torch.sigmoid(a / t), "median"),
        (lambda a, t, g, z: 1 - prob_open(a, t, g, z), "P(z = 0)"),
        (lambda a, t, g, z: torch.sigmoid(a + t * math.log(-g / z)), "sign"),
        (lambda a, t, g, z: prob_open(a, 1, g, z), "temperature β is missing"),
        (lambda a, t, g, z: torch.sigmoid((a - math.log(-g / z)) / t), "β belongs to the logarithm"),
        (lambda a, t, g, z: torch.sigmoid(a / t - math.log(-g / z)), "multiply"),
        (lambda a, t, g, z: prob_open(a, t, g, z - g), "logit"),
        (lambda a, t, g, z: prob_open(a, t, g, z) + 0.01, "of its draws are open"),
        (lambda a, t, g, z: a - t * math.log(-g / z), "yours is"),
        (lambda a, t, g, z: prob_open(a, 2 / 3, g, z), "β = 0.3"),
    ],
)
def test_wrong_prob_open_is_told_why(verdict, wrong, says):
    line = verdict(check_prob_open, wrong)
    assert line.startswith("✗") and says in line


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda *_: None, "still None"),
        (lambda *_: ..., "still Ellipsis"),
        (lambda *_: 1 / 0, "raised ZeroDivisionError"),
        (lambda: 1, "raised TypeError"),
        (lambda *_: "0.5", "one number, not str"),
        (lambda *_: torch.ones(3), "one number, not Tensor"),
        (lambda *_: [], "one number, not list"),
        (lambda *_: math.log(-1), "raised ValueError"),
        (lambda *_: math.inf, "finite"),
        (lambda *_: np.ones((20, 2)), "one number, not ndarray"),
        (0.5, "without brackets"),
        (None, "without brackets"),
        (lambda *_: True, "one number, not bool True"),
        (lambda *_: b"1", "one number, not bytes"),
        (lambda *_: 1j, "one number, not complex"),
        (lambda *_: print(0.5), "prints something, but returns None: write return in place of print."),
    ],
)
def test_broken_functions_get_a_friendly_line(verdict, broken, says):
    for checker, *rest in ((check_macs, 0.25), (check_prob_open,), (check_penalty,)):
        line = verdict(checker, broken, *rest)
        assert line.startswith("✗") and says in line


def penalty(lam, prob_open, macs, left=lambda i, o: i * o):
    outputs = [p.mean() for p in prob_open]
    return lam * sum(m * left(i, o) for m, i, o in zip(macs, [1.0, *outputs], outputs)) / sum(macs)  # noqa: B905


def from_the_end(lam, prob_open, macs):
    """A first layer that reads prob_open[-1]."""
    shares = [p.mean() for p in prob_open]
    return lam * sum(macs[i] * shares[i - 1] * shares[i] for i in range(len(macs))) / sum(macs)


def test_right_penalty(verdict):
    assert verdict(check_penalty, penalty).startswith("✓")
    assert verdict(check_penalty, lambda *a: penalty(*a).item()).startswith("✓")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda lam, p, macs: penalty(sum(macs), p, macs), "λ and the division by dense MACs"),
        (lambda lam, p, macs: penalty(lam, p, macs) * sum(macs), "Divide by the dense MACs"),
        (lambda lam, p, macs: penalty(1, p, macs), "multiply it by λ"),
        (lambda *a: penalty(*a, lambda i, o: o), "open outputs only"),
        (lambda *a: penalty(*a, lambda i, o: i), "open inputs only"),
        (lambda *a: penalty(*a, lambda i, o: o * o), "own share twice"),
        (lambda *a: penalty(*a, lambda i, o: i + o), "Inputs and outputs multiply"),
        (from_the_end, "For l = 0, prob_open[l - 1] is the last layer"),
        (lambda lam, p, macs: penalty(lam, p, macs) - lam * macs[0] * p[0].mean() / sum(macs), "is missing"),
        (lambda *a: print(penalty(*a)), "penalty(lam, prob_open, macs) prints something"),
        (lambda lam, p, macs: penalty(lam, [q.sum() for q in p], macs), "the mean of its prob_open"),
        (lambda lam, p, macs: penalty(lam, torch.stack(p), macs), "raised RuntimeError"),
        (lambda lam, p, macs: penalty(lam, p[:2], macs), "not for three"),
        (lambda lam, p, macs: penalty(lam, p, macs) if len(p) == 2 else 1 / 0, "of three layers raised"),
        (lambda lam, p, macs: [penalty(lam, p, macs)], "one number, not list"),
        (lambda lam, p, macs: lam * torch.stack([q.mean() for q in p]), "one number, not Tensor"),
        (lambda lam, p, macs: penalty(math.nan, p, macs), "not finite"),
    ],
)
def test_wrong_penalty_is_told_why(verdict, wrong, says):
    line = verdict(check_penalty, wrong)
    assert line.startswith("✗") and says in line


def generate(weights, biases, bound=LOG_100, squash=np.tanh, hand_on=lambda log_alpha: log_alpha):
    h, log_alphas = np.ones(weights[0].shape[1]), []
    for w, b in zip(weights, biases, strict=True):
        log_alphas.append(bound * squash(w @ h + b))
        h = hand_on(log_alphas[-1])
    return log_alphas


def from_ones(weights, biases):
    return [generate([w], [b])[0] for w, b in zip(weights, biases, strict=True)]


@pytest.mark.parametrize("form", [list, tuple, lambda groups: [g.tolist() for g in groups]])
def test_right_generate(verdict, form):
    assert verdict(check_generate, lambda *a: form(generate(*a))).startswith("✓")
    assert verdict(check_generate, lambda *a: [torch.tensor(g) for g in generate(*a)]).startswith("✓")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda *a: generate(*a, bound=1), "in front of tanh is missing"),
        (lambda *a: generate(*a, bound=math.log10(100)), "natural logarithm"),
        (lambda *a: generate(*a, squash=lambda x: x), "tanh is missing: log α would not be bounded"),
        (lambda *a: generate(*a, hand_on=lambda h: h / LOG_100), "Pass log α itself"),
        (lambda weights, biases: generate(weights, [0 * b for b in biases]), "biases are missing"),
        (from_ones, "Only the first group starts from ones"),
        (lambda *a: generate(*a, hand_on=np.tanh), "Group 2 is the first that differs"),
        (lambda *a: [1 - g for g in generate(*a)], "Group 1 is the first that differs"),
    ],
)
def test_wrong_generate_is_told_why(verdict, wrong, says):
    line = verdict(check_generate, wrong)
    assert line.startswith("✗") and says in line


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda *_: None, "generate(weights, biases) is still None: put your answer after return."),
        (lambda *a: print(generate(*a)), "prints something, but returns None"),
        (lambda *_: ..., "still Ellipsis"),
        (lambda weights, _: [weights[0] @ weights[0]], "raised ValueError"),
        (lambda weights: [], "raised TypeError"),
        (lambda *_: torch.ones(2, 3) @ torch.ones(2, 3), "raised RuntimeError"),
        (lambda *_: (_ for _ in ()).throw(ValueError("two\nlines")), "ValueError: two lines"),
        (lambda *a: generate(*a)[-1], "Expected a list of 3 arrays, one per group; got ndarray."),
        (lambda *a: iter(generate(*a)), "got list_iterator"),
        (lambda *a: generate(*a)[:2], "got 2."),
        (lambda *a: [np.ones(4), *generate(*a)], "the ones at the start are not a group); got 4."),
        (lambda *a: [g[:, None] for g in generate(*a)], "Group 1 should have the shape (3,)"),
        (lambda *a: [*generate(*a)[:2], np.ones(5)], "Group 3 should have the shape (2,)"),
        (lambda *a: [g.sum() for g in generate(*a)], "not ()."),
        (lambda *a: [None, *generate(*a)[1:]], "Group 1 should be an array of 3 numbers, not NoneType"),
        (lambda *a: [g.astype(str) for g in generate(*a)], "an array of 3 numbers, not ndarray"),
        (lambda *_: [[1, [2]], 3, 4], "an array of 3 numbers, not list"),
        (lambda *_: [torch.ones(n, requires_grad=True) for n in (3, 5, 2)], "3 numbers, not Tensor"),
        (
            lambda *a: [*generate(*a)[:1], np.full(5, math.nan), np.ones(2)],
            "Group 2 has entries that are not",
        ),
        (np.ones(20), "without brackets"),
    ],
)
def test_broken_generate_gets_a_friendly_line(verdict, broken, says):
    line = verdict(check_generate, broken)
    assert line.startswith("✗") and says in line


def test_a_function_that_changes_its_arguments_is_judged_by_what_it_returns(verdict):
    def penalty_in_place(lam, prob_open, macs):
        result = penalty(lam, prob_open, macs)
        macs.clear()
        return result

    def generate_in_place(weights, biases):
        result = generate(weights, biases)
        for w in weights:
            w[:] = 0
        return result

    for _ in range(2):  # the second time as the first
        assert verdict(check_penalty, penalty_in_place).startswith("✓")
        assert verdict(check_generate, generate_in_place).startswith("✓")


def test_right_channel_macs(verdict):
    assert verdict(check_channel_macs, lambda k, i, o, h, w: k**2 * h * w * (i + o)).startswith("✓")


@pytest.mark.parametrize(("formula", "reason"), channel_cost.MISTAKES)
def test_wrong_channel_macs_are_told_apart(verdict, formula, reason):
    assert verdict(check_channel_macs, formula) == f"✗ {reason}\n"
    assert "should be 7776" in verdict(check_channel_macs, lambda *_: 1)


def test_right_fold(verdict):
    assert verdict(check_fold, lambda w, z: (w * z[:, None, None])[:, z > 0]).startswith("✓")


@pytest.mark.parametrize(("formula", "reason"), folding.MISTAKES)
def test_wrong_folds_are_told_apart(verdict, formula, reason):
    assert verdict(check_fold, formula) == f"✗ {reason}\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda w, z: 3, "Expected a tensor, the new weight; got int"),
        (lambda w, z: w.numpy(), "got ndarray"),
        (lambda w, z: None, "still None: put your answer after return"),
        (lambda w, z: print(w), "write return in place of print"),
        (lambda w, z: w > 0, "of float32, like the old weight; got torch.bool"),
        (lambda w, z: w.to("meta"), "cannot be checked: reading it raised"),
        (lambda w, z: w[:, :3], "the weight is [4, 2, 3, 3]; yours is [4, 3, 3, 3]"),
        (lambda w, z: w[:, :2], "The shape is right, the values are not"),
        (lambda w, z: w @ z, "raised RuntimeError"),
        (7, "Expected the function itself"),
    ],
)
def test_other_folds(verdict, answer, says):
    assert says in verdict(check_fold, answer)


SHORTER = """
extends = "resnet56-cifar10"
posterior = "forward"
lam_per_weight = 1e-6
[train]
epochs = 30
milestones = [6, 12, 18, 24]
"""


def test_a_right_recipe(verdict):
    assert verdict(check_recipe, SHORTER).startswith("✓")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs = 30", "epochs = 60", "epochs is 60, not 30"),
        ("milestones = [6, 12, 18, 24]", "", "milestones is (60, 120, 180, 240), not (6, 12, 18, 24)"),
        ('"forward"', '"backward"', "posterior is 'backward'"),
        ("lam_per_weight = 1e-6", "", "lam_per_weight is 5e-07, not 1e-06: the paper's"),
        ("[train]", "[train]\nlr = 0.2", "lr is 0.2; in resnet56-cifar10 it is 0.1"),
        ('"resnet56-cifar10"', '"resnet20-cifar10"', "unknown recipe 'resnet20-cifar10'"),
        ("epochs", "epoch", "epoch"),
        ("[train]", "[train", "not TOML"),
    ],
)
def test_wrong_recipes_are_told_what_is_wrong(verdict, old, new, says):
    assert SHORTER.count(old) >= 1
    answer = verdict(check_recipe, SHORTER.replace(old, new))
    assert answer.startswith("✗") and says in answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "still None"),
        (3, "got int"),
        ("\n", "empty"),
        ({"epochs": 30}, "in quotes; got dict"),
        (Path("recipe.toml"), "in quotes; got PosixPath"),
        (SHORTER.replace("[train]", "[train]  # \ud800"), "surrogates not allowed"),
    ],
)
def test_no_recipe(verdict, answer, says):
    assert says in verdict(check_recipe, answer)


# ---- 06: the front


def test_a_right_front(verdict):
    assert verdict(check_front, front.unbeaten).startswith("✓")
    as_array = verdict(check_front, lambda c, a: np.array(front.unbeaten(c, a)))
    assert as_array.startswith("✓")
    for form in (tuple, torch.tensor, pd.Series, iter):
        assert verdict(check_front, lambda c, a, form=form: form(front.unbeaten(c, a))).startswith("✓")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda c, a: [True] * len(c), "costs more and is worse is beaten"),
        (lambda c, a: [x == max(a) for x in a], "No run is beaten"),
        (
            lambda c, a: [
                not any(d < x and b > y for d, b in zip(c, a, strict=True)) for x, y in zip(c, a, strict=True)
            ],
            "with the same cost",
        ),
        (
            lambda c, a: [
                not any(d <= x and b >= y for d, b in zip(c, a, strict=True))
                for x, y in zip(c, a, strict=True)
            ],
            "No run",
        ),
        (lambda c, a: 3, "a list of True and False, one for each run; got int 3."),
        (lambda c, a: "TTF", "a list of True and False, one for each run; got str 'TTF'."),
        (lambda c, a: {0, 2}, "got set {0, 2}"),
        (lambda c, a: dict(zip(c, a, strict=True)), "got dict"),
        (lambda c, a: list(np.flatnonzero(front.unbeaten(c, a))), "yours holds np.int64(0): the indices"),
        (lambda c, a: torch.tensor([1, 1, 1]), "yours holds tensor(1): the indices of the runs?"),
        (lambda c, a: ["yes", "no", "yes"], "yours holds 'yes'."),
        (lambda c, a: [[one] for one in front.unbeaten(c, a)], "yours holds [True]."),
        (lambda c, a: front.unbeaten(c, a)[:2], "it has 2 for 3 runs"),
        (lambda c, a: itertools.repeat(True), "it has more for 3 runs"),
        (lambda c, a: (1 / 0 for _ in c), "got generator"),
        (lambda c, a: None, "still None: put your answer after return"),
        (lambda c, a: print(front.unbeaten(c, a)), "write return in place of print"),
        (lambda c: c, "raised TypeError"),
        (7, "Expected the function itself"),
    ],
)
def test_wrong_fronts_are_told_what_is_wrong(verdict, wrong, says):
    answer = verdict(check_front, wrong)
    assert answer.startswith("✗") and says in answer


def right_coordinate(others, gain, price):
    return 1 / (1 + math.exp(price - gain * math.prod(others)))


@pytest.mark.parametrize("form", [float, torch.tensor, np.float64])
def test_right_coordinate(verdict, form):
    assert verdict(check_coordinate, lambda o, g, p: form(right_coordinate(o, g, p))).startswith("✓")


@pytest.mark.parametrize(("formula", "reason"), coordinate.MISTAKES)
def test_wrong_coordinates_are_told_apart(verdict, formula, reason):
    assert verdict(check_coordinate, formula) == f"✗ {reason}\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda o, g, p: None, "still None"),
        (lambda o, g, p: print(0.5), "write return in place of print"),
        (lambda o, g, p: right_coordinate(o, g, p) + 0.01, "enumeration says"),
        (lambda o, g, p: o, "one number"),
        (lambda o, g: 0.5, "TypeError"),
        (lambda o, g, p: 1 / 0, "ZeroDivisionError"),
        (0.5, "without brackets"),
    ],
)
def test_other_coordinates(verdict, answer, says):
    line = verdict(check_coordinate, answer)
    assert line.startswith("✗") and says in line


def test_coordinate_may_change_the_list_it_gets(verdict):
    def coordinate(others, gain, price):
        product = 1.0
        while others:
            product *= others.pop()
        return right_coordinate([product], gain, price)

    assert verdict(check_coordinate, coordinate).startswith("✓")


# ---- 09: HALO's lambda


def right_shrinkage(norm, xi, psi):
    return (2 * xi * norm / psi) ** (1 / 3)


def by_search(norm, xi, psi):
    """Without the formula: the best of many lambdas."""
    lambdas = np.geomspace(1e-3, 1e3, 1_000_001)
    return lambdas[(xi * norm / lambdas**2 + psi * lambdas).argmin()]


@pytest.mark.parametrize("form", [float, torch.tensor, np.float64])
def test_right_shrinkage(verdict, form):
    assert verdict(check_shrinkage, lambda *case: form(right_shrinkage(*case))).startswith("✓")
    assert verdict(check_shrinkage, by_search).startswith("✓")


@pytest.mark.parametrize(("formula", "reason"), shrinkage.MISTAKES)
def test_wrong_shrinkages_are_told_apart(verdict, formula, reason):
    assert verdict(check_shrinkage, formula) == f"✗ {reason}\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n, x, p: None, "still None"),
        (lambda n, x, p: print(0.5), "write return in place of print"),
        (lambda n, x, p: 1.1 * right_shrinkage(n, x, p), "n = 0.7, ξ = 0.02, ψ = 0.3: at your λ = 0.499 the"),
        (lambda n, x, p: 0, "λ must be greater than 0"),
        (lambda n, x, p: "1", "one number, not str"),
        (lambda n, x, p: [right_shrinkage(n, x, p)] * 2, "one number, not list"),
        (lambda n, x: 0.5, "TypeError"),
        (lambda n, x, p: 1 / 0, "ZeroDivisionError"),
        (0.5, "without brackets"),
    ],
)
def test_other_shrinkages(verdict, answer, says):
    line = verdict(check_shrinkage, answer)
    assert line.startswith("✗") and says in line


# ---- all checkers

CHECKERS = [getattr(exercises, name) for name in exercises.__all__]
STRANGE = [
    *(None, ..., "", "abc", 3, 0, True, [], {}, set(), b"x", [None], [[1], [2, 3]], [[1, 2], [3, 4]]),
    *(np.array([1.0, 2.0]), np.array([0.5]), np.array("x"), np.eye(3), torch.ones(3), torch.ones(())),
    *(torch.zeros(0), iter("ab"), math.nan, math.inf, 1j, len, int, math, range(3), 10**400),
    *(pd.DataFrame({"a": [1]}), pd.Series([True]), torch.tensor([1.0], requires_grad=True)),
    *(np.array([None]), torch.ones(4, 2, 3, 3, dtype=torch.complex64), torch.ones(4, 2, 3, 3).to_sparse()),
]


class Hostile:
    """Whatever is asked of it, it raises."""

    def _raise(self, *_: object):
        raise RuntimeError("no")

    __repr__ = __eq__ = __bool__ = __float__ = __iter__ = __len__ = _raise
    __hash__ = None


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
@pytest.mark.parametrize(
    "answer", [*STRANGE, Hostile(), [Hostile()]], ids=lambda answer: type(answer).__name__
)
def test_checkers_never_raise_whatever_they_get(verdict, checker, answer):
    """As the answer itself, as what the reader's function returns, and as the second of two answers."""
    others = [0.25] if checker is check_macs else []
    assert verdict(checker, answer, *others).startswith("✗")
    assert verdict(checker, lambda *_: answer, *others).startswith("✗")
    if checker is check_macs and not (isinstance(answer, np.ndarray) and answer.size == 1):
        assert verdict(check_macs, macs, answer).startswith("✗")


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_checkers_say_what_they_take(verdict, checker):
    name = checker.__name__
    assert f"Write {name}(" in verdict(checker) and "got 0 answers" in verdict(checker)
    assert "got 3 answers" in verdict(checker, 1, 2, 3)


def test_what_a_right_function_prints_is_still_seen(capsys):
    def talkative(kernel, inputs, outputs, height, width):
        print("looking at", kernel)
        return kernel**2 * height * width * (inputs + outputs)

    check_channel_macs(talkative)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "looking at 3" and second.startswith("✓ Right")
