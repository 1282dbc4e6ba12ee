"""Images in three parts, train, val and test (lessons 00 and 08).

`load_data` returns them as `Data`, from a name or a folder; `make_data` makes them of tensors or a data set.
"""

from .data_set import Data
from .loading import DATA_SETS, load_data
from .own import make_data
from .splits import MemorySplit, Split

__all__ = ["DATA_SETS", "Data", "MemorySplit", "Split", "load_data", "make_data"]
