"""Several processes that train one network, as torchrun starts them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import depl0kit as dk

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys, torch
import depl0kit as dk
from depl0kit.training.distributed import joined, ranks
from torch import nn

torch.set_num_threads(1)
folder, out, posterior, epochs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

if __name__ == "__main__":
    with joined("cpu"):
        data = dk.load_data(folder, root=os.path.dirname(folder))
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 4, 2))
        net = dk.GatedModel(model, posterior, example=data.example)
        config = dk.TrainConfig(epochs=epochs, fine_tune_epochs=1, batch_size=16, lam=4.0, warmup=0, ramp=1,
                                augment=True, gate_lr=0.05)
        run = dk.train(net, data, config, progress=False, out=out)
        flat = torch.cat([t.flatten() for t in net.state_dict().values()])
        print("RESULT", json.dumps({"rank": ranks().rank, "sum": float(flat.double().sum())}), flush=True)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Two classes of 8x8 images that differ in colour, class by directory."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, n in (("train", 48), ("val", 9), ("test", 11)):
        for colour in (0, 2):
            folder = root / "small" / split / "rgb"[colour]
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 120, (8, 8, 3), dtype=np.uint8)
                pixels[..., colour] += 80
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root / "small"


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("script") / "train_it.py"
    path.write_text(SCRIPT)
    return path


def command(processes: int, *arguments: object) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc-per-node={processes}", *map(str, arguments)]


def run(processes: int, *arguments: object) -> str:
    done = subprocess.run(command(processes, *arguments), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("posterior", ["mean_field", "forward", "autoregressive", "arm"])
def test_two_processes_compute_what_one_does(images, script, tmp_path, posterior):
    alone = run(1, script, images, tmp_path / "one", posterior, 3)
    together = run(2, script, images, tmp_path / "two", posterior, 3)
    assert alone.count("RESULT") == 1 and together.count("RESULT") == 2
    sums = {line.split('"sum": ')[1] for line in together.splitlines() if "RESULT" in line}
    assert len(sums) == 1  # weights and gate parameters agree, to the bit
    one, two = (dk.RunFolder(tmp_path / name) for name in ("one", "two"))
    a, b = (folder.latest_checkpoint() for folder in (one, two))
    for name in a.tensors:
        torch.testing.assert_close(a.tensors[name], b.tensors[name], rtol=1e-3, atol=2e-4)
    columns = ["epoch", "train_loss", "val_loss", "val_accuracy", "expected_macs"]
    np.testing.assert_allclose(one.history()[columns], two.history()[columns], rtol=2e-3)
    np.testing.assert_allclose(one.gates()[1], two.gates()[1], atol=2e-3)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes as Linux lists them")
def test_one_killed_ends_all_and_the_run_goes_on(images, script, tmp_path):
    arguments = script, images, tmp_path / "run", "mean_field", 40
    torchrun = subprocess.Popen(command(2, *arguments), stderr=subprocess.PIPE, text=True)
    folder, deadline = dk.RunFolder(tmp_path / "run"), time.monotonic() + 60
    while len(folder.history()) < 3:
        assert torchrun.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    workers = children(torchrun.pid)
    other = next(pid for pid in workers if pid != folder.status()["process"])
    os.kill(other, signal.SIGKILL)
    _, error = torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0
    assert "SIGKILL" in error and str(other) in error  # torchrun names what happened to which
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert len(folder.history()) < 41
    assert run(2, *arguments).count("RESULT") == 2  # the same command
    assert folder.history().epoch.tolist() == [*range(1, 42)] and folder.status()["state"] == "finished"


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    from depl0kit.training import distributed

    data = dk.load_data("digits")
    net = dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=data.example)
    monkeypatch.setattr(distributed, "ranks", lambda: distributed.Ranks(0, 3))
    with pytest.raises(ValueError, match="multiple of the number of processes, 3, got 64"):
        dk.Trainer(net, data, dk.TrainConfig(batch_size=64))


# --- what differs between the processes ------------------------------------------------------------

DIFFERENT = """
import os, sys, torch
from dataclasses import replace
from pathlib import Path
import depl0kit as dk
from depl0kit.training.distributed import joined, ranks
from torch import nn

