"""What every room uses: checks of what users pass, files, devices, versions."""

from . import checks
from .arguments import checked

__all__ = ["checked", "checks"]
