"""The checkers of the exercises: right answers pass, wrong ones are told what is wrong."""

import math
import runpy
from pathlib import Path

import nbformat
import pytest
import torch

from depl0kit.lab import exercises
from depl0kit.lab.exercises import check_macs, check_prob_open

LESSONS = ["00_welcome", "01_one_gate", "02_mean_field", "03_dependency"]
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


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
        (0.5, "without brackets"),
        (None, "without brackets"),
    ],
)
def test_broken_functions_get_a_friendly_line(verdict, broken, says):
    for line in (verdict(check_macs, broken, 0.25), verdict(check_prob_open, broken)):
        assert line.startswith("✗") and says in line
