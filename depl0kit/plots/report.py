"""What a sweep found, as one HTML file: figures and tables, readable without a kernel and a network."""

import base64
import html
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from .. import plots
from ..comparison.fronts import area_under_front
from ..comparison.intervals import area_intervals, paired_differences
from ..comparison.sweeps import SweepFolder, load_results, summary
from ..comparison.table import DENSE, reported
from ..support import checked
from ..support.files import write_atomically

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; } pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; margin: 1rem 0; } td, th { padding: .2rem .7rem; }
td { text-align: right; border-top: 1px solid #ddd; } th { text-align: right; }
td:first-child { text-align: left; }
"""
KIND_NOTES = {
    "dynamic": "MACs are means over the test images, branches included; no fixed network has these numbers",
    "factorised": "layers are split in two, so MACs fall and channels stay",
}


@checked
def write_report(folder: str | Path, file: str | Path) -> Path:
    """Write the report of a sweep, finished or not, and return its path.

    Args:
        folder: of the sweep.

    Raises:
        FileNotFoundError, ValueError: there are no results in the folder, or they are damaged.
    """
    folder, file = Path(folder).expanduser(), Path(file).expanduser()
    results = load_results(folder)
    about = SweepFolder(folder).about()
    body = "\n".join(_body(results, about))
    title = f"depl0kit sweep: {html.escape(folder.resolve().name)}"
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title}</h1>\n{body}\n</html>\n"
    )
    write_atomically(file, lambda path: path.write_text(page, encoding="utf-8"))
    return file


def _body(results: pd.DataFrame, about: dict) -> Iterator[str]:
    versions = {"depl0kit": about["version"]} | about["environment"]
    made = ", ".join(f"{name} {value}" for name, value in versions.items())
    good = reported(results)
    yield (
        f"<p>{len(good)} runs. Accuracies are those of the compact, fine-tuned networks on the test images, "
        f"means over seeds; accuracy_std and macs_std are standard deviations over seeds.{_kinds(good)}</p>"
        f"<pre>{html.escape(about['command'])}</pre>"
        f"<p>Made with {html.escape(made)}.</p>"
    )
    for (data, model), runs in good.groupby(["data", "model"], sort=False):
        yield f"<h2>{html.escape(f'{model} on {data}')}</h2>"
        yield _image(plots.accuracy_vs_cost, runs, (9.6, 5.4), "test error against MACs")
        yield _table(summary(runs).drop(columns=["data", "model"]))
        yield from _comparison(runs)
    bad = results[results.error != ""]
    if len(bad):
        yield f"<h2>Failed runs</h2>{_table(bad[['run', 'error']])}"


def _kinds(runs: pd.DataFrame) -> str:
    """What the MACs of other than static networks mean, where there are any."""
    notes = [f" Of {kind} networks: {note}." for kind, note in KIND_NOTES.items() if kind in set(runs.kind)]
    return "".join(notes)


def _comparison(runs: pd.DataFrame) -> Iterator[str]:
    """Differences to the first method, and areas under the fronts, where there is something to compare."""
    methods = [m for m in runs.method.unique() if m != DENSE]
    if len(methods) < 2:
        return
    reference = "mean_field" if "mean_field" in methods else methods[0]
    table = paired_differences(runs, reference)
    yield (
        f"<h3>Differences to {html.escape(plots.method_name(reference))}, at matched MACs</h3>"
        "<p>Accuracies are interpolated between the runs of each seed and paired by seed. The intervals of "
        "95 % are Student's t intervals of the mean over seeds; one seed gives none.</p>"
    )
    if table.difference.notna().any():
        yield _image(plots.paired_intervals, table, (9.6, 6), "paired differences")
    yield _table(table.drop(columns=["data", "model", "reference", "cost", "confidence"]))
    try:
        areas = _table(area_intervals(area_under_front(runs)))
    except ValueError as error:  # the methods share no range of MACs, as in a sweep that has just begun
        areas = f"<p>{html.escape(str(error))}</p>"
    yield f"<h3>Mean accuracy over log MACs</h3>{areas}"


def _image(draw: Callable, table: pd.DataFrame, size: tuple[float, float], alt: str) -> str:
    names = table.columns.intersection(["data", "model", "method", "reference"])
    escaped = {name: table[name].str.replace("$", r"\$", regex=False) for name in names}  # or formulas begin
    with plots.style():
        figure = Figure(size, dpi=110, layout="constrained")
        draw(table.assign(**escaped), figure.subplots())
        png = io.BytesIO()
        figure.savefig(png, format="png")
    return f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">'


def _table(table: pd.DataFrame) -> str:
    if "method" in table:
        table = table.assign(method=table.method.map(plots.method_name))
    return table.to_html(index=False, border=0, float_format=lambda x: f"{x:.4g}", na_rep="")
