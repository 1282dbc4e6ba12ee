"""Every public function, called with what people pass by mistake: it works, or says in a sentence why not.

GOOD holds one good call of each; the misuses of each argument follow from its annotation. An error must have
been raised by a `raise` of this package, not by what lies underneath.
"""

import inspect
import linecache
import math
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import ipywidgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import depl0kit as dk
from depl0kit import lab, plots
from depl0kit.comparison import sweeps
from depl0kit.data import Data, MemorySplit
from depl0kit.gates.exact import fits as exact_fits
from depl0kit.gates.exact import problems as exact
from depl0kit.plots import report
from depl0kit.training import recipes

HOME = Path(dk.__file__).parent
HUGE = 10**400

# ---- good values, as small as they can be


def images(n: int) -> MemorySplit:
    pixels = torch.arange(n * 36, dtype=torch.uint8).view(n, 1, 6, 6)
    return MemorySplit(pixels, torch.arange(n) % 2, torch.tensor([0.5]), torch.tensor([0.5]))


DATA = Data("tiny", images(8), images(4), images(4), ("a", "b"), (0.5,), (0.5,))
MODEL = nn.Sequential(
    nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
)
NET = dk.GatedModel(MODEL, example=DATA.example)
ONE_EPOCH = dk.TrainConfig(epochs=1, batch_size=4)
TARGET = dk.exact.gates_in_series(3.0, n=2)
HC = dk.HardConcrete()
AXES = plt.Figure().subplots()
GATES = pd.DataFrame(
    {
        "epoch": [1, 1, 2, 2],
        "group": ["a"] * 4,
        "channel": [0, 1] * 2,
        "log_alpha": [0.0, 1.0, 2.0, 3.0],
        "prob_open": [0.1, 0.4, 0.5, 0.9],
    }
)
HISTORY = pd.DataFrame({"epoch": [1, 2], "val_accuracy": [0.5, 0.6], "kept_macs": [1, 0.5], "undecided": 0.1})
CHANNELS = NET.channel_table()
PRICES = pd.DataFrame({"group": ["a", "b"], "macs_per_channel": [5, 6], "stream": [True, False]})
LAYERS = NET.channels.cost_model.per_layer([3])
PATH = pd.DataFrame(
    {"kept_macs": [1, 0.5], "val_accuracy": [0.9, 0.8], "raw_val_accuracy": [0.8, 0.7], "lam": [1.0, 2.0]}
)
RESULTS = dk.load_results("digits")
RESULTS = RESULTS[(RESULTS.seed < 2) & RESULTS.method.isin(["mean_field", "forward", "dense"])]
RESULTS = RESULTS[RESULTS.model == RESULTS.model.iloc[0]]
DIFFERENCES = dk.paired_differences(RESULTS)
AREAS = dk.comparison.area_under_front(RESULTS)
REPORT = dk.gates.posterior_report(NET, draws=10)


class Nowhere(Executor):
    """Fails at once, so that a sweep costs nothing."""

    def submit(self, call: Callable, *arguments: Any) -> Future:
        done = Future()
        if arguments:
            done.set_exception(RuntimeError("nowhere to run"))
        else:
            done.set_result(call())
        return done


