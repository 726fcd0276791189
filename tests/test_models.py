"""Models against hand-counted parameters and the structure that the papers describe."""

import inspect
import re
import sys

import numpy as np
import pytest

from larq_filter import models
from larq_filter._keras import keras, tf
from larq_filter.models import PadChannels

import larq


def binary_layers(model):
    quantized = (larq.layers.QuantConv2D, larq.layers.QuantDense)
    return [layer for layer in model.layers if isinstance(layer, quantized)]


def binary_weights(model):
    return sum(int(np.prod(layer.kernel.shape)) for layer in binary_layers(model))


def images(model, count=8):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


@pytest.fixture(scope="module")
def birealnet20():
    keras.utils.set_random_seed(0)
    return models.build("birealnet20", input_shape=(32, 32, 3), num_classes=10)


@pytest.mark.parametrize("width", [16, 5])
def test_birealnet20_has_the_parameters_of_the_paper(width):
    a, b, c = width, 2 * width, 4 * width
    model = models.build("birealnet20", input_shape=(32, 32, 3), num_classes=10, width=width)
    kernels = 9 * (6 * a * a + a * b + 5 * b * b + b * c + 5 * c * c)
    assert len(binary_layers(model)) == 18
    assert binary_weights(model) == kernels
    if width == 16:
        assert kernels == 267_264
    channels = [a] * 7 + [b] * 6 + [c] * 6  # of the 19 convolutions
    batch_norms, slopes = 4 * (sum(channels) + c), sum(channels)
    real = 27 * a + 10 * c + 10
    assert model.count_params() == kernels + batch_norms + slopes + real


def test_birealnet20_shapes(birealnet20):
    assert birealnet20.output_shape == (None, 10)
    stages = [tuple(layer.output_shape[1:]) for layer in binary_layers(birealnet20)]
    assert stages == [(32, 32, 16)] * 6 + [(16, 16, 32)] * 6 + [(8, 8, 64)] * 6


def test_birealnet20_binary_layers_are_1_bit_and_trainable(birealnet20):
    for layer in binary_layers(birealnet20):
        assert isinstance(layer.input_quantizer, larq.quantizers.ApproxSign)
        assert isinstance(layer.kernel_quantizer, larq.quantizers.SteSign)
        assert isinstance(layer.kernel_constraint, larq.constraints.WeightClip)
        assert not layer.use_bias
        assert (layer.kernel_size, layer.padding) == ((3, 3), "same")


def test_birealnet20_signs_see_both_signs(birealnet20):
    """With Keras' PReLU slope 0 every activation after the first would be +1."""
    inputs = [layer.input for layer in binary_layers(birealnet20)]
    activations = keras.Model(birealnet20.input, inputs)(images(birealnet20), training=True)
    for activation in activations:
        positive = np.mean(activation.numpy() >= 0)
        assert 0.05 < positive < 0.95


