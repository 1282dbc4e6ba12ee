"""Which channels of a network can go together, what they cost, and how they are cut out (lessons 05 and 07).

There is no probability in this room.
"""

from .cost import Cost
from .groups import Group, find_groups
from .removal import remove_channels

__all__ = ["Cost", "Group", "find_groups", "remove_channels"]
