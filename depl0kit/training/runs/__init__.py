"""What a run leaves behind: written, read and followed in its folder (lesson 08)."""

from .folder import RunFolder
from .run import Run, load_run

__all__ = ["Run", "RunFolder", "load_run"]