def test_birealnet20_block_is_the_formula(birealnet20):
    """prelu(shortcut(x) + bn(conv(sign(x), sign(w)))) in numpy, at a stride and without one."""
    for index in (0, 6):
        convolution = binary_layers(birealnet20)[index]
        norm = following(birealnet20, convolution, keras.layers.BatchNormalization)
        prelu = following(birealnet20, convolution, keras.layers.PReLU)
        probe = keras.Model(birealnet20.input, [convolution.input, prelu.output])
        x, actual = (tensor.numpy() for tensor in probe(images(birealnet20, 2)))
        stride = convolution.strides[0]
        sign = np.where(convolution.kernel.numpy() >= 0, 1.0, -1.0)
        summed = convolve(np.where(x >= 0, 1.0, -1.0), sign, stride)
        gamma, beta, mean, variance = (value.numpy() for value in norm.weights)
        normed = (summed - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        added = normed + shortcut(x, stride)
        expected = np.where(added > 0, added, 0.25 * added)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def following(model, layer, kind):
    start = model.layers.index(layer)
    return next(other for other in model.layers[start:] if isinstance(other, kind))


def convolve(x, kernel, stride):
    """3x3 cross-correlation, zero padding as TensorFlow's 'same' for even sizes."""
    batch, height, width, _ = x.shape
    before = 1 if stride == 1 else 0
    padded = np.pad(x, [(0, 0), (before, 2 - before), (before, 2 - before), (0, 0)])
    out = np.zeros((batch, height // stride, width // stride, kernel.shape[-1]))
    for row in range(3):
        for column in range(3):
            window = padded[:, row : row + height : stride, column : column + width : stride]
            out += window @ kernel[row, column]
    return out


def shortcut(x, stride):
    if stride == 1:
        return x
    batch, height, width, channels = x.shape
    pooled = x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    return np.pad(pooled, [(0, 0)] * 3 + [(channels // 2, channels - channels // 2)])


def test_birealnet20_shortcuts_have_no_parameters(birealnet20):
    """Two strided shortcuts; all parameters sit in convolutions, norms, PReLUs and classifier."""
    shortcuts = [
        layer
        for layer in birealnet20.layers
        if isinstance(layer, (PadChannels, keras.layers.AveragePooling2D, keras.layers.Add))
    ]
    kinds = [type(layer) for layer in shortcuts]
    assert kinds.count(PadChannels) == kinds.count(keras.layers.AveragePooling2D) == 2
    assert kinds.count(keras.layers.Add) == 18
    assert all(layer.count_params() == 0 for layer in shortcuts)


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_pad_channels(channels):
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype("float32")
    layer = PadChannels(channels)
    padded = layer(x).numpy()
    before = channels // 2
    np.testing.assert_array_equal(padded[..., before : before + 4], x)
    assert np.abs(padded).sum() == np.abs(x).sum()
    assert padded.shape == tuple(layer.compute_output_shape(x.shape)) == (2, 3, 3, 4 + channels)


def test_mlp_parameters_and_inputs():
    model = models.build("mlp", input_shape=(8, 8, 1), num_classes=10, width=32, depth=3)
    assert binary_weights(model) == 64 * 32 + 2 * 32 * 32
    assert model.count_params() == binary_weights(model) + 3 * 3 * 32 + 32 * 10 + 10
    first, *rest = binary_layers(model)
    assert first.input_quantizer is None
    assert all(isinstance(layer.input_quantizer, larq.quantizers.SteSign) for layer in rest)


@pytest.mark.parametrize("name", ["birealnet20", "mlp"])
@pytest.mark.parametrize("input_shape", [(8, 8, 1), (12, 8, 3)])
def test_file_gives_back_the_predictions(tmp_path, name, input_shape):
    model = models.build(name, input_shape=input_shape, num_classes=4, width=8)
    assert model.input_shape == (None, *input_shape)
    expected = model(images(model)).numpy()
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images(model)).numpy(), expected)


@pytest.mark.parametrize("name", ["birealnet20", "mlp"])
def test_every_kernel_has_a_gradient(name):
    model = models.build(name, input_shape=(8, 8, 1), num_classes=4, width=8)
    labels = tf.constant([0, 1, 2, 3, 0, 1, 2, 3])
    with tf.GradientTape() as tape:
        outputs = model(images(model), training=True)
        loss = keras.losses.sparse_categorical_crossentropy(labels, outputs)
    kernels = [layer.kernel for layer in binary_layers(model)]
    for gradient in tape.gradient(loss, kernels):
        assert np.count_nonzero(gradient) > 0.5 * tf.size(gradient).numpy()


def test_output_is_float32_under_mixed_precision():
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        for name in ("birealnet20", "mlp"):
            model = models.build(name, input_shape=(8, 8, 1), num_classes=4, width=8)
            assert model.output.dtype == "float32"
    finally:
        keras.mixed_precision.set_global_policy(policy)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("birealnet", {}, "unknown model 'birealnet': did you mean BiRealNet, birealnet20"),
        ("quicknet", {}, "unknown model 'quicknet': did you mean QuickNet,"),
        ("???", {}, "did you mean birealnet20, mlp, QuickNet"),
        ("birealnet20", {"depth": 3}, "birealnet20 takes no argument depth: it takes width"),
        ("mlp", {"weights": None}, "mlp takes no argument weights: it takes width, depth"),
        ("QuickNet", {"width": 8}, "QuickNet takes no argument width: it takes weights"),
        ("birealnet20", {"width": 0}, "width must be an integer >= 1, got 0"),
        ("mlp", {"width": 2.0}, r"width must be an integer >= 1, got 2\.0"),
        ("mlp", {"depth": 0}, "depth must be an integer >= 1, got 0"),
        ("mlp", {"num_classes": 1}, "num_classes must be an integer >= 2, got 1"),
        (
            "mlp",
            {"input_shape": (8, 8)},
            r"input_shape must be \(height, width, channels\).*\(8, 8\)",
        ),
        (
            "birealnet20",
            {"input_shape": (30, 28, 3)},
            "multiples of 4, >= 8, got 30x28.*image_size=32",
        ),
        ("birealnet20", {"input_shape": (4, 4, 3)}, "multiples of 4, >= 8, got 4x4.*image_size=8"),
    ],
)
def test_build_rejects(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, **{"input_shape": (8, 8, 1), "num_classes": 4, **arguments})


def test_missing_zoo_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "larq_zoo", None)
    with pytest.raises(ImportError, match=re.escape('pip install "larq_filter[zoo]"')):
        models.build("QuickNet", input_shape=(32, 32, 3), num_classes=10)


@pytest.mark.extras
def test_names_are_all_that_larq_zoo_has():
    larq_zoo = pytest.importorskip("larq_zoo")
    zoo = [
        name
        for module in (larq_zoo.sota, larq_zoo.literature)
        for name, value in vars(module).items()
        if inspect.isfunction(value)
    ]
    assert sorted(models.names()) == sorted(["birealnet20", "mlp", *zoo])


@pytest.mark.extras
def test_zoo_model_equals_the_one_larq_zoo_builds():
    larq_zoo = pytest.importorskip("larq_zoo")
    model = models.build("QuickNetSmall", input_shape=(32, 32, 3), num_classes=7)
    expected = larq_zoo.sota.QuickNetSmall(weights=None, input_shape=(32, 32, 3), num_classes=7)
    assert model.output_shape == (None, 7)
    assert [w.shape for w in model.weights] == [w.shape for w in expected.weights]
    expected.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        model(images(model, 2)).numpy(), expected(images(model, 2)).numpy()
    )


@pytest.mark.extras
@pytest.mark.parametrize(
    ("name", "size", "works"), [("QuickNetSmall", 28, 32), ("BinaryAlexNet", 32, 64)]
)
def test_zoo_model_says_which_size_works(name, size, works):
    pytest.importorskip("larq_zoo")
    message = f"{name} cannot be built for {size}x{size} images.*image_size={works}"
    with pytest.raises(ValueError, match=message):
        models.build(name, input_shape=(size, size, 3), num_classes=10)
    model = models.build(name, input_shape=(works, works, 3), num_classes=10)
    assert model.output_shape == (None, 10)


@pytest.mark.extras
def test_zoo_errors_that_are_not_about_the_size_pass_through():
    pytest.importorskip("larq_zoo")
    with pytest.raises(ValueError, match="`classes` should be 1000"):
        models.build("QuickNetSmall", input_shape=(32, 32, 3), num_classes=10, weights="imagenet")
