"""The build step: lessons, saved results and the settings of JupyterLab are copied into the package.

They stay where they are in the repository; everything else about the package is in pyproject.toml.
"""

import shutil
from pathlib import Path
from runpy import run_path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = run_path("depl0kit/support/shipped.py")  # without the package, whose requirements may be missing


def files() -> list[Path]:
    """What is copied, within the repository."""
    return [
        Path(folder, file)
        for folder in SHIPPED["FILES"]
        for file in SHIPPED["files_in"](Path(folder), folder)
    ]


class BuildWithLessons(build_py):
    """An editable installation needs no copy: its package finds the folders of the clone."""

    def run(self) -> None:
        package = Path(self.build_lib, "depl0kit")
        if not self.editable_mode:
            shutil.rmtree(
                package, ignore_errors=True
            )  # of an earlier build, perhaps with files that are gone
        super().run()
        if not self.editable_mode:
            for file in files():
                copy = package / "shipped" / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)

    def get_source_files(self) -> list[str]:
        """What a source distribution holds."""
        return [*super().get_source_files(), *map(str, files())]


setup(cmdclass={"build_py": BuildWithLessons})
