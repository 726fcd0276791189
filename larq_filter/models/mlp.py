"""A multilayer perceptron with binary hidden layers, for small images and quick experiments."""

from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.models._parts import LATENT, classifier
from larq_filter.models._shapes import image_shape

import larq


def mlp(
    input_shape: Sequence[int] = (8, 8, 1), num_classes: int = 10, width: int = 128, depth: int = 2
) -> Any:
    """`depth` binary dense layers, each followed by batch normalisation, and a real classifier.

    The first layer has binary weights on real-valued pixels, the others binary inputs too. Batch
    normalisation has no scale, which a sign would undo.

    Args:
        input_shape: (height, width, channels).
        num_classes: number of classes, >= 2.
        width: units of each hidden layer, >= 1.
        depth: number of hidden layers, >= 1.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a number outside its interval.
    """
    image = tf.keras.layers.Input(image_shape(input_shape))
    x = tf.keras.layers.Flatten()(image)
    for layer in range(validate_integer("depth", depth)):
        x = larq.layers.QuantDense(
            validate_integer("width", width),
            input_quantizer="ste_sign" if layer else None,
            **LATENT,
        )(x)
        x = tf.keras.layers.BatchNormalization(momentum=0.9, scale=False)(x)
    x = classifier(x, validate_integer("num_classes", num_classes, 2))
    return tf.keras.Model(image, x, name="mlp")
