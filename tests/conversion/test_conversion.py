"""Conversion to latent-free models and back: same predictions, or a clear refusal."""

import numpy as np
import pytest

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.binary import RandomSign
from larq_filter.conversion import to_latent, to_latent_free

import larq

layers = keras.layers
SCALED = "magnitude_aware_sign"
# Far from the default 1e-3, so that a wrong treatment of it shows in the predictions.
EPSILON = 0.3


@pytest.fixture(autouse=True)
def _seeded():
    """One activation that rounding carries across zero would show in the predictions."""
    keras.utils.set_random_seed(0)


def conv(quantizer=SCALED, filters=4, **options):
    return larq.layers.QuantConv2D(
        filters,
        3,
        padding="same",
        input_quantizer="ste_sign",
        kernel_quantizer=quantizer,
        kernel_constraint="weight_clip",
        kernel_regularizer="l2",
        **options,
    )


def norm(**options):
    return layers.BatchNormalization(epsilon=EPSILON, momentum=0.5, **options)


def images(count=16, shape=(6, 6, 3), seed=1):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def trained(model, steps=4):
    """``model`` after a few steps: no variable keeps its initial value."""
    x = images(shape=model.input_shape[1:])
    y = images(shape=model.output_shape[1:], seed=2)
    model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    for _ in range(steps):
        model.train_on_batch(x, y)
    return model


def chain(*parts, shape=(6, 6, 3)):
    return keras.Sequential([keras.Input(shape), *parts])


def predictions(model):
    x = images(count=8, shape=model.input_shape[1:], seed=3)
    return model(x, training=False).numpy()


def assert_same(model, free, tolerance=0.0):
    """Equal predictions, that are no constant; ``tolerance`` relative to the largest."""
    before, after = predictions(model), predictions(free)
    assert np.std(before) > 0
    if tolerance:
        before = before.astype("float64")
        np.testing.assert_allclose(after, before, rtol=0, atol=tolerance * np.abs(before).max())
    else:
        np.testing.assert_array_equal(after, before)


def assert_latent_free(free, kernels):
    found = binary.binary_kernels(free)
    assert len(found) == kernels
    for layer, variable in found:
        assert isinstance(variable.quantizer, larq.quantizers.NoOp), layer.name
        assert binary.holds_signs(variable), layer.name
    assert [each for each in binary.check(free) if each.severity == binary.ERROR] == []


# Quantizers of -1 and +1


@pytest.mark.parametrize(
    "quantizer",
    [
        "ste_sign",
        "approx_sign",
        "swish_sign",
        larq.quantizers.SteSign(clip_value=1.25),
        larq.quantizers.DoReFa(k_bit=1, mode="weights"),
    ],
    ids=lambda q: q if isinstance(q, str) else binary.name_of(q),
)
def test_quantizers_of_signs_keep_the_predictions_bit_for_bit(quantizer):
    quantizer = type(quantizer)(**_config(quantizer)) if not _is_text(quantizer) else quantizer
    model = trained(chain(conv(quantizer), norm(), conv(quantizer, use_bias=False), norm()))
    before = [v.numpy() for v in model.weights]
    free = to_latent_free(model)
    assert_same(model, free)
    assert_latent_free(free, kernels=2)
    for old, new in zip(model.layers, free.layers, strict=True):
        if isinstance(old, larq.layers.QuantConv2D):
            latent = binary.latent(old.kernel).numpy()
            assert set(np.unique(np.abs(latent))) != {1.0}
            np.testing.assert_array_equal(binary.latent(new.kernel), np.where(latent < 0, -1, 1))
    for value, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(value, variable.numpy(), "the model itself was changed")


def _is_text(quantizer):
    return isinstance(quantizer, str)


def _config(quantizer):
    return {k: v for k, v in quantizer.get_config().items() if k in ("clip_value", "k_bit", "mode")}