GOOD: dict[Callable, dict[str, Any]] = {
    # the root
    dk.Autoregressive: {"sizes": [2, 3], "direction": "backward", "hard_concrete": HC, "init": "paper"},
    dk.Dependency: {"sizes": [2, 3], "direction": "forward", "hard_concrete": HC, "init": "equal"},
    dk.exact.ExactPosterior: {"n": 2, "log_density": lambda masks: masks.sum(1)},
    dk.GatePosterior: {"sizes": [2, 3], "hard_concrete": HC},
    dk.Channels: {"model": MODEL, "example": DATA.example, "scope": "inner"},
    dk.GatedModel: {
        "model": MODEL, "posterior": "forward", "example": DATA.example, "scope": "inner",
        "sampling": "batch", "hard_concrete": HC,
    },
    dk.Grid: {
        "methods": ["mean_field", "l1_global"], "lam": [1.0], "budget": [0.5], "seeds": [0],
        "data": ["digits"], "models": ["small"], "gate_lr": [0.1], "tune_budget": [0.3],
        "tune_seeds": [100], "train_images": 8, "train": ONE_EPOCH,
    },
    dk.HardConcrete: {"temperature": 0.5, "stretch": (-0.1, 1.1), "test_rule": "median"},
    dk.MeanField: {"sizes": [2, 3], "hard_concrete": HC, "init": "equal"},
    dk.RunFolder: {"path": "run"},
    dk.TrainConfig: vars(dk.TrainConfig(schedule="steps", milestones=(1, 2))),
    dk.Trainer: {"net": NET, "data": DATA, "config": ONE_EPOCH},
    dk.comparison.area_intervals: {"areas": AREAS, "confidence": 0.9},
    dk.comparison.area_under_front: {
        "results": RESULTS, "limits": (0.3, 0.5), "cost": "kept_macs", "accuracy": "val_accuracy",
    },
    dk.comparison.at_matched_cost: {
        "results": RESULTS, "at": [0.3], "cost": "kept_macs", "accuracy": "val_accuracy",
    },
    dk.best_device: {},
    dk.exact.collinear_data: {"correlation": 0.5, "pairs": 2, "effect": 0.4, "rows": 10, "seed": 0},
    dk.exact.collinear_regression: {"correlation": 0.5, "pairs": 2, "rows": 10},
    dk.compact: {"net": NET, "round_to": 2},
    dk.exact.compare_fits: {"target": TARGET, "seed": 0},
    dk.evaluate: {"net": NET, "split": DATA.test, "batch_size": 2},
    dk.fine_tune: {
        "net": NET, "data": DATA, "epochs": 1, "lr": 0.01, "batch_size": 4, "momentum": 0.9,
        "weight_decay": 0.0, "seed": 0, "penalty": None,
    },
    dk.exact.fit_autoregressive: {"target": TARGET, "starts": 1, "seed": 0, "iterations": 2},
    dk.exact.fit_generator: {
        "target": TARGET, "sizes": [1, 1], "direction": "forward", "starts": 1, "seed": 0, "iterations": 2,
    },
    dk.exact.fit_mean_field: {"target": TARGET, "starts": 2, "seed": 0, "start": [0.5, 0.5]},
    dk.exact.gradient_estimates: {
        "target": TARGET, "prob_open": [0.5, 0.9], "draws": 5, "seed": 0, "hard_concrete": HC,
    },
    dk.exact.gates_in_series: {"gain": 3.0, "price": 1.0, "n": 2},
    dk.lambda_path: {
        "net": NET, "data": DATA, "config": dk.TrainConfig(epochs=2, warmup=0, batch_size=4), "lams": (1, 2),
        "snapshots": 2, "fine_tune_epochs": 1, "progress": False,
    },
    dk.latency: {"networks": {"it": MODEL}, "example": DATA.example, "batch_sizes": (1,), "repeats": 1},
    dk.load_compact: {"path": "none.safetensors", "model": MODEL},
    dk.load_data: {
        "name_or_folder": "./none", "root": "data", "size": 8, "skip_damaged": False, "stream": False,
    },
    dk.comparison.load_grid: {"name_or_file": "digits"},
    dk.load_results: {"folder": "none"},
    dk.load_run: {"folder": "none", "net": NET},
    dk.make_data: {
        "train": (np.zeros((8, 6, 6)), [0, 1] * 4), "val": (torch.zeros(2, 6, 6), [0, 1]),
        "test": [(np.zeros((6, 6)), 0)],
    },
    dk.make_model: {
        "name": "small", "in_channels": 1, "classes": 2, "image_size": (6, 6), "weights": "none.safetensors",
    },
    dk.paired_differences: {
        "results": RESULTS, "reference": "mean_field", "at": [0.3], "confidence": 0.9,
        "cost": "kept_macs", "accuracy": "val_accuracy",
    },
    dk.pareto_front: {
        "results": RESULTS, "cost": "kept_macs", "accuracy": "val_accuracy", "choose": "val_accuracy",
    },
    dk.gates.posterior_report: {"net": NET, "draws": 10, "seed": 0},
    dk.reestimate_batch_norm: {"net": NET, "data": DATA},
    dk.save_compact: {"model": MODEL, "path": "small.safetensors"},
    dk.exact.spike_and_slab: {
        "x": np.eye(3)[:, :2], "y": np.ones(3), "slab": 1.0, "prob_open": 0.5, "noise": 1.0, "shape": 1.0,
        "rate": 1.0,
    },
    dk.sweep: {
        "grid": dk.Grid(methods=("dense",)), "out": "swept", "executor": Nowhere(), "workers": 1,
        "progress": False, "on_row": None,
    },
    dk.train: {"net": NET, "data": DATA, "config": ONE_EPOCH, "progress": False, "out": None},
    # figures
    plots.accuracy_vs_cost: {
        "results": RESULTS, "ax": AXES, "cost": "kept_macs", "accuracy": "val_accuracy", "selected": "none",
        "fronts": True, "ylim": (0.01, 1.0), "highlight": "forward",
    },
    plots.all_open_curve: {
        "gains": np.arange(3.0), "exact": np.arange(3.0) / 3, "trails": {"chain": ([1.0], [0.5])}, "ax": AXES,
    },
    plots.channel_lives: {"masks": [[[1, 0], [1]], [[1, 1], [0]]], "sizes": {"a": 2, "b": 1}, "ax": AXES},
    plots.channel_prices: {"table": PRICES, "ax": AXES},
    plots.confusion: {"matrix": [[3, 1], [0, 4]], "ax": AXES, "classes": ["a", "b"]},
    dk.gates.Bernoulli: {"sizes": [2, 3], "hard_concrete": HC, "init": "paper"},
    dk.gates.correlation_matrix: {"samples": np.eye(3)},
    plots.coupling_spectrum: {"spectra": {"it": np.array([2.0, 1.0])}, "ax": AXES},
    dk.gates.directions: {"spectrum": np.array([2.0, 1.0])},
    plots.gate_cdf: {"hc": HC, "log_alpha": 0.5, "ax": AXES},
    plots.gate_correlation: {"samples": np.eye(3), "sizes": {"a": 1, "b": 2}, "ax": AXES},
    plots.gate_density: {"hc": HC, "log_alpha": 0.5, "ax": AXES},
    plots.gate_gradient: {"log_alpha": 0.5, "stretch": (-0.1, 1.1), "ax": AXES},
    plots.gate_pairs: {
        "matrix": np.eye(3), "sizes": {"a": 1, "b": 2}, "ax": AXES, "title": "pairs", "label": "r",
    },
    plots.gate_samples: {"hc": HC, "log_alpha": 0.5, "noise": torch.rand(3), "ax": AXES},
    plots.gradient_clouds: {"estimates": {"ARM": np.array([0.5, 1.0])}, "exact": 0.7, "ax": AXES},
    plots.group_entropy: {"groups": REPORT.groups, "ax": AXES},
    plots.group_widths: {"table": CHANNELS, "selected": "0", "ax": AXES},
    plots.history_curves: {"history": HISTORY, "ax": AXES, "epochs": 2.0},
    plots.images: {"split": DATA.test, "count": 2, "ax": AXES},
    plots.kl_curves: {"x": [0.0, 1.0], "kls": {"it": [1.0, 0.5]}, "xlabel": "gain", "ax": AXES},
    plots.lambda_path: {"path": PATH, "ax": AXES},
    plots.layer_bars: {"table": CHANNELS, "ax": AXES},
    plots.layer_macs: {"now": LAYERS, "dense": LAYERS, "touched": ["0"], "ax": AXES},
    plots.likeliest_masks: {
        "exact": TARGET.prob.numpy(), "others": {"chain": TARGET.prob.numpy()}, "ax": AXES, "count": 3,
    },
    plots.log_alpha_flow: {
        "log_alphas": [np.zeros(2), np.ones(2)], "weights": [np.eye(2)], "threshold": -2.4, "ax": AXES,
    },
    plots.log_alpha_paths: {"gates": GATES, "threshold": -2.4, "ax": AXES},
    plots.look: {"method": "dense"},
    plots.measures: {
        "values": [1.0, 2.0], "names": ["a", "b"], "title": "size", "form": "{:.1f}", "ax": AXES,
    },
    plots.method_name: {"method": "dense"},
    plots.two_images: {
        "groups": ["a", "b"], "channels": [4, 2], "first": [1, 2], "second": [3, 1], "ax": AXES,
    },
    plots.macs_of_images: {
        "table": pd.DataFrame({"loss": [0.1, 2.0], "macs": [5, 9], "correct": [True, False]}),
        "dense_macs": 10,
        "ax": AXES,
    },
    plots.singular_values: {"values": {"a": np.array([2.0, 1.0])}, "ranks": {"a": 1}, "ax": AXES},
    plots.network_map: {
        "channels": NET.channels, "openness": [np.array([0.2, 0.5, 1.0])], "ax": AXES, "selected": "0",
    },
    plots.open_gates: {"probs": {"exact": TARGET.open_gates().numpy()}, "ax": AXES},
    plots.pair_states: {"table": np.full((2, 4), 0.25), "title": "exact", "ax": AXES, "names": ["1", "2"]},
    plots.paired_intervals: {"table": DIFFERENCES, "ax": AXES},
    plots.panels: {"count": 1, "size": (2.0, 2.0)},
    plots.penalties: {"touching": [0.5], "ax": AXES},
    plots.prob_open_heatmap: {"gates": GATES, "ax": AXES},
    plots.prob_open_image: {
        "prob_open": np.ones((2, 3)), "times": [1.0, 2.0], "sizes": {"a": 3}, "ax": AXES, "end": 2.0,
        "nothing": "nothing",
    },
    plots.round_limits: {"low": 0.5, "high": 0.9},
    plots.spikes: {"hc": HC, "log_alpha": 0.5},
    plots.style: {"projector": False},
    # explorers
    lab.ChannelExplorer: {"channels": NET.channels},
    lab.CollinearExplorer: {"correlation": 0.0},
    lab.DependencyExplorer: {},
    lab.GateExplorer: {"log_alpha": 0.0, "temperature": 0.5, "stretch": (-0.1, 1.1)},
    lab.Layout: {"mosaic": "a", "width": 300, "height": 200, "gridspec": {}},
    lab.LiveFigure: {
        "draw": lambda ax: [], "size": (300, 200), "mosaic": "a", "alt": "nothing",
        "narrower": [lab.Layout("a", 100, 100)],
    },
    lab.Monitor: {"folder": "run", "name": "it"},
    lab.SeriesExplorer: {"gain": 3.0},
    lab.TradeoffExplorer: {"results": RESULTS},
    lab.TrainingExplorer: {
        "make_net": lambda: NET, "data": DATA, "config": ONE_EPOCH, "name": "it", "folder": "run",
        "seconds": 1,
    },
    lab.check_channel_macs: {"channel_macs": 1},
    lab.check_coordinate: {"coordinate": lambda others, gain, price: 0.5},
    lab.check_fold: {"fold": lambda *_: None},
    lab.check_front: {"front": lambda *_: None},
    lab.check_generate: {"generate": lambda *_: None},
    lab.check_macs: {"macs": 1},
    lab.check_penalty: {"penalty": lambda *_: None},
    lab.check_prob_open: {"prob_open": lambda *_: None},
    lab.check_recipe: {"recipe": "small-digits"},
    lab.check_shrinkage: {"shrinkage": lambda *_: None},
    lab.float_slider: {
        "label": "λ", "value": 1.0, "low": 0.0, "high": 2.0, "step": 0.1, "digits": 2, "hint": "right: more",
    },
    lab.log_slider: {
        "label": "λ", "value": 1.0, "low": 0.1, "high": 2.0, "first": "off", "last": "all", "hint": "more",
    },
    lab.projector: {"on": False},
    lab.setup: {},
    # the other rooms
    exact.all_masks: {"n": 2},
    recipes.recipe_names: {},
    recipes.load_recipe: {"name_or_file": "small-digits"},
    report.write_report: {"folder": "none", "file": "report.html"},
    sweeps.SweepFolder: {"path": "swept"},
    sweeps.spec_names: {},
    sweeps.spec_description: {"name": "digits"},
    dk.comparison.load_measurements: {"name": "gate-lr"},
    sweeps.summary: {"results": RESULTS},
}  # fmt: skip
EXEMPT = {  # and why
    dk.Cost: "a record of results",
    dk.Diverged: "an exception",
    dk.training.runs.Run: "a record of results",
    exact_fits.Fit: "a record of results",
    sweeps.Job: "a record that Grid makes",
    recipes.Recipe: "made by load_recipe",
    lab.Explorer: "a base class: what it is made of is made by its subclasses",
    lab.NumberSlider: "a widget, whose traits traitlets checks",
    lab.Picture: "a widget, whose traits traitlets checks",
}

