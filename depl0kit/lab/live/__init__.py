"""The engine of live figures: a picture in the page, a figure that is drawn into it, controls around it."""

from .controls import NumberSlider, button, checkbox, float_slider, log_slider, set_slider
from .explorer import Explorer
from .figure import Layout, LiveFigure
from .picture import Picture, projector

__all__ = [
    "Explorer",
    "Layout",
    "LiveFigure",
    "NumberSlider",
    "Picture",
    "button",
    "checkbox",
    "float_slider",
    "log_slider",
    "projector",
    "set_slider",
]
