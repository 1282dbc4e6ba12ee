"""Run notebooks from top to bottom and write them as HTML that needs no kernel and no internet.

    python tools/execute_notebooks.py [--out build/notebooks] [notebook ...]

Explorers are shown as the picture that they carry, and formulas as MathML, which browsers can draw. Pictures
have a text for readers who cannot see them, and links between notebooks become links between pages.
"""

import argparse
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import latex2mathml.converter
import nbformat
import zmq
from jinja2 import pass_context
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

CHECKOUT = Path(__file__).resolve().parents[1]
# of a kernel: with encryption if available, because a kernel without it warns at every start
SETTINGS = {"KernelManager": {"transport_encryption": "auto" if zmq.has("curve") else "disabled"}}
START = "%matplotlib inline", f"%run '{CHECKOUT / 'tools' / 'figure_alt.py'}'"
WIDGET = "application/vnd.jupyter.widget-view+json"
# the notebook template without the scripts that it would download, and with texts for pictures
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block data_png scoped %}
{% set alt = (output | get_metadata('alt', 'image/png') or '') | escape_html %}
{{ super() | replace('<img ', '<img alt="' ~ alt ~ '" ', 1) }}
{% endblock %}"""


class MathMLRenderer(IPythonRenderer):
    """Markdown to HTML with every formula as MathML, and links to other notebooks' pages."""

    def inline_math(self, body: str) -> str:
        return latex2mathml.converter.convert(body)

    def block_math(self, body: str) -> str:
        return latex2mathml.converter.convert(body, display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def block_html(self, html: str) -> str:
        return html  # nbconvert would close a <details> that a later block closes

    inline_html = block_html

    def link(self, text: str, url: str, title: str | None = None) -> str:
        local = "://" not in url
        return super().link(text, re.sub(r"\.ipynb(?=#|$)", ".html", url) if local else url, title)


class OfflineExporter(HTMLExporter):
    """Notebook to one HTML file that refers to nothing outside itself."""

    raw_template = TEMPLATE

    @pass_context
    def markdown2html(self, context: dict, source: str) -> str:
        renderer = MathMLRenderer(
            escape=False,
            attachments=context["cell"].get("attachments", {}),
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def pictures_for_widgets(notebook: nbformat.NotebookNode) -> None:
    """Show every widget as the picture that it carries, with its text.

    Widgets without a picture (progress bars) and the hint to run the cell again are removed.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            data = [(output, output.get("data", {})) for output in cell.outputs]
            data = [(output, d) for output, d in data if "depl0kit-saved" not in d.get("text/html", "")]
            cell.outputs = [output for output, d in data if WIDGET not in d or "image/png" in d]
            for output, d in data:
                if d.pop(WIDGET, None) and "image/png" in d:
                    output.metadata.setdefault("image/png", {})["alt"] = d["text/plain"]


def run_cells(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in a new kernel with working directory `folder`; `notebook` gets their outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    resources = {"metadata": {"path": str(folder)}}
    start = [f"--IPKernelApp.exec_lines={line}" for line in START]
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=300, resources=resources,
        extra_arguments=start, config=Config(SETTINGS),
    )  # fmt: skip
    client.execute()


def execute(source: Path, out: Path) -> str:
    """Run one notebook in its own folder, write `out`/<name>.html, and return a line about it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the page is written and shows the error.
    """
    start = time.perf_counter()
    notebook = nbformat.read(source, as_version=4)
    try:
        run_cells(notebook, source.parent)
    finally:
        pictures_for_widgets(notebook)
        resources = {"metadata": {"path": str(source.parent), "name": source.stem}}
        html, _ = OfflineExporter().from_notebook_node(notebook, resources=resources)
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{source.stem}.html").write_text(html, encoding="utf-8")
    return f"{source.stem}: {time.perf_counter() - start:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "build" / "notebooks")
    args = parser.parse_args()
    sources = args.notebooks or sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
    for folder in {source.resolve().parent / "solutions" for source in sources}:
        if folder.is_dir():  # the pages link to them
            shutil.copytree(folder, args.out / "solutions", ignore=shutil.ignore_patterns("__pycache__"),
                            dirs_exist_ok=True)  # fmt: skip
    failed = 0
    with ThreadPoolExecutor(max_workers=2) as pool:  # the work is done in the kernels
        runs = {source: pool.submit(execute, source.resolve(), args.out) for source in sources}
        for source, run in runs.items():
            try:
                print(run.result(), flush=True)
            except CellExecutionError as error:
                failed += 1
                print(f"{source.stem}: FAILED\n{error}", file=sys.stderr)
    print(f"{len(sources) - failed} of {len(sources)} notebooks ran; see {args.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
