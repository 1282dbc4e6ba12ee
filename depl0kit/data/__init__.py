"""Images in three parts, train, val and test (lesson 00).

`load_data` returns them as `Data`, from a name or a folder.
"""

from .loading import DATA_SETS, Data, load_data
from .splits import Split

__all__ = ["DATA_SETS", "Data", "Split", "load_data"]