def test_exact_zeros_become_plus_one():
    free = to_latent_free(chain(conv("ste_sign", kernel_initializer="zeros")))
    np.testing.assert_array_equal(binary.latent(free.layers[0].kernel), 1)


def test_a_noop_kernel_that_is_not_binary_yet_becomes_its_signs():
    model = chain(conv(larq.quantizers.NoOp(precision=1)), norm())
    latent = model.layers[0].get_weights()[0]
    free = to_latent_free(model)
    np.testing.assert_array_equal(free.layers[0].get_weights()[0], np.sign(latent))
    assert_latent_free(free, kernels=1)


def test_converting_twice_changes_nothing():
    free = to_latent_free(trained(chain(conv(), norm())))
    again = to_latent_free(free)
    for one, two in zip(free.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "quantizer, seen",
    [
        (larq.quantizers.SteHeaviside(), "SteHeaviside gives 0 and 1,"),
        (larq.quantizers.DoReFa(k_bit=1), "DoReFa gives 0 and 1,"),
        (larq.utils.set_precision(1)(lambda w: w**3), "different values from"),
    ],
)
def test_other_values_than_scaled_signs_are_refused(quantizer, seen):
    model = chain(
        conv(quantizer, name="second", kernel_initializer=keras.initializers.RandomUniform(-2, 2)),
        norm(),
    )
    with pytest.raises(ValueError, match="second: its kernel_quantizer .*" + seen):
        to_latent_free(model)


def test_wider_kernels_and_functions_without_precision_stay():
    def plain(w):
        return tf.clip_by_value(tf.round(w), -1, 1)

    stays = [larq.quantizers.DoReFa(2, mode="weights"), larq.quantizers.SteTern(), plain]
    model = trained(chain(*[conv(q) for q in stays], conv("ste_sign"), norm()))
    free = to_latent_free(model)
    assert_same(model, free)
    for old, new in zip(model.layers[:3], free.layers[:3], strict=True):
        assert type(new.kernel_quantizer) is type(old.kernel_quantizer)
        assert new.kernel_constraint is not None and new.kernel_regularizer is not None
        np.testing.assert_array_equal(binary.latent(new.kernel), binary.latent(old.kernel))
    assert free.layers[2].kernel_quantizer is plain
    assert_latent_free(free, kernels=1)
    with pytest.raises(ValueError, match="quantizer sign .*sign.precision = 1"):
        to_latent_free(chain(conv(tf.sign), conv("ste_sign"), norm()))


def test_configuration_of_a_converted_layer():
    model = chain(conv("ste_sign", pad_values=1.0, bias_regularizer="l2"), norm())
    layer = to_latent_free(model).layers[0]
    assert isinstance(layer.input_quantizer, larq.quantizers.SteSign)
    assert isinstance(layer.kernel_quantizer, larq.quantizers.NoOp)
    assert layer.kernel_constraint is None and layer.kernel_regularizer is None
    assert isinstance(layer.kernel_initializer, RandomSign)
    assert layer.bias_regularizer is not None and layer.pad_values == 1.0


def test_a_model_rebuilt_from_the_config_is_binary_at_once():
    free = to_latent_free(chain(conv("ste_sign"), norm(), conv("ste_sign"), norm()))
    rebuilt = type(free).from_config(free.get_config())
    assert_latent_free(rebuilt, kernels=2)
    different = [
        np.any(binary.latent(a.kernel) != binary.latent(b.kernel))
        for a, b in zip(free.layers[::2], rebuilt.layers[::2], strict=True)
    ]
    assert all(different)


def test_metrics_of_a_quantizer_are_kept():
    quantizer = larq.quantizers.SteSign(metrics=["flip_ratio"])
    model = trained(chain(conv(quantizer), norm()))
    free = to_latent_free(model)
    assert_same(model, free)
    trained(free)
    assert any("flip_ratio" in metric.name for metric in free.metrics)


# Scales


