"""Networks of published structures: their blocks in NumPy, trained, saved and exported."""

import numpy as np
import pytest

from larq_filter import binary, export, filters, models, to_latent_free
from larq_filter._keras import keras, tf
from larq_filter.experiments import methods
from larq_filter.experiments.methods import Knobs
from larq_filter.models import OutputScale, Shifts, SumOfBases
from larq_filter.optimizers import FilterOptimizer

import larq

KERNELS = 9 * (6 * 8 * 8 + 8 * 16 + 5 * 16 * 16 + 16 * 32 + 5 * 32 * 32)  # of width 8
# The model, its arguments, and the binary weights of birealnet20 of the same width times this.
NAMES = {
    "xnorpp20": ({}, 1),
    "abcnet20": ({"weight_bases": 3, "activation_bases": 2}, 3),
    "elasticlink20": ({}, 1),
    "birealnet20_nobn": ({}, 1),
}


def build(name, side=12, **arguments):
    keras.utils.set_random_seed(0)
    arguments = {"width": 8, **NAMES[name][0], **arguments}
    return models.build(name, input_shape=(side, side, 3), num_classes=4, **arguments)


def images(model, count=8):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


def unsettle(model):
    """No scale, shift, slope or statistic keeps its initial value."""
    random = np.random.default_rng(1)
    for variable in model.weights:
        if not binary.is_binary(variable) and variable.shape.rank != 4:
            variable.assign(variable + random.uniform(0.1, 0.4, variable.shape))


def convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, larq.layers.QuantConv2D)]


def before(layer, node=0):
    return layer.inbound_nodes[node].inbound_layers


def after(model, layer, kind):
    later = model.layers[model.layers.index(layer) :]
    return next(each for each in later if isinstance(each, kind))


# Sizes ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_binary_weights(name):
    model = build(name)
    assert model.output_shape == (None, 4) and model.name == name
    layers = convolutions(model)
    assert len(layers) == 18 and all(layer.use_bias is False for layer in layers)
    found = sum(int(np.prod(layer.kernel.shape)) for layer in layers)
    assert found == NAMES[name][1] * KERNELS
    has_norms = any(isinstance(each, keras.layers.BatchNormalization) for each in model.layers)
    assert has_norms is (name != "birealnet20_nobn")
    if name == "xnorpp20":
        gammas = sum(np.prod(v.shape) for v in model.weights if "output_scale" in v.name)
        sides, channels = [12] * 6 + [6] * 6 + [3] * 6, [8] * 6 + [16] * 6 + [32] * 6
        assert gammas == sum(2 * side + c for side, c in zip(sides, channels, strict=True))


# OutputScale ----------------------------------------------------------------------------------


SHAPES = {
    "scalar": [()],
    "channel": [(5,)],
    "full": [(3, 4, 5)],
    "map": [(5,), (3, 4, 1)],
    "factors": [(5,), (3, 1, 1), (1, 4, 1)],
}
EINSUMS = {
    "scalar": "bhwc,->bhwc",
    "channel": "bhwc,c->bhwc",
    "full": "bhwc,hwc->bhwc",
    "map": "bhwc,c,hw->bhwc",
    "factors": "bhwc,c,h,w->bhwc",
}


