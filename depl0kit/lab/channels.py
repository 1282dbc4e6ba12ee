"""Open and close the channels of a network, and watch its map."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..channels.channels import Channels
from ..support import checked
from .live import Explorer, Layout, LiveFigure, button

TRAVEL = 60  # points that the mouse is dragged from all channels of a group to none, or back


class Grip(NamedTuple):
    """What a press of the mouse took hold of: a group, at a height and with so many open channels."""

    press: int
    group: int | None
    y: float
    open_channels: int


class ChannelExplorer(Explorer):
    """The map of a network; its bands and rails can be dragged.

    Press on a group, and drag it down to close channels or up to open them; or choose the group and move the
    slider. Layers that read or write the group are highlighted: a channel costs MACs in both. One channel
    of a group stays open, unless the group may close completely.

    Args:
        channels: the groups of a network, and their cost; the network does not change.

    Attributes:
        open_channels: number of open channels of each gated group.
    """

    @checked
    def __init__(self, channels: Channels) -> None:
        self._channels, self._groups, self._cost = channels, channels.groups.gated, channels.cost_model
        self._dense = channels.sizes
        self._fewest = [0 if may_close else 1 for may_close in channels.may_close]
        self.open_channels = list(self._dense)
        names = [(f"{g.name} (stream)" if g.stream else g.name, i) for i, g in enumerate(self._groups)]
        controls = {
            "group": widgets.Dropdown(options=names, value=0, description="Group"),
            "channels": widgets.IntSlider(
                self._dense[0], min=self._fewest[0], max=self._dense[0], description="Open channels"
            ),
        }
        halved = [max(1, n // 2) for n in self._dense]
        hint = "Close half of the channels of every group"
        half = button("Half of all", "adjust", hint, lambda: self.set_all(halved))
        figure = LiveFigure(
            self._draw, (980, 560), alt="A network: open channels of each group, and MACs of each layer",
            narrower=[Layout("a", 480, 620), Layout("a", 340, 700)],
        )  # fmt: skip
        self._grip = Grip(0, None, 0.0, 0)
        super().__init__(figure, controls, [half])
        figure.on_pointer(self._drag)

    @checked
    def set_all(self, open_channels: list[int]) -> None:
        """Set all groups, and draw once."""
        self.open_channels = list(open_channels)
        self._show_slider()
        super().redraw()

    def redraw(self, change: Mapping[str, Any] | None = None) -> None:
        group = self.controls["group"].value
        if change is not None and change["owner"] is self.controls["group"]:
            self._show_slider()
        elif change is not None:
            self.open_channels[group] = self.controls["channels"].value
        super().redraw()

    def reset(self) -> None:
        """All channels open, the first group chosen."""
        with self._unwatched():
            self.controls["group"].value = 0
        self.set_all(self._dense)

    def numbers(self, **_state: int) -> str:
        """The remaining MACs and parameters."""
        now, dense = self._cost.exact(self.open_channels), self._cost.dense
        kept = now / dense
        return (
            f"{now.macs / 1e6:.2f} of {dense.macs / 1e6:.2f} million MACs ({kept.macs:.1%})    "
            f"{now.params / 1e3:.0f} of {dense.params / 1e3:.0f} thousand parameters ({kept.params:.1%})"
        )

    def _show_slider(self) -> None:
        """Set the slider to the chosen group's open channels; nothing is drawn."""
        group, slider = self.controls["group"].value, self.controls["channels"]
        with self._unwatched():
            slider.min, slider.max = self._fewest[group], self._dense[group]
            slider.value = self.open_channels[group]

    def _drag(self, _panel: int, x: float, y: float) -> None:
        """A press chooses the group that is there; dragging down closes channels of it, up opens them."""
        press = self.figure.picture.pointer[2]
        if press != self._grip.press:
            group = self.figure.axes[0].network_map.gate_at(x, y)
            self._grip = Grip(press, group, y, 0 if group is None else self.open_channels[group])
        group = self._grip.group
        if group is None:
            return
        dense, pulled = self._dense[group], (y - self._grip.y) / TRAVEL
        wanted = self._grip.open_channels + round(pulled * dense)
        self.open_channels[group] = min(max(wanted, self._fewest[group]), dense)
        with self._unwatched():
            self.controls["group"].value = group
        self._show_slider()
        super().redraw()

    def _draw(self, ax: Axes, group: int, **_state: int) -> list[Artist]:
        counts = zip(self._dense, self.open_channels, strict=True)
        openness = [(np.arange(n) < is_open).astype(float) for n, is_open in counts]
        return plots.network_map(self._channels, openness, ax, self._groups[group].name)