@larq.utils.set_precision(1)
def one_scale_for_all(w):
    return tf.reduce_mean(tf.abs(w)) * larq.quantizers.ste_sign(w)


@larq.utils.set_precision(1)
def scale_of_transposed(w):
    return tf.reduce_mean(tf.abs(w), axis=[0, 1, 3], keepdims=True) * larq.quantizers.ste_sign(w)


@larq.utils.set_precision(1)
def large_scale(w):
    return 3.0 * larq.quantizers.ste_sign(w)


def depthwise(quantizer, multiplier):
    return larq.layers.QuantDepthwiseConv2D(
        3, depthwise_quantizer=quantizer, depth_multiplier=multiplier, depthwise_regularizer="l2"
    )


@larq.utils.set_precision(1)
def scale_per_depthwise_channel(w):
    return tf.reduce_mean(tf.abs(w), axis=[0, 1], keepdims=True) * larq.quantizers.ste_sign(w)


def separable(depthwise_quantizer, pointwise_quantizer):
    return larq.layers.QuantSeparableConv2D(
        5, 3, depthwise_quantizer=depthwise_quantizer, pointwise_quantizer=pointwise_quantizer
    )


FOLDED = {
    "norm": lambda: [conv(use_bias=False), norm()],
    "bias": lambda: [conv(bias_initializer="normal"), norm()],
    "activation inside": lambda: [conv(activation="relu", bias_initializer="normal"), norm()],
    "relu": lambda: [conv(), layers.ReLU(), norm()],
    "activation layer": lambda: [conv(), layers.Activation("relu"), norm()],
    "leaky relu": lambda: [conv(), layers.LeakyReLU(), norm()],
    "prelu": lambda: [conv(), layers.PReLU(shared_axes=[1, 2]), norm()],
    "maps": lambda: [
        conv(),
        layers.ZeroPadding2D(),
        layers.MaxPool2D(2, 1),
        layers.Dropout(0.1),
        layers.AveragePooling2D(),
        norm(),
    ],
    "global pooling": lambda: [conv(), layers.GlobalAveragePooling2D(), norm()],
    "no gamma": lambda: [conv(), norm(scale=False)],
    "no beta": lambda: [conv(), norm(center=False)],
    "neither": lambda: [conv(), norm(center=False, scale=False)],
    "one scale": lambda: [conv(one_scale_for_all), norm()],
    "large scale": lambda: [conv(large_scale), norm()],
    "dense": lambda: [larq.layers.QuantDense(5, kernel_quantizer=SCALED), norm()],
    "depthwise": lambda: [depthwise(SCALED, 2), norm()],
    "depthwise channels": lambda: [depthwise(scale_per_depthwise_channel, 2), norm()],
    "pointwise": lambda: [separable("ste_sign", SCALED), norm()],
    "separable": lambda: [separable(SCALED, SCALED), norm()],
    "transposed": lambda: [
        larq.layers.QuantConv2DTranspose(5, 3, kernel_quantizer=scale_of_transposed),
        norm(),
    ],
    "time distributed": lambda: [
        layers.TimeDistributed(larq.layers.QuantDense(5, kernel_quantizer=SCALED)),
        norm(),
    ],
    "time distributed model": lambda: [
        layers.TimeDistributed(
            chain(larq.layers.QuantDense(5, kernel_quantizer=SCALED), norm(), shape=(6, 3))
        ),
    ],
    "nested": lambda: [chain(conv(), layers.ReLU()), chain(norm(), shape=(6, 6, 4))],
    "deep": lambda: [conv(), norm(), conv(), layers.ReLU(), norm(), conv("ste_sign"), norm()],
}


