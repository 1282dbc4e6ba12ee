"""One JupyterLab and one browser for all browser tests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jupyter
import pytest
from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of one lesson in a row: it is run once, and closed before the next.

    Lessons come first, as each takes minutes: so at the end short tests keep all workers busy.
    """

    def place(item: pytest.Item) -> tuple[bool, str]:
        lesson = str(item.callspec.params.get("lesson", "")) if hasattr(item, "callspec") else ""
        return lesson == "", lesson

    items.sort(key=place)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """One for all: Playwright refuses a second one in the same process."""
    with jupyter.chromium_browser(chromium) as browser:
        yield browser


@pytest.fixture(scope="session")
def open_notebook(browser: Browser, tmp_path_factory) -> Iterator[Callable[..., jupyter.Notebook]]:
    """`open_notebook(path, **options)`: a throw-away copy of a notebook in a new window."""
    root, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    with jupyter.jupyter_lab(root, home) as address:

        def open_copy(path: Path, **options) -> jupyter.Notebook:
            return jupyter.Notebook(browser, address, Path(shutil.copy(path, root)).name, **options)

        yield open_copy
