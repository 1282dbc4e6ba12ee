"""What comes with the package besides its code: the lessons, saved results, the settings of JupyterLab.

A clone has them in folders at its root. `setup.py`, which runs this file, copies them into the folder
`shipped` of the package that it builds.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LESSONS, RESULTS, SETTINGS = "notebooks", "data/results", "tools/jupyter"
FILES = {  # of each folder; what is made beside them in a clone, such as runs, stays there
    LESSONS: ("[0-9][0-9]_*.ipynb", "glossary.md", "images/*", "solutions/[0-9][0-9]_*.py"),
    RESULTS: ("*/*.parquet", "*/*.json", "*/*.csv"),
    SETTINGS: ("*.py", "labconfig/*.json"),
}


def checkout() -> Path | None:
    """The root of the clone that the package runs from; None if it was installed from a wheel."""
    root = PACKAGE.parent
    is_clone = (root / "pyproject.toml").is_file() and not (PACKAGE / "shipped").is_dir()
    return root if is_clone else None


def shipped(folder: str) -> Path:
    """Where a folder of `FILES` is."""
    return (checkout() or PACKAGE / "shipped") / folder


def files_in(place: Path, folder: str) -> list[Path]:
    """The files of `folder`, one of `FILES`, that is at `place`; paths within it, in order."""
    found = {path for pattern in FILES[folder] for path in place.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(place) for path in found)
