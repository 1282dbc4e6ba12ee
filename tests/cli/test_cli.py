"""The shell: a run from start to a small network, what is shown, and what is said when it goes wrong."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import tyro
from torchvision.utils import save_image

import depl0kit as dk
from depl0kit.cli import program as cli
from depl0kit.cli import start
from depl0kit.cli.options import Options
from depl0kit.comparison.methods import ABOUT
from depl0kit.comparison.sweeps import METHODS, spec_names
from depl0kit.training.recipes import load_recipe, recipe_names


@pytest.fixture
def shell(capsys):
    """Run a command in this process; give (exit status, output, errors)."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as end:  # of tyro
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a short run in which channels close."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.main(["train", "small-digits", *SAME, "--device", "cpu", "--out", str(out)]) == 0
    return out


SAME = ("--epochs=3", "--lam=40", "--gate-lr=0.3", "--warmup=0", "--ramp=1")


def recipe_from(*words: str):
    """The recipe that `train` makes of these words."""
    return tyro.cli(Options, args=words).chosen()


# ---- a run, from beginning to end


def test_the_same_command_again_returns_the_finished_run(shell, folder):
    history = (folder / "history.csv").read_bytes()
    status, output, _ = shell("train", "small-digits", *SAME, "--out", folder)
    assert status == 0 and "finished 3 of 3 epochs" in output
    assert (folder / "history.csv").read_bytes() == history


def test_show_tells_settings_state_history_and_channels(shell, folder):
    status, output, _ = shell("show", folder)
    assert status == 0
    assert "ConvNet on digits, gates: MeanField" in output
    assert "lam 40" in output and "epochs 3" in output
    assert "state: finished, epoch 3.00 of 3" in output
    rows = [line.split() for line in output.splitlines()]
    net = dk.load_run(folder).net
    for name, n_open in zip((g.name for g in net.groups.gated), net.open_channels(), strict=True):
        assert any(row[:2] == [name, str(n_open)] for row in rows)
    assert sum(row[:1] in (["1"], ["2"], ["3"]) for row in rows) == 3  # epochs


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluate_measures_the_gated_and_the_compact_network(shell, folder, split):
    status, output, _ = shell("evaluate", folder, "--split", split, "--device", "cpu")
    header, gated, compact = output.splitlines()
    net, images = dk.load_run(folder).net, getattr(dk.load_data("digits"), split)
    loss, accuracy = dk.evaluate(net, images)
    kept = (net.exact_cost() / net.dense_cost).macs
    assert status == 0 and header.startswith(f"on {split}") and kept < 1
    for row in (gated, compact):
        assert f"{accuracy:.4f}" in row and f"{loss:.4f}" in row and f"{kept:.2%}" in row


