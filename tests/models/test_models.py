"""Models against hand-counted parameters and the structure that the papers describe."""

import inspect
import re
import sys

import numpy as np
import pytest

from larq_filter import binary, export, models
from larq_filter._keras import keras, tf
from larq_filter.experiments import methods
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.models import PadChannels

import larq


def binary_layers(model):
    quantized = (larq.layers.QuantConv2D, larq.layers.QuantDense)
    return [layer for layer in model.layers if isinstance(layer, quantized)]


def binary_weights(model):
    return sum(int(np.prod(layer.kernel.shape)) for layer in binary_layers(model))


def images(model, count=8):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


# Every model of this package at about its smallest size.
SMALL = {
    "birealnet20": {"input_shape": (12, 8, 3), "width": 8},
    "mlp": {"input_shape": (12, 8, 3), "width": 8},
    "starter": {"input_shape": (12, 8, 3), "width": 8},
    "resnet18_cifar": {"input_shape": (16, 8, 3), "width": 2},
    "binarynet": {"input_shape": (11, 10, 3), "width": 4},
    "reactnet_a": {"input_shape": (64, 32, 3), "width": 2},
    "xnorpp20": {"input_shape": (12, 8, 3), "width": 4},
    "abcnet20": {"input_shape": (12, 8, 3), "width": 4, "weight_bases": 2, "activation_bases": 2},
    "elasticlink20": {"input_shape": (12, 8, 3), "width": 4},
    "birealnet20_nobn": {"input_shape": (12, 8, 3), "width": 4},
}


def small(name, **arguments):
    return models.build(name, **{"num_classes": 4, **SMALL[name], **arguments})


