"""Names and files of sweeps that others made: nothing of them runs, leaves its folder or is misread."""

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from marks import slow_but_the_first
from PIL import Image
from test_tradeoff_explorer import row, table

import depl0kit as dk
from depl0kit.comparison.sweeps import Grid, Job, SweepFolder, load_grid, load_results, spec_names
from depl0kit.comparison.sweeps.grid import SPECS
from depl0kit.comparison.sweeps.job import read_result, run_job
from depl0kit.comparison.sweeps.results import write_parquet
from depl0kit.comparison.sweeps.rows import CHECKSUM, RESULT, write_row
from depl0kit.comparison.table import COLUMNS
from depl0kit.plots.report import write_report
from depl0kit.support.files import write_json
from depl0kit.training.recipes import load_recipe, recipe_names
from depl0kit.training.recipes.reading import HERE

MANY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=2 * settings.default.max_examples,
)


def one_sentence(error: BaseException) -> bool:
    return "\n" not in str(error) and len(str(error)) > 10


# ---- the names of runs

NAMES = st.one_of(
    st.sampled_from(["../../x", "/a/pets", "/b/pets", "pets", "PETS", ".", "..", "a-b", "b", "con\x00", "~"]),
    st.text(max_size=300),
)
JOBS = st.builds(
    Job,
    data=NAMES,
    model=NAMES,
    method=st.sampled_from(["mean_field", "l1_global"]),
    seed=st.integers(0, 3),
    lam=st.none() | st.sampled_from([1, 1.0000001, 1.0000002, 1e-7, 4, 1e300]) | st.floats(0, 1e9),
    budget=st.none() | st.floats(0.001, 0.999),
)


@given(JOBS, JOBS)
@MANY
def test_two_runs_have_two_names_and_both_are_folders_within_the_sweep(tmp_path, one, other):
    assert (one.name == other.name) == (one == other)
    folder = SweepFolder(tmp_path).run_folder(one)
    assert folder.resolve().parent == (tmp_path / "runs").resolve() and folder.name not in (".", "..")
    assert len(os.fsencode(folder.name)) < 255
    folder.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("name", spec_names())
def test_the_runs_of_the_packages_sweeps_are_called_as_ever(name):
    grid = load_grid(name)
    for job in (*grid.jobs(), *grid.tuning_jobs()):
        prices = [("lam", job.lam), ("budget", job.budget)]
        prices += [("gate_lr", job.gate_lr)] if job.stage == "tune" else []
        middle = [f"{kind}{value:g}" for kind, value in prices if value is not None]
        assert job.name == "-".join([job.data, job.model, job.method, *middle, f"seed{job.seed}"])


def test_a_row_counts_only_for_the_very_settings_it_was_made_with(tmp_path):
    job = Grid(methods="mean_field", lam=1.0000001).jobs()[0]
    done = dict.fromkeys(COLUMNS) | {"error": "", "settings": job.settings()}
    write_row(tmp_path, done)
    assert read_result(tmp_path, job) == done
    others = [replace(job, lam=1.0000002), replace(job, data="/b/digits"), replace(job, train_images=9)]
    others += [replace(job, train=replace(job.train, lr=0.1)), replace(job, skip_damaged=True)]
    assert [read_result(tmp_path, other) for other in others] == [None] * len(others)


@pytest.mark.slow
def test_two_folders_of_one_name_are_two_data_sets(tmp_path, monkeypatch):
    """The second got the row of the first."""
    monkeypatch.setenv("DEPL0KIT_DATA", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name, count in (("a", 10), ("b", 20)):
        for c in ("ape", "bee"):
            (tmp_path / name / "pets" / "train" / c).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / "pets" / "train" / c / f"{i}.png")
    folders = tuple(str(tmp_path / name / "pets") for name in "ab")
    quick = dk.TrainConfig(epochs=1, fine_tune_epochs=1, warmup=0, ramp=0)
    grid = Grid(methods="dense", data=folders, train=quick)
    for _ in "ab":  # trained, and read again
        with ThreadPoolExecutor(1) as executor:
            results = dk.sweep(grid, tmp_path / "out", executor, progress=False)
        assert results.error.tolist() == ["", ""] and results.data.tolist() == list(folders)
        assert [sum(confusion) for confusion in results.confusion] == [4, 8]  # a fifth is for testing