@pytest.mark.slow
@pytest.mark.parametrize("parts", FOLDED.values(), ids=FOLDED)
def test_a_scale_is_folded_into_the_normalisation(parts):
    model = trained(chain(*parts()))
    free = to_latent_free(model)
    # Rounding alone; a wrong epsilon, gamma or bias is off by 1e-2 and more.
    assert_same(model, free, tolerance=1e-5)
    assert [each for each in binary.check(free) if each.severity == binary.ERROR] == []
    assert all(binary.holds_signs(variable) for _, variable in binary.binary_kernels(free))


def test_folding_in_numbers():
    model = chain(
        larq.layers.QuantDense(1, kernel_quantizer=SCALED),
        layers.BatchNormalization(epsilon=1.0),
        shape=(2,),
    )
    bias, gamma, beta, mean, variance = ([value] for value in (3.0, 2.0, 7.0, 6.0, 8.0))
    model.layers[1].set_weights(np.array([gamma, beta, mean, variance]))

    def converted(kernel):
        model.layers[0].set_weights([np.array(kernel), np.array(bias)])
        return [weight.ravel().tolist() for weight in to_latent_free(model).get_weights()]

    # The scale is the mean of 0.5 and 1.5, that is 1: nothing to fold.
    assert converted([[0.5], [-1.5]]) == [[1, -1], bias, gamma, beta, mean, variance]
    # The scale is 2: bias and mean halve, the variance quarters, and gamma' is 2 * sqrt(12 / 9).
    kernel, *rest = converted([[1.0], [-3.0]])
    assert kernel == [1, -1]
    np.testing.assert_allclose(rest, [[1.5], [2 * np.sqrt(12 / 9)], [7], [3], [2]], rtol=1e-6)


def test_a_weight_that_is_not_finite_has_no_scale_to_fold():
    model = chain(larq.layers.QuantDense(2, kernel_quantizer=SCALED), norm(), shape=(2,))
    model.layers[0].set_weights([np.array([[1.0, 1.0], [np.nan, 1.0]]), np.zeros(2)])
    with pytest.raises(ValueError, match="which is not one positive scale per output channel"):
        to_latent_free(model)


def test_folding_keeps_statistics_and_outputs_of_training():
    # Flat inputs: fused normalisation stores n / (n - 1) times the variance it divides by.
    model = chain(larq.layers.QuantDense(5, kernel_quantizer=SCALED), norm(), shape=(12,))
    model.layers[1].momentum = 0.0
    x = images(shape=(12,))
    model(x, training=True)  # now the moving statistics are those of the batch
    free = to_latent_free(model)
    free.layers[1].momentum = 0.0
    folded = [variable.numpy() for variable in free.layers[1].non_trainable_variables]
    after = free(x, training=True).numpy()
    np.testing.assert_allclose(after, model(x, training=True).numpy(), atol=2e-5)
    for value, variable in zip(folded, free.layers[1].non_trainable_variables, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-5)


def test_two_normalisations_of_one_kernel_both_take_the_scale():
    inputs = keras.Input((6, 6, 3))
    x = conv()(inputs)
    model = trained(keras.Model(inputs, layers.Concatenate()([norm()(x), norm()(x)])))
    assert_same(model, to_latent_free(model), tolerance=1e-5)


def test_shared_layers_and_nested_models():
    shared, inner_input = conv(filters=3), keras.Input((6, 6, 3))
    inner = keras.Model(inner_input, norm()(shared(inner_input)), name="inner")
    inputs = keras.Input((6, 6, 3))
    x = norm()(shared(inputs))
    x = inner(inner(x))
    x = layers.Lambda(lambda t: 2 * t)(x) + x
    x = keras.Sequential([conv(), layers.ReLU(), norm()], name="tail")(x)
    model = trained(keras.Model(inputs, x))
    free = to_latent_free(model)
    assert_same(model, free, tolerance=1e-5)
    assert_latent_free(free, kernels=2)
    assert [layer.name for layer in free.layers] == [layer.name for layer in model.layers]
    assert len(free.weights) == len(model.weights)
    assert free.get_layer("inner").get_layer(index=1) is free.get_layer(shared.name)