# ---- misuses


NUMBERS = [
    *(None, "3", "", True, math.nan, math.inf, -math.inf, HUGE, -HUGE, -1, 1 + 2j, b"3", 0.5),
    *(np.float32(0.5), np.int64(2), np.bool_(True), torch.tensor(2), torch.tensor(0.5), [2]),
    np.array([1.0, 2.0]),
]
LISTS = [
    *(None, 3, "text", math.nan, HUGE, True, np.float64(2), torch.tensor(2), range(1, 3)),
    np.array([0.3, 0.5]),
    *([None], ["x"], [math.nan], [HUGE], [True], [], {}, torch.tensor([1, 2])),
]
TEXTS = [None, {}, 3, True, math.nan, ["x"], b"x", "nonsense", "", Path("x"), HUGE]
SWITCHES = [None, 1, 0, "no", "False", [], math.nan, np.bool_(False), torch.tensor(True), HUGE]
PATHS = [None, 3, True, math.nan, ["x"], b"x", "", "a\0b", "~/none-of-these", Path("none"), HUGE, {}]
THINGS = [None, 3, True, math.nan, "text", [], {}, np.float64(2), torch.tensor(2), range(2), HUGE, object()]
TABLES = [*THINGS, pd.DataFrame(), pd.DataFrame({"epoch": [1]})]


