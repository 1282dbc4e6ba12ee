"""What all tests share."""

import pytest
from chromium import NAMES, find_chromium
from hypothesis import settings

# the same examples every time, and no deadline: a slow machine is not a wrong program
settings.register_profile("depl0kit", deadline=None, derandomize=True)
settings.load_profile("depl0kit")


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