def test_equal_layer_names_in_nested_models():
    def block(name):
        return keras.Sequential([conv(name="a"), norm(name="b")], name=name)

    model = trained(chain(block("one"), block("two")))
    free = to_latent_free(model)
    assert_same(model, free, tolerance=1e-5)
    assert_latent_free(free, kernels=2)


@pytest.mark.parametrize(
    "parts, why",
    [
        (lambda: [conv(name="c"), layers.Activation("tanh"), norm()], r"c: .* \(Activation\)"),
        (lambda: [conv(name="c"), layers.ReLU(6.0), norm()], r"c: .* \(ReLU\)"),
        (lambda: [conv(name="c", activation="sigmoid"), norm()], "c: .*activation sigmoid"),
        (lambda: [conv(name="c"), layers.Flatten(), norm()], r"c: .* \(Flatten\)"),
        (lambda: [conv(name="c"), conv("ste_sign"), norm()], r"c: .* \(QuantConv2D\)"),
        (lambda: [norm(), conv(name="c")], "c: .*output of the model"),
        (lambda: [conv(name="c"), norm(axis=1)], "c: .*axis"),
        (
            lambda: [
                conv(large_scale, name="c"),
                norm(scale=False, moving_variance_initializer="zeros"),
            ],
            "c: .*without a gamma",
        ),
    ],
)
def test_a_scale_without_a_home_is_told(parts, why):
    with pytest.raises(ValueError, match=why):
        to_latent_free(chain(*parts()))


def residual():
    inputs = keras.Input((6, 6, 3))
    x = layers.add([inputs, conv(filters=3, name="first")(inputs)])
    x = layers.add([x, norm()(conv(filters=3, name="good")(x))])
    return keras.Model(inputs, norm()(layers.add([x, conv(filters=3, name="second")(x)])))


def test_residual_sums_are_told_by_name_and_can_be_dropped():
    model = trained(residual())
    with pytest.raises(ValueError, match=r"(?s)first: .*\(Add\).*second: .*\(Add\)") as error:
        to_latent_free(model)
    assert "good" not in str(error.value)
    free = to_latent_free(model, scales="drop")
    assert_latent_free(free, kernels=3)
    for old, new in zip(model.layers, free.layers, strict=True):
        if isinstance(old, layers.BatchNormalization):
            np.testing.assert_array_equal(old.get_weights(), new.get_weights())


def test_channels_first_folds_as_channels_last_does():
    def build(data_format, axis, shape):
        first = conv(data_format=data_format, activation="relu")
        pool = layers.MaxPool2D(data_format=data_format)
        return chain(first, pool, norm(axis=axis), shape=shape)

    last = trained(build("channels_last", -1, (6, 6, 3)))
    first = build("channels_first", 1, (3, 6, 6))  # not to be run: CPUs have no such convolution
    first.set_weights(last.get_weights())
    weights = zip(to_latent_free(first).weights, to_latent_free(last).weights, strict=True)
    for one, other in weights:
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    wrong_pool = chain(
        conv(data_format="channels_first"), layers.MaxPool2D(2), norm(axis=1), shape=(4, 6, 6)
    )
    with pytest.raises(ValueError, match="MaxPooling2D"):
        to_latent_free(wrong_pool)
    in_time = layers.TimeDistributed(conv(data_format="channels_first"))
    with pytest.raises(ValueError, match="channels first under TimeDistributed"):
        to_latent_free(chain(in_time, norm(axis=2), shape=(2, 3, 6, 6)))


def test_scales_reach_the_right_inputs_and_outputs_of_a_nested_model():
    one, other = keras.Input((6, 6, 4)), keras.Input((6, 6, 4))
    inner = keras.Model([one, other], [norm()(other), layers.ReLU()(one)])
    inputs = keras.Input((6, 6, 3))
    first, second = conv()(inputs), conv()(inputs)
    second, first = inner([first, second])
    model = trained(keras.Model(inputs, layers.add([second, norm()(first)])))
    assert_same(model, to_latent_free(model), tolerance=1e-5)