def misuses(annotation: Any) -> list[Any]:
    """What people pass for an argument with this annotation."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for words, values in (
        (("Sequence", "Iterable", "tuple", "list", "ndarray"), LISTS),
        (("DataFrame",), TABLES),
        (("Path",), PATHS),
        (("float", "int"), NUMBERS),
        (("bool",), SWITCHES),
        (("Mapping", "Callable"), THINGS),
        (("str",), TEXTS),
    ):
        if any(word in text for word in words):
            return values
    return THINGS


def calls(function: Callable) -> Iterator[tuple[str, Any]]:
    """Argument and misuse, of every call that is tried."""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            yield from ((name, value) for value in misuses(parameter.annotation))


def inside(error: Exception) -> str:
    """ "" for an error in a sentence of this package, else what is wrong with it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    raised = linecache.getline(frame.filename, frame.lineno).strip()
    text = str(error)
    if not (isinstance(error, ValueError | TypeError | FileNotFoundError) and raised.startswith("raise")):
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return f"{type(error).__name__} in {where}: {text.splitlines()[:1]}"
    if not Path(frame.filename).is_relative_to(HOME):
        return f"raised by {frame.filename}"
    first = text.splitlines()[0]
    is_short = len(first) < 300 or "choose one of" in first  # of a long list
    return "" if len(first) > 10 and is_short else f"no sentence: {first}"


