"""The same from a shell (lesson 08): `python -m depl0kit`.

`start` starts a run in the background, for notebooks.
"""

from .program import main, run, start

__all__ = ["main", "run", "start"]
