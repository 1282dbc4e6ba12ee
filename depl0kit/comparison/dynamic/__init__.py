"""Networks that choose their channels for every image, and what they cost: a mean over images (lesson 09)."""

from .measures import per_image
from .model import DynamicModel
from .storage import load_dynamic, save_dynamic

__all__ = ["DynamicModel", "load_dynamic", "per_image", "save_dynamic"]