class LearnedScale(larq.quantizers.Quantizer):
    """A quantizer with a variable of its own, which goes with it."""

    precision = 1

    def build(self, shape):
        self.scale = self.add_weight(name="scale", initializer=keras.initializers.Constant(0.7))

    def call(self, kernel):
        return tf.abs(self.scale) * larq.quantizers.ste_sign(kernel)


def test_a_learned_scale_is_folded():
    model = trained(chain(conv(LearnedScale()), norm(), conv("ste_sign"), norm()))
    free = to_latent_free(model)
    assert_same(model, free, tolerance=1e-5)
    assert_latent_free(free, kernels=2)
    assert len(free.weights) == len(model.weights) - 1


def test_a_depthwise_scale_that_the_pointwise_kernel_mixes_is_told():
    model = chain(separable(scale_per_depthwise_channel, "ste_sign"), norm())
    with pytest.raises(ValueError, match="depthwise_quantizer scale_per_depthwise_channel gives 6"):
        to_latent_free(model)


class Odd(larq.layers.QuantLocallyConnected2D):
    """Stands for a layer of the user's own."""


def test_a_scaled_kernel_of_unknown_layout_is_told():
    with pytest.raises(ValueError, match="odd: a scaled kernel of Odd"):
        to_latent_free(chain(Odd(4, 3, kernel_quantizer=SCALED, name="odd"), norm()))
    model = trained(chain(Odd(4, 3, kernel_quantizer="ste_sign"), norm()))
    assert_same(model, to_latent_free(model))


def test_a_normalisation_of_differently_scaled_inputs_is_told():
    shared, inputs = norm(name="both"), keras.Input((6, 6, 3))
    x = shared(conv(name="one")(inputs))
    model = keras.Model(inputs, shared(conv(name="two")(x)))
    with pytest.raises(ValueError, match="one: .*both, which gets") as error:
        to_latent_free(model)
    assert "two: its output goes to both, which gets" in str(error.value)


# What is carried over, and what is refused


def test_trainable_flags_are_carried_over():
    frozen = chain(conv(), norm(), shape=(6, 6, 3))
    model = chain(frozen, conv(), norm())
    frozen.trainable = False
    frozen.layers[1].trainable = True
    model.layers[2].trainable = False
    free = to_latent_free(trained(model))
    assert_same(model, free, tolerance=1e-5)

    def flags(net):
        return [net.trainable, *[layer.trainable for layer in net.layers]]

    assert flags(free) == flags(model)
    assert flags(free.layers[0]) == flags(frozen) == [False, False, True]
    assert len(free.trainable_weights) == len(model.trainable_weights) == 2


def test_trainable_flags_inside_a_layer_are_carried_over():
    both = layers.Bidirectional(layers.LSTM(2))
    model = chain(larq.layers.QuantDense(3, kernel_quantizer="ste_sign"), both, shape=(5, 4))
    both.forward_layer.trainable = False  # its variables now come last in both.weights
    free = to_latent_free(trained(model))
    assert [free.layers[1].forward_layer.trainable, free.layers[1].backward_layer.trainable] == [
        False,
        True,
    ]
    assert_same(model, free)


def test_losses_of_the_model_are_carried_over():
    inputs = keras.Input((6, 6, 3))
    outputs = norm()(conv()(inputs))
    model = keras.Model(inputs, outputs)
    model.add_loss(tf.reduce_mean(outputs))
    free = to_latent_free(model)
    assert_same(model, free, tolerance=1e-5)
    assert len(free.losses) == 1


