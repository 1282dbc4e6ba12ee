"""Plain networks, without gates: make, save, load and time them (lessons 00 and 07)."""

from .latency import latency
from .models import make_model
from .storage import load_compact, save_compact

__all__ = ["latency", "load_compact", "make_model", "save_compact"]
