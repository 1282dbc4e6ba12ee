"""How fast pictures follow sliders: key press to changed pixels, in JupyterLab, in Chromium.

    python benchmarks/slider_latency.py [name ...]     # names of `EXPLORERS`; all without one

For every slider: median and 95th percentile of single key presses, and the number of different
pictures while a key repeats 40 times. Targets: under 100 ms, under 160 ms, and 25 pictures.
Times are taken in the page: from the key's event to the first frame painted with other pixels.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/browser"), str(ROOT / "tools")]

import jupyter  # noqa: E402
from chromium import find_chromium  # noqa: E402

# name -> code whose last line shows the explorer; none of these trains while a slider moves
EXPLORERS = {
    "gate": "from depl0kit.lab import GateExplorer\nGateExplorer()",
    "dependency": "from depl0kit.lab import DependencyExplorer\nDependencyExplorer()",
    "collinear": "from depl0kit.lab import CollinearExplorer\nCollinearExplorer()",
    "series": "from depl0kit.lab import SeriesExplorer\nSeriesExplorer()",
    "channels": """import torch
import depl0kit as dk
net = dk.GatedModel(dk.make_model("resnet20"), example=torch.zeros(1, 3, 32, 32), scope="all")
explorer = dk.lab.ChannelExplorer(net.channels)
explorer.controls["group"].value = 11  # of 64 channels: room for a held key
explorer.controls["channels"].value = 12
explorer""",
    "tradeoff": f"""import depl0kit as dk
dk.lab.TradeoffExplorer(dk.load_results({str(ROOT / "data/results/digits")!r}))""",
}
PRESSES, BURST, REPEAT_MS = 30, 40, 33  # a held key repeats about 30 times a second
MEDIAN_MS, P95_MS = 100, 160

# `window.pictures` gets the time of every frame that shows other pixels than the one before,
# `window.keys` the time of every key press
WATCH = f"""image => {{
    const number = {jupyter.PIXELS};
    window.pictures = []; window.keys = [];
    let last = number(image);
    document.addEventListener('keydown', () => window.keys.push(performance.now()), true);
    image.addEventListener('load', () => requestAnimationFrame(() => setTimeout(() => {{
        const painted = performance.now(), now = number(image);
        if (now !== null && now !== last) {{ last = now; window.pictures.push(painted); }}
    }})));
}}"""


def single_presses(view: jupyter.ExplorerView, label: str) -> list[float]:
    """Milliseconds from key press to changed pixels, for single presses to and fro."""
    page = view.page
    times = []
    for press in range(PRESSES):
        page.evaluate("() => { pictures.length = 0; keys.length = 0 }")
        view.press(label, "ArrowLeft" if press % 2 else "ArrowRight")
        page.wait_for_function("() => pictures.length > 0", timeout=5_000)
        times.append(page.evaluate("() => pictures[0] - keys[0]"))
        page.wait_for_timeout(120)  # a person's pause: no frame of this press is taken for the next
    return times


def burst(view: jupyter.ExplorerView, label: str) -> int:
    """Different pictures shown while a key repeats, until a quarter of a second after the last."""
    page = view.page
    view.press(label, "Home")
    view.settle()
    page.evaluate("() => { pictures.length = 0 }")
    start = time.perf_counter()
    for press in range(BURST):
        page.wait_for_timeout(max(0, 1000 * (start - time.perf_counter()) + press * REPEAT_MS))
        page.keyboard.press("ArrowRight" if press < BURST / 2 else "ArrowLeft")  # not past the end
    page.wait_for_timeout(250)
    return page.evaluate("() => pictures.length")


def measure(view: jupyter.ExplorerView) -> list[tuple[str, float, float, int]]:
    """(label, median ms, 95th percentile ms, pictures in a burst) of every slider of an explorer."""
    view.settle()
    view.image.evaluate(WATCH)
    rows = []
    for label in view.labels():
        times = single_presses(view, label)
        rows.append((label, float(np.median(times)), float(np.percentile(times, 95)), burst(view, label)))
        view.button("Reset").click()
        view.settle()
    return rows


def main() -> int:
    """Print the table; 1 if a slider misses a target in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(EXPLORERS)}")
    names = parser.parse_args().names or list(EXPLORERS)
    if unknown := set(names) - set(EXPLORERS):
        parser.error(f"no explorer {', '.join(unknown)}: choose of {', '.join(EXPLORERS)}")
    path = find_chromium() or parser.error("no Chromium on the PATH; Debian: sudo apt install chromium")
    slow = False
    print(f"{'explorer':12s}{'slider':24s}{'median ms':>10s}{'p95 ms':>8s}{f'of {BURST} keys':>12s}")
    with tempfile.TemporaryDirectory() as folder:
        root, home = Path(folder, "root"), Path(folder, "home")
        root.mkdir(), home.mkdir()
        with jupyter.jupyter_lab(root, home) as address, jupyter.chromium_browser(path) as browser:
            for name in names:
                jupyter.write_notebook(root / f"{name}.ipynb", [EXPLORERS[name]])
                notebook = jupyter.Notebook(browser, address, f"{name}.ipynb")
                notebook.run_all()
                for label, median, p95, pictures in measure(notebook.explorer(0)):
                    print(f"{name:12s}{label:24s}{median:10.0f}{p95:8.0f}{pictures:12d}", flush=True)
                    slow |= median >= MEDIAN_MS or p95 >= P95_MS
                notebook.close()
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