def test_a_dtype_policy_is_kept():
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        # The scaled kernel last: its rounding in bfloat16 would turn signs of a layer after it.
        model = trained(chain(conv("ste_sign"), norm(), conv(), norm()))
    finally:
        keras.mixed_precision.set_global_policy(before)
    free = to_latent_free(model)
    assert [layer.compute_dtype for layer in free.layers] == ["bfloat16"] * 4
    assert_latent_free(free, kernels=2)
    assert_same(model, free, tolerance=0.05)
    assert_same(free, to_latent(free))


def test_a_sequential_model_built_late():
    model = keras.Sequential([conv(), norm()])
    model.build((None, 6, 6, 3))
    assert_same(model, to_latent_free(model), tolerance=1e-5)


def test_a_sequential_model_that_calls_a_layer_twice_is_refused():
    twice = conv(filters=3)
    with pytest.raises(ValueError, match="calls a layer twice.*functional"):
        to_latent_free(chain(twice, norm(), twice, norm()))


def test_model_and_optimizer_start_afresh():
    assert to_latent_free(trained(chain(conv(), norm()))).optimizer is None


def test_keras_file_round_trip(tmp_path):
    free = to_latent_free(trained(chain(conv(), norm(), chain(conv(), norm(), shape=(6, 6, 4)))))
    free.save(tmp_path / "free.keras")
    loaded = keras.models.load_model(tmp_path / "free.keras")
    assert_same(free, loaded)
    assert_latent_free(loaded, kernels=2)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = conv()

    def call(self, inputs):
        return self.conv(inputs)


class Composite(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = conv("ste_sign")

    def call(self, inputs):
        return self.conv(inputs)


@pytest.mark.parametrize("convert", [to_latent_free, to_latent])
def test_what_cannot_be_rebuilt_is_refused(convert):
    model = Subclassed()
    with pytest.raises(ValueError, match="no variables yet"):
        convert(model)
    model.build((None, 6, 6, 3))
    with pytest.raises(TypeError, match="subclassed model.*functional"):
        convert(model)
    with pytest.raises(TypeError, match=r"Expected a tf\.keras\.Model"):
        convert("model")
    with pytest.raises(ValueError, match="no .*kernel"):
        convert(chain(layers.Conv2D(4, 3)))


def test_larq_layers_inside_a_custom_layer_are_refused():
    with pytest.raises(TypeError, match="parts .Composite. holds Larq layers inside"):
        to_latent_free(chain(Composite(name="parts"), norm()))


def test_scales_is_one_of_two_words():
    with pytest.raises(ValueError, match='\'keep\'.*"fold" or "drop"'):
        to_latent_free(chain(conv(), norm()), scales="keep")


# The way back


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantizer, magnitude",
    [
        ("ste_sign", 1.0),
        ("ste_sign", 0.01),
        ("swish_sign", 0.1),
        ("approx_sign", 0.5),
        (SCALED, 1.0),
        (larq.quantizers.SteSign(clip_value=2.0), 1.5),
    ],
)
def test_latent_weights_give_the_same_predictions(quantizer, magnitude):
    parts = [
        conv(),
        norm(),
        depthwise("ste_sign", 2),
        norm(),
        separable("ste_sign", SCALED),
        norm(),
    ]
    free = to_latent_free(trained(chain(*parts)))
    latent = to_latent(free, quantizer, kernel_constraint=None, magnitude=magnitude)
    assert_same(free, latent)
    kernels = binary.binary_kernels(latent)
    assert len(kernels) == 4
    assert len({id(variable.quantizer) for _, variable in kernels}) == 4
    for _, variable in kernels:
        assert not isinstance(variable.quantizer, larq.quantizers.NoOp)
        np.testing.assert_allclose(np.abs(binary.latent(variable)), magnitude, rtol=1e-6)
    trained(latent)
    assert any(np.any(np.abs(np.abs(binary.latent(v)) - magnitude) > 1e-3) for _, v in kernels)
    assert_same(latent, to_latent_free(latent), tolerance=1e-5)


