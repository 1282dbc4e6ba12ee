"""Open and close the channels of a network, and watch what every layer costs."""

from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .. import plots
from ..channels.channels import Channels
from ..support import checked
from .live import Explorer, Layout, LiveFigure, button


class ChannelExplorer(Explorer):
    """The channel groups of a network as bars to drag, and under them the cost of every layer.

    Press or drag in the upper picture to set the open channels of a group, or choose the group and move the
    slider. Layers that read or write the group are highlighted: a channel costs MACs in both. One channel
    of a group stays open, unless the group may close completely.

    Args:
        channels: the groups of a network, and their cost; the network does not change.

    Attributes:
        open_channels: number of open channels of each gated group.
    """

    @checked
    def __init__(self, channels: Channels) -> None:
        self._groups, self._cost = channels.groups.gated, channels.cost_model
        self._dense = channels.sizes
        self._fewest = [0 if may_close else 1 for may_close in channels.may_close]
        self.open_channels = list(self._dense)
        self._names = [f"{g.name} (stream)" if g.stream else g.name for g in self._groups]
        names = [(name, i) for i, name in enumerate(self._names)]
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
            self._draw, (980, 560), "a;b", "Open channels of each group, and MACs of each layer",
            narrower=[Layout("a;b", 400, 620)],
        )  # fmt: skip
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

    def _drag(self, panel: int, x: float, y: float) -> None:
        """Press or drag in the upper panel: the nearest bar gets the height of the mouse."""
        if panel:
            return
        group = min(max(round(x), 0), len(self.open_channels) - 1)
        self.open_channels[group] = min(max(round(y), self._fewest[group]), self._dense[group])
        with self._unwatched():
            self.controls["group"].value = group
        self._show_slider()
        super().redraw()

    def _draw(self, upper: Axes, lower: Axes, group: int, **_state: int) -> list[Artist]:
        table = pd.DataFrame({"group": self._names, "channels": self._dense, "open": self.open_channels})
        now, dense = self._cost.per_layer(self.open_channels), self._cost.per_layer(self._dense)
        touched = [name for name, _ in self._groups[group].members]
        return [
            *plots.group_widths(table, self._names[group], upper),
            *plots.layer_macs(now, dense, touched, lower),
        ]
