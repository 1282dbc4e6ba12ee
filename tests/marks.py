"""Marks that several tests put on their parameters."""

from collections.abc import Iterable

import pytest


def slow_but_the_first(values: Iterable) -> list:
    """Parameters of a test: `make check` takes the first, `make test` all. Tuples are for several names."""
    first, *others = values
    apart = [value if isinstance(value, tuple) else (value,) for value in others]
    return [first, *(pytest.param(*value, marks=pytest.mark.slow) for value in apart)]
