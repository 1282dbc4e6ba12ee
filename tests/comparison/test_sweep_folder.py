"""The folder of a sweep: it grows, continues from its table alone, and holds no path of images."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from marks import slow_but_the_first
from PIL import Image

import depl0kit as dk
from depl0kit.cli.program import main
from depl0kit.comparison.baselines import BASELINES, FROM_DENSE
from depl0kit.comparison.sweeps import Grid, load_results, runner
from depl0kit.comparison.sweeps.estimate import epochs, estimated_hours, seconds_per_epoch
from depl0kit.comparison.sweeps.job import run_job
from depl0kit.comparison.table import NEWER, to_rows, to_table

QUICK = dk.TrainConfig(epochs=1, fine_tune_epochs=1, warmup=0, ramp=0)
GRID = Grid(methods=("mean_field", "l1_global"), budget=(0.5,), seeds=(0,), train=QUICK, train_images=128)


def sweep(grid, out):
    with ThreadPoolExecutor(1) as executor:
        return dk.sweep(grid, out, executor, progress=False)


@pytest.fixture
def ran(monkeypatch):
    """Names of the runs that are begun, which train as ever."""
    names = []

    def noted(job, folder):
        names.append(job.name)
        return run_job(job, folder)

    monkeypatch.setattr(runner, "run_job", noted)
    return names


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, sweep(GRID, folder)


def test_a_row_survives_the_table(finished):
    folder, table = finished
    rows = [json.loads((folder / "runs" / run / "result.json").read_text()) for run in table.run]
    again = to_rows(load_results(folder))
    for row, stored in zip(again, rows, strict=True):
        stored.pop("checksum", None)
        assert {k: v for k, v in row.items() if v is not None} == {
            k: v for k, v in stored.items() if v is not None and k in row
        }
    pd.testing.assert_frame_equal(to_table(again), table)


def test_rows_of_earlier_versions_stand_beside_new_ones(finished):
    new = to_rows(finished[1])
    old = {name: value for name, value in new[0].items() if name not in NEWER}
    table = to_table([old, *new])
    assert table.correct[0] is None and table.settings[0] == ""
    pd.testing.assert_frame_equal(table[1:].reset_index(drop=True), finished[1])


def test_a_table_alone_is_continued(finished, tmp_path, ran):
    shutil.copy(finished[0] / "results.parquet", tmp_path)
    more = replace(GRID, seeds=(0, 1))
    table = sweep(more, tmp_path)
    assert ran == [job.name for job in more.jobs() if job.seed == 1]
    pd.testing.assert_frame_equal(table[table.seed == 0].reset_index(drop=True), finished[1])
    assert (table.error == "").all() and len(table) == 4


def test_a_table_from_anywhere_writes_only_into_the_folder(finished, tmp_path):
    table = finished[1].assign(run=["../../outside", "/tmp/outside-of-all"])
    table.to_parquet(tmp_path / "results.parquet", write_page_checksum=True)
    result = sweep(GRID, tmp_path)
    assert set(result.run) == {job.name for job in GRID.jobs()}
    assert {path.name for path in tmp_path.iterdir()} == {"results.parquet", "sweep.json", "runs"}
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize(
    "more",
    slow_but_the_first([{"seeds": (0, 1)}, {"budget": (0.5, 0.3)}, {"methods": (*GRID.methods, "dense")}]),
)
def test_a_grid_that_grows_continues_its_folder(finished, tmp_path, ran, more):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    grid = replace(GRID, **more)
    table = sweep(grid, tmp_path)
    assert set(ran) == {job.name for job in grid.jobs()} - set(finished[1].run)
    assert list(table.run) == [job.name for job in grid.jobs()]
    assert json.loads((tmp_path / "sweep.json").read_text())["grid"] == grid.describe()
    with pytest.raises(ValueError, match="holds a sweep with"):  # what is there is not thrown away
        sweep(GRID, tmp_path)


@pytest.mark.slow
def test_rates_may_be_added_until_the_best_is_not_at_the_edge(finished, tmp_path, ran):
    grid = replace(GRID, methods=("mean_field",), gate_lr=(0.1, 0.3), tune_budget=(0.5,), tune_seeds=(9,))
    sweep(grid, tmp_path)
    ran.clear()
    table = sweep(replace(grid, gate_lr=(0.1, 0.3, 1.0)), tmp_path)
    assert ran[0] == "digits-small-mean_field-budget0.5-gate_lr1-seed9"
    assert sorted(table[table.stage == "tune"].gate_lr) == [0.1, 0.3, 1.0]
    assert (table.error == "").all() and len(table) == 4


def test_a_bit_per_test_image_and_the_table_of_confusions_agree(finished):
    table, tested = finished[1], len(dk.load_data("digits").test)
    for row in table.itertuples():
        correct = np.unpackbits(np.frombuffer(row.correct, np.uint8), count=tested)
        assert correct.mean() == pytest.approx(row.test_accuracy)
        assert correct.sum() == np.trace(np.reshape(row.confusion, (10, 10)))


# ---- one training of the whole network for all that prune it


@pytest.mark.parametrize("method", slow_but_the_first(FROM_DENSE))
def test_methods_that_prune_one_network_train_it_once(method, tmp_path, monkeypatch):
    config = replace(QUICK, seed=3)
    data = dk.load_data("digits")
    data = replace(data, train=data.train.take(128))
    torch.manual_seed(3)
    model = dk.make_model("small", 1, 10, (8, 8))
    alone = BASELINES[method](model, data, 0.5, config)
    trained = BASELINES["dense"](model, data, 0.5, config)
    shared = BASELINES[method](model, data, 0.5, config, trained)
    for a, b in zip(alone.state_dict().values(), shared.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    times = []
    dense = BASELINES["dense"]
    monkeypatch.setitem(BASELINES, "dense", lambda *args: times.append(1) or dense(*args))
    jobs = replace(GRID, methods=(method, "dense"), budget=(0.5, 0.3)).jobs()
    assert [run_job(job, tmp_path / job.name)["error"] for job in jobs] == ["", "", ""]
    assert len(times) == 1


@pytest.mark.slow
def test_a_damaged_or_foreign_whole_network_is_trained_again(tmp_path):
    first, other = (
        replace(GRID, methods=("dense",), train=c).jobs()[0] for c in (QUICK, replace(QUICK, lr=0.1))
    )
    rows = [run_job(first, tmp_path / "a" / first.name)]
    file = tmp_path / "a" / first.name / "trained.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    for change in (bytes(content), b""):
        file.write_bytes(change)
        (tmp_path / "a" / first.name / "result.json").unlink()
        rows.append(run_job(first, tmp_path / "a" / first.name))
    assert len({row["test_accuracy"] for row in rows}) == 1 and {row["error"] for row in rows} == {""}
    row = run_job(other, tmp_path / "b" / other.name)
    assert run_job(other, tmp_path / "a" / first.name)["test_accuracy"] == row["test_accuracy"]


# ---- images by another name


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.setenv("DEPL0KIT_DATA", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for split, kind in ((s, k) for s in ("train", "test") for k in ("ape", "bee")):
        folder = tmp_path / "secret" / "pets" / split / kind
        folder.mkdir(parents=True)
        for i in range(10):
            Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "secret" / "pets"


@pytest.mark.slow
def test_images_are_called_by_their_name_everywhere(pets, tmp_path, monkeypatch, capsys):
    spec = tmp_path / "mine.toml"
    spec.write_text('methods = ["dense"]\ndata = ["digits"]\n[train]\nepochs = 1\nfine_tune_epochs = 1\n')
    words = ["sweep", str(spec), "--data", str(pets), "--data-name", "Pets (PNG)", "--workers", "1"]
    words += ["--out", "results"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["depl0kit", *words])
    main(words)
    table = load_results("results")
    assert table.data.tolist() == ["Pets (PNG)"] and table.error.tolist() == [""]
    assert sum(table.confusion[0]) == 20
    for path in (p for p in (tmp_path / "results").rglob("*") if p.is_file()):
        assert b"secret" not in path.read_bytes(), path
    command = json.loads((tmp_path / "results" / "sweep.json").read_text())["command"]
    assert command.startswith("python -m depl0kit sweep ") and "FOLDER --data-name 'Pets (PNG)'" in command
    assert "1 runs left" in capsys.readouterr().err
    main(words)  # and is read again
    assert load_results("results").equals(table)


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        ({"dogs": "/a"}, "which data lacks"),
        ({"digits": "/a"}, "is a data set"),
        ({"pets": 3}, "must be a path"),
        ({1: "/a"}, "dict from names to paths"),
        (["/a"], "dict from names to paths"),
    ],
)
def test_folders_that_make_no_sense_are_refused(folders, says):
    with pytest.raises(ValueError, match=says):
        Grid(methods="dense", data=("digits", "pets"), folders=folders)


def test_a_name_without_a_folder_is_refused(capsys):
    assert main(["sweep", "digits", "--data-name", "Pets"]) != 0
    assert "--data FOLDER, which is missing" in capsys.readouterr().err


# ---- how long it takes


def test_hours_add_up(monkeypatch):
    monkeypatch.setattr("depl0kit.comparison.sweeps.estimate.seconds_per_epoch", lambda job: 36.0)
    jobs = replace(GRID, methods=("mean_field", "dense", "l1_global"), budget=(0.5, 0.25)).jobs()
    assert [epochs(job) for job in jobs] == [2, 2, 1, 2, 1]  # the dense one, then budget by budget
    assert estimated_hours(jobs, 2) == pytest.approx(8 * 36 / 3600 / 2)


def test_an_epoch_is_measured_on_the_networks_own_images():
    seconds = [seconds_per_epoch(replace(GRID.jobs()[0], train_images=n)) for n in (64, 1024)]
    assert 0 < seconds[0] < seconds[1]
