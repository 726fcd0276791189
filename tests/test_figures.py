"""The claims of the paper: what their runs are, and that the figures show their numbers."""

import sys
import zlib

import numpy as np
import pytest

from larq_filter import plots
from larq_filter._keras import keras, tf
from larq_filter.experiments import run_folder
from paths import ROOT

sys.path.append(str(ROOT / "paper"))
import claims  # noqa: E402

TINY = run_folder.Config(train_examples=60, model="mlp", width=4, batch_size=20, epochs=2)


# Runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab():
    return claims.Lab(TINY)


@pytest.mark.slow
def test_a_run_has_curves_and_signs_and_is_made_once(lab):
    found = lab.run(claims.latent(), seed=0)
    assert {name: len(found[name]) for name in found} == {
        "flip_ratio": 2, "loss": 2, "accuracy": 2, "signs": 3
    }  # fmt: skip
    assert found["signs"].dtype == bool and found["signs"].shape[1] == 64 * 4 + 4 * 4
    flipped = (found["signs"][1:] != found["signs"][:-1]).mean(1)
    assert (np.array(found["flip_ratio"]) >= flipped / 3).all()  # three steps an epoch
    assert lab.run(claims.latent(), seed=0) is found


@pytest.mark.slow
def test_scaling_by_a_power_of_two_changes_no_bit(lab):
    scaled = lab.run(claims.latent(0.4, 0.0025, magnitude=4.0), seed=0)
    np.testing.assert_array_equal(scaled["signs"], lab.run(claims.latent(), seed=0)["signs"])


@pytest.mark.slow
def test_the_translated_filter_starts_and_goes_on_like_its_latent_weights(lab):
    translation = claims.filter_from_sgd(0.1, 0.01, 0.9, decoupled=True)
    recipe = claims.filtered(**translation.filter.rates_at(0), output=translation.initial_output)
    found = lab.run(recipe, seed=0)
    np.testing.assert_array_equal(found["signs"], lab.run(claims.latent(), seed=0)["signs"])


def test_treatments_change_the_quantizer_and_the_clipping(lab):
    model = lab.compiled(claims.latent(treatment="centred"), seed=0)
    layers = [layer for layer in model.layers if getattr(layer, "kernel_quantizer", None)]
    assert [type(layer.kernel_quantizer) for layer in layers] == [claims.Centred] * 2
    model = lab.compiled(claims.latent(treatment="clipped at 0.01", magnitude=3.0), seed=0)
    layers = [layer for layer in model.layers if getattr(layer, "kernel_quantizer", None)]
    assert [layer.kernel_constraint.clip_value for layer in layers] == [0.01] * 2


def test_centred_signs_are_those_that_the_network_computes_with():
    kernel = tf.constant(np.random.default_rng(0).normal(1.0, 1.0, (20, 3)), tf.float32)
    signs = claims.Centred()(kernel)
    np.testing.assert_array_equal(signs, np.where(kernel < np.mean(kernel, 0), -1, 1))


def test_another_start_on_the_same_gradients():
    """By SGD itself, run from both starts."""
    rng, steps = np.random.default_rng(0), 30
    w_0 = rng.normal(size=(4, 5)).astype("float32")
    gradients = rng.normal(size=(steps, 4, 5)).astype("float32")

    def run(start):
        variable, found = tf.Variable(start), []
        sgd = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.5)
        for gradient in gradients:
            sgd.apply_gradients([(tf.constant(gradient), variable)])
            found.append(variable.numpy())
        return np.array(found)

    one, other = run(w_0), run(10 * w_0)
    expected = ((one < 0) != (other < 0)).mean(axis=(1, 2))
    assert expected.max() > 0.2
    np.testing.assert_array_equal(claims.share_of_other_start(one, w_0, 0.05), expected)


@pytest.mark.slow
def test_a_replay_has_a_number_a_step(lab):
    found = claims.replay(lab, 0.01, seed=0)
    assert found.shape == (lab.steps,) and found[0] < 0.3


# Figures ------------------------------------------------------------------------------------------


class Imagined(claims.Lab):
    """Runs that nobody trained: what a claim does with their numbers."""

    def run(self, recipe, seed):
        rng = np.random.default_rng([seed, zlib.crc32(repr(recipe).encode())])
        curves = {name: rng.uniform(0.1, 0.9, 3).tolist() for name in ("loss", "accuracy")}
        flips = rng.uniform(1e-3, 1e-2, 3).tolist()
        return {**curves, "flip_ratio": flips, "signs": rng.uniform(size=(4, 50)) < 0.5}


@pytest.mark.extras
@pytest.mark.parametrize("name", claims.CLAIMS)
def test_a_figure_for_each_claim(name, tmp_path, monkeypatch, capsys):
    import figures

    replayed = np.random.default_rng(0).uniform(size=9)
    monkeypatch.setattr(claims, "replay", lambda lab, weight_decay, seed: replayed)
    config = figures.config_of(TINY, seeds=2)
    data = figures.numbers(name, tmp_path, Imagined(TINY), config)
    figure = figures.OF_RUNS[name](data)
    figures.save(figure, tmp_path / f"{name}.png")
    for axes in figure.axes:
        assert axes.lines or axes.containers
    figures.report(data)
    assert " ± " in capsys.readouterr().out
    assert figures.numbers(name, tmp_path, None, config) == data  # from the file


@pytest.mark.extras
def test_dots_are_mean_and_range():
    import figures

    _, axes = plots.panels("a", 3.0)
    recipes = {"1": {"accuracy": [0.2, 0.4, 0.9]}, "10": {"accuracy": [0.5, 0.5, 0.5]}}
    figures.dots(axes["a"], {"label": recipes}, "accuracy")
    line, _, (bars,) = axes["a"].containers[0]
    np.testing.assert_array_equal(line.get_xdata(), [1, 10])
    np.testing.assert_allclose(line.get_ydata(), [0.5, 0.5])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.2, 0.9], [0.5, 0.5]])


@pytest.mark.slow
@pytest.mark.extras
def test_figures_of_filters_alone():
    import figures

    for draw in figures.WITHOUT_RUNS.values():
        assert draw().axes
