"""In no figure of the package does one text cover another, at normal size and in the projector style."""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from boxes import cut, overlaps, text_boxes
from marks import slow_but_the_first
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import depl0kit as dk
from depl0kit import plots
from depl0kit.data.fashion_mnist import CLASSES
from depl0kit.gates import posterior_report
from depl0kit.gates.exact import collinear_regression, gates_in_series, gradient_estimates
from depl0kit.plots.base import words

RESULTS = Path(__file__).parents[2] / "data/results"
HC = dk.HardConcrete()
LOOKS = [  # inches, at 100 dots per inch, and whether in the projector style
    *(((6.4, 4.0), False), ((9.6, 6.0), True)),  # a figure that makes its own axes
    *(((12.8, 8.0), False), ((12.8, 8.0), True)),  # a window of 1280 x 800
    *(((4.1, 3.4), False), ((6.56, 5.44), True)),  # one of two panels in a cell of a notebook
]


def sweep(name: str, data: str) -> pd.DataFrame:
    table = dk.load_results(RESULTS / name)
    return table[table.data == data]


def network() -> dk.GatedModel:
    torch.manual_seed(0)
    model = dk.make_model("resnet20")
    return dk.GatedModel(model, "forward", example=torch.zeros(1, 3, 32, 32), scope="all")


def small() -> dk.GatedModel:
    torch.manual_seed(0)
    return dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), "forward", example=torch.zeros(1, 1, 8, 8))


def gates_of(net: dk.GatedModel, epochs: int = 15) -> pd.DataFrame:
    """As `run.gates`, of gates that close one after the other."""
    rows = [
        (epoch, group.name, channel, 4 - epoch * place / 60, 1 / (1 + np.exp(epoch * place / 60 - 4)))
        for epoch in range(1, epochs + 1)
        for group in net.groups.gated
        for place, channel in enumerate(range(group.channels))
    ]
    return pd.DataFrame(rows, columns=["epoch", "group", "channel", "log_alpha", "prob_open"])


def history() -> pd.DataFrame:
    """Three curves that end close together, as after most runs."""
    ends = {"val_accuracy": 0.97, "kept_macs": 0.95, "undecided": 0.96}
    curves = {name: np.linspace(0.1, end, 15) for name, end in ends.items()}
    return pd.DataFrame({"epoch": np.arange(1, 16)} | curves)


def path() -> pd.DataFrame:
    """As of `dk.lambda_path`: hardly anything closes at first."""
    kept = [1, 0.995, 0.99, 0.93, 0.72, 0.4, 0.2, 0.09]
    accuracy = np.array([0.996, 0.992, 0.996, 0.996, 0.992, 0.992, 0.9875, 0.979])
    columns = {"val_accuracy": accuracy, "raw_val_accuracy": accuracy - np.linspace(0, 0.1, 8)}
    return pd.DataFrame({"kept_macs": kept, "lam": np.geomspace(0.97, 100, 8)} | columns)


def of_a_sweep(table: pd.DataFrame) -> dict:
    last = table.confusion[table.method == "random"].iloc[-1]
    pairs = dk.paired_differences(table)
    return {
        plots.accuracy_vs_cost: [
            lambda ax: plots.accuracy_vs_cost(table, ax, selected=table.run.iloc[-1]),
            lambda ax: plots.accuracy_vs_cost(table, ax, "macs", "val_accuracy", highlight="forward"),
            lambda ax: plots.accuracy_vs_cost(table, ax, "latency_ms", fronts=False),
        ],
        plots.confusion: [
            lambda ax: plots.confusion(last, ax),
            lambda ax: plots.confusion(last, ax, CLASSES),
        ],
        plots.paired_intervals: [
            lambda ax: plots.paired_intervals(pairs, ax),
            lambda ax: plots.paired_intervals(pairs[pairs.method == "forward"], ax),
        ],
    }


def of_gates(net: dk.GatedModel) -> dict:
    sizes = {group.name: group.channels for group in net.groups.gated}
    n, gates = sum(sizes.values()), gates_of(net)
    table = net.channel_table().assign(expected_open=lambda t: 0.8 * t.channels, open=lambda t: t.channels)
    report, draws = posterior_report(net, draws=50), np.random.default_rng(0).random((50, n))
    prob_open = gates.prob_open.to_numpy().reshape(-1, n)
    return {
        plots.coupling_spectrum: lambda ax: plots.coupling_spectrum(
            {"mean field": np.ones(n), "forward, end": report.spectrum, "forward, start": report.spectrum}, ax
        ),
        plots.gate_correlation: lambda ax: plots.gate_correlation(draws, sizes, ax),
        plots.gate_pairs: lambda ax: plots.gate_pairs(np.eye(n), sizes, ax, "Coupling: forward", "cosine"),
        plots.group_entropy: lambda ax: plots.group_entropy(report.groups, ax),
        plots.group_widths: lambda ax: plots.group_widths(table, table.group[0], ax),
        plots.layer_bars: lambda ax: plots.layer_bars(table, ax),
        plots.log_alpha_flow: lambda ax: plots.log_alpha_flow(
            [log_alpha.detach().numpy() for log_alpha in net.posterior.log_alpha()],
            [linear.weight.detach().numpy() for linear in net.posterior.generator][1:], -2.4, ax,
        ),
        plots.log_alpha_paths: lambda ax: plots.log_alpha_paths(gates, HC.open_threshold, ax),
        plots.network_map: [
            lambda ax: plots.network_map(net.channels, None, ax),
            lambda ax: plots.network_map(net.channels, [0.97 * p for p in net.posterior.prob_open()], ax),
        ],
        plots.prob_open_heatmap: lambda ax: plots.prob_open_heatmap(gates, ax),
        plots.prob_open_image: lambda ax: plots.prob_open_image(prob_open, range(1, 16), sizes, ax, 15.0),
    }  # fmt: skip