def older_row(job: Job) -> dict:
    """As versions wrote it that noted neither settings nor a checksum."""
    numbers = {"val_accuracy": 0.9, "test_accuracy": 0.9, "macs": 10, "params": 10, "prob_open": [0, 255]}
    known = {
        name: getattr(job, name) for name in ("stage", "data", "model", "method", "lam", "budget", "seed")
    }
    known |= {"epochs": job.train.epochs, "fine_tune_epochs": job.train.fine_tune_epochs}
    own = 0.1 if job.gate_lr is None else job.gate_lr
    return dict.fromkeys(COLUMNS) | known | numbers | {"run": job.name, "error": "", "gate_lr": own}


def test_rows_of_earlier_versions_count_by_what_they_noted(tmp_path):
    job = Grid(methods="mean_field", lam=4, data="/a/pets").jobs()[0]
    write_json(tmp_path / RESULT, older_row(job))
    assert read_result(tmp_path, job)["test_accuracy"] == 0.9
    assert read_result(tmp_path, replace(job, data="/b/pets")) is None
    assert read_result(tmp_path, replace(job, lam=4.0000001)) is None


# ---- files that are damaged, or that somebody wrote by hand

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def changed(draw, content: dict) -> dict:
    """Some entries deleted or replaced, at any depth."""
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 3))):
        at = content
        while True:
            key = draw(st.sampled_from(sorted(at)))
            if isinstance(at[key], dict) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            if draw(st.booleans()):
                del at[key]
            else:
                at[key] = draw(VALUES)
            break
        if not content:
            break
    return content


