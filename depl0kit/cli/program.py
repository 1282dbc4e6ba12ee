"""depl0kit from a shell: `python -m depl0kit --help`.

`lab` (lab.py) opens the lessons. `train` runs a recipe in a folder, `show` describes the run, `evaluate` and
`compact` use its network; `sweep` and `report` (sweeps.py) compare many runs.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from tyro.conf import Positional

from ..channels.cost import plain_cost
from ..data.loading import DATA_SETS, Data, load_data
from ..gates.compact import compact as compacted
from ..networks.storage import save_compact
from ..support import checks
from ..support.device import keep_freed_memory, named_device
from ..support.files import DamagedFileError, read_json, write_json
from ..support.tables import aligned
from ..support.versions import version
from ..training import distributed
from ..training.evaluation import evaluate as evaluated
from ..training.finetuning import fine_tune, reestimate_batch_norm
from ..training.recipes import Recipe
from ..training.runs.folder import RunFolder
from ..training.runs.run import Run, load_run
from ..training.train import train as trained
from .lab import lab
from .lists import show_lists
from .options import HELP, PROGRAM, Device, Folder, Options, show_help
from .sweeps import report, sweep
from .text import describe_run, outcome

ABOUT = f"""L0 channel pruning: train with gates, watch the run, and make the network small.

