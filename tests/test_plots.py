"""Figures: the data of the drawn lines against analysis, the units in the labels."""

import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scipy import signal

from larq_filter import analysis, filters, hyperparameters, plots
from larq_filter._keras import keras
from larq_filter.filters import EMA, CascadedEMA, LeakyIntegrator

SLOW, FAST = CascadedEMA(alpha=1e-3, gamma=0.1), EMA(0.05)


def lines(axes):
    """Data of the curves with a label, by label."""
    curves = (line for line in axes.lines if not line.get_label().startswith("_"))
    return {line.get_label(): line.get_data() for line in curves}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.extras
@pytest.mark.parametrize("steps_per_epoch", [None, 390])
def test_bode_draws_what_analysis_says(steps_per_epoch):
    figure = plots.bode([SLOW, FAST], ["slow", "fast"], steps_per_epoch)
    above, below = figure.axes
    for name, f, curve in zip(["slow", "fast"], [SLOW, FAST], below.lines, strict=True):
        frequencies, decibels = lines(above)[name]
        _, gain = analysis.gain(f, frequencies, steps_per_epoch=steps_per_epoch)
        np.testing.assert_allclose(10 ** (decibels / 20), gain, rtol=1e-12)
        _, phase = analysis.phase(f, frequencies, steps_per_epoch=steps_per_epoch)
        np.testing.assert_array_equal(curve.get_ydata(), np.degrees(phase))
        assert frequencies[-1] == pytest.approx(0.5 * (steps_per_epoch or 1))
        assert frequencies[0] < 0.05 * analysis.cutoff(f, steps_per_epoch=steps_per_epoch)
    dots = [line for line in above.lines if line.get_marker() == "o"]
    for dot, f in zip(dots, [SLOW, FAST], strict=True):
        (frequency,), (decibels,) = dot.get_data()
        assert frequency == analysis.cutoff(f, steps_per_epoch=steps_per_epoch)
        _, gain = analysis.gain(f, frequency, steps_per_epoch=steps_per_epoch)
        assert decibels == pytest.approx(20 * math.log10(gain), abs=1e-9)
    assert above.get_xscale() == "log"
    assert above.get_ylabel() == "gain (dB)"
    assert below.get_ylabel() == "phase (degrees)"
    unit = "cycles per step" if steps_per_epoch is None else "cycles per epoch"
    assert below.get_xlabel() == f"frequency ({unit})"
    assert legend(above) == ["slow", "fast"]
    assert "cutoff" in above.get_legend().get_title().get_text()


@pytest.mark.extras
def test_bode_of_filters_without_a_cutoff():
    """An accumulator is drawn at its own scale, a fast average without a dot."""
    above, _ = plots.bode([LeakyIntegrator(0.5, 0.0), EMA(0.9)]).axes
    assert not [line for line in above.lines if line.get_marker() == "o"]
    frequencies, decibels = lines(above)["LeakyIntegrator(gain=0.5, leak=0)"]
    _, gain = analysis.gain(LeakyIntegrator(0.5, 0.0), frequencies)
    np.testing.assert_allclose(decibels, 20 * np.log10(gain), atol=1e-9)


@pytest.mark.extras
def test_bode_is_relative_to_frequency_zero():
    above, _ = plots.bode([LeakyIntegrator(gain=3.0, leak=0.1), EMA(0.1)], ["loud", "unit"]).axes
    np.testing.assert_allclose(lines(above)["loud"][1], lines(above)["unit"][1], atol=1e-9)


@pytest.mark.extras
def test_no_phase_where_nothing_passes():
    class Butterworth(filters.Filter):
        def sos(self, step=0):
            return signal.butter(2, 1e-2, fs=1.0, output="sos")

    _, below = plots.bode(Butterworth()).axes
    assert np.isnan(below.lines[0].get_ydata()).nonzero()[0].tolist() == [800]


