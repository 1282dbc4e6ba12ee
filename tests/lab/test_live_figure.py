"""Live figures: the same pixels as a plain drawing, errors in one line, any thread, any screen."""

import base64
import io
import threading

import ipywidgets
import nbconvert
import nbformat
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from depl0kit import plots
from depl0kit.lab import Explorer, GateExplorer, Layout, LiveFigure, float_slider, log_slider
from depl0kit.lab.live import picture, set_slider
from depl0kit.plots.base import LIVE, settings


def image(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def draw_line(ax, height: float = 0.5, top: float = 1.0, title: str = "a line"):
    ax.set(xlim=(0, 1), ylim=(0, top), title=title, xlabel="x")
    return [*ax.plot([0, 1], [0, height], color="k"), ax.text(0.1, 0.9 * top, f"{height:.2f}")]


def line_figure() -> LiveFigure:
    return LiveFigure(draw_line, size=(300, 200))


def test_first_picture_is_what_matplotlib_draws():
    live = line_figure()
    live.update(height=0.7)
    plain = Figure((3, 2), dpi=100, layout="constrained")
    plain.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    draw_line(plain.subplots(), height=0.7)
    canvas = FigureCanvasAgg(plain)
    with settings(LIVE):
        canvas.draw()
    different = np.any(image(live.png) != np.asarray(canvas.buffer_rgba()), axis=-1)
    assert different.mean() < 0.002  # where the line meets the frame, the line lies on top


@pytest.mark.parametrize(
    "state", [{"height": 0.2}, {"top": 3.0}, {"title": "b"}, {"height": 0.9, "top": 2.0}]
)
def test_going_back_restores_every_pixel(state):
    live = line_figure()
    live.update()
    start = live.png
    live.update(**state)
    assert live.png != start
    live.update()
    assert live.png == start


def test_background_is_drawn_anew_only_when_it_changes(monkeypatch):
    live, drawn = line_figure(), []
    draw = live._canvas.draw
    monkeypatch.setattr(live._canvas, "draw", lambda: (drawn.append(1), draw()))
    for height in (0.1, 0.2, 0.3):
        live.update(height=height)
    assert len(drawn) == 1
    live.update(height=0.3, top=2.0)
    assert len(drawn) == 2


def test_background_is_drawn_anew_where_only_names_of_ticks_change(monkeypatch):
    def draw(ax, names):
        plots.base.ticks(ax.xaxis, [0.2, 0.8], names)
        return [ax.text(0.5, 0.5, "text")]

    live, drawn = LiveFigure(draw, size=(300, 200)), []
    live.update(names=["a", "b"])
    canvas_draw = live._canvas.draw
    monkeypatch.setattr(live._canvas, "draw", lambda: (drawn.append(1), canvas_draw()))
    start = live.png
    live.update(names=["a", "b"])
    assert (live.png, len(drawn)) == (start, 0)
    live.update(names=["a", "c"])
    assert live.png != start
    assert len(drawn) == 1


def test_ticks_are_set_only_where_they_change():
    axis = Figure().subplots().xaxis
    for at, names in (([1, 2], []), ([1, 2], ["a", "b"]), ([1, 3], ["a", "b"]), ([1, 3], ["a", "c"])):
        assert plots.base.ticks(axis, at, names)
        assert not plots.base.ticks(axis, at, names)


def pictures_of_a_walk(keep: bool) -> tuple[list[bytes], list[float]]:
    """Pictures of two lines and several notes, on two screens; the heights of the lines that were drawn."""
    lines, drawn = {}, []

    def draw(ax, height, note):
        if height not in lines or not keep:
            lines.clear()
            lines[height] = draw_line(ax, height)
            line = lines[height][0]
            line.draw = lambda renderer: (drawn.append(height), type(line).draw(line, renderer))
        return [*lines[height], ax.text(0.1, 0.5, note)]

    live, pictures = LiveFigure(draw, size=(300, 200)), []
    for height, note, ratio in [(2, "a", 1), (2, "b", 1), (2, "c", 1), (2, "c", 2), (7, "c", 2), (7, "d", 1)]:
        live.picture.screen = [300, ratio]
        live.update(height=height / 10, note=note)
        pictures.append(live.png)
    return pictures, drawn


@pytest.mark.slow
def test_what_stays_is_drawn_once_and_shown_always():
    pictures, drawn = pictures_of_a_walk(keep=True)
    every, drawn_every_time = pictures_of_a_walk(keep=False)
    assert pictures == every
    first = [0.2, 0.2]  # new and beneath, as a new layout is drawn twice; on another screen
    second = [0.7, 0.7]  # new; on another screen, beneath
    assert drawn == first + second
    assert len(drawn_every_time) == 8


def test_what_is_drawn_fits_the_axes_as_they_are_placed():
    """Also where another panel, drawn later, takes room from it, and on a screen of another size."""

    def draw(left, right):
        right.set_ylabel("a label\nof three\nlines")
        return [left.text(0.5, 0.5, f"{left.bbox.width:.3f}")]

    live = LiveFigure(draw, (400, 200), "ab")
    for across in (400, 500):
        live.picture.screen = [across, 1]
        live.update()
        assert live.axes[0].texts[0].get_text() == f"{live.axes[0].bbox.width:.3f}"


@pytest.mark.parametrize(("across", "ratio"), [(300, 0.75), (300, 1.5), (240, 2.0), (300.5, 1.25)])
def test_picture_has_the_pixels_of_the_screen(across, ratio):
    live = line_figure()
    live.update()
    live.picture.screen = [across, ratio]
    height, width, _ = image(live.png).shape
    assert (height, live.picture.height) == (200 * ratio, 200)
    assert abs(width - across * ratio) <= 1


def test_text_has_its_size_whatever_the_width_and_grows_with_the_screen(text):
    live = LiveFigure(lambda ax: [ax.text(0.5, 0.5, "H", ha="center"), *hidden(ax)], size=(300, 200))
    live.update()
    sizes = {}
    for across, ratio in [(300, 1), (240, 1), (600, 1), (300, 1.25), (240, 2)]:
        live.picture.screen = [across, ratio]
        dark = np.nonzero(image(live.png)[..., :3].max(-1) < 128)[0]
        sizes[across, ratio] = np.ptp(dark) + 1
    assert 9 <= sizes[300, 1] <= 11  # a capital of a 14 pixel font
    assert all(abs(size - sizes[300, 1] * ratio) <= 1 for (_, ratio), size in sizes.items())
    text(1.5)
    large = LiveFigure(lambda ax: [ax.text(0.5, 0.5, "H", ha="center"), *hidden(ax)], size=(300, 200))
    large.update()
    dark = np.nonzero(image(large.png)[..., :3].max(-1) < 128)[0]
    assert abs(np.ptp(dark) + 1 - 1.5 * sizes[300, 1]) <= 1


def hidden(ax) -> list:
    """Nothing but what is drawn into the axes is seen."""
    ax.set_axis_off()
    return []


@pytest.fixture
def text(monkeypatch):
    """`text(size)` as `projector()` sets it, for one test."""
    return lambda size: monkeypatch.setitem(picture._TEXT, "size", size)


def test_panels_move_below_each_other_in_a_narrow_cell_and_back():
    def draw(left, right, height):
        return [*draw_line(left, height), *draw_line(right, 1 - height)]

    live = LiveFigure(draw, (600, 200), "ab", narrower=[Layout("a;b", 200, 380)])
    live.update(height=0.3)
    wide, axes = live.png, live.axes
    live.picture.screen = [300, 1]
    assert image(live.png).shape[:2] == (380, 300) and live.picture.height == 380
    assert live.axes[0].get_position().y0 > live.axes[1].get_position().y1
    live.update(height=0.4)  # goes into the panels that are there now
    live.update(height=0.3)
    live.picture.screen = [600, 1]
    assert live.png == wide and live.axes is not axes and live.picture.least == 0


def test_in_the_narrowest_cell_the_picture_is_scrolled_not_squeezed():
    live = LiveFigure(draw_line, (400, 200), narrower=[Layout("a", 250, 200)])
    live.update()
    live.picture.screen = [100, 2]
    assert image(live.png).shape[:2] == (400, 500) and live.picture.least == 250


def test_failed_drawing_leaves_the_figure_as_it_was():
    def draw(ax, height):
        artists = draw_line(ax, 0.5)
        if height < 0:
            raise ValueError("height must not be negative.")
        return artists

    live = LiveFigure(draw, size=(300, 200))
    live.update(height=1)
    start = live.png
    with pytest.raises(ValueError, match="negative"):
        live.update(height=-1)
    assert live.png == start
    live.update(height=1)
    assert live.png == start


def test_artist_that_is_kept_back_is_an_error():
    live = LiveFigure(lambda ax: draw_line(ax)[:1], size=(300, 200))
    with pytest.raises(TypeError, match="must return every artist"):
        live.update()


def test_artist_that_was_removed_is_an_error_and_the_figure_goes_on():
    kept = []

    def draw(ax, state):
        kept.append(draw_line(ax))
        return [*kept[0], *kept[-1]] if state == "gone" else kept[-1]

    live = LiveFigure(draw, size=(300, 200))
    live.update(state="new")
    live.update(state="new")
    start = live.png
    with pytest.raises(TypeError, match="no longer in the figure"):
        live.update(state="gone")
    assert live.png == start
    live.update(state="new")
    assert live.png == start


@pytest.mark.slow
def test_two_threads_draw_whole_pictures():
    live = line_figure()
    expected = {}
    for height in (0.2, 0.8):
        live.update(height=height)
        expected[height] = live.png
    seen = []
    live.picture.observe(lambda change: seen.append(change["new"]), "png")

    def work(height):
        for _ in range(20):
            live.update(height=height)

    threads = [threading.Thread(target=work, args=(height,)) for height in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) > 1 and set(seen) <= set(expected.values())


class LineExplorer(Explorer):
    """The smallest explorer."""

    def __init__(self):
        super().__init__(line_figure(), {"height": float_slider("Height", 0.5, 0, 1, 0.1)})

    def numbers(self, height):
        if height == 0:
            raise ValueError("height <b>0</b> shows nothing.")
        return f"height {height:.1f}"


def test_explorer_follows_its_slider_and_resets():
    explorer = LineExplorer()
    start, slider = explorer.figure.png, explorer.controls["height"]
    slider.value = 0.8
    assert explorer.figure.png != start and "height 0.8" in explorer._line.value
    explorer.reset()
    assert slider.value == 0.5 and explorer.figure.png == start and "height 0.5" in explorer._line.value


def test_reset_draws_once():
    explorer, pictures = GateExplorer(), []
    for control in explorer.controls.values():
        control.value += control.step
    explorer.figure.picture.observe(pictures.append, "png")
    explorer.reset()
    assert len(pictures) == 1


def test_error_is_one_line_and_goes_away():
    explorer = LineExplorer()
    explorer.controls["height"].value = 0
    assert isinstance(explorer.error, ValueError)
    assert "height &lt;b&gt;0&lt;/b&gt; shows nothing." in explorer._line.value
    assert "depl0kit-error" in explorer._line.value and "Traceback" not in explorer._line.value
    explorer.controls["height"].value = 0.5
    assert explorer.error is None and "depl0kit-error" not in explorer._line.value


def test_explorer_carries_a_picture_for_readers_without_a_kernel():
    explorer = LineExplorer()
    bundle = explorer._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == explorer.figure.png
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id


@pytest.mark.slow
def test_notebook_exported_without_a_kernel_shows_the_picture():
    bundle = LineExplorer()._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data=bundle, execution_count=1)
    cell = nbformat.v4.new_code_cell("LineExplorer()", outputs=[output])
    page, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert f"data:image/png;base64,{bundle['image/png']}" in page.replace("\n", "")


