"""The examples in docstrings give what they show."""

import doctest

import pytest

from depl0kit.comparison import intervals
from depl0kit.plots import base
from depl0kit.support import tables


@pytest.mark.parametrize("module", [tables, intervals, base], ids=lambda module: module.__name__)
def test_examples_give_what_they_show(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
