"""What counts as binary, and what check() finds, in real Larq models."""

import numpy as np
import pytest

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer

import larq as lq

SIGN = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def conv_model(momentum=0.9, **kernel):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            lq.layers.QuantConv2D(4, 3, name="first", **{**SIGN, **kernel}),
            keras.layers.BatchNormalization(momentum=momentum, name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="classifier"),
        ]
    )


def test_only_one_bit_kernels_are_binary():
    layers = {
        "ste_sign": True,
        "magnitude_aware_sign": True,
        lq.quantizers.NoOp(precision=1): True,
        lq.quantizers.NoOp(precision=8): False,
        "ste_tern": False,
        lq.quantizers.DoReFa(2, mode="weights"): False,
    }
    for quantizer, expected in layers.items():
        layer = lq.layers.QuantDense(2, kernel_quantizer=quantizer, kernel_constraint="weight_clip")
        layer.build((None, 3))
        assert binary.is_binary(layer.kernel) is expected
        assert not binary.is_binary(layer.bias)
    assert not binary.is_binary(tf.Variable(1.0))


def test_sign_follows_larq_at_zero():
    x = tf.constant([-2.0, -0.0, 0.0, 3.0])
    assert binary.sign(x).numpy().tolist() == [-1.0, 1.0, 1.0, 1.0]
    np.testing.assert_array_equal(binary.sign(x), lq.math.sign(x))


def test_binarize_stores_signs():
    layer = lq.layers.QuantDense(5, **SIGN)
    layer.build((None, 4))
    before = layer.kernel.latent_variable.numpy()
    assert not binary.holds_signs(layer.kernel)
    binary.binarize(layer.kernel)
    np.testing.assert_array_equal(layer.kernel.latent_variable.numpy(), np.sign(before))
    assert binary.holds_signs(layer.kernel)


def test_one_wrong_weight_is_seen():
    layer = lq.layers.QuantDense(5, kernel_initializer=binary.RandomSign(), **SIGN)
    layer.build((None, 4))
    assert binary.holds_signs(layer.kernel)
    for wrong in (0.0, 0.999, -1.001, np.nan):
        values = layer.kernel.latent_variable.numpy()
        values[2, 3] = wrong
        layer.kernel.latent_variable.assign(values)
        assert not binary.holds_signs(layer.kernel)


def test_latent_is_the_stored_value_in_any_scope():
    layer = lq.layers.QuantDense(5, **SIGN)
    layer.build((None, 4))
    stored = layer.kernel.latent_variable.numpy()
    with lq.context.quantized_scope(True):
        np.testing.assert_array_equal(binary.latent(layer.kernel), stored)


def test_binary_kernels_in_nested_shared_and_wrapped_layers():
    shared = lq.layers.QuantDense(4, name="shared", **SIGN)
    inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
    separable = lq.layers.QuantSeparableConv1D(
        4,
        3,
        depthwise_quantizer="ste_sign",
        pointwise_quantizer="ste_sign",
        depthwise_constraint="weight_clip",
        pointwise_constraint="weight_clip",
        name="separable",
    )
    x = image = keras.Input((7, 4))
    x = keras.layers.TimeDistributed(lq.layers.QuantDense(4, name="wrapped", **SIGN))(x)
    x = shared(inner(separable(x)))
    model = keras.Model(image, keras.layers.Dense(2, name="real")(x))
    assert sorted(
        (layer.name, tuple(kernel.shape)) for layer, kernel in binary.binary_kernels(model)
    ) == [
        ("separable", (1, 4, 4)),
        ("separable", (3, 4, 1)),
        ("shared", (4, 4)),
        ("wrapped", (4, 4)),
    ]
    shared.trainable = False
    assert "shared" not in {layer.name for layer, _ in binary.binary_kernels(model)}
    everything = binary.binary_kernels(model, trainable_only=False)
    assert "shared" in {layer.name for layer, _ in everything}


def test_check_is_content_with_larqs_own_way():
    assert binary.check(conv_model()) == []
    assert binary.check(conv_model(kernel_quantizer=lq.quantizers.NoOp(precision=1))) == []


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        ({"kernel_regularizer": "l2"}, ["first", "kernel_regularizer", "L2", "every step"]),
        ({"kernel_quantizer": "approx_sign"}, ["first", "ApproxSign", "to_latent_free"]),
        ({"kernel_constraint": "unit_norm"}, ["first", "UnitNorm", "remove"]),
        (
            {"kernel_quantizer": lq.quantizers.NoOp(precision=8)},
            ["1-bit quantizer", "ste_sign"],
        ),
    ],
)
def test_check_names_layer_and_cure(kernel, words):
    (finding,) = binary.check(conv_model(**kernel))
    for word in words:
        assert word in str(finding)


@tf.custom_gradient
def own_sign(x):
    return tf.where(x < 0, -tf.ones_like(x), tf.ones_like(x)), lambda dy: dy


