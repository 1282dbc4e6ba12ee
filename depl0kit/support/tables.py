"""Tables as text."""

from collections.abc import Sequence


def aligned(*rows: Sequence[str]) -> str:
    """A line for each row, the cells in columns, numbers to the right; the first row is the header.

    Example:
        >>> print(aligned(("group", "open"), ("conv1", "8"), ("conv2", "16")))
        group  open
        conv1     8
        conv2    16
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(not cell or cell[0].isdigit() for cell in column[1:]) for column in columns]
    sides = [str.rjust if right else str.ljust for right in numeric]
    lines = [[side(*cell) for side, *cell in zip(sides, row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)