torch.set_num_threads(1)

class Spare(nn.Sequential):  # with a layer that takes no part
    def __init__(self, *layers):
        super().__init__(*layers)
        self.spare = nn.Linear(3, 3)
    def forward(self, x):
        for name, layer in self.named_children():
            x = x if name == "spare" else layer(x)
        return x

def train(what, out):
    rank, data = ranks().rank, dk.load_data("digits")
    images = {"data": 200 + rank, "unequal": 3}.get(what, 128)
    data = replace(data, train=data.train.take(images), val=data.val.take(50))
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4 + rank * (what == "network"), 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(10)
    model = (Spare if what == "unused" else nn.Sequential)(*layers)
    model(data.example)
    net = dk.GatedModel(model, "autoregressive" if what == "unequal" else "forward", example=data.example)
    config = dk.TrainConfig(epochs=2, fine_tune_epochs=1, batch_size=32, warmup=0, ramp=0)
    if what == "settings" and rank:
        config = replace(config, lam=8.0, epochs=3)
    if what == "unequal":
        config = replace(config, lr=0.5, weight_decay=0.0)
    if what == "epoch" and rank:
        dk.RunFolder.resume_point = lambda self: None
    return dk.train(net, data, config, progress=False, out=None if what == "folder" and rank else out)

def main(whats, out):
    with joined("cpu"):
        for what in whats.split():
            try:
                text = f"RESULT {train(what, out)}"
            except ValueError as error:
                text = f"REFUSED {what}: {error}"
            sys.stdout.write(text + chr(10))
            sys.stdout.flush()

if __name__ == "__main__":
    main(*sys.argv[1:])
    threads = Path("/proc/self/task").glob("*/comm")  # as Linux lists them
    left = [name for name in (thread.read_text() for thread in threads) if "gloo" in name]
    assert not left, left  # they could abort a Python that ends
"""


@pytest.fixture(scope="module")
def different(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("script") / "differ.py"
    path.write_text(DIFFERENT)
    return path


def test_processes_that_differ_are_refused_with_one_sentence(different, tmp_path):
    says = {
        "settings": "train.lam: 4.0 in process 0, 8.0 in process 1",
        "data": "data.train: 200 in process 0, 201 in process 1",
        "network": "net.groups: [['0', 4]] in process 0, [['0', 5]] in process 1",
        "folder": "out: True in process 0, False in process 1",
    }
    start, output = time.monotonic(), run(2, different, " ".join(says), tmp_path)
    for what, difference in says.items():
        sentence = f"REFUSED {what}: the processes of this run differ in {difference}. Start all of them with"
        assert output.count(sentence) == 2
    assert "RESULT" not in output and not (tmp_path / "history.csv").exists()
    assert time.monotonic() - start < 120  # they do not wait for each other in vain


def test_processes_that_would_resume_from_different_epochs_are_refused(different, tmp_path):
    output = run(2, different, "alike epoch", tmp_path)
    assert output.count("RESULT") == 2
    assert output.count("differ in last epoch: 3 in process 0, None in process 1") == 2


def test_a_layer_that_takes_no_part_trains(different, tmp_path):
    alone, together = (run(n, different, "unused", tmp_path / str(n)) for n in (1, 2))
    assert together.count("RESULT") == 2
    assert_close(tmp_path, tolerance=2e-4)
    assert alone.count("RESULT") == 1


def test_unequal_parts_of_a_batch_count_by_their_images(different, tmp_path):
    """Three images, one and two in a part: the step is that of the whole batch."""
    for n in (1, 2):
        assert run(n, different, "unequal", tmp_path / str(n)).count("RESULT") == n
    assert_close(tmp_path, tolerance=1e-5)


def assert_close(folder: Path, tolerance: float) -> None:
    one, two = (dk.RunFolder(folder / name) for name in ("1", "2"))
    a, b = (run_folder.latest_checkpoint() for run_folder in (one, two))
    for name in a.tensors:
        torch.testing.assert_close(a.tensors[name], b.tensors[name], rtol=1e-3, atol=tolerance)
    losses = [run_folder.history().train_loss for run_folder in (one, two)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