def test_compact_writes_what_it_says(shell, folder, tmp_path):
    file = tmp_path / "small.safetensors"
    status, output, _ = shell(
        *("compact", folder, file, "--round-to", 8, "--reestimate", "--fine-tune", 1, "--device", "cpu")
    )
    assert status == 0
    small = dk.load_compact(file)
    widths = [m.out_channels for m in small.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(width % 8 == 0 for width in widths) and sum(widths) < 144
    parameters = sum(p.numel() for p in small.parameters())
    accuracy = dk.evaluate(small, dk.load_data("digits").test)[1]
    assert f"{parameters:,}" in output and f"{accuracy:.4f}" in output
    net = dk.load_run(folder).net
    assert f"{net.dense_cost.macs:,}" in output


@pytest.mark.slow
def test_a_folder_of_images_is_found_again_from_elsewhere(shell, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--data", "./photos", "--size", 8, "--epochs", 1, "--batch-size", 4, "--device", "cpu")
    status, _, errors = shell("train", "small-digits", *words, "--out", "run")
    assert status == 0, errors
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert shell("evaluate", "../run", "--device", "cpu")[0] == 0
    (photos / "test" / "class0" / "8.png").unlink()
    status, _, errors = shell("evaluate", "../run", "--device", "cpu")
    assert status == 2 and "was trained on other images" in errors


@pytest.mark.slow
def test_evaluate_takes_a_run_that_was_trained_from_python(shell, tmp_path):
    dk.train(*load_recipe("small-digits", epochs=1).build(), progress=False, out=tmp_path)
    assert shell("evaluate", tmp_path, "--device", "cpu")[0] == 0


@pytest.mark.slow
def test_a_run_from_python_on_a_folder_is_told_where_its_images_are(shell, photos, tmp_path, monkeypatch):
    recipe = load_recipe("small-digits", data=str(photos), size=8, epochs=1, batch_size=4)
    dk.train(*recipe.build(), progress=False, out=tmp_path / "run")
    words = ("--device", "cpu")
    status, _, errors = shell("evaluate", tmp_path / "run", *words)
    assert status == 2 and "named 'photos', and does not say where it is: add --data FOLDER" in errors
    monkeypatch.setenv("HOME", str(tmp_path))
    status, output, errors = shell("evaluate", "~/run", "--data", "~/photos", *words)
    assert status == 0, errors
    loss, accuracy = dk.evaluate(dk.load_run(tmp_path / "run").net, dk.load_data(photos, size=8).test)
    assert [f"{accuracy:.4f}", f"{loss:.4f}"] == output.splitlines()[1].split()[2:4]
    assert shell("compact", "~/run", "~/small.safetensors", "--data", "~/photos", *words)[0] == 0
    assert (tmp_path / "small.safetensors").is_file()
    status, _, errors = shell("evaluate", tmp_path / "run", "--data", tmp_path / "none", *words)
    assert status == 2 and str(tmp_path / "none") in errors


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_damaged_images_are_left_out_where_that_is_asked_for(shell, photos, tmp_path):
    sorted(photos.rglob("*.png"))[0].write_bytes(b"no image")
    words = ("--data", photos, "--size", 8, "--epochs", 1, "--batch-size", 4, "--device", "cpu")
    words = ("train", "small-digits", *words, "--out", tmp_path / "run")
    status, _, errors = shell(*words)
    assert status == 2 and "skip_damaged" in errors
    assert shell(*words, "--skip-damaged")[0] == 0
    assert shell("evaluate", tmp_path / "run", "--device", "cpu")[0] == 0  # as its recipe says


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder of 40 small images of two classes."""
    noise = torch.Generator().manual_seed(0)
    for i in range(40):
        path = tmp_path / "photos" / ("train", "test")[i % 8 < 2] / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(torch.rand(3, 16, 12, generator=noise), path)
    monkeypatch.setenv("DEPL0KIT_DATA", str(tmp_path / "cache"))
    return tmp_path / "photos"


# ---- options


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_without_options_is_the_recipe(name):
    assert recipe_from(name) == load_recipe(name)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("vgg16-cifar10 --posterior mean_field", {"posterior": "mean_field"}),
        ("vgg16-cifar10 --lam 3", {"lam": 3}),
        (
            "vgg16-cifar10 --posterior mean_field --lam-per-weight 1e-6",  # 1e-6 is the default of forward
            {"posterior": "mean_field", "lam_per_weight": 1e-6},
        ),
        ("small-digits --lam-per-weight 1e-4", {"lam_per_weight": 1e-4}),
        ("small-digits --budget 0.5", {"budget": 0.5}),
        ("small-digits-budget --lam 4", {"lam": 4}),
        ("resnet56-cifar10 --gate-lr None --no-augment", {"gate_lr": None, "augment": False}),
        ("resnet56-cifar10 --milestones 10 20.5", {"milestones": (10, 20.5)}),
        (
            "small-digits --augment --data ./photos --size 32",
            {"augment": True, "data": "./photos", "size": 32},
        ),
        ("small-digits --scope all --weights w.safetensors", {"scope": "all", "weights": "w.safetensors"}),
    ],
)
def test_options_change_the_recipe(words, settings):
    name, *_ = words.split()
    assert recipe_from(*words.split()) == load_recipe(name, **settings)


def test_the_recipe_may_come_after_options_and_from_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('extends = "small-digits"\n[train]\nepochs = 7\n')
    recipe = recipe_from("--seed", "5", str(file))
    assert (recipe.train.epochs, recipe.train.seed, recipe.train.lam) == (7, 5, 16)


# ---- help


def test_help_of_a_recipe_has_its_defaults(shell):
    status, output, _ = shell("train", "vgg16-cifar10", "--posterior", "mean_field", "--help")
    text = " ".join(output.replace("│", " ").split())
    assert status == 0
    assert "--epochs INT" in text and "(default: 300)" in text
    assert "(default: 5e-07)" in text  # the paper's lambda for this posterior
    assert "--lam " in text and "--train.lam" not in text
    assert "(default: 4.0)" not in text  # of lam, which is not the price here


@pytest.mark.parametrize("command", ["", "lab", "train", "list", "show", "evaluate", "compact"])
def test_help_explains_every_option(shell, command):
    status, output, _ = shell(*command.split(), "--help")
    assert status == 0 and "usage: python -m depl0kit" in output
    lines = output.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("│ --"):  # the option, and its words beside it or below it
            assert "  " in line.strip("│ ") or following.startswith("│   "), line


def test_list_shows_all_recipes_sweeps_and_methods(shell):
    status, output, _ = shell("list")
    assert status == 0
    tables = [[line.split()[0] for line in table.splitlines()] for table in output.split("\n\n")]
    names = {"recipe": recipe_names(), "sweep": spec_names(), "method": list(ABOUT)}
    assert tables == [[head, *rows] for head, rows in names.items()]
    assert set(ABOUT) == set(METHODS)


# ---- what goes wrong


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train vgg16-cifar", "unknown recipe 'vgg16-cifar'"),
        ("train none.toml", "there is no recipe file 'none.toml'"),
        ("train small-digits --epoch 3", "--epochs"),
        ("train small-digits --lam -1", "lam must be a number in [0, inf), got -1"),
        ("train small-digits --lam 3 --budget 0.3", "a run has one price, got lam and budget"),
        ("train small-digits --epochs ten", "Error parsing --epochs"),
        ("train small-digits --posterior foward", "'foward'"),
        ("train small-digits --device tpu", "unknown device 'tpu'"),
        ("train small-digits --device cpu:99", "torch finds no device 'cpu:99' on this machine: use 'cpu'"),
        ("train small-digits --device cuda:77", "torch finds no device 'cuda:77'"),
        ("train small-digits --device cpu:x", "torch finds no device 'cpu:x'"),
        ("train small-digits --out file", "file is a file, not a folder"),
        ("train small-digits --out file/run", "file is a file, not a folder"),
        ("train small-digits --out link", "link is a link to nothing"),
        ("sweep digits --out file", "file is a file, not a folder"),
        ("sweep digits --out link", "link is a link to nothing"),
        ("compact none .", "is a folder: name a file in it"),
        ("compact none file/x.safetensors", "file is a file, not a folder"),
        ("compact none x.safetensors --round-to 0", "--round-to must be a whole number of at least 1, got 0"),
        ("evaluate none --device cpu:99", "torch finds no device 'cpu:99'"),
        ("show file", "file is a file, not a folder"),
        ("train small-digits --weights none.pth", "there is no file of weights 'none.pth'"),
        ("train small-digits --data no/where", "no/where"),
        ("train resnet50-imagenet-cpu", "ImageNet is not at"),
        ("train", "RECIPE"),
        ("bogus", "bogus"),
        ("show none", "there is no run in none"),
        ("evaluate none", "there is no run in none"),
        ("compact none x.safetensors", "there is no run in none"),
    ],
)
def test_bad_input_is_told_in_a_line(words, says, shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPL0KIT_DATA", str(tmp_path / "data"))
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to("nothing")
    status, _, errors = shell(*words.split())
    assert status == 2
    assert says in errors and "Traceback" not in errors
    if errors.startswith("error: "):  # ours; tyro's own have a frame
        assert errors.count("\n") == 1
    assert not list(tmp_path.rglob("config.json"))


def test_the_target_of_compact_is_looked_at_before_the_work(shell, folder, monkeypatch):
    monkeypatch.setattr(cli, "fine_tune", lambda *_: pytest.fail("it has begun"))
    status, _, errors = shell("compact", folder, folder, "--fine-tune", 1)
    assert status == 2 and f"{folder} is a folder: name a file in it" in errors


def test_what_to_do_next_can_be_pasted_into_a_shell(shell, tmp_path):
    out = tmp_path / "a run; rm -rf it"
    words = ("train", "small-digits", "--epochs", 1, "--device", "cpu", "--out", out)
    _, output, _ = shell(*words)
    following = shlex.split(output.split("Next: python -m depl0kit ")[1])
    assert following == ["compact", str(out), "small.safetensors"]


def test_home_is_found_in_a_path(shell, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(tmp_path)
    assert shell("show", f"~/{folder.name}")[0] == 0
    status, output, _ = shell("train", "small-digits", *SAME, f"--out=~/{folder.name}")
    assert status == 0 and "finished 3 of 3 epochs" in output
    assert dk.load_run(f"~/{folder.name}").status == "finished"
    assert dk.RunFolder(f"~/{folder.name}").path == folder
    assert not list(tmp_path.iterdir())


def test_the_version(shell):
    assert shell("--version")[:2] == (0, f"depl0kit {dk.__version__}\n")


def test_other_settings_in_the_folder_of_a_run(shell, folder):
    status, _, errors = shell("train", "small-digits", "--epochs", 9, "--lam", 40, "--out", folder)
    assert status == 2 and "holds a run with" in errors
    assert json.loads((folder / "recipe.json").read_text())["train"]["epochs"] == 3


def test_a_folder_in_use(shell, folder):
    with dk.RunFolder(folder).in_use():
        status, _, errors = shell("train", "small-digits", *SAME, "--out", folder)
    assert status == 1 and errors.startswith("error: another process is training in")


@pytest.mark.slow
def test_a_network_that_diverges(shell, tmp_path):
    words = (
        "--lr",
        1e6,
        "--schedule",
        "constant",
        "--epochs",
        1,
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
    )
    status, _, errors = shell("train", "small-digits", *words)
    assert status == 1 and "try a smaller lr" in errors and "Traceback" not in errors


def test_show_says_when_a_training_is_silent(shell, folder, tmp_path):
    silent = dk.RunFolder(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    silent.set_status(state="running", epoch=1.5, epochs=3, images_per_second=10, seconds_left=3661, error="")
    assert "1:01:01 left" in shell("show", tmp_path)[1]
    status = json.loads((tmp_path / "status.json").read_text())
    (tmp_path / "status.json").write_text(json.dumps(status | {"updated": time.time() - 100}))
    assert "no sign of life for 100 s" in shell("show", tmp_path)[1]


# ---- in processes of their own


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "depl0kit", *map(str, words)]


def wait_for(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_the_module_runs_and_fails_with_a_status(tmp_path):
    words = ("train", "small-digits", "--epochs", 2, "--device", "cpu", "--out", tmp_path / "run")
    for _ in range(2):  # the second finds it finished
        done = subprocess.run(command(*words), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "finished 2 of 2 epochs" in done.stdout and done.stderr == ""
    done = subprocess.run(command("train", "smal-digits"), capture_output=True, text=True)
    assert done.returncode == 2 and "Did you mean 'small-digits'?" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_goes_on_with_the_same_command(tmp_path, sent):
    run = dk.RunFolder(tmp_path / "run")
    words = command("train", "small-digits", "--epochs", 12, "--device", "cpu", "--out", run.path)
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored by all that `nohup ... &` starts
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, preexec_fn=heeds)
    wait_for(lambda: run.status()["epoch"] > 1, process)
    process.send_signal(sent)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "interrupted after" in output and "the same command resumes it" in output
    done = len(run.history())
    assert 1 <= done < 12
    after = subprocess.run(words, capture_output=True, text=True)
    assert after.returncode == 0 and "finished 12 of 12 epochs" in after.stdout
    assert list(run.history().epoch) == list(range(1, 13))


@pytest.mark.slow
def test_torchrun_trains_one_run_and_speaks_once(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "depl0kit"]
    words = ["train", "small-digits", "--epochs", "2", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run([*launcher, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished 2 of 2 epochs") == 1
    assert len(dk.RunFolder(tmp_path).history()) == 2


@pytest.mark.slow
def test_start_trains_in_the_background(tmp_path):
    with pytest.raises(ValueError, match="unknown setting 'epoch'"):
        start("small-digits", tmp_path, epoch=3)
    settings = {"epochs": 2, "milestones": (1, 2), "schedule": "steps", "augment": True, "gate_lr": None}
    process = start("small-digits", tmp_path, **settings, device="cpu")
    assert os.getsid(process.pid) != os.getsid(0)  # Ctrl-C in the notebook does not reach it
    assert process.wait(timeout=120) == 0
    assert "finished 2 of 2 epochs" in (tmp_path / "log.txt").read_text()
    assert dk.load_run(tmp_path).config.milestones == (1, 2)
