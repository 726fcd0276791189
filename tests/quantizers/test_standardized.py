"""Quantizers of latent kernels against their formulas in NumPy."""

import numpy as np
import pytest

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.callbacks import flip_monitor
from larq_filter.quantizers import ClipToUnit, StandardizedSign, TanhToUnit
from paths import ROOT

import larq as lq


def kernel(shape=(3, 3, 4, 5)):
    return np.random.default_rng(0).normal(0.3, 0.2, shape)


@pytest.mark.parametrize("scaled", [False, True])
def test_forward_and_gradient(scaled):
    w = kernel()
    upstream = np.random.default_rng(1).normal(size=w.shape)
    x = tf.constant(w, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = StandardizedSign(scaled=scaled, dtype="float64")(x)
    gradient = tape.gradient(y, x, tf.constant(upstream))
    mean, std = w.mean((0, 1, 2)), w.std((0, 1, 2))
    np.testing.assert_array_equal(y, np.where(w < mean, -1.0, 1.0))
    # d/dw of (w - mean) / std, for each filter: n weights, z standardised.
    z, n = (w - mean) / std, 3 * 3 * 4
    radial = z * (upstream * z).sum((0, 1, 2)) / n
    expected = (upstream - upstream.mean((0, 1, 2)) - radial) / std
    expected /= np.sqrt(n) if scaled else 1.0
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


def test_small_kernels_keep_their_gradient_in_float16():
    """The derivative of 1/std is about std^-3: more than float16 holds for Glorot's kernels."""
    random = np.random.default_rng(0)
    w = 0.015 * random.normal(size=(3, 3, 64, 2))
    upstream = 1e-3 * random.normal(size=w.shape)
    gradients = []
    for dtype in ("float32", "float16"):
        x = tf.constant(w, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = StandardizedSign(dtype=dtype)(x)
        assert y.dtype == dtype
        gradients.append(tape.gradient(y, x, tf.cast(upstream, dtype)).numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], atol=2e-3)
    assert np.abs(gradients[0]).max() > 0.1


def test_equal_weights_have_no_direction():
    quantizer = StandardizedSign()
    assert quantizer(tf.fill([4, 2], 0.7)).numpy().tolist() == [[1.0, 1.0]] * 4


def test_config_round_trip():
    saved = keras.utils.serialize_keras_object(StandardizedSign(scaled=True))
    copy = keras.utils.deserialize_keras_object(saved)
    assert copy.scaled is True and copy.clip_value is None and copy.precision == 1


def test_a_flip_of_a_centred_kernel_is_that_of_its_quantized_value():
    """Adding a constant to all latent weights turns their signs, and no weight of the network."""
    layer = lq.layers.QuantDense(
        5, kernel_quantizer=StandardizedSign(), kernel_constraint=lq.constraints.WeightClip(10.0)
    )
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.kernel.assign(kernel((6, 5)))
    counter = flip_monitor._Counter("layer", layer.kernel)
    counter.begin_epoch()
    layer.kernel.assign_add(tf.fill([6, 5], -0.5))
    counter.count()
    assert counter.all_flips() == 0
    before = binary.is_low(layer.kernel).numpy()
    layer.kernel.assign(-binary.latent(layer.kernel))
    counter.count()
    assert counter.all_flips() == np.sum(binary.is_low(layer.kernel).numpy() != before) == 30
    assert model.built


@pytest.mark.parametrize(
    ("inputs", "kernels"),
    [(ClipToUnit(), None), (TanhToUnit(), None), ("ste_sign", StandardizedSign(scaled=True))],
)
def test_a_saved_model_has_its_quantizers(inputs, kernels, tmp_path):
    layer = lq.layers.QuantDense(
        4, input_quantizer=inputs, kernel_quantizer=kernels, kernel_constraint="weight_clip"
    )
    model = keras.Sequential([keras.Input((6,)), layer])
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras", compile=False)
    x = 3 * kernel((5, 6))
    np.testing.assert_array_equal(model.predict(x, verbose=0), copy.predict(x, verbose=0))
    assert type(copy.layers[0].input_quantizer) is type(layer.input_quantizer)


def test_real_valued_activations():
    x = tf.constant([-2.0, -0.5, 3.0])
    assert ClipToUnit()(x).numpy().tolist() == [-1.0, -0.5, 1.0]
    np.testing.assert_allclose(TanhToUnit()(x), np.tanh([-2.0, -0.5, 3.0]), rtol=1e-6)


def test_a_model_of_an_older_version_is_loaded():
    """tests/saved/standardized.keras: the same class, the same signs."""
    folder = ROOT / "tests" / "saved"
    model = keras.models.load_model(folder / "standardized.keras")
    with np.load(folder / "standardized.npz") as expected:
        for layer, scaled, name in zip(model.layers, (False, True), expected, strict=True):
            assert type(layer.kernel_quantizer) is StandardizedSign
            assert layer.kernel_quantizer.scaled is scaled
            found = layer.kernel_quantizer(layer.get_weights()[0])
            np.testing.assert_array_equal(found, expected[name])