@pytest.mark.extras
@pytest.mark.parametrize(("steps_per_epoch", "unit"), [(None, "steps"), (100, "epochs")])
def test_impulse_responses(steps_per_epoch, unit):
    (axes,) = plots.impulse_responses([SLOW, FAST], ["slow", "fast"], steps_per_epoch).axes
    for name, f in {"slow": SLOW, "fast": FAST}.items():
        age, weight = lines(axes)[name]
        steps = np.rint(age * (steps_per_epoch or 1)).astype(int)
        h = analysis.impulse_response(f, steps[-1] + 1)
        np.testing.assert_allclose(weight, h[steps] / np.max(h), rtol=1e-12)
        assert 4 * analysis.time_constant(SLOW) < steps[-1] < 6 * analysis.time_constant(SLOW)
    assert axes.get_xscale() == "log"  # one memory is fifty times the other
    assert plots.impulse_responses([SLOW, EMA(2e-3)]).axes[0].get_xscale() == "linear"
    assert axes.get_xlabel() == f"age of the gradient ({unit})"
    assert axes.get_ylabel() == "weight in the signal (peak = 1)"


@pytest.mark.extras
def test_schedules_are_read_at_the_step():
    f = CascadedEMA(alpha=keras.optimizers.schedules.PolynomialDecay(1e-2, 100, 0.0), gamma=0.5)
    held = CascadedEMA(alpha=f.rates_at(50)["alpha"], gamma=0.5)
    for draw in (plots.bode, plots.impulse_responses):
        axes, same = draw(f, step=50).axes[0], draw(held, ["held"]).axes[0]
        np.testing.assert_array_equal(
            lines(axes)["CascadedEMA(alpha=PolynomialDecay, gamma=0.5)"][1], lines(same)["held"][1]
        )


@pytest.mark.extras
def test_flip_ratio_of_one_run():
    (axes,) = plots.flip_ratio([0.02, 0.01, 0.0]).axes
    epochs, ratios = lines(axes)["measured"]
    assert epochs.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(ratios, [0.02, 0.01, np.nan])  # no place on a logarithm
    assert (axes.get_yscale(), axes.get_xlabel()) == ("log", "epoch")
    assert axes.get_ylabel() == "flip ratio per step"


@pytest.mark.extras
def test_flip_ratio_of_several_runs_and_the_filter():
    f = hyperparameters.suggest(100, 4).filter()
    measured = {"seed 0": [0.01, 0.005, 0.004, 0.001], "seed 1": [0.02, 0.01, 0.005]}
    (axes,) = plots.flip_ratio(measured, f, steps_per_epoch=100).axes
    for name, ratios in measured.items():
        assert lines(axes)[name][1].tolist() == ratios
    epochs, expected = lines(axes)["predicted, white noise"]
    assert epochs.tolist() == [1, 2, 3, 4]
    middles = [50, 150, 250, 350]
    assert expected.tolist() == [analysis.expected_flip_ratio(f, step) for step in middles]
    (same,) = plots.flip_ratio(measured, {"theory": expected}).axes
    assert lines(same)["theory"][1].tolist() == expected.tolist()
    assert legend(same) == ["seed 0", "seed 1", "theory"]


RUNS = {"one": [[0.1, 0.4, 0.3], [0.3, 0.0, 0.1]], "two": [[math.nan, 0.5, 0.6]], "zero": [[0] * 3]}


def shades(axes):
    """(epochs, low, high) of each shaded range."""
    for collection in axes.collections:
        epochs, edge = collection.get_paths()[0].vertices.T
        found = sorted(set(epochs))
        yield (
            found,
            [min(edge[epochs == epoch]) for epoch in found],
            [max(edge[epochs == epoch]) for epoch in found],
        )


@pytest.mark.extras
def test_learning_curves_are_mean_and_range():
    figure = plots.learning_curves({"accuracy": RUNS, "loss": RUNS}, log=["loss"])
    linear, logarithmic = figure.axes
    assert (linear.get_yscale(), logarithmic.get_yscale()) == ("linear", "log")
    assert (linear.get_ylabel(), logarithmic.get_ylabel()) == ("accuracy", "loss")
    assert logarithmic.get_xlabel() == "epoch"
    one, two, zero = linear.lines
    assert one.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(one.get_ydata(), [0.2, 0.2, 0.2])
    np.testing.assert_array_equal(two.get_ydata(), [np.nan, 0.5, 0.6])  # no first stage
    assert zero.get_ydata().tolist() == [0, 0, 0]
    first, second, _ = shades(linear)
    np.testing.assert_allclose(first, [[1, 2, 3], [0.1, 0.0, 0.1], [0.3, 0.4, 0.3]])
    np.testing.assert_allclose(second, [[2, 3], [0.5, 0.6], [0.5, 0.6]])
    assert len(logarithmic.lines) == 2
    np.testing.assert_allclose(logarithmic.lines[0].get_ydata(), [0.2, 0.2, 0.2])
    (shown,) = figure.legends
    assert [each.get_text() for each in shown.get_texts()] == ["one", "two", "zero"]
    assert shown.get_title().get_text() == "line: mean over seeds; shade: lowest to highest seed"
    figure.draw_without_rendering()