def of_channels(net: dk.GatedModel) -> dict:
    table = net.channel_table()
    prices = table.assign(macs_per_channel=1e6 / table.channels, stream=[g.stream for g in net.groups.gated])
    layers = net.channels.cost_model.per_layer(table.channels.tolist())
    names, title = ["dense", "gated", "compact"], "test accuracy after fine-tuning"
    return {
        plots.channel_prices: lambda ax: plots.channel_prices(prices, ax),
        plots.layer_macs: lambda ax: plots.layer_macs(layers, layers, layers.layer[:3].tolist(), ax),
        plots.measures: lambda ax: plots.measures([1234567, 1234567, 345678], names, title, "{:,.0f}", ax),
    }


def of_low_rank() -> dict:
    """Of a ResNet-20, of a network with few layers, and of one with many."""

    def draw(layers: dict[str, int]) -> Callable:
        values = {name: np.geomspace(1, 0.05, n) for name, n in layers.items()}
        ranks = {name: max(1, n // 3) for name, n in list(layers.items())[1:]}
        return lambda ax: plots.singular_values(values, ranks, ax)

    sizes = {f"blocks.{i}.conv{j}": 16 * 2 ** (i // 3) for i in range(9) for j in (1, 2)}
    few = {"features.3": 24, "features.7": 48, "features.10": 48}
    many = {f"features.layers.{i}": 1024 for i in range(60)}
    return {plots.singular_values: [draw(layers) for layers in (sizes, few, many)]}


def of_relatives() -> dict:
    """Of the network of the lessons, and of one with many groups."""

    def draw(sizes: dict[str, int], phases: int) -> Callable:
        rng = np.random.default_rng(0)
        masks = [[rng.integers(0, 2, n) for n in sizes.values()] for _ in range(phases)]
        return lambda ax: plots.channel_lives(masks, sizes, ax)

    few = {"features.0": 24, "features.3": 24, "features.7": 48, "features.10": 48}
    many = {f"blocks.{i}.conv1": 16 * 2 ** (i // 9) for i in range(27)}
    return {
        plots.channel_lives: [draw(few, 9), draw(few, 21), draw(many, 91), draw(few, 1)],
        plots.penalties: lambda ax: plots.penalties(ax=ax),
    }


def of_several_kinds() -> dict:
    """The sweep on digits, as if two of its methods were of other kinds; and single images."""
    kinds = {"random": ("manidp", "dynamic"), "slimming": ("low_rank", "factorised")}
    table = sweep("digits", "digits")
    methods = [kinds.get(method, (method, "static")) for method in table.method]
    table[["method", "kind"]] = np.array(methods)
    rng = np.random.default_rng(0)
    loss = np.exp(rng.normal(-3, 3, 2000))
    macs = (1e6 * (0.3 + 0.02 * np.log(loss) + rng.normal(0, 0.05, 2000))).clip(1e5)
    one = pd.DataFrame({"loss": loss, "macs": macs, "correct": loss < 1})
    groups = [f"blocks.{i}.conv1" for i in range(9)]
    channels = [16, 16, 16, 32, 32, 32, 64, 64, 64]
    some = [9, 7, 8, 16, 12, 18, 30, 31, 20]
    return {
        plots.accuracy_vs_cost: [
            lambda ax: plots.accuracy_vs_cost(table, ax),
            lambda ax: plots.accuracy_vs_cost(table, ax, highlight="manidp"),
        ],
        plots.paired_intervals: lambda ax: plots.paired_intervals(dk.paired_differences(table), ax),
        plots.macs_of_images: [
            lambda ax: plots.macs_of_images(one, 1e6, ax),
            lambda ax: plots.macs_of_images(one[:3].assign(macs=3e5), 1e6, ax, "training images"),
        ],
        plots.two_images: [
            lambda ax: plots.two_images(groups, channels, some, channels, ax),
            lambda ax: plots.two_images(groups[:3], channels[:3], some[:3], channels[:3], ax),
            lambda ax: plots.two_images(groups * 2, channels * 2, some * 2, channels * 2, ax, ("a 7", "a 3")),
        ],
    }


def of_one_gate() -> dict:
    noise = torch.rand(200, generator=torch.Generator().manual_seed(1))
    found = {plots.gate_gradient: [lambda ax: plots.gate_gradient(0.0, ax=ax)]}
    for place in (-6.0, 0.0, 6.0):
        for figure, more in ((plots.gate_density, ()), (plots.gate_cdf, ()), (plots.gate_samples, (noise,))):
            draw = lambda ax, f=figure, a=(HC, place, *more): f(*a, ax)  # noqa: E731
            found.setdefault(figure, []).append(draw)
    return found


def of_exact_posteriors() -> dict:
    target, series = collinear_regression(0.9), gates_in_series(4.0)
    prob = target.prob.numpy()
    gains = np.linspace(0, 8, 33)
    up = (gains, np.clip(gains / 8, 0, 1))
    trails = {"mean field, up": up, "mean field, down": up, "chain": up}
    counts = series.open_gates().numpy()
    x, names = (0, 0.2, 0.5, 0.8, 0.99), ("mean field", "chain", "generator")
    gradient, estimates = gradient_estimates(target, [0.5] * target.n)
    clouds = {name: values[:, 0].numpy() for name, values in estimates.items()}
    kls = {name: [0.1, 0.4, 0.6, 0.9, 1 + 0.01 * i] for i, name in enumerate(names)}
    return {
        plots.all_open_curve: lambda ax: plots.all_open_curve(gains, gains / 8, trails, ax),
        plots.gradient_clouds: lambda ax: plots.gradient_clouds(clouds, float(gradient[0]), ax),
        plots.kl_curves: lambda ax: plots.kl_curves(x, kls, "correlation in a pair", ax),
        plots.likeliest_masks: lambda ax: plots.likeliest_masks(
            prob, {"mean field": prob, "chain": prob}, ax
        ),
        plots.open_gates: lambda ax: plots.open_gates(
            {"exact": counts, "mean field": counts, "chain": counts}, ax
        ),
        plots.pair_states: lambda ax: plots.pair_states(
            np.array([target.pair(2 * i, 2 * i + 1).numpy().ravel() for i in range(4)]), "exact posterior", ax
        ),
    }


def drawings() -> dict:
    """Every figure, with data as large as in the lessons; several ways to draw it where they differ."""
    found: dict = {}
    parts = [of_a_sweep(sweep("digits", "digits")), of_a_sweep(sweep("paired-comparison", "fashion_mnist"))]
    parts += [of_gates(small()), of_gates(network()), of_channels(network()), of_one_gate()]
    parts += [of_exact_posteriors(), {plots.history_curves: lambda ax: plots.history_curves(history(), ax)}]
    parts += [of_low_rank()]
    parts += [of_relatives()]
    parts += [of_several_kinds()]
    parts += [{plots.lambda_path: lambda ax: plots.lambda_path(path(), ax)}]
    parts += [{plots.images: lambda ax: plots.images(dk.load_data("digits").train, 36, ax)}]
    for part in parts:
        for figure, draws in part.items():
            found.setdefault(figure.__name__, []).extend(draws if isinstance(draws, list) else [draws])
    return found


@pytest.fixture(scope="module")
def drawn() -> dict:
    return drawings()


FIGURES = sorted(
    name for name in plots.__all__
    if inspect.isfunction(function := getattr(plots, name)) and "ax" in inspect.signature(function).parameters
)  # fmt: skip


def test_every_figure_is_looked_at(drawn):
    assert sorted(drawn) == FIGURES and len(FIGURES) > 25


def picture(draw, size: tuple[float, float], projector: bool) -> Figure:
    with plots.style(projector):
        figure = Figure(size, layout="constrained", dpi=100)
        draw(figure.subplots())
        FigureCanvasAgg(figure).draw()
    return figure


@pytest.mark.parametrize(("size", "projector"), slow_but_the_first(LOOKS))
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another(drawn, name, size, projector):
    for draw in drawn[name]:
        figure = picture(draw, size, projector)
        assert overlaps(figure) == []
        assert cut(figure, *figure.canvas.get_width_height()) == []
        assert len(list(text_boxes(figure))) > 1


def test_the_check_sees_texts_that_cover_each_other():
    """Negative control: straight ones, slanted ones, and words."""

    def draw(ax):
        ax.set_axis_off()
        ax.text(0.1, 0.9, "one")
        ax.text(0.12, 0.9, "two")
        ax.text(0.5, 0.2, "a slanted text", rotation=45)
        ax.text(0.5, 0.5, "over")  # in the box around the slanted text, but beside its letters
        ax.text(0.55, 0.3, "under")
        words(ax, [0.1], [0.92], ["three"])
        ax.text(0.95, 0.1, "too long a text", in_layout=False)

    figure = picture(draw, (4, 4), False)
    assert set(overlaps(figure)) == {
        ("one", "two"),
        ("one", "three"),
        ("two", "three"),
        ("a slanted text", "under"),
    }
    assert cut(figure, 400, 400) == ["too long a text"]