def test_options_of_the_latent_layers():
    model = to_latent(to_latent_free(chain(conv(), norm(), depthwise(SCALED, 1), norm())))
    first, _, second, _ = model.layers
    assert isinstance(first.kernel_quantizer, larq.quantizers.SteSign)
    assert isinstance(first.kernel_constraint, larq.constraints.WeightClip)
    assert isinstance(second.depthwise_constraint, larq.constraints.WeightClip)
    rebuilt = type(model).from_config(model.get_config())
    assert not binary.holds_signs(rebuilt.layers[0].kernel)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kernel_quantizer": "approx_sign"}, "gradient 0.*smaller `magnitude`"),
        ({"kernel_quantizer": "ste_heaviside"}, "gives 0 and 1 for latent weights"),
        ({"kernel_quantizer": SCALED, "magnitude": 0.5}, "gives -0.5 and 0.5.*magnitude=1"),
        ({"kernel_quantizer": larq.quantizers.NoOp(precision=1)}, "must binarise"),
        ({"kernel_quantizer": "ste_tern"}, "'ste_tern'; it must binarise"),
        ({"kernel_quantizer": None}, "None; it must binarise"),
        ({"magnitude": 0.0}, r"`magnitude` is 0.0; it must lie in \(0, inf\)"),
    ],
)
def test_latent_quantizers_that_cannot_work_are_refused(options, message):
    free = to_latent_free(chain(conv(), norm()))
    with pytest.raises(ValueError, match=message):
        to_latent(free, **options)


# The zoo


@pytest.fixture
def _double_precision():
    """In float32 rounding turns the sign of some activation in one of three deep networks."""
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx("float32")


# QuickNet's blur has a function as initializer; what matters are its values, which are copied.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*initializers.serialize:UserWarning")
@pytest.mark.extras
@pytest.mark.parametrize(
    "room, name, tolerance",
    [
        ("sota", "QuickNetSmall", 0.0),
        ("literature", "BiRealNet", 1e-6),
    ],
)
def test_zoo_models(_double_precision, room, name, tolerance):
    zoo = pytest.importorskip("larq_zoo")
    model = getattr(getattr(zoo, room), name)(weights=None, input_shape=(32, 32, 3), num_classes=10)
    model(images(shape=(32, 32, 3)), training=True)  # moves the statistics
    free = to_latent_free(model)
    assert_same(model, free, tolerance)
    assert_latent_free(free, kernels=len(binary.binary_kernels(model)))


# What a config or a list of variables does not hold


def adapted():
    """A Normalization computes with what it derived from its variables when it was adapted."""
    normalization = layers.Normalization()
    normalization.adapt(3 + 2 * images(64))
    return chain(normalization, conv(), norm(), layers.Flatten(), layers.Dense(3))


def nameless_functions():
    twice = conv(activation=lambda x: tf.nn.relu(x))
    return chain(twice, norm(), layers.Activation(lambda x: 2 * x), layers.Flatten())


@pytest.mark.parametrize("build", [adapted, nameless_functions])
def test_copies_compute_the_same(build):
    model = trained(build())
    free = to_latent_free(model)
    np.testing.assert_allclose(predictions(free), predictions(model), atol=1e-5)
    np.testing.assert_allclose(predictions(to_latent(free)), predictions(model), atol=1e-5)


class Secretive(layers.Layer):
    def get_config(self):
        raise NotImplementedError


class Unmakeable(layers.Layer):
    def get_config(self):
        return {**super().get_config(), "unknown": 1}


@pytest.mark.parametrize(
    "kind, message",
    [(Secretive, "its get_config raises NotImplem"), (Unmakeable, "its own configuration: .*unkn")],
)
def test_layers_that_cannot_be_copied_are_named(kind, message):
    with pytest.raises(
        TypeError, match=f"odd .{kind.__name__}. can't be copied, since .*{message}"
    ):
        to_latent_free(chain(conv(), norm(), kind(name="odd")))
