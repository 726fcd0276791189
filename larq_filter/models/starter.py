"""The network of first runs: small, quick to train, and made for Larq Compute Engine.

    a real convolution, three binary ones, the second with stride 2; a real classifier

Each convolution is followed by batch normalisation, whose output the next one takes the sign of. It
pads with ones, since a bit can't hold a zero, and has 64 channels, two whole words of 32 bits: the
engine runs every binary layer on bits and writes its outputs as bits.
"""

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.models._parts import LATENT, batch_norm, classifier
from larq_filter.models._shapes import image_shape

import larq

layers = tf.keras.layers


def starter(input_shape=(8, 8, 1), num_classes=10, width=64):
    """Three binary convolutions between a real one and a real classifier.

    With width 64 it has 110,592 binary weights.

    Args:
        input_shape: (height, width, channels).
        num_classes: number of classes, >= 2.
        width: channels of each convolution, >= 1; a multiple of 32 is fastest on a device.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a number outside its interval.
    """
    image = layers.Input(image_shape(input_shape))
    validate_integer("width", width)
    x = batch_norm(layers.Conv2D(width, 3, padding="same", use_bias=False)(image))
    for strides in (1, 2, 1):
        convolution = larq.layers.QuantConv2D(
            width,
            3,
            strides=strides,
            padding="same",
            pad_values=1,
            input_quantizer="approx_sign",
            **LATENT,
        )
        x = batch_norm(convolution(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = classifier(x, validate_integer("num_classes", num_classes, 2))
    return tf.keras.Model(image, x, name="starter")
