"""The numbers that may change while a run trains: their names, their bounds, and how people read them.

`Trainer`, its checkpoints, the control file of a run's folder, and the sliders all take them from `KNOBS`.
The range `usual` is only that of the slider: a number typed or set in code may lie outside it. The hard bound
is in `Knob.check`. The other requests to a run under way, `speed` and `until_stop` among them, are in
`runs/control.py`.
"""

from dataclasses import dataclass

from ..support import checks


@dataclass(frozen=True)
class Knob:
    """One number, never negative, that the next step uses as soon as it is set."""

    label: str  # its name on a slider
    hint: str  # what the slider says under the mouse
    text: str  # its value in a line of text, for `str.format`
    usual: tuple[float, float]  # the range of its slider; `check` allows more
    zero: bool = True  # whether 0 is allowed

    def check(self, name: str, value: float) -> float:
        """Return `value` as a float."""
        return checks.number(name, value, 0, open_low=not self.zero)


KNOBS = {
    "lam": Knob("Price λ", "Right: fewer channels", "λ {:.4g}", (0.5, 100)),
    "temperature": Knob("Temperature β", "Of the gates", "β {:.2f}", (2 / 30, 2), zero=False),
    "gate_lr": Knob("Gate lr", "Learning rate of the gates", "gate lr {:.3g}", (1e-4, 1)),
}
