"""The commands of the shell (lesson 08): `python -m depl0kit`.

`start` starts a run in the background, for notebooks.
"""

from .background import start
from .program import main, run

__all__ = ["main", "run", "start"]
