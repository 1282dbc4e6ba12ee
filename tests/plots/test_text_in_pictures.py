"""Text in the pictures of explorers: nothing is cut off or overprinted, in cells of any width."""

import pytest
import torch
from boxes import cut, overlaps
from marks import slow_but_the_first

import depl0kit as dk
from depl0kit.lab.live import picture

# CSS pixels of a cell: JupyterLab at 1280 x 800 with a zoom of 100 to 200 %, at 1920 x 1080, and wider
CELLS = (848, 592, 421, 208, 1488, 2400)


def small_net():
    torch.manual_seed(0)
    return dk.GatedModel(dk.make_model("small", 1, 10, (8, 8)), example=torch.zeros(1, 1, 8, 8))


def trained():
    explorer = dk.lab.TrainingExplorer(
        small_net, dk.load_data("digits"), dk.TrainConfig(lam=16, epochs=2), name="text", seconds=None
    )
    explorer.train()
    explorer._training.join()
    explorer.redraw()
    return explorer


def resnet():
    net = dk.GatedModel(dk.make_model("resnet20"), example=torch.zeros(1, 3, 32, 32), scope="all")
    return dk.lab.ChannelExplorer(net.channels)


@pytest.fixture
def explorers(tmp_path, results):
    return {
        "gate": dk.lab.GateExplorer,
        "dependency": dk.lab.DependencyExplorer,
        "collinear": dk.lab.CollinearExplorer,
        "series": dk.lab.SeriesExplorer,
        "channels": resnet,
        "tradeoff": lambda: dk.lab.TradeoffExplorer(results),
        "training": trained,
        "waiting": lambda: dk.lab.Monitor(tmp_path / "a long name of a folder" / "that is not there yet"),
    }


@pytest.fixture(scope="session")
def results():
    return dk.load_results("digits")


NAMES = ["waiting", "gate", "dependency", "collinear", "series", "channels", "tradeoff", "training"]


@pytest.mark.parametrize("size", [1.0, picture.LARGE])
@pytest.mark.parametrize("name", slow_but_the_first(NAMES))
def test_text_is_whole_and_apart(explorers, name, size, monkeypatch):
    monkeypatch.setitem(picture._TEXT, "size", size)
    explorer = explorers[name]()
    assert explorer.error is None
    figure = explorer.figure
    # also the narrowest cell of each layout
    for across in (*CELLS, *(layout.width * size for layout in figure._layouts)):
        figure.picture.screen = [across, 1.0]
        assert faults(figure) == [], (across, figure._layout.mosaic)
    explorer.close()


def faults(figure) -> list[str]:
    """Texts that reach beyond the picture, and pairs of texts that overlap."""
    width, height = figure._canvas.get_width_height(physical=True)
    return [f"cut: {text!r}" for text in cut(figure._figure, width, height)] + [
        f"overlap: {one!r}, {other!r}" for one, other in overlaps(figure._figure)
    ]


def test_the_check_sees_a_cut_text_and_an_overprinted_one():
    """Negative control."""

    def draw(ax):
        ax.set_axis_off()
        words = (0.5, 0.5, "one"), (0.51, 0.5, "two"), (0.9, 0.9, "too long a text")
        return [ax.text(*word, in_layout=False) for word in words]  # the axes make no room for them

    figure = dk.lab.LiveFigure(draw, (300, 200))
    figure.update()
    assert faults(figure) == ["cut: 'too long a text'", "overlap: 'one', 'two'"]
