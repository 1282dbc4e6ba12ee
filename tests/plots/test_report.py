"""`python -m depl0kit sweep` and `report`."""

import re

import pytest
from test_tradeoff_explorer import row, table

from depl0kit.cli import program as cli
from depl0kit.comparison.sweeps import Grid, SweepFolder, load_results
from depl0kit.plots.report import write_report

SPEC = """
methods = ["mean_field", "random"]
budget = [0.4]
[train]
epochs = 1
fine_tune_epochs = 1
"""


@pytest.fixture
def made(tmp_path):
    """A sweep's folder with made-up rows of two networks, one of them failed."""
    folder = SweepFolder(tmp_path / "x & y")
    folder.begin(Grid(lam=(1.0, 4.0, 16.0)), "0.1.0")
    rows = [*table().to_dict("records"), *table("fashion_mnist").to_dict("records")]
    folder.write_table([*rows, row("forward", 9, 4.0, error="ValueError: <bad> luck")])
    return folder.path


def test_report_stands_alone_and_shows_every_network(made):
    page = write_report(made, made / "report.html").read_text()
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert [name for name in re.findall(r"<h2>(.*?)</h2>", page)] == [
        "small on digits", "small on fashion_mnist", "Failed runs",
    ]  # fmt: skip
    assert page.count("<img ") == 4  # trade-off and differences, of each network
    assert "x &amp; y" in page
    assert "&lt;bad&gt; luck" in page
    assert "Differences to mean field" in page
    assert "<td>L1, global</td>" in page and "mean_field" not in page.split("</pre>")[1]  # names, not codes


def test_report_of_a_sweep_that_has_just_begun(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.begin(Grid(lam=(1.0,)), "0.1.0")
    folder.write_table([row("mean_field", 0, 1.0)])
    page = write_report(tmp_path, tmp_path / "report.html").read_text()
    assert page.count("<img ") == 1
    folder.write_table([])
    assert "0 runs" in write_report(tmp_path, tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_sweep_and_report_from_the_shell(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(SPEC)
    out = tmp_path / "out"
    assert cli.main(["sweep", str(tmp_path / "mine.toml"), "--out", str(out), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"digits +small +static +random +NaN +0\.400", printed)
    assert f"report {out}" in printed
    assert len(load_results(out)) == 2
    assert cli.main(["report", str(out)]) == 0
    assert (out / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep", "digit"], "Did you mean 'digits'"),
        (["sweep", "none.toml"], "no file 'none.toml'"),
        (["sweep", "digits", "--workers", "0"], "workers"),
        (["report", "nowhere"], "results.parquet"),
    ],
)
def test_what_is_wrong_is_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