@pytest.mark.extras
def test_learning_curves_name_what_can_not_be_drawn():
    figure = plots.learning_curves({"flip ratio": RUNS}, log=["flip ratio"])
    shown = [each.get_text() for each in figure.legends[0].get_texts()]
    assert shown == ["one", "two", "zero (none)"]
    (axes,) = plots.learning_curves({"accuracy": {"short": [[0.5], [0.7]]}}).axes
    assert axes.lines[0].get_marker() == "o"  # a line of one point would not show
    alone = plots.learning_curves({"accuracy": {"one run": [[0.5, 0.6]]}})
    assert not alone.legends[0].get_title().get_text()  # neither mean nor range


@pytest.mark.slow
@pytest.mark.extras
def test_many_methods_have_an_axis_each():
    """On equal scales, with their own curve in front and the means of the others in grey."""
    rng = np.random.default_rng(0)
    runs = {f"m{i}": rng.uniform(0.1 + i / 20, 0.2 + i / 20, (3, 4)).tolist() for i in range(9)}
    figure = plots.learning_curves({"accuracy": runs, "loss": RUNS}, log=["loss"])
    figure.draw_without_rendering()
    assert not figure.legends and "grey: the others" in figure.get_suptitle()
    names = [axes.get_title() for axes in figure.axes]
    assert names[:12] == [*runs, "one (none)", "two (none)", "zero (none)"]
    assert names[12:] == [*(f"{name} (none)" for name in runs), "one", "two", "zero (none)"]
    for axes, own in zip(figure.axes, runs.values(), strict=False):
        assert axes.get_ylim() == figure.axes[0].get_ylim()
        assert len(axes.lines) == 9 + 1
        np.testing.assert_allclose(axes.lines[-1].get_ydata(), np.mean(own, 0))
        *_, (_, low, high) = shades(axes)
        np.testing.assert_allclose([low, high], [np.min(own, 0), np.max(own, 0)])
    assert {axes.get_yscale() for axes in figure.axes[12:]} == {"log"}


@pytest.mark.extras
def test_bars_are_the_largest_numbers_and_end_at_the_lowest():
    values = {"a": 0.5, "tiny": 1e-9, "b": 2.0, "c": 0.1}
    (axes,) = plots.bars(values, "difference", bound=1.0, lowest=1e-3, most=3).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "a", "c"]
    assert [patch.get_width() for patch in axes.patches] == [2.0, 0.5, 0.1]
    assert axes.lines[0].get_xdata() == [1.0, 1.0] and axes.get_xscale() == "log"
    (axes,) = plots.bars(values, "difference", lowest=1e-3).axes
    assert [patch.get_width() for patch in axes.patches] == [0.5, 1e-3, 2.0, 0.1]
    assert "1e-09" in [
        text.get_text() for text in axes.texts
    ]  # the number beside it is the true one
    with pytest.raises(ValueError, match="empty"):
        plots.bars({}, "difference")
    figure = plots.bars({"$0_$5": 1.0, "$5_$": 2.0}, "prices are no formulas")
    figure.canvas.draw()


@pytest.mark.extras
def test_a_notebook_shows_the_figure():
    """IPython takes this method where pyplot has not been imported."""
    picture, size = plots.bode(SLOW)._repr_png_()
    assert picture.startswith(b"\x89PNG") and size == {"width": 650, "height": 520}


@pytest.mark.extras
def test_ticks_of_a_logarithmic_axis_are_plain_numbers():
    figure = plots.flip_ratio([0.03, 0.006])
    figure.draw_without_rendering()
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels(which="both")]
    assert {"0.01", "0.02"} <= set(ticks)
    assert all(float(tick) > 0 for tick in ticks if tick)


