"""What is made of arguments: plain values of Python, whatever kind of number or list they came as."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import depl0kit as dk
from depl0kit.support import checks
from depl0kit.support.arguments import checked, fitted


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, np.int64(3), 3),
        (int, torch.tensor(3), 3),
        (float, np.float32(0.5), 0.5),
        (float, torch.tensor(0.5, requires_grad=True), 0.5),
        (float, 4, 4),  # stays a whole number in texts and files
        (bool, np.bool_(True), True),
        (float | None, None, None),
        (Sequence[int], range(3), [0, 1, 2]),
        (Iterable[float], (x / 2 for x in (1, 2)), [0.5, 1.0]),
        (Sequence[float], np.array([1.0, 2.0]), [1.0, 2.0]),
        (Sequence[float], torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        (tuple[int, ...], np.arange(2), (0, 1)),
        (Sequence[int], torch.tensor(3), [3]),  # where a list is meant, one may stand alone
        (tuple[str, ...], "dense", ("dense",)),
        (tuple[float, float], [1, np.float64(2)], (1, 2.0)),
        (Mapping[str, Sequence[int]], {"a": range(2)}, {"a": [0, 1]}),
        (str | Path, "digits", "digits"),
        (str | Path | None, None, None),
    ],
)
def test_what_fits_becomes_plain(hint, value, expected):
    made = fitted("it", value, hint)
    assert made == expected and type(made) is type(expected)
    if isinstance(made, list | tuple):
        assert [type(x) for x in made] == [type(x) for x in expected]


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (int, 2.0, "it must be a whole number, got 2.0."),
        (int, True, "it must be a whole number, got True."),
        (int, 10**400, f"it must be a whole number of at most {2**63 - 1}, got 1e400."),
        (float, -(10**400), "it must be a finite number, got -1e400."),
        (float, "2", "it must be a finite number, got '2'."),
        (float, math.nan, "it must be a finite number, got nan."),
        (float, torch.ones(3), "it must be a finite number, got a Tensor of 3 entries."),
        (bool, "no", "it must be True or False, got 'no'."),
        (Sequence[int], "3", "it must be a list, got '3'."),
        (Sequence[int], None, "it must be a list, got None."),
        (Sequence, 3, "it must be a list, got 3."),
        (Sequence[int], {1, 2}, "it must be a list, got a set."),  # it has no order
        (Sequence[float], [1, "x"], "every entry of it must be a finite number, got 'x'."),
        (Mapping[str, float], {"a": None}, "it['a'] must be a finite number, got None."),
        (tuple[float, float], [1, 2, 3], "it must be two numbers, got [1, 2, 3]."),
        (str | Path, 3, "it must be a path, got 3."),
        (str | Path, "", "it must be a path, got ''."),
        (Callable[[int], int], 3, "it must be a function, got 3."),
        (dk.TrainConfig, {}, "it must be a TrainConfig, got a dict of 0 entries."),
        (np.ndarray, [[1], [2, 3]], "it must be an array of numbers, got [[1], [2, 3]]."),
    ],
)
def test_what_does_not_fit_is_refused_by_name(hint, value, says):
    with pytest.raises(ValueError) as caught:
        fitted("it", value, hint)
    assert str(caught.value) == says


def test_home_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert fitted("it", "~/x", str | Path) == "/home/me/x"
    assert fitted("it", Path("~/x"), Path) == Path("/home/me/x")
    assert checks.folder("~/x") == Path("/home/me/x")


def test_only_what_is_given_is_looked_at():
    @checked
    def add(a: int, b: float = "as it is", *rest: int, **more: int) -> tuple:
        """Returns what it gets."""
        return a, b, rest, more

    assert add(np.int64(1)) == (1, "as it is", (), {})
    assert add(1, torch.tensor(0.5), "x", c="y") == (1, 0.5, ("x",), {"c": "y"})
    assert add.__doc__ == "Returns what it gets."
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        add()
    with pytest.raises(ValueError, match="a must be a whole number"):
        add(None)


def test_a_grid_takes_ranges_and_arrays():
    grid = dk.Grid(lam=np.geomspace(1, 4, 3), seeds=range(2), gate_lr=[np.float32(0.5)])
    assert grid == dk.Grid(lam=(1.0, 2.0, 4.0), seeds=(0, 1), gate_lr=(0.5,))
    assert all(type(seed) is int for seed in grid.seeds) and all(type(lam) is float for lam in grid.lam)


def test_numbers_are_shown_short():
    assert checks.shown(list(range(1000))).endswith("...") and len(checks.shown("x" * 1000)) == 80
    assert checks.shown(torch.zeros(3, 4)) == "a Tensor of 3 entries"
    assert checks.shown(object()) == "an object"
    assert "\n" not in checks.shown("two\nlines")
    assert checks.shown(10**5000) == "1e5000"  # Python itself does not write so many digits


@pytest.mark.parametrize(
    ("place", "says"), [("file", "is a file"), ("file/run", "is a file"), ("link", "a link")]
)
def test_folders(tmp_path, place, says):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for call in (checks.folder, dk.RunFolder):
        with pytest.raises(ValueError, match=f"{says}.*choose another folder"):
            call(tmp_path / place)
    (tmp_path / "gone").mkdir()
    assert checks.folder(tmp_path / "link") == tmp_path / "link"
    assert checks.new_file(tmp_path / "new" / "x") == tmp_path / "new" / "x"