@pytest.mark.parametrize("form", SHAPES)
def test_output_scale_is_its_product(form):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, 4, 5)).astype("float32")
    layer = OutputScale(form, factor=0.5)
    np.testing.assert_allclose(layer(x), 0.5 * x, rtol=1e-6)
    values = [random.uniform(0.5, 2, shape).astype("float32") for shape in SHAPES[form]]
    layer.set_weights(values)
    expected = 0.5 * np.einsum(EINSUMS[form], x, *(np.squeeze(value) for value in values))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    assert layer.compute_output_shape(x.shape) == x.shape
    again = OutputScale.from_config(layer.get_config())
    again(x)
    again.set_weights(values)
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OutputScale("spatial"), ValueError, "`form` is 'spatial'.*scalar, channel, full"),
        (lambda: OutputScale(factor=0), ValueError, r"`factor` is 0; .*\(0, inf\)"),
        (
            lambda: OutputScale("map")(keras.Input((None, None, 3))),
            ValueError,
            "the map must have a known size.*Use the form channel",
        ),
        (lambda: build("xnorpp20", form="all"), ValueError, "`form` is 'all'"),
        (lambda: build("abcnet20", weight_bases=0), ValueError, "`weight_bases` is 0"),
        (lambda: build("abcnet20", activation_bases=1.5), TypeError, "`activation_bases` must be"),
        (lambda: build("birealnet20_nobn", side=10), ValueError, "multiples of 4.*image_size=12"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(("form", "inert"), [("scalar", True), ("channel", True), ("map", False)])
def test_a_batch_normalisation_undoes_a_scale_of_channels_only(form, inert):
    random = np.random.default_rng(0)
    x = random.normal(size=(16, 6, 6, 4)).astype("float32")
    scale, norm = OutputScale(form), keras.layers.BatchNormalization(epsilon=1e-12)
    expected = norm(scale(x), training=True).numpy()
    scale.set_weights([random.uniform(0.2, 3, v.shape) for v in scale.weights])
    given = norm(scale(x), training=True).numpy()
    assert bool(np.max(np.abs(given - expected)) < 1e-4) is inert


def test_without_batch_normalisation_a_scale_is_not_inert():
    model = build("birealnet20_nobn")
    x = images(model)
    expected = model(x, training=True).numpy()
    scales = [layer for layer in model.layers if isinstance(layer, OutputScale)]
    assert len(scales) == 18
    scales[3].set_weights([np.full(8, 3.0)])
    assert np.max(np.abs(model(x, training=True).numpy() - expected)) > 1e-3


# Blocks ---------------------------------------------------------------------------------------


def signs(values):
    return np.where(np.asarray(values) >= 0, 1.0, -1.0)


def convolve(x, kernel, stride):
    """3x3 cross-correlation, zero padding as TensorFlow's 'same' for even sizes."""
    height, width = x.shape[1:3]
    first = 1 if stride == 1 else 0
    padded = np.pad(x, [(0, 0), (first, 2 - first), (first, 2 - first), (0, 0)])
    out = 0.0
    for row in range(3):
        for column in range(3):
            window = padded[:, row : row + height : stride, column : column + width : stride]
            out = out + window @ kernel[row, column]
    return out


def pooled(x, stride):
    b, h, w, c = x.shape
    return x.reshape(b, h // stride, stride, w // stride, stride, c).mean((2, 4))


def shortcut(x, stride):
    more = x.shape[-1] // 2 if stride > 1 else 0
    return np.pad(pooled(x, stride), [(0, 0)] * 3 + [(more, more)])


def normed(model, layer, z):
    norm = after(model, layer, keras.layers.BatchNormalization)
    gamma, beta, mean, variance = (value.numpy() for value in norm.weights)
    return (z - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def prelu(model, layer, z):
    slope = after(model, layer, keras.layers.PReLU).weights[0].numpy()
    return np.where(z > 0, z, slope * z)


def xnorpp20(model, layer, x):
    alpha, beta, gamma = (
        v.numpy().astype("float64") for v in after(model, layer, OutputScale).weights
    )
    stride = layer.strides[0]
    z = convolve(signs(x), signs(layer.kernel), stride) * alpha * beta * gamma
    return prelu(model, layer, shortcut(x, stride) + normed(model, layer, z))


def abcnet20(model, layer, x):
    v = before(layer).v.numpy()
    alpha, beta = (w.numpy() for w in after(model, layer, SumOfBases).weights)
    kernels, stride = np.split(signs(layer.kernel), 3, axis=-1), layer.strides[0]
    z = sum(
        beta[n] * alpha[m] * convolve(signs(np.clip(x + v[n], 0, 1) - 0.5), kernels[m], stride)
        for n in range(2)
        for m in range(3)
    )
    return prelu(model, layer, shortcut(x, stride) + normed(model, layer, z))


def elasticlink20(model, layer, x):
    gamma, stride = after(model, layer, OutputScale).weights[0].numpy(), layer.strides[0]
    link = np.concatenate([pooled(x, stride)] * stride, axis=-1)
    z = normed(model, layer, convolve(signs(x), signs(layer.kernel), stride))
    return prelu(model, layer, gamma * link + z)


def birealnet20_nobn(model, layer, x):
    """beta of the second convolution, and of that of the first stride: 1 and 6 branches before."""
    stride, bias = layer.strides[0], before(layer).shift.numpy()
    beta = (1 + 0.04 * (6 if stride == 2 else 1)) ** -0.5
    gain = after(model, layer, OutputScale).weights[0].numpy()
    f = gain * convolve(signs(beta * x + bias), signs(layer.kernel), stride)
    z = shortcut(x, stride) + 0.2 * f / np.sqrt(9 * x.shape[-1])
    last = after(model, layer, models.RPReLU)
    moved = z + last.before.numpy()
    return np.where(moved > 0, moved, last.slope.numpy() * moved) + last.after.numpy()


BLOCKS = {f.__name__: f for f in (xnorpp20, abcnet20, elasticlink20, birealnet20_nobn)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_the_formula(name):
    """The second convolution, and the first one with a stride."""
    model = build(name)
    unsettle(model)
    for index in (1, 6):
        layer = convolutions(model)[index]
        first = {"abcnet20": 1, "birealnet20_nobn": 2}.get(name, 0)  # layers before it in the block
        entrance = layer.get_input_at(0)
        for _ in range(first):
            entrance = entrance._keras_history.layer.input
        end = after(model, layer, models.RPReLU if "nobn" in name else keras.layers.PReLU)
        x, given = keras.Model(model.input, [entrance, end.output])(images(model, 2))
        expected = BLOCKS[name](model, layer, x.numpy().astype("float64"))
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


def test_activation_bases_and_their_gradient():
    """H_v is a sign around 1/2 - v; its gradient is 1 where 0 <= x + v <= 1, else 0."""
    x = tf.constant(np.linspace(-2, 2, 81)[None, None, :, None], tf.float32)
    layer, sign = Shifts(3), larq.quantizers.SteSign(clip_value=0.5)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = [sign(each) for each in layer(x)]
    v = layer.v.numpy()
    np.testing.assert_allclose(0.5 - v, [1 / 3, 0, -1 / 3], atol=1e-6)
    for output, shift in zip(outputs, v, strict=True):
        inside = np.clip(x + shift, 0, 1)
        np.testing.assert_array_equal(output, np.where(inside >= 0.5, 1, -1))
        gradient, gate = tape.gradient(output, x).numpy(), (x + shift >= 0) & (x + shift <= 1)
        clear = np.minimum(np.abs(x + shift), np.abs(x + shift - 1)) > 1e-3  # of rounding
        np.testing.assert_array_equal(gradient[clear], np.where(gate, 1, 0)[clear])


def test_bases_that_start_alike_stay_alike():
    """Why the v are spread: equal ones get equal gradients at every step."""
    x = keras.Input((4, 4, 2))
    shared = larq.layers.QuantConv2D(
        2, 3, padding="same", input_quantizer=larq.quantizers.SteSign(clip_value=0.5)
    )
    shifts, summed = Shifts(2), SumOfBases(1)
    model = keras.Model(x, summed([shared(each) for each in shifts(x)]))
    model.compile("sgd", "mse")
    random = np.random.default_rng(0)
    data = random.normal(size=(64, 4, 4, 2)), random.normal(size=(64, 4, 4, 2))
    spread = shifts.v.numpy()
    model.fit(*data, verbose=0)
    assert np.any(shifts.v.numpy() != spread)
    shifts.v.assign([0.0, 0.0])
    summed.beta.assign([1.0, 1.0])
    model.fit(*data, epochs=3, verbose=0)
    for values in (shifts.v.numpy(), summed.beta.numpy()):
        assert values[0] == values[1] != 0


def test_variance_without_batch_normalisation_is_expected():
    """x stays of the order that beta assumes, through six blocks and at the end of each stage."""
    model = build("birealnet20_nobn", side=16, width=16)
    ends = [after(model, layer, keras.layers.Add) for layer in convolutions(model)]
    outputs = keras.Model(model.input, [end.output for end in ends])(images(model, 32))
    variances = [float(np.mean(np.square(output))) for output in outputs]
    assert 0.1 < min(variances) and max(variances) < 2


# Training, saving, export ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "filter") for name in NAMES), ("xnorpp20", "adam"), ("birealnet20_nobn", "adam")],
)
def test_trains_with_and_without_latent_weights(name, method):
    """One batch of images, a colour for each class: the loss falls, and every layer flips."""
    arguments = {"weight_bases": 2} if name == "abcnet20" else {}
    model = build(name, side=8, width=4, **arguments)
    if method == "filter":
        model = to_latent_free(model)
        averages = filters.CascadedEMA(alpha=0.1, gamma=0.5)
        optimizer = FilterOptimizer(
            averages, default_optimizer=keras.optimizers.Adam(1e-2), jit_compile=False
        )
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, "sparse_categorical_crossentropy")
    else:
        knobs = Knobs(kernel_learning_rate=1e-1, learning_rate=1e-2)
        model = methods.compile_for("adam", model, knobs, steps=60)
    y = np.arange(16) % 4
    x = images(model, 16) + np.float32([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]])[y, None, None]
    kernels = [kernel for _, kernel in binary.binary_kernels(model)]
    start = [binary.is_low(kernel).numpy() for kernel in kernels]
    model.run_eagerly = True  # to be quick
    losses = [model.train_on_batch(x, y, return_dict=True)["loss"] for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.8 * losses[0], losses
    assert all(np.any(binary.is_low(k).numpy() != s) for k, s in zip(kernels, start, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_comes_back_bit_for_bit_without_latent_weights(name, tmp_path):
    """With them, tests/models/test_models.py has it."""
    model = build(name, side=8, width=4)
    unsettle(model)
    free = to_latent_free(model)
    np.testing.assert_array_equal(free(images(model)), model(images(model)))
    free.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images(model)), free(images(model)))


def test_the_scale_of_a_kernel_passes_an_output_scale():
    """To the batch normalisation behind it: a mean magnitude is folded, and the outputs stay."""
    x = keras.Input((4, 4, 3))
    scaled = larq.layers.QuantConv2D(
        5, 3, input_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign", use_bias=False
    )
    norm = keras.layers.BatchNormalization(momentum=0.0)
    model = keras.Model(x, norm(OutputScale("factors")(scaled(x))))
    unsettle(model)
    model(images(model), training=True)
    free = to_latent_free(model)
    np.testing.assert_allclose(free(images(model)), model(images(model)), rtol=1e-4, atol=1e-4)


@pytest.mark.extras
@pytest.mark.parametrize("form", SHAPES)
def test_every_form_runs_on_the_engine(form):
    """Its factors no longer 1, which the converter leaves out: not fused where it must not be."""
    x = keras.Input((6, 6, 8))
    layer = larq.layers.QuantConv2D(
        8,
        3,
        padding="same",
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        use_bias=False,
    )
    y = keras.layers.BatchNormalization(momentum=0.0)(OutputScale(form)(layer(x)))
    model = keras.Model(x, keras.layers.Flatten()(y))
    unsettle(model)
    model(images(model, 32), training=True)
    flatbuffer = export.convert(model)
    assert export.engine.operators(flatbuffer).count("LceBconv2d") == 1
    given = export.Interpreter(flatbuffer).predict(images(model, 32))[0]
    np.testing.assert_allclose(given, model(images(model, 32)), atol=1e-4)


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize("name", NAMES)
def test_the_exported_network_computes_the_same(name):
    """All binary convolutions on bits, one operator a call; maps of 3x3 and more."""
    model = to_latent_free(build(name, side=12))
    unsettle(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    x = images(model, 32)
    model(x, training=True)
    flatbuffer = export.convert(model)
    calls = 18 * NAMES[name][0].get("activation_bases", 1)
    assert export.engine.operators(flatbuffer).count("LceBconv2d") == calls
    given = export.Interpreter(flatbuffer).predict(x)[0]
    differences = np.max(np.abs(given - model(x)), axis=1)
    # Of the median: rounding may turn a sign that is almost zero, in a few images.
    assert np.median(differences) < 1e-4