@pytest.mark.extras
def test_panels_and_a_legend_below_them():
    figure, axes = plots.panels("ab;cc", 3.0, sharex=True)
    assert set(axes) == set("abc") and figure.get_figwidth() == plots.WIDTH
    assert plots.band(axes["a"], np.array([[1.0, 2.0], [3.0, 4.0]]), {"color": "k", "label": "x"})
    assert lines(axes["a"])["x"][1].tolist() == [2.0, 3.0]
    plots.legend(axes["a"], "title", below=True)
    (shown,) = figure.legends
    assert [each.get_text() for each in shown.get_texts()] == ["x"]
    assert axes["a"].get_legend() is None
    figure.draw_without_rendering()


@pytest.mark.extras
@pytest.mark.parametrize("draw", [plots.bode, plots.impulse_responses])
def test_lines_differ_in_style_and_in_colour(draw):
    axes = draw([EMA(0.1 / k) for k in range(1, 13)]).axes[0]
    named = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert len({(line.get_color(), line.get_linestyle()) for line in named}) == 12
    for one, other in zip(named, named[1:], strict=False):
        assert one.get_color() != other.get_color()
        assert one.get_linestyle() != other.get_linestyle()


@pytest.mark.slow
@pytest.mark.extras
def test_figures_leave_pyplot_alone(tmp_path):
    code = """
    import sys
    from larq_filter import plots
    from larq_filter.filters import EMA
    plots.bode(EMA(0.1)).savefig(sys.argv[1])
    plots.impulse_responses(EMA(0.1)).savefig(sys.argv[1])
    plots.flip_ratio([0.1]).savefig(sys.argv[1])
    assert "matplotlib.pyplot" not in sys.modules
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "figure.pdf")]
    subprocess.run(command, check=True, timeout=300)
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.bode(EMA(0.1)),
        lambda: plots.impulse_responses(EMA(0.1)),
        lambda: plots.flip_ratio([0.1]),
        lambda: plots.learning_curves({"loss": RUNS}),
    ],
)
def test_without_matplotlib(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "larq_filter\[plot\]"'):
        draw()


@pytest.mark.parametrize(
    ("draw", "error", "words"),
    [
        (lambda: plots.bode([]), ValueError, ["at least one"]),
        (lambda: plots.bode([EMA(0.1)], ["a", "b"]), ValueError, ["1 filters", "2 labels"]),
        (lambda: plots.bode([0.1]), TypeError, ["0.1", "filter"]),
        (lambda: plots.bode(EMA(0.1), steps_per_epoch=0), ValueError, ["steps_per_epoch"]),
        (lambda: plots.impulse_responses(EMA(0.1), None, -1), ValueError, ["steps_per_epoch"]),
        (lambda: plots.impulse_responses([]), ValueError, ["at least one"]),
        (lambda: plots.flip_ratio([]), ValueError, ["measured", "per epoch"]),
        (lambda: plots.flip_ratio({}), ValueError, ["measured", "per epoch"]),
        (lambda: plots.flip_ratio([0.1, 1.5]), ValueError, ["1.5", "[0, 1]"]),
        (lambda: plots.flip_ratio([0.1], {"a": [-0.1]}), ValueError, ["-0.1", "'a'", "[0, 1]"]),
        (lambda: plots.flip_ratio([0.1], EMA(0.1)), ValueError, ["steps_per_epoch", "None"]),
        (lambda: plots.learning_curves({}), ValueError, ["empty", "at least one"]),
        (lambda: plots.learning_curves({"loss": {}}), ValueError, ["no run"]),
        (lambda: plots.learning_curves({"a": {"b": []}}), ValueError, ["'b'", "'a'", "[]"]),
        (lambda: plots.learning_curves({"a": {"b": [[]]}}), ValueError, ["[0] epochs"]),
        (lambda: plots.learning_curves({"a": {"b": [[1], [1, 2]]}}), ValueError, ["[1, 2]"]),
    ],
)
def test_errors_come_before_the_drawing(draw, error, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(error) as raised:
        draw()
    for word in words:
        assert word in str(raised.value)