def test_controls_set_unwatched_draw_nothing_and_are_watched_again_after_an_error():
    explorer = LineExplorer()
    start, slider = explorer.figure.png, explorer.controls["height"]
    with pytest.raises(KeyError), explorer._unwatched():
        slider.value = 0.2
        raise KeyError
    assert explorer.figure.png == start
    slider.value = 0.8
    assert explorer.figure.png != start


def test_close_removes_everything():
    explorer = LineExplorer()
    parts = [explorer, explorer.figure.picture, explorer.controls["height"]]
    explorer.close()
    assert all(part.comm is None for part in parts)


def test_new_noise_changes_samples_and_numbers_stay():
    explorer = GateExplorer(log_alpha=1.0)
    start, line = explorer.figure.png, explorer._line.value
    explorer.new_noise()
    assert explorer.figure.png != start and explorer._line.value == line


def test_gate_explorer_refuses_a_start_outside_its_sliders():
    with pytest.raises(ValueError, match=r"Location log α must be a number in \[-6, 6\], got 9"):
        GateExplorer(log_alpha=9)


def test_log_slider_in_natural_units():
    slider = log_slider("λ", 4, 0.5, 100, first="off")
    assert slider.value == 4 and slider.numbers[0] == 0.5 and slider.numbers[-1] == 100
    steps = np.diff(np.log10(slider.numbers))
    assert steps.min() > 0.05 and steps.max() < 0.15
    assert (slider.first, slider.last) == ("off", "")


