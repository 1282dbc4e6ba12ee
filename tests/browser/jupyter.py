"""JupyterLab in a real browser: starts a server, opens notebooks, moves sliders, sees pixels.

Every check waits for a state with a deadline; no fixed sleep decides an outcome. Servers serve
throw-away copies and keep their settings in private folders, so nothing of the user is touched.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Locator, sync_playwright

CHROMIUM_ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TOKEN = "browser-test"
SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "docmanager-extension/plugin": {"autosave": False},
}
PANEL = "window.jupyterapp?.shell?.currentWidget"
CODE = f"{PANEL}.content.widgets.filter(c => c.model.type === 'code' && c.model.sharedModel.source.trim())"
READY = (
    f"{PANEL}?.context?.isReady && {PANEL}.sessionContext?.isReady"
    f" && {PANEL}.sessionContext.session?.kernel?.status === 'idle'"
)
# a number for what an <img> shows, null while it loads; every pixel counts
# (one in its first size is still to be drawn anew for its place; a scroll bar may hide its edge)
PIXELS = """image => {
    if (!image.complete || !image.naturalWidth) return null;
    const place = image.clientWidth * Math.min(4, Math.max(0.5, window.devicePixelRatio));
    if (Math.abs(image.naturalWidth / place - 1) > 0.03) return null;
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const words = new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    let hash = 5381;
    for (let i = 0; i < words.length; i++) hash = Math.imul(hash, 33) ^ words[i];
    return hash;
}"""


def write_notebook(path: Path, cells: list[str]) -> None:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}  # or JupyterLab asks
    nbformat.write(notebook, path)


def until(seen: Callable[[], Any], what: str, timeout: float = 20) -> Any:
    """The first true value of `seen()`; AssertionError with `what` after `timeout` seconds."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        if last := seen():
            return last
        time.sleep(0.03)
    raise AssertionError(f"not within {timeout} s: {what}; last seen: {last!r}")


@contextmanager
def jupyter_lab(root: Path, home: Path) -> Iterator[str]:
    """A JupyterLab that serves `root`, with its settings in `home`; yields its address.

    Kernels are children of the server and are ended with it.
    """
    for name, value in SETTINGS.items():
        file = home / f"config/lab/user-settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--allow-root", "--ServerApp.open_browser=False",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(
            command, cwd=root, env=_environment(home), stdout=log, stderr=log, start_new_session=True
        )
        try:
            until(lambda: _answers(port, server, home / "server.log"), "JupyterLab answers", 60)
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(server)


