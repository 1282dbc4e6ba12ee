"""Small files of a run that were edited, cut or replaced: ignored with a warning, or refused by name."""

import json
import multiprocessing
import os
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import depl0kit as dk
from depl0kit.cli.text import describe_run
from depl0kit.data.loading import Data
from depl0kit.support.files import DamagedFileError, misfit, read_json
from depl0kit.training.runs import recording
from depl0kit.training.runs.view import RunView

CONFIG = dk.TrainConfig(epochs=2, lam=8.0, batch_size=32)
IGNORED = ("control.json", "status.json", "environment.json")


def net() -> dk.GatedModel:
    torch.manual_seed(0)
    model = dk.make_model("small", 1, 10, (8, 8))
    return dk.GatedModel(model, example=torch.zeros(1, 1, 8, 8))


def train(few: Data, out: Path) -> dk.training.runs.Run:
    return dk.train(net(), few, CONFIG, progress=False, out=out)


@pytest.fixture(scope="module")
def finished(few, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    dk.RunFolder(out).ask(lam=8.0, speed=None)
    train(few, out)
    return out


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_list(path: Path) -> None:
    path.write_text("[1, 2]")


def a_number(path: Path) -> None:
    path.write_text("3")


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00{")


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def wrong_types(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: ["?"] for name in content}))


DAMAGE = [empty, cut, a_list, a_number, no_text, deep, a_pipe, wrong_types]


def sessions(folder: dk.RunFolder) -> list[dict]:
    """Of a run that begins once more."""
    config = read_json(folder.path / "config.json")
    folder.begin(config, {"host": "here"})
    return read_json(folder.path / "environment.json")["sessions"]


WITHOUT = {  # what is read of each where it is not there
    "status.json": (dk.RunFolder.status, {"state": "new", "epoch": 0.0, "error": ""}),
    "control.json": (lambda folder: folder.control.requests(), {}),
    "environment.json": (sessions, [{"host": "here"}]),
}
CASES = [(name, damage) for name in WITHOUT for damage in [*DAMAGE, a_folder]]
CASES.remove(("environment.json", a_folder))  # which cannot be replaced


@pytest.mark.timeout(60)  # a pipe keeps its reader waiting
@pytest.mark.parametrize(("name", "damage"), CASES)
def test_a_damaged_small_file_is_as_if_not_there(finished, tmp_path, name, damage):
    shutil.copytree(finished, tmp_path / "run")
    damage(tmp_path / "run" / name)
    read, expected = WITHOUT[name]
    with pytest.warns(UserWarning, match=rf"run/{name} is damaged: .*ignored\.") as caught:
        assert read(dk.RunFolder(tmp_path / "run")) == expected
    (tmp_path / "run" / name).rename(tmp_path / "elsewhere")
    assert read(dk.RunFolder(tmp_path / "run")) == expected
    assert all(str(tmp_path) in str(w.message) for w in caught)


