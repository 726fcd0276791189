"""Layers as the builders use them, with the settings that all networks of this package share."""

from larq_filter._keras import tf

import larq

layers = tf.keras.layers


def batch_norm(x, scale=True):
    """Batch normalisation with moving statistics over about 10 steps."""
    # Not Keras' 100: they have to keep up with flipping weights.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, scale=scale)(x)


def prelu(x):
    """PReLU with one slope per channel that starts at 0.25."""
    # Keras' initial slope 0 would make this a ReLU, and the sign of what comes next always +1.
    slope = tf.keras.initializers.Constant(0.25)
    return layers.PReLU(alpha_initializer=slope, shared_axes=[1, 2])(x)


def binary_conv(x, filters, size=3, strides=1, input_quantizer="approx_sign", padding="same"):
    """A convolution with latent 1-bit weights; padded with zeros."""
    return larq.layers.QuantConv2D(
        filters,
        size,
        strides=strides,
        padding=padding,
        input_quantizer=input_quantizer,
        **LATENT,
    )(x)


def classifier(x, num_classes):
    """A real-valued dense layer and a float32 softmax."""
    return layers.Activation("softmax", dtype="float32")(layers.Dense(num_classes)(x))


LATENT = {
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "kernel_initializer": "glorot_normal",
    "use_bias": False,
}