@st.composite
def edited(draw, text: str) -> str:
    """A few pieces of a text deleted, doubled or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = (
            text[:start] + draw(st.sampled_from(["", text[start:end] * 2]) | st.text(max_size=6)) + text[end:]
        )
    return text


GRID = Grid(methods=("mean_field", "random"), lam=(1, 4), budget=0.5)


@given(st.data())
@MANY
def test_a_changed_sweep_json_is_taken_or_refused_in_a_sentence(tmp_path, data):
    folder = SweepFolder(tmp_path)
    path = tmp_path / "sweep.json"
    about = {"format": 1, "version": "0.1.0", "grid": GRID.describe()}
    about |= {"environment": {"torch": "2.11"}, "command": "depl0kit.sweep(...)"}
    path.write_text(json.dumps(about))
    folder.begin(GRID, "0.1.0")
    if data.draw(st.booleans()):
        path.write_text(json.dumps(data.draw(changed(about))))
    else:
        path.write_text(data.draw(edited(path.read_text())), encoding="utf-8", errors="surrogatepass")
    for call in (lambda: folder.begin(GRID, "0.1.0"), lambda: folder.about()):
        try:
            call()
        except (ValueError, FileNotFoundError) as error:
            assert one_sentence(error)


def test_a_sweep_json_that_lacks_something_is_refused_by_the_report_too(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.begin(GRID, "0.1.0")
    folder.write_table([row("mean_field", 0, 1.0)])
    path = tmp_path / "sweep.json"
    about = json.loads(path.read_text())
    for wrong in ({"environment": 3}, {"command": None}, {"version": ["<b>"]}):
        path.write_text(json.dumps(about | wrong))
        with pytest.raises(ValueError, match=rf"sweep\.json is damaged: expected {next(iter(wrong))} as"):
            write_report(tmp_path, tmp_path / "report.html")


@given(st.data())
@MANY
def test_a_changed_result_json_is_as_good_as_none_or_has_the_same_row(tmp_path, data):
    """No number that was not measured gets into a table."""
    job = GRID.jobs()[0]
    write_row(tmp_path, older_row(job) | {"settings": job.settings()})
    before = read_result(tmp_path, job)
    path = tmp_path / RESULT
    content = json.loads(path.read_text())
    new = data.draw(changed(content)) if data.draw(st.booleans()) else None
    if new is None:
        path.write_text(data.draw(edited(path.read_text())), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_text(json.dumps(new))
    assume(new is None or CHECKSUM in new)  # without it the file is of an earlier version
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read_result(tmp_path, job)
    assert found in (None, before)
    assert all("This run is done again" in str(w.message) for w in caught)


@given(st.data())
@MANY
def test_a_changed_result_json_of_an_earlier_version_makes_a_table_or_is_not_taken(tmp_path, data):
    job = GRID.jobs()[0]
    folder = SweepFolder(tmp_path)
    path = folder.run_folder(job) / RESULT
    write_json(path, older_row(job))
    path.write_text(json.dumps(data.draw(changed(older_row(job)))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = folder.done([job])
    folder.write_table(list(rows.values()))
    assert len(load_results(tmp_path)) == len(rows)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'"x"', b"null"])
def test_a_result_that_is_no_json_object_is_said_to_be_damaged(tmp_path, content):
    (tmp_path / RESULT).write_bytes(content)
    with pytest.warns(UserWarning, match=r"result\.json is damaged.*This run is done again"):
        assert read_result(tmp_path, GRID.jobs()[0]) is None
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"sweep\.json is damaged") as caught:
        SweepFolder(tmp_path).about()
    assert one_sentence(caught.value)


def test_a_fifo_in_place_of_a_file_keeps_nobody_waiting(tmp_path):
    for name in (RESULT, "sweep.json", "results.parquet", "x.toml"):
        os.mkfifo(tmp_path / name)
    assert read_result(tmp_path, GRID.jobs()[0]) is None
    for call in (
        SweepFolder(tmp_path).about,
        lambda: load_results(tmp_path),
        lambda: load_grid(tmp_path / "x.toml"),
    ):
        with pytest.raises(FileNotFoundError):
            call()


@given(st.data())
@MANY
def test_a_changed_spec_or_recipe_is_taken_or_refused_in_a_sentence(tmp_path, data):
    grid = data.draw(st.booleans())
    names = (
        [SPECS / f"{n}.toml" for n in spec_names()] if grid else [HERE / f"{n}.toml" for n in recipe_names()]
    )
    text = data.draw(st.sampled_from(names)).read_text()
    file = tmp_path / "changed.toml"
    file.write_text(data.draw(edited(text)), encoding="utf-8", errors="surrogatepass")
    try:
        (load_grid if grid else load_recipe)(file)
    except (ValueError, FileNotFoundError) as error:
        assert one_sentence(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train = 5", "train must be a table"),
        ("description = 5", "description must be text"),
        ("methods = 5", "methods must be a list of names"),
        (
            "lam = [1]\nseeds = [9999999999999999999999]",
            r"every entry of seeds must be .* at most 9223372036854775807",
        ),
        ("lam = [nan]", "lam must be a number"),
        (f"lam = [{10**400}]", "lam must be a number"),
        (f"lam = [{'9' * 5000}]", "not TOML"),
        ("a = " + "[" * 3000, "not TOML: it is nested too deeply"),
        ("lam = [1]\nskip_damaged = 1", "skip_damaged must be true or false"),
    ],
)
def test_a_spec_with_values_that_cannot_be_is_refused_by_its_name(tmp_path, text, says):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        load_grid(file)
    assert str(file) in str(caught.value) and one_sentence(caught.value)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    """Editors of Windows begin a file with it."""
    for text, load in (("lam = [1, 4]\n", load_grid), ('extends = "small-digits"\n', load_recipe)):
        plain, marked = tmp_path / "plain.toml", tmp_path / "marked.toml"
        plain.write_text(text)
        marked.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert load(marked) == load(plain)


# ---- a bit that flips in the table


def test_a_flipped_bit_in_the_table_is_found(tmp_path):
    """Of 300, 195 were read silently without checksums; those left lie where nothing depends on them."""
    kept = Path(__file__).parents[2] / "data" / "results" / "digits" / "results.parquet"
    good, sound, random = load_results(kept), kept.read_bytes(), np.random.default_rng(0)
    path, refused, flips = tmp_path / "results.parquet", 0, 100
    for _ in range(flips):
        content = bytearray(sound)
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        try:
            found = load_results(path)
        except ValueError as error:
            assert one_sentence(error)
            refused += 1
        else:
            pd.testing.assert_frame_equal(found, good, check_exact=True)
    assert refused > 0.9 * flips


@pytest.mark.parametrize("name", ["digits", "paired-comparison", "relatives"])
def test_the_tables_that_are_kept_have_checksums(name):
    path = Path(__file__).parents[2] / "data" / "results" / name / "results.parquet"
    without = path.read_bytes()
    table = load_results(path)
    assert pa.parquet.read_table(path, page_checksum_verification=True).num_rows == len(table)
    middle = bytearray(without)
    middle[len(middle) // 2] ^= 1
    with pytest.raises(Exception, match="CRC"):
        pa.parquet.read_table(pa.BufferReader(bytes(middle)), page_checksum_verification=True)


def test_a_table_without_checksums_is_read_as_ever(tmp_path):
    kept = load_results(Path(__file__).parents[2] / "data" / "results" / "digits")
    kept.to_parquet(tmp_path / "results.parquet", compression="zstd")
    pd.testing.assert_frame_equal(load_results(tmp_path), kept, check_exact=True)
    kept.assign(kept_macs="many").to_parquet(tmp_path / "results.parquet")
    with pytest.raises(ValueError, match="expected numbers in the columns kept_macs"):
        load_results(tmp_path)


# ---- the report


class Tags(HTMLParser):
    """All tags of a page, with the names of their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: set[tuple] = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.add((tag, *sorted(name for name, _ in attributes)))