@contextmanager
def chromium_browser(path: str) -> Iterator[Browser]:
    """A headless browser from the executable at `path`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            browser.close()


class Notebook:
    """A notebook in its own browser window.

    Args:
        pixel_ratio: the screen's pixels per CSS pixel; 2 on many laptops.
    """

    def __init__(
        self,
        browser: Browser,
        address: str,
        name: str,
        size: tuple[int, int] = (1280, 800),
        pixel_ratio: float = 1,
    ) -> None:
        viewport = {"width": size[0], "height": size[1]}
        self.page = browser.new_context(viewport=viewport, device_scale_factor=pixel_ratio).new_page()
        self.console: list[str] = []
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("console", lambda m: self.console.append(m.text) if m.type == "error" else None)
        self.page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
        # wait for this path: a tab that is ready may be another one
        self.page.wait_for_function(f"n => {PANEL}?.context?.path === n && {READY}", arg=name, timeout=90_000)

    def command(self, name: str) -> None:
        """Start a command of JupyterLab; some return only when cells end, so this does not wait."""
        self.page.evaluate("name => { jupyterapp.commands.execute(name) }", name)

    def idle(self, timeout: float = 60) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(READY, timeout=1000 * timeout)

    def run_all(self, timeout: float = 120) -> None:
        """Run all cells and wait for the last; an error in a cell is an AssertionError."""
        self.command("notebook:run-all-cells")
        self.all_have_run(timeout)

    def all_have_run(self, timeout: float = 120) -> None:
        """Wait until all cells have run; an error in one is an AssertionError."""
        done = "c.model.executionCount > 0 && c.model.executionState !== 'running'"
        self.page.wait_for_function(f"() => {CODE}.every(c => {done})", timeout=1000 * timeout)
        self.idle(timeout)
        assert not self.errors(), self.errors()

    def run_cell(self, index: int) -> None:
        """Run one code cell (counted without text cells), and no other; does not wait."""
        self.page.evaluate(
            f"i => {{ const all = {PANEL}.content; all.deselectAll();"
            f" all.activeCellIndex = all.widgets.indexOf({CODE}[i]) }}",
            index,
        )
        self.command("notebook:run-cell")

    def restart_kernel(self) -> None:
        """Restart the kernel, clear all outputs, and wait."""
        self.page.evaluate(f"{PANEL}.sessionContext.restartKernel()")
        self.page.evaluate(f"{CODE}.forEach(c => c.model.clearExecution())")
        self.idle()

    def errors(self) -> list[str]:
        """Error outputs of all cells."""
        outputs = f"{CODE}.flatMap(c => c.model.outputs.toJSON())"
        return self.page.evaluate(
            f"{outputs}.filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)"
        )

    def code(self) -> list[dict[str, Any]]:
        """Source of every code cell, and the kinds of data (MIME types) that its output holds."""
        kinds = "c.model.outputs.toJSON().flatMap(o => Object.keys(o.data ?? {}))"
        return self.page.evaluate(
            f"{CODE}.map(c => ({{source: c.model.sharedModel.source, shows: {kinds}}}))"
        )

    def text(self, index: int) -> str:
        """What the output of a code cell says."""
        parts = f"[...{CODE}[i].outputArea.node.querySelectorAll('.jp-OutputArea-output')]"
        return self.page.evaluate(f"i => {parts}.map(part => part.innerText).join('').trim()", index)

    def explorer(self, index: int) -> "ExplorerView":
        """The explorer in the output of a code cell (counted without text cells), in view."""
        # JupyterLab builds far cells only when they are scrolled to
        self.page.evaluate(f"i => {PANEL}.content.scrollToCell({CODE}[i])", index)
        node = self.page.evaluate_handle(f"i => {CODE}[i].outputArea.node", index).as_element()
        node.evaluate("(node, name) => { node.dataset.testName = name }", f"cell-{index}")
        root = self.page.locator(f'[data-test-name="cell-{index}"] .depl0kit-explorer').last
        root.locator(".depl0kit-picture img").first.wait_for(timeout=30_000)
        return ExplorerView(root)

    def close(self) -> None:
        """End the kernel and close the window."""
        self.page.evaluate(f"{PANEL}.sessionContext.shutdown()")
        self.page.context.close()


class ExplorerView:
    """One explorer as a reader sees it: sliders by label, buttons by label, a picture, a line."""

    def __init__(self, root: Locator) -> None:
        self.root, self.page = root, root.page
        self.image = root.locator(".depl0kit-picture img").first
        self.line = root.locator(".depl0kit-line")

    def labels(self) -> list[str]:
        """Labels of all sliders, in order."""
        return self.root.locator(".widget-hslider .widget-label, .depl0kit-slider label").all_inner_texts()

    def slider(self, label: str) -> Locator:
        """What moves the slider with this label: a handle, or the whole range."""
        return self._row(label).locator(".noUi-handle, input[type=range]")

    def box(self, label: str) -> Locator:
        """The box beside a slider that takes typed numbers."""
        return self._row(label).locator("input[type=text]")

    def shown(self, label: str) -> str:
        """The number that a slider shows."""
        number = self._row(label).locator(".widget-readout, input[type=text]")
        return number.evaluate("node => node.value ?? node.innerText").strip()

    def type(self, label: str, text: str) -> None:
        """Write a number into the box beside a slider, and press Enter."""
        self.box(label).fill(text)
        self.box(label).press("Enter")

    def press(self, label: str, key: str, times: int = 1) -> None:
        """Focus a slider and press a key: ArrowRight, Home, ..."""
        self.slider(label).focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def drag(self, label: str, by: float) -> None:
        """Move a slider's handle with the mouse, `by` CSS pixels to the right."""
        handle = self.slider(label)
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        # of a range, the browser draws a handle of 16 pixels at the share of its value
        share = handle.evaluate("node => node.tagName === 'INPUT' ? node.value / node.max : null")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        if share is not None:
            x = box["x"] + 8 + share * (box["width"] - 16)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + by, y, steps=12)
        self.page.mouse.up()

    def button(self, label: str) -> Locator:
        """A button of the explorer (JupyterLab's own toolbar has a "Restart" too)."""
        exactly = re.compile(rf"^\s*{re.escape(label)}\s*$")
        return self.root.locator(".jupyter-button").filter(has_text=exactly)

    def pixels(self) -> int | None:
        """A number for the picture: equal for equal pictures; None until it is there in its size."""
        return self.image.evaluate(PIXELS)

    def picture_size(self) -> tuple[int, int]:
        """Pixels of the PNG, width and height."""
        return tuple(self.image.evaluate("image => [image.naturalWidth, image.naturalHeight]"))

    def settle(self, quiet: float = 0.6, timeout: float = 20) -> int:
        """The picture's number, once it has been the same for `quiet` seconds."""
        end = time.monotonic() + timeout
        last, since = self.pixels(), time.monotonic()
        while time.monotonic() < end:
            now = self.pixels()
            if now != last:
                last, since = now, time.monotonic()
            elif now is not None and time.monotonic() - since > quiet:
                return now
            time.sleep(0.03)
        raise AssertionError(f"the picture did not settle within {timeout} s")

    def changed(self, before: int, what: str, timeout: float = 20) -> int:
        """Wait for a picture other than `before`, and for it to settle; returns its number."""
        until(lambda: self.pixels() not in (None, before), f"another picture after {what}", timeout)
        return self.settle()

    def becomes(self, picture: int, what: str) -> None:
        """Wait for exactly this picture."""
        until(lambda: self.pixels() == picture, f"the same picture again after {what}")

    def check_slider(
        self,
        label: str,
        key: str = "ArrowRight",
        back: str = "ArrowLeft",
        by: float = 40,
        timeout: float = 20,
    ) -> None:
        """A slider changes the picture by key, brings it back, and changes it by mouse."""
        start, shown = self.settle(), self.shown(label)
        self.press(label, key)
        self.changed(start, f"{key} on {label}", timeout)
        self.press(label, back)
        until(lambda: self.shown(label) == shown, f"{label} shows {shown} again")
        self.becomes(start, f"{back} on {label}")
        self.drag(label, by)
        self.changed(start, f"dragging {label}", timeout)

    def _row(self, label: str) -> Locator:
        rows = self.root.locator(".widget-hslider, .depl0kit-slider")
        return rows.filter(has=self.page.get_by_text(label, exact=True))


def _environment(home: Path) -> dict[str, str]:
    private = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython", "MPLCONFIGDIR": "matplotlib",
    }  # fmt: skip
    return os.environ | {name: str(home / folder) for name, folder in private.items()}


def _answers(port: int, server: subprocess.Popen, log: Path) -> bool:
    if server.poll() is not None:
        raise AssertionError(f"JupyterLab ended: {log.read_text()[-3000:]}")
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=2).status == 200
    except OSError:
        return False


def _end(server: subprocess.Popen) -> None:
    """Ask the server to end, with its kernels; end its whole process group if it does not."""
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
