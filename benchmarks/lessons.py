"""How long every lesson takes from top to bottom, one after the other.

    python benchmarks/lessons.py [notebook ...]

Target on two quiet cores without a GPU: under 90 s each, the start of the kernel included. Exits with 1
if one takes longer.
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tools"))
from execute_notebooks import run_cells  # noqa: E402

SECONDS = 90


def seconds(lesson: Path) -> float:
    """Of all its cells, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_cells(nbformat.read(lesson, as_version=4), Path(folder))
        return time.perf_counter() - start


def main() -> int:
    lessons = [Path(name) for name in sys.argv[1:]] or sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
    slow = 0
    for lesson in lessons:
        took = seconds(lesson)
        slow += took >= SECONDS
        print(f"{lesson.stem:32} {took:5.0f} s{'  over the target' if took >= SECONDS else ''}", flush=True)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