HOSTILE = '<script>alert("x")</script>'


def report_of(tmp_path: Path, rows: pd.DataFrame, **about: object) -> str:
    folder = SweepFolder(tmp_path / "x")
    folder.begin(GRID, "0.1.0")
    path = folder.path / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    write_parquet(rows, folder.path / "results.parquet")
    return write_report(folder.path, tmp_path / "report.html").read_text()


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    """The report of the same runs, with names that nobody doubts."""
    return report_of(tmp_path_factory.mktemp("plain"), table())


NAMES_OF_METHODS = [HOSTILE, '"><img src=x onerror=alert(1)>', r"$\frac{1}$ & $", "&lt;b&gt;", "\x01'"]


@pytest.mark.parametrize("text", slow_but_the_first(NAMES_OF_METHODS))
def test_no_name_becomes_a_tag_in_the_report(tmp_path, plain, text):
    rows = table()
    assert {"mean_field", "forward"} <= set(rows.method)
    # without mean_field the first method is the reference: one of these two, compared with the other
    hostile_method = rows.method.replace({"mean_field": text, "forward": "2" + text})
    hostile = rows.assign(method=hostile_method, data=text, model=text, run=text + rows.run, device=text)
    bad = hostile.iloc[[0]].assign(error=text)
    evil = {"environment": {text: text}, "command": text, "version": text}
    page = report_of(tmp_path / "evil", pd.concat([hostile, bad], ignore_index=True), **evil)
    assert Tags(page).found == Tags(plain).found
    assert "<script" not in page and "onerror=alert(1)>" not in page


# ---- what a grid takes