def test_small_is_complete():
    assert set(SMALL) == {*models.names()} - {*models.zoo.SOTA, *models.zoo.LITERATURE}


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
    channels = x.shape[-1]
    return np.pad(pool(x), [(0, 0)] * 3 + [(channels // 2, channels - channels // 2)])


def pool(x):
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


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


@pytest.mark.parametrize("size", [8, 32])
def test_starter_is_as_the_engine_likes_it(size):
    model = models.build("starter", input_shape=(size, size, 1), num_classes=10)
    assert binary_weights(model) == 3 * 9 * 64 * 64 == 110_592
    assert export.lint(model) == []


@pytest.mark.parametrize("width", [64, 6])
def test_resnet18_cifar_has_the_parameters_of_resnet_18(width):
    """With 3 channels and 10 classes CIFAR's ResNet-18 has 11,173,962 trainable parameters."""
    a, b, c, d = width, 2 * width, 4 * width, 8 * width
    model = models.build("resnet18_cifar", input_shape=(32, 32, 3), num_classes=10, width=width)
    kernels = 9 * (4 * a * a + a * b + 3 * b * b + b * c + 3 * c * c + c * d + 3 * d * d)
    assert len(binary_layers(model)) == 16
    assert binary_weights(model) == kernels
    slopes = 5 * a + 4 * (b + c + d)  # a PReLU after each 3x3 convolution
    norms = slopes + b + c + d  # and one more normalisation in each strided shortcut
    real = 27 * a + (a * b + b * c + c * d) + 10 * d + 10
    assert model.count_params() == kernels + 4 * norms + slopes + real
    if width == 64:
        trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        assert (kernels, trainable - slopes) == (10_985_472, 11_173_962)


def test_resnet18_cifar_shapes_and_shortcuts():
    model = small("resnet18_cifar", input_shape=(32, 32, 3))
    stages = [tuple(layer.output_shape[1:]) for layer in binary_layers(model)]
    assert stages == [
        (32 // 2**stage, 32 // 2**stage, 2 * 2**stage) for stage in range(4) for _ in range(4)
    ]
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(keras.layers.Add) == 16
    assert kinds.count(keras.layers.AveragePooling2D) == 3
    assert not {keras.layers.MaxPooling2D, PadChannels} & set(kinds)
    real = [
        layer.kernel_size
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer not in binary_layers(model)
    ]
    assert real == [(3, 3), (1, 1), (1, 1), (1, 1)]


# Layer by layer as lq.models.summary prints it in Larq's tutorial "BinaryNet on CIFAR10".
TUTORIAL = [
    (3_456, (30, 30, 128)),
    (147_456, (30, 30, 128)),
    (294_912, (15, 15, 256)),
    (589_824, (15, 15, 256)),
    (1_179_648, (7, 7, 512)),
    (2_359_296, (7, 7, 512)),
    (4_718_592, (1024,)),
    (1_048_576, (1024,)),
    (10_240, (10,)),
]


def test_binarynet_has_the_parameters_of_the_tutorial():
    model = models.build("binarynet", input_shape=(32, 32, 3), num_classes=10)
    layers = binary_layers(model)
    assert [(layer.count_params(), layer.output_shape[1:]) for layer in layers] == TUTORIAL
    assert binary_weights(model) == 10_352_000
    # The tutorial's 7,700 real values are two per channel; Keras has three: beta and two moments.
    assert model.count_params() == 10_352_000 + 7_700 // 2 * 3


def test_binarynet_with_padding_is_that_of_the_first_paper():
    """32x32 pixels halved three times: 4 * 4 * 512 inputs of the first dense layer, not 3 * 3."""
    model = models.build("binarynet", input_shape=(32, 32, 3), num_classes=10, first_padding="same")
    expected = 10_352_000 + (4 * 4 - 3 * 3) * 512 * 1024
    assert binary_weights(model) == expected == 14_022_016


def test_binarynet_is_binary_everywhere_but_in_its_pixels():
    model = small("binarynet")
    first, *rest = binary_layers(model)
    assert first.input_quantizer is None
    assert all(isinstance(layer.input_quantizer, larq.quantizers.SteSign) for layer in rest)
    real = {v.name for v in model.trainable_variables if not binary.is_binary(v)}
    assert {name.rsplit("/")[-1] for name in real} == {"beta:0"}


@pytest.mark.slow
def test_reactnet_a_has_the_parameters_of_the_paper():
    """13 blocks from c to d channels: 9*c*c + c*d bits; 2*c + d channels are shifted before a sign
    or after one (RPReLU: two shifts, one slope), c + d normalised. 28.3 M bits, 29.3 M in all.
    """
    model = models.build("reactnet_a", input_shape=(32, 32, 3), num_classes=1000)
    channels = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    blocks = list(zip(channels, channels[1:], strict=False))
    assert len(blocks) == 13
    kernels = sum(9 * c * c + c * d for c, d in blocks)
    assert len(binary_layers(model)) == 26
    assert binary_weights(model) == kernels == 28_253_184
    norms = 32 + sum(c + d for c, d in blocks)
    shifts = sum((1 + 3) * c + c + 3 * d for c, d in blocks)
    real = 27 * 32 + 1024 * 1000 + 1000
    assert model.count_params() == kernels + 4 * norms + shifts + real == 29_365_480


def test_reactnet_a_halves_the_image_five_times():
    """At the first convolution, and where channels double, but for the first block."""
    model = small("reactnet_a", input_shape=(224, 224, 3))
    sides = [layer.output_shape[1] for layer in binary_layers(model)]
    assert sides == [112] * 2 + [56] * 4 + [28] * 4 + [14] * 12 + [7] * 4
    assert model.layers[1].output_shape[1:] == (112, 112, 2)


@pytest.mark.slow
def test_reactnet_a_blocks_are_the_formula():
    """A block that doubles the channels, with the authors' two 1x1 convolutions; and one that
    keeps them.
    """
    model = small("reactnet_a", width=4)
    randomize(model)
    for number, stride, doubles in ((1, 2, True), (2, 1, False)):
        first, second = binary_layers(model)[2 * number : 2 * number + 2]
        start = first.inbound_nodes[0].inbound_layers  # the shift before the sign
        end = following(model, second, models.RPReLU)
        probe = keras.Model(model.input, [start.input, end.output])
        x, actual = (tensor.numpy().astype("float64") for tensor in probe(images(model, 2)))
        shift = start.shift.numpy()
        z = normed(model, first, convolve(signs(x + shift), signs(first.kernel), stride))
        pooled = x if stride == 1 else pool(x)
        z = rprelu(following(model, first, models.RPReLU), z + pooled)
        shift = second.inbound_nodes[0].inbound_layers.shift.numpy()
        kernel, c = signs(second.kernel)[0, 0], z.shape[-1]
        halves = np.split(kernel, 1 + doubles, axis=-1)
        summed = np.concatenate([signs(z + shift) @ half for half in halves], axis=-1)
        out = normed(model, second, summed) + np.concatenate([z] * (1 + doubles), axis=-1)
        assert out.shape[-1] == (2 * c if doubles else c)
        np.testing.assert_allclose(actual, rprelu(end, out), rtol=1e-4, atol=1e-4)


def randomize(model):
    """No shift, slope or statistic keeps its initial value."""
    random = np.random.default_rng(1)
    for variable in model.weights:
        if not binary.is_binary(variable) and variable.shape.rank == 1:
            variable.assign(variable + random.uniform(0.1, 0.4, variable.shape))


def signs(values):
    return np.where(np.asarray(values) >= 0, 1.0, -1.0)


def normed(model, layer, summed):
    norm = following(model, layer, keras.layers.BatchNormalization)
    gamma, beta, mean, variance = (value.numpy() for value in norm.weights)
    return (summed - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def rprelu(layer, x):
    z = x + layer.before.numpy()
    return np.where(z > 0, z, layer.slope.numpy() * z) + layer.after.numpy()


def test_rprelu_and_its_gradients():
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, 3, 4)).astype("float32")
    upstream = random.normal(size=x.shape).astype("float32")
    layer = models.RPReLU()
    np.testing.assert_allclose(layer(x), np.where(x > 0, x, 0.25 * x), rtol=1e-6)
    before, slope, after = random.uniform(-0.5, 0.5, (3, 4)).astype("float32")
    layer.set_weights([before, slope, after])
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    gradients = tape.gradient(outputs, [inputs, *layer.trainable_variables], upstream)
    z = x + before
    steepness = np.where(z > 0, 1, slope)
    np.testing.assert_allclose(outputs, steepness * z + after, rtol=1e-5, atol=1e-6)
    expected = [
        steepness * upstream,
        np.sum(steepness * upstream, axis=(0, 1, 2)),
        np.sum(np.minimum(z, 0) * upstream, axis=(0, 1, 2)),
        np.sum(upstream, axis=(0, 1, 2)),
    ]
    for gradient, value in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, value, rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == x.shape


def test_rsign_and_its_gradients():
    """ChannelShift and the sign of the layer after it; here a 1x1 identity, to see the sign."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, 3, 4)).astype("float32")
    upstream = random.normal(size=x.shape).astype("float32")
    shift = np.float32([-0.7, -0.1, 0.2, 1.0])
    layer = models.ChannelShift()
    np.testing.assert_array_equal(layer(x), x)
    layer.set_weights([shift])
    after = larq.layers.QuantConv2D(4, 1, input_quantizer="approx_sign", use_bias=False)
    after.build(x.shape)
    after.set_weights([np.eye(4)[None, None]])
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = after(layer(inputs))
    gradients = tape.gradient(outputs, [inputs, layer.shift], upstream)
    np.testing.assert_array_equal(outputs, np.where(x >= -shift, 1, -1))
    expected = np.maximum(2 - 2 * np.abs(x + shift), 0) * upstream
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[1], expected.sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == x.shape


@pytest.mark.parametrize("layer", [models.ChannelShift(), models.RPReLU(slope=0.1)])
def test_activations_come_back_from_their_config(layer):
    again = type(layer).from_config(layer.get_config())
    x = np.float32([[-1.0, 2.0]])
    np.testing.assert_array_equal(again(x), layer(x))
    assert again.get_config() == layer.get_config()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels"), [*((name, 3) for name in SMALL), ("birealnet20", 1), ("starter", 1)]
)
def test_file_gives_back_the_predictions(tmp_path, name, channels):
    input_shape = (*SMALL[name]["input_shape"][:2], channels)
    model = small(name, input_shape=input_shape)
    assert model.input_shape == (None, *input_shape)
    randomize(model)
    expected = model(images(model)).numpy()
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images(model)).numpy(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_kernel_has_a_gradient(name):
    """On maps of 3x3 and more: of a 3x3 kernel on a 1x1 map only the middle meets a pixel."""
    sizes = {"resnet18_cifar": 24, "reactnet_a": 96}
    shape = (sizes[name], sizes[name], 1) if name in sizes else SMALL[name]["input_shape"]
    model = small(name, input_shape=shape)
    labels = tf.constant([0, 1, 2, 3, 0, 1, 2, 3])
    with tf.GradientTape() as tape:
        outputs = model(images(model), training=True)
        loss = keras.losses.sparse_categorical_crossentropy(labels, outputs)
    kernels = [layer.kernel for layer in binary_layers(model)]
    assert kernels
    for gradient in tape.gradient(loss, kernels):
        assert np.count_nonzero(gradient) > 0.5 * tf.size(gradient).numpy()


@pytest.mark.parametrize("name", SMALL)
def test_smallest_image(name):
    size = models.smallest_image(name)
    assert small(name, input_shape=(size, size, 1), width=1).output_shape == (None, 4)
    with pytest.raises(ValueError, match="input_shape" if size == 1 else "image_size="):
        small(name, input_shape=(size - 1, size - 1, 1), width=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18_cifar", "binarynet", "reactnet_a"])
@pytest.mark.parametrize("method", ["filter", "standardized", "real"])
def test_methods_train_every_kernel(name, method):
    model = methods.compile_for(method, small(name), Knobs(), steps=10)
    model.run_eagerly = True
    kernels = [v for v in model.trainable_variables if v.shape.rank > 1]
    before = [binary.latent(kernel).numpy() for kernel in kernels]
    model.train_on_batch(images(model), np.arange(8) % 4)
    for kernel, old in zip(kernels, before, strict=True):
        new = binary.latent(kernel).numpy()
        assert np.all(np.isfinite(new)) and not np.array_equal(new, old), kernel.name


@pytest.mark.slow
def test_output_is_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    for name in SMALL:
        assert small(name).output.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("birealnet", {}, "unknown model 'birealnet': did you mean BiRealNet, birealnet20"),
        ("quicknet", {}, "unknown model 'quicknet': did you mean QuickNet,"),
        (None, {}, "unknown model None: did you mean birealnet20, starter"),
        ("starter", {"input_shape": 32}, "input_shape must be .height, width, channels.*got 32"),
        (
            "???",
            {},
            "did you mean birealnet20, starter, mlp, resnet18_cifar, binarynet, reactnet_a, xno",
        ),
        ("reactnet", {}, "unknown model 'reactnet': did you mean reactnet_a"),
        (
            "birealnet20",
            {"depth": 3},
            "birealnet20 takes no argument depth: it takes width, weights",
        ),
        ("mlp", {"form": None}, "mlp takes no argument form: it takes width, depth, weights"),
        ("QuickNet", {"width": 8}, "QuickNet takes no argument width: it takes weights"),
        ("birealnet20", {"width": 0}, r"`width` is 0; it must lie in \[1, inf\)"),
        ("mlp", {"width": 2.0}, r"`width` must be an integer in \[1, inf\), not 2\.0"),
        ("mlp", {"depth": 0}, "`depth` is 0"),
        ("mlp", {"num_classes": 1}, r"`num_classes` is 1; it must lie in \[2"),
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
        (
            "resnet18_cifar",
            {"input_shape": (28, 28, 1)},
            "multiples of 8, >= 8, got 28x28.*image_size=32",
        ),
        ("resnet18_cifar", {"width": 0}, r"`width` is 0; it must lie in \[1, inf\)"),
        (
            "reactnet_a",
            {"input_shape": (100, 64, 3)},
            "multiples of 32, >= 32, got 100x64.*image_size=128",
        ),
        ("reactnet_a", {"input_shape": (32, 32, 3), "width": -1}, "`width` is -1"),
        ("binarynet", {}, "images of 10x10 and more, got 8x8.*image_size=10"),
        (
            "binarynet",
            {"input_shape": (7, 9, 3), "first_padding": "same"},
            "images of 8x8 and more, got 7x9.*image_size=8",
        ),
        ("binarynet", {"first_padding": "full"}, '"valid" or "same", got \'full\''),
        ("binarynet", {"input_shape": (10, 10, 1), "width": 1.5}, r"`width` must be .*not 1\.5"),
    ],
)
def test_build_rejects(name, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
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
    assert sorted(models.names()) == sorted([*SMALL, *zoo])


@pytest.mark.slow
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