Begin with `{PROGRAM} lab`, which opens the lessons, or with `{PROGRAM} train small-digits`,
which takes seconds.
`{PROGRAM} COMMAND --help` explains a command, `{PROGRAM} --version` prints the version."""
SPEAKS = os.environ.get("RANK", "0") == "0"  # the first process of torchrun, or one alone
INTERRUPTED = 130  # exit status, as in shells
RECIPE_FILE = "recipe.json"  # in a run's folder: where its images are, which its config.json does not say
Images = Annotated[str | None, tyro.conf.arg(name="data", metavar="NAME-OR-FOLDER")]


def run() -> None:
    """The console script `depl0kit`, and `python -m depl0kit`: run one command and end the process."""
    # schedulers and torchrun end a process with SIGTERM: it keeps its finished epochs, as after Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keep_freed_memory()
    sys.exit(main())


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; `words` None takes the arguments of this process.

    Returns:
        The exit status: 0 for success, 1 for a failure, 2 for a wrong command or option, 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if words is None else words)
    try:
        return _run(words)
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        return _fail(error, 2)
    except (RuntimeError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED


def _run(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        print(f"depl0kit {version()}")
        return 0
    others = [word for word in words if word not in HELP]
    if others[:1] == ["train"] and 1 < len(others) < len(words):
        show_help(others[1:], SPEAKS)
    app = tyro.extras.SubcommandApp()
    app.command(Options, name="train")
    app.command(show_lists, name="list")
    for command in (lab, show, evaluate, compact, sweep, report):
        app.command(command)
    result = app.cli(prog=PROGRAM, description=ABOUT, args=words, console_outputs=SPEAKS)
    return train(result) if isinstance(result, Options) else 0


def _fail(error: Exception, status: int) -> int:
    if SPEAKS or status == 1:  # a wrong option is wrong in all processes, a failure may be in one of them
        print(f"error: {error}", file=sys.stderr)
    return status


def train(options: Options) -> int:
    """Train a recipe in its folder. Returns the exit status."""
    recipe = options.chosen()
    out = checks.folder(options.out or Path("runs", Path(options.recipe).stem))
    named_device(options.device)  # refuses one that this machine lacks
    with distributed.joined(options.device) as device:
        net, data, config = recipe.build(device)
        if SPEAKS:
            _keep_recipe(recipe, out)
            price = f"budget {config.budget:g}" if config.budget else f"lam {config.lam:.4g}"
            about = f"{recipe.model} on {data.name}, {recipe.posterior}, {price}, on {device}"
            print(f"{about}: {out}", flush=True)
        # a bar redraws its line, which makes a mess of a log
        run = trained(net, data, config, progress=sys.stderr.isatty(), out=out)
        if SPEAKS:
            print(outcome(run, out, PROGRAM))
    return INTERRUPTED if run.status == "interrupted" else 0


def _keep_recipe(recipe: Recipe, out: Path) -> None:
    if (out / "config.json").exists():  # the run is resumed: its recipe is there
        return
    content, images = asdict(recipe), Path(recipe.data).expanduser()
    if images.is_dir():  # absolute, for commands that run in another folder
        content["data"] = str(images.resolve())
    write_json(out / RECIPE_FILE, content)


def show(folder: Folder) -> None:
    """Show a run, also while it trains: settings, state, the last epochs, open channels.

    Args:
        folder: Folder of the run, the --out of `train`.
    """
    print(describe_run(RunFolder(checks.path("the folder", folder))))


def evaluate(
    folder: Folder,
    split: Literal["val", "test"] = "test",
    images: Images = None,
    skip_damaged: bool = False,
    device: Device = None,
) -> None:
    """Measure the network of a run, with test-time gates and as a compact network.

    Args:
        folder: Folder of the run, the --out of `train`.
        split: Which images: choose between runs on "val", report on "test".
        images: Name or folder of the data set; only for runs from Python, which do not note it.
        skip_damaged: Leave out images that cannot be read, as `train` does with this option.
        device: As in `train`.
    """
    run, data, device = _load(folder, device, images, skip_damaged)
    part = getattr(data, split).to(device)
    nets = {"with gates": run.net, "compact": compacted(run.net)}
    share = run.net.exact_cost() / run.net.dense_cost
    rows = []
    for name, net in nets.items():
        loss, accuracy = evaluated(net, part)
        rows.append((name, f"{accuracy:.4f}", f"{loss:.4f}", f"{share.macs:.2%}", f"{share.params:.2%}"))
    print(aligned((f"on {split}", "accuracy", "loss", "MACs kept", "parameters kept"), *rows))


def compact(
    folder: Folder,
    file: Annotated[Path, Positional, tyro.conf.arg(metavar="FILE.safetensors")],
    round_to: int = 1,
    reestimate: bool = False,
    fine_tune_epochs: Annotated[int, tyro.conf.arg(name="fine-tune", metavar="EPOCHS")] = 0,
    images: Images = None,
    skip_damaged: bool = False,
    device: Device = None,
) -> None:
    """Remove the closed channels of a run and write the small network to a file.

    Args:
        folder: Folder of the run, the --out of `train`.
        file: The new file; `depl0kit.load_compact` reads it.
        round_to: Keep multiples of this number of channels; 8 suits the matrix units of GPUs.
        reestimate: First recompute batch-norm statistics on the training images with the test-time gates.
        fine_tune_epochs: Then train the small network for this number of epochs, without a price.
        images: As in `evaluate`.
        skip_damaged: As in `evaluate`.
        device: As in `train`.
    """
    file = checks.new_file(file)  # before hours of fine-tuning
    checks.whole("--round-to", round_to, 1)
    checks.whole("--fine-tune", fine_tune_epochs, 0)
    run, data, device = _load(folder, device, images, skip_damaged)
    if reestimate:
        reestimate_batch_norm(run.net, data)
    small = compacted(run.net, round_to)
    if fine_tune_epochs:
        fine_tune(small, data, fine_tune_epochs)
    save_compact(small, file)
    example = data.example.to(device)
    cost = plain_cost(small, example)
    test, dense = data.test.to(device), run.net.dense_cost
    rows = [
        ("dense", f"{dense.macs:,}", f"{dense.params:,}", ""),
        ("compact", f"{cost.macs:,}", f"{cost.params:,}", f"{evaluated(small, test)[1]:.4f}"),
    ]
    print(aligned(("", "MACs", "parameters", "test accuracy"), *rows))
    print(f"written to {file}")


def _load(
    folder: Path, device: str | None, images: str | None, skip_damaged: bool
) -> tuple[Run, Data, torch.device]:
    """A run with its network on a device, and its data."""
    chosen, folder = named_device(device), checks.path("the folder", folder)
    run, about = load_run(folder), RunFolder(folder).about()
    source, options = _source(folder, about, images, skip_damaged)
    data = load_data(source, **options)
    found = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    expected = {name: about["data"][name] for name in found}
    if found != expected:
        raise ValueError(
            f"{folder} was trained on other images than {source} holds now: {expected}, not {found}. "
            "Restore those images, or train again."
        )
    run.net.to(chosen)
    return run, data, chosen


def _source(
    folder: Path, about: dict[str, Any], images: str | None, skip_damaged: bool
) -> tuple[str, dict[str, Any]]:
    """Name or folder of a run's data set, and options of `load_data`."""
    if images is None and (folder / RECIPE_FILE).exists():
        recipe = _kept_recipe(folder / RECIPE_FILE)
        return recipe["data"], {"size": recipe["size"], "skip_damaged": recipe.get("skip_damaged", False)}
    source = images or about["data"]["name"]
    if source in DATA_SETS:
        return source, {}
    if images is None and not Path(source).is_dir():
        raise ValueError(
            f"{folder} was trained from Python on a folder of images named {source!r}, and does not say "
            "where it is: add --data FOLDER."
        )
    _, height, width = about["net"]["example"]
    size = height if height == width else None  # no change where all images have this size
    return str(checks.path("--data", source).resolve()), {"size": size, "skip_damaged": skip_damaged}


def _kept_recipe(file: Path) -> dict[str, Any]:
    """What `_keep_recipe` wrote: at least `data`, the place of the images, and `size`."""
    try:
        recipe = read_json(file)
        return recipe | {"data": recipe["data"], "size": recipe["size"]}
    except (DamagedFileError, KeyError) as error:
        raise ValueError(
            f"{file} is damaged ({error}): add --data with the name or folder of its images."
        ) from error