class OwnSign(lq.quantizers.Quantizer):
    def call(self, inputs):
        return super().call(own_sign(inputs))


def straight_sign(x):
    return x + tf.stop_gradient(tf.where(x < 0, -1.0, 1.0) - x)


@pytest.mark.parametrize("quantizer", [own_sign, OwnSign(), straight_sign])
def test_a_binary_kernel_without_the_mark_is_named(quantizer):
    """Else the default optimizer would train it, and nobody would know."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            lq.layers.QuantDense(4, **SIGN),
            lq.layers.QuantDense(4, kernel_quantizer=quantizer, name="mine"),
        ]
    )
    (finding,) = binary.check(model)
    assert finding.layer == "mine" and "precision = 1" in str(finding)
    with pytest.raises(ValueError, match="mine/kernel.*precision = 1"):
        FilterOptimizer().build(model.trainable_variables)
    two_bits = conv_model(kernel_quantizer=lambda x: tf.clip_by_value(tf.round(x), -1, 1))
    assert "1-bit quantizer" in str(*binary.check(two_bits))


def test_check_sees_regularizers_of_separable_layers():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            lq.layers.QuantDepthwiseConv2D(
                3,
                depthwise_quantizer="ste_sign",
                depthwise_constraint="weight_clip",
                depthwise_regularizer="l2",
                name="depthwise",
            ),
        ]
    )
    (finding,) = binary.check(model)
    assert "depthwise_regularizer" in finding.problem


def test_check_sees_a_trained_scale_and_only_then():
    model = conv_model(kernel_quantizer="magnitude_aware_sign")
    assert binary.check(model) == []
    model.get_layer("norm").moving_mean.assign(tf.ones(4))
    (finding,) = binary.check(model)
    assert "fold it first with larq_filter.to_latent_free" in finding.problem
    binary.binarize(model.get_layer("first").kernel)
    assert binary.check(model) == []
    plain = conv_model()
    plain.get_layer("norm").moving_mean.assign(tf.ones(4))
    assert binary.check(plain) == []


def test_check_names_kernels_without_signs():
    """As an average of kernels of ``to_latent_free`` is until the next step."""
    model = conv_model(kernel_quantizer=lq.quantizers.NoOp(precision=1), kernel_constraint=None)
    model.get_layer("norm").moving_mean.assign(tf.ones(4))
    (finding,) = binary.check(model)
    assert finding.layer == "first" and "assign their signs" in finding.problem
    binary.binarize(model.get_layer("first").kernel)
    assert binary.check(model) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.BatchNormalization(scale=False, center=False),
        keras.layers.LayerNormalization,
        lambda: keras.layers.Dense(5),
    ],
    ids=["moving statistics", "scale and offset", "bias"],
)
def test_a_trained_model_is_told_from_a_new_one(make):
    first = lq.layers.QuantDense(4, use_bias=False, **SIGN)
    last = keras.layers.Dense(3, activation="softmax", use_bias=False)
    model = keras.Sequential([keras.Input((8,)), first, make(), last])
    assert not binary.is_trained(model)
    model.compile(FilterOptimizer(jit_compile=False), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(8, 8))
    model.fit(x, np.arange(8) % 3, verbose=0)
    assert binary.is_trained(model)
    assert not binary.is_trained(keras.models.clone_model(model))


def test_a_model_without_a_start_to_leave_counts_as_new():
    layers = [
        lq.layers.QuantDense(4, use_bias=False, **SIGN),
        keras.layers.Dense(3, use_bias=False),
    ]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    assert not binary.is_trained(model)


def test_check_warns_of_statistics_that_lag():
    """Keras' default: a mean over 100 steps. The warning keeps nobody from training."""
    (finding,) = binary.check(conv_model(momentum=0.99))
    assert finding.severity == binary.WARNING and finding.layer == "norm"
    assert "about 100 steps" in str(finding) and "momentum=0.9)" in str(finding)
    frozen = conv_model(momentum=0.99)
    frozen.get_layer("norm").trainable = False
    assert binary.check(frozen) == []


def test_check_needs_variables():
    model = keras.Sequential([lq.layers.QuantDense(3, **SIGN)])
    with pytest.raises(ValueError, match=r"model\.build"):
        binary.check(model)


def test_random_sign():
    signs = binary.RandomSign(seed=3)((200, 50)).numpy()
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.05  # five standard deviations of the mean of 10,000 signs
    np.testing.assert_array_equal(signs, binary.RandomSign(seed=3)((200, 50)))
    free = binary.RandomSign()
    assert not np.array_equal(free((200, 50)), free((200, 50)))
    assert binary.RandomSign(3)((2,), dtype="float64").dtype == tf.float64
    with pytest.raises(ValueError, match="int32"):
        binary.RandomSign()((2, 2), dtype="int32")
    config = keras.initializers.serialize(binary.RandomSign(seed=3))
    np.testing.assert_array_equal(keras.initializers.deserialize(config)((200, 50)), signs)