def test_a_file_that_cannot_be_replaced_is_named(few, tmp_path):
    (tmp_path / "environment.json" / "mine").mkdir(parents=True)
    with (
        pytest.warns(UserWarning, match="environment.json is damaged"),
        pytest.raises(OSError, match=r"cannot be written.*environment\.json"),
    ):
        train(few, tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", [*DAMAGE, a_folder])
def test_a_damaged_config_is_refused_by_name(few, finished, tmp_path, damage):
    shutil.copytree(finished, tmp_path / "run")
    damage(tmp_path / "run" / "config.json")
    uses = (lambda: train(few, tmp_path / "run"), lambda: dk.load_run(tmp_path / "run"))
    for use in (*uses, RunView(dk.RunFolder(tmp_path / "run")).look):
        with pytest.raises(ValueError, match=r"config\.json is damaged|was written by depl0kit"):
            use()


def test_a_setting_that_this_version_does_not_know_is_named(few, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    content = json.loads(config.read_text())
    content["train"]["dropout"] = 0.5
    config.write_text(json.dumps(content))
    for use in (lambda: train(few, tmp_path / "run"), lambda: dk.load_run(tmp_path / "run")):
        with pytest.raises(ValueError, match=r"config\.json has a setting .* 'dropout': install the version"):
            use()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_trains_on_while_its_small_files_are_damaged(few, tmp_path, damage, monkeypatch):
    monkeypatch.setattr("depl0kit.training.runs.control.LOOK_SECONDS", 0.0)
    trainer = dk.Trainer(net(), few, CONFIG)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        for step, _ in enumerate(recording.recorded(trainer, tmp_path)):
            for name in IGNORED:
                path = tmp_path / name
                if step == 0 and (name != "control.json" or not path.exists()):
                    path.write_text('{"lam": 3}') if name == "control.json" else None
                    damage(path)
    assert trainer.run.status == "finished" and trainer.run.history.lam.tolist() == [8.0, 8.0]
    assert dk.RunFolder(tmp_path).status()["state"] == "finished"  # it was written anew


def test_what_no_run_takes_is_ignored_by_name(few, tmp_path, monkeypatch):
    monkeypatch.setattr("depl0kit.training.runs.control.LOOK_SECONDS", 0.0)
    trainer = dk.Trainer(net(), few, CONFIG)
    with pytest.warns(UserWarning) as caught:
        for step, _ in enumerate(recording.recorded(trainer, tmp_path)):
            if step == 0:
                asked = {"lam": "?", "gate_lr": 0.25, "temperature": -1, "speed": {}, "lr": 3, "state": None}
                (tmp_path / "control.json").write_text(json.dumps(asked))
    told = " ".join(str(w.message) for w in caught)
    assert all(f"{name} must be" in told for name in ("lam", "temperature", "speed"))
    assert "unknown request 'lr'" in told and "unknown state None" in told
    assert trainer.run.status == "finished" and trainer.lam == 8.0 and trainer.gate_lr == 0.25


def test_misfit_names_what_is_wrong():
    form = {"a": float, "b?": [str], "c": ({"d": int}, None), "e?": bool}
    for good in ({"a": 1, "c": None}, {"a": 1.5, "b": ["x"], "c": {"d": 2, "more": []}, "e": True}):
        assert misfit(good, form) == ""
    bad = {
        "expected a to be a number": [{"c": None}, {"a": True, "c": None}, {"a": float("nan"), "c": None}],
        "expected every entry of b to be text": [{"a": 1, "b": ["x", 2], "c": None}],
        "expected d to be a whole number": [{"a": 1, "c": {"d": 1.5}}, {"a": 1, "c": {"d": 10**400}}],
        "expected e to be true or false": [{"a": 1, "c": None, "e": 1}],
        "expected its content to be an object": [[], None, 3],
    }
    for text, values in bad.items():
        for value in values:
            assert misfit(value, form).startswith(text), value


# --- any change of any file --------------------------------------------------------------------------

ODD = [None, True, False, 0, -1, 3, 0.5, -2.5, 1e308, float("nan"), float("inf"), 10**400, "", "x", "1e3"]
ODD += [[], {}, [[]], [None], {"": {}}, [1, 2, 3], ["a", 1], [["a", 0]], [["a", 2.5]]]


def paths(content, start=()):
    """Of all entries of a JSON value."""
    yield start
    entries = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in entries:
        yield from paths(value, (*start, key))


def changed(content, path, value):
    """A copy with another value at `path`; without it, where that is `...`."""
    if not path:
        return None if value is ... else value
    whole = json.loads(json.dumps(content))
    part = whole
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return whole


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_no_change_of_a_small_file_ends_in_an_error_from_inside(finished, tmp_path_factory, draw):
    out = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(finished, out)
    name = draw.draw(st.sampled_from(["config.json", "config.json", *IGNORED]))
    content = json.loads((out / name).read_text())
    where = draw.draw(st.sampled_from([*paths(content)]))
    value = draw.draw(st.sampled_from([*ODD, ...]))
    (out / name).write_text(json.dumps(changed(content, where, value)))
    folder = dk.RunFolder(out)
    about = read_json(finished / "config.json")
    view = RunView(folder)
    uses = [
        *(folder.about, folder.status, folder.control.requests, folder.history, folder.gates),
        folder.resume_point,
        *(lambda: dk.load_run(out), view.look, view.silent_since, lambda: describe_run(folder)),
        *(lambda: folder.ask(lam=3.0), folder.control.forget_session, lambda: folder.begin(about, {})),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for use in uses:
            try:
                use()
            except (ValueError, FileNotFoundError) as error:
                assert str(out) in str(error) and "\n" not in str(error)
    shutil.rmtree(out.parent)


@pytest.mark.slow
@given(st.data())
def test_no_change_of_the_history_ends_in_an_error_from_inside(finished, tmp_path_factory, draw):
    out = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(finished, out)
    path = out / draw.draw(st.sampled_from(["history.csv", "gates.f32"]))
    content = bytearray(path.read_bytes())
    at = draw.draw(st.integers(0, len(content) - 1))
    content[at : at + draw.draw(st.integers(0, 3))] = draw.draw(st.binary(max_size=3))
    path.write_bytes(content)
    folder = dk.RunFolder(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for use in (folder.history, folder.gates, lambda: dk.load_run(out), RunView(folder).look):
            try:
                use()
            except ValueError as error:
                assert str(path) in str(error)
        if content != (finished / path.name).read_bytes():
            assert folder.resume_point().epoch == 0  # before all that was changed
    shutil.rmtree(out.parent)


# --- many who ask at once ------------------------------------------------------------------------------

REQUESTS = {
    "lam": 3.0,
    "temperature": 0.5,
    "gate_lr": 0.25,
    "until_stop": True,
    "speed": 7.0,
    "state": "pause",
}


def test_scalars_of_numpy_and_torch_can_be_asked_for(tmp_path):
    folder = dk.RunFolder(tmp_path)
    folder.ask(lam=np.float32(3), temperature=torch.tensor(0.5), until_stop=np.bool_(True), gate_lr=1)
    assert folder.control.requests() == {"lam": 3.0, "temperature": 0.5, "until_stop": True, "gate_lr": 1.0}


@pytest.mark.slow
def test_of_many_threads_that_ask_all_are_heard(tmp_path):
    for round_ in range(20):
        out = tmp_path / str(round_)
        together = threading.Barrier(len(REQUESTS))

        def ask(name, value, out=out, together=together):
            together.wait()
            dk.RunFolder(out).ask(**{name: value})

        threads = [threading.Thread(target=ask, args=item) for item in REQUESTS.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert dk.RunFolder(out).control.requests() == REQUESTS


def ask_often(out: Path, name: str, value: object) -> None:
    for _ in range(50):
        dk.RunFolder(out).ask(**{name: value})


@pytest.mark.slow
def test_of_many_processes_that_ask_all_are_heard(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=ask_often, args=(tmp_path, *item)) for item in REQUESTS.items()]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(REQUESTS)
    assert dk.RunFolder(tmp_path).control.requests() == REQUESTS


def test_reading_a_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedFileError, match="pipe is damaged: expected a file"):
        read_json(tmp_path / "pipe")
