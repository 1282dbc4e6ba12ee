"""Which channels of a network can go together, what they cost, and how they are cut out (lessons 05 and 07).

The cost may be the expected one, for given P(open); there is no distribution in this room. Its noun is
`Channels`.
"""

from .channels import Channels
from .cost import Cost
from .groups import Group

__all__ = ["Channels", "Cost", "Group"]
