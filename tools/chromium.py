"""Find the browser for the browser tests. As a program: print its path, or exit 1."""

import os
import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of the browser that $CHROMIUM names, else of the first of NAMES on the PATH, else None."""
    named = os.environ.get("CHROMIUM")
    return next(filter(None, map(shutil.which, [named] if named else NAMES)), None)


if __name__ == "__main__":
    path = find_chromium()
    print(path or "no Chromium", file=sys.stdout if path else sys.stderr)
    sys.exit(path is None)