@pytest.mark.parametrize(
    ("field", "given_as", "means"),
    [
        ("seeds", range(3), (0, 1, 2)),
        ("seeds", np.arange(2), (0, 1)),
        ("seeds", np.int64(5), (5,)),
        ("seeds", 5, (5,)),
        ("seeds", [np.int32(1), 2], (1, 2)),
        ("seeds", pd.Series([3, 4]), (3, 4)),
        ("seeds", (i for i in (7, 8)), (7, 8)),
        ("lam", np.array([0.5, 2.0]), (0.5, 2.0)),
        ("lam", np.float32(0.5), (0.5,)),
        ("lam", 4, (4,)),
        ("budget", np.array(0.25), (0.25,)),
        ("budget", 0.3, (0.3,)),
        ("methods", "dense", ("dense",)),
        ("methods", np.array(["dense", "random"]), ("dense", "random")),
        ("data", "digits", ("digits",)),
        ("models", "small", ("small",)),
    ],
)
def test_lists_come_as_people_write_them(tmp_path, field, given_as, means):
    grid = Grid(**{"lam": 1, "budget": 0.5} | {field: given_as})
    assert getattr(grid, field) == means
    assert all(type(value) in (int, float, str) for value in getattr(grid, field))
    SweepFolder(tmp_path).begin(grid, "0.1.0")  # goes into JSON,
    SweepFolder(tmp_path).begin(grid, "0.1.0")  # and comes out of it


@pytest.mark.parametrize("field", ["seeds", "lam", "budget", "gate_lr", "tune_budget", "tune_seeds"])
@pytest.mark.parametrize(
    "wrong",
    [float("nan"), float("inf"), -1, "three", 10**400, None, {1: 2}, {1, 2}, [[1]], b"1", object(), 1j],
)
def test_values_that_are_no_numbers_are_refused_in_a_sentence(field, wrong):
    values = {"lam": 1, "budget": 0.5} | {field: wrong if isinstance(wrong, dict | set | bytes) else [wrong]}
    with pytest.raises(ValueError, match=field) as caught:
        Grid(**values)
    assert one_sentence(caught.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"data": 5}, "data must be names"),
        ({"models": [None]}, "models must be names"),
        ({"methods": 5}, "unknown method 5"),
        ({"train": {}}, "train must be a TrainConfig"),
        ({"skip_damaged": "no"}, "skip_damaged must be a bool"),
        ({"seeds": None}, "empty: seeds"),
        ({"train_images": "all"}, "train_images must be a whole number"),
        ({"seeds": np.array([1, 1])}, "seeds holds a value twice"),
    ],
)
def test_fields_of_another_kind_are_refused_in_a_sentence(wrong, says):
    with pytest.raises(ValueError, match=says) as caught:
        Grid(**{"lam": 1, "budget": 0.5} | wrong)
    assert one_sentence(caught.value)


def test_a_folder_means_the_same_wherever_the_grid_is_run_from(tmp_path, monkeypatch):
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for way in ("pets", "./pets", Path("pets"), "~/pets", tmp_path / "pets"):
        assert Grid(lam=1, data=way).data == (str(tmp_path / "pets"),)
    with pytest.raises(ValueError, match="data holds a value twice"):
        Grid(lam=1, data=["pets", "./pets"])


def test_damaged_images_can_be_left_out_of_a_sweep_and_old_sweeps_know_nothing_of_it(tmp_path, monkeypatch):
    grid = Grid(lam=1, data=("digits", "/a/pets"), skip_damaged=True)
    assert grid.describe()["skip_damaged"] is True and "skip_damaged" not in Grid(lam=1).describe()
    seen = []

    def refuse(name, **options):
        seen.append((name, options))
        raise ValueError("that is enough")

    monkeypatch.setattr(dk.comparison.sweeps.job, "load_data", refuse)
    for job in grid.jobs()[::2]:
        run_job(job, tmp_path / job.name)
    assert seen == [("digits", {}), ("/a/pets", {"skip_damaged": True})]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = SweepFolder("~/x")
    folder.begin(GRID, "0.1.0")
    folder.write_table([row("mean_field", 0, 1.0)])
    assert len(load_results("~/x")) == 1
    assert write_report("~/x", "~/report.html") == tmp_path / "report.html"
    assert (tmp_path / "report.html").is_file() and not Path("~").exists()
