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
    folders, files_in = SHIPPED["FILES"], SHIPPED["files_in"]
    return [Path(folder, file) for folder in folders for file in files_in(Path(folder), folder)]


class BuildWithLessons(build_py):
    """An editable installation needs no copy: its package finds the folders of the clone."""

    def run(self) -> None:
        package = Path(self.build_lib, "depl0kit")
        if package.resolve() != Path("depl0kit").resolve():  # that of an earlier build: its files may be gone
            shutil.rmtree(package, ignore_errors=True)
        super().run()
        for file in files() if not self.editable_mode else ():
            copy = package / "shipped" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)

    def get_source_files(self) -> list[str]:
        """What a source distribution holds."""
        return [*super().get_source_files(), *map(str, files())]


setup(cmdclass={"build_py": BuildWithLessons})