@pytest.mark.parametrize("value", [64.0, 0.77, 0, None])
def test_log_slider_starts_exactly_at_its_value(value):
    assert log_slider("λ", value, 0.5, 100, first="off", last="no limit").value == value


@pytest.mark.parametrize(
    "arguments", [(0, 0.5, 100), (200, 0.5, 100), (1, 0, 100), (float("nan"), 0.5, 100), (None, 0.5, 100)]
)
def test_log_slider_refuses(arguments):
    with pytest.raises(ValueError, match=r"λ|value"):
        log_slider("λ", *arguments)


def test_a_slider_can_be_put_outside_its_range():
    for slider in (log_slider("λ", 4, 0.5, 100), float_slider("β", 1, 0, 2, 0.1)):
        set_slider(slider, 300.0)
        assert slider.value == 300


def test_float_slider_is_short_and_labelled():
    slider = float_slider("Temperature β", 2 / 3, 0.1, 2, 0.1)
    assert isinstance(slider, ipywidgets.FloatSlider) and slider.readout_format == ".2f"
    assert slider.description == slider.tooltip == "Temperature β"


@pytest.mark.slow
def test_explorers_keep_their_layout_under_the_projector_style():
    expected = GateExplorer().figure.png
    with plots.style(projector=True):
        assert GateExplorer().figure.png == expected
