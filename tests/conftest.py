"""What all tests share."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from chromium import NAMES, find_chromium
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from depl0kit.data import Data

# The networks are small: a second thread mostly waits for the first, on a busy machine for ages. Torch reads
# this when it is imported, which is never here: the process that only hands out tests need not wait for it.
os.environ["OMP_NUM_THREADS"] = "1"  # also of the kernels and commands that tests start

# nbformat imports this by way of jsonschema, which works without it: a grammar of addresses, which takes
# seconds to build and which no notebook here needs.
sys.modules["rfc3987_syntax"] = None

# the same examples every time, and no deadline: a slow machine is not a wrong program
settings.register_profile("depl0kit", deadline=None, derandomize=True)
# of `make check`; a test that needs more than others takes multiples of settings.default.max_examples
settings.register_profile("quick", settings.get_profile("depl0kit"), max_examples=10)
settings.load_profile("depl0kit")


class ByFileOrLesson(LoadFileScheduling):
    """Tests of one file go to one worker, which makes its fixtures once; those of one lesson likewise."""

    def _split_scope(self, nodeid: str) -> str:
        lesson = re.search(r"\[.*\b(\d\d_[a-z_]+)", nodeid)
        return lesson[1] if lesson else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFileOrLesson:
    return ByFileOrLesson(config, log)


@pytest.fixture
def proved(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes the line with numbers that a proof leaves behind."""
    return partial(record_property, "proved")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the lines of all proofs together."""
    passed = terminalreporter.stats.get("passed", [])
    lines = [
        f"{line} ({report.duration:.0f} s)"
        for report in passed
        for name, line in report.user_properties
        if report.when == "call" and name == "proved"
    ]
    if lines:
        terminalreporter.section("proved")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; without one the test fails (a skipped browser test proves nothing)."""
    path = find_chromium()
    if path is None:
        pytest.fail(
            f"The browser tests need Chromium: none of {', '.join(NAMES)} is on the PATH. Install it "
            "(Debian: sudo apt install chromium), or set CHROMIUM=/path/to/chrome.",
            pytrace=False,
        )
    return path


@pytest.fixture(scope="module")
def few() -> "Data":
    """So few digits that an epoch takes no time; files that train for longer have a `few` of their own."""
    from depl0kit.data import load_data

    data = load_data("digits")
    return replace(data, train=data.train.take(32), val=data.val.take(8), test=data.test.take(8))
