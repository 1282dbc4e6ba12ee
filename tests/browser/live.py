"""What a run says in the line under its picture, and how it is begun."""

import re

import jupyter
from jupyter import until


def state(view: jupyter.ExplorerView) -> str:
    return view.line.inner_text().split(":")[0]


def epoch(view: jupyter.ExplorerView) -> float:
    """The epoch in the line; 0 while it names none, as before the first picture of a run."""
    found = re.search(r"epoch ([\d.]+)", view.line.inner_text())
    return float(found[1]) if found else 0.0


def goes_on(view: jupyter.ExplorerView, timeout: float = 30) -> None:
    """Wait until a run has trained for a further half epoch."""
    until(lambda: state(view) == "running", "running", timeout)
    start = epoch(view)
    until(lambda: state(view) == "running" and epoch(view) > start + 0.5, "epochs advance", timeout)


def train(view: jupyter.ExplorerView, timeout: float = 30) -> None:
    view.button("Train").click()
    goes_on(view, timeout)
