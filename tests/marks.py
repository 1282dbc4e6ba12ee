"""Marks that several tests put on their parameters."""

from collections.abc import Iterable

import pytest


def slow_but_the_first(values: Iterable) -> list:
    """Parameters of a test: `make check` takes the first, `make test` all."""
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]