def tried(function: Callable, name: str, value: Any) -> str:
    """Call it with one wrong argument; "" if that works or is refused in a sentence."""
    arguments = GOOD[function] | {name: value}
    try:
        by_place = function.__module__.startswith("depl0kit.lab.exercises")  # answers have no names
        made = function(*arguments.values()) if by_place else function(**arguments)
    except Exception as error:
        found = inside(error)
        return found and f"{name}={repr(value)[:40]}: {found}"
    if isinstance(made, lab.Monitor):
        made.end()
    return ""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Files go into a folder of their own, and nothing is drawn in explorers or left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPL0KIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sweeps.runner, "local_executor", lambda workers: Nowhere())
    monkeypatch.setattr(lab.Explorer, "redraw", lambda self, change=None: None)
    with warnings.catch_warnings(), mpl.rc_context():  # a projector changes matplotlib's settings
        warnings.simplefilter("ignore")  # of NaN in figures
        yield
        lab.projector(False)
    plt.close("all")
    ipywidgets.Widget.close_all()
    AXES.clear()


def title(function: Callable) -> str:
    return f"{function.__module__.removeprefix('depl0kit.')}.{function.__name__}"


SLOW = {  # half of the time of all
    *(dk.fine_tune, dk.lambda_path, dk.paired_differences, dk.sweep, dk.exact.compare_fits, dk.GatedModel),
    *(lab.CollinearExplorer, lab.GateExplorer, lab.Monitor, lab.TrainingExplorer),
    *(plots.accuracy_vs_cost, plots.gate_gradient),
}
FUNCTIONS = [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in GOOD]


@pytest.mark.parametrize("function", FUNCTIONS, ids=title)
def test_a_misuse_works_or_is_refused_in_a_sentence(function):
    good = tried(function, *next(iter(GOOD[function].items()))) if GOOD[function] else function() and ""
    assert not good, f"the good call: {good}"
    wrong = [message for name, value in calls(function) if (message := tried(function, name, value))]
    assert not wrong, "\n".join(wrong)


def test_every_public_function_has_a_good_call(proved):
    rooms = (dk, plots, lab, sweeps, exact, exact_fits, recipes, report)
    public = {
        thing
        for room in rooms
        for name in getattr(room, "__all__", vars(room))
        if callable(thing := getattr(room, name)) and not name.startswith("_")
        if getattr(thing, "__module__", "").startswith("depl0kit")
        if hasattr(room, "__all__") or thing.__module__ == room.__name__
    }
    assert {title(f) for f in public} <= {title(f) for f in (*GOOD, *EXEMPT)}
    assert not set(GOOD) & set(EXEMPT)
    number = sum(len(list(calls(function))) for function in GOOD)
    assert number > 3000
    proved(f"{number:,} misuses of {len(GOOD)} public functions: each works or is refused in a sentence")
