"""BinaryNet: the VGG-like network in which every layer is binary, dense ones too.

    2 x conv(128), 2 x conv(256), 2 x conv(512), each pair ending in max-pooling;
    dense(1024), dense(1024), dense(classes); batch normalisation after each

Courbariaux et al., "Binarized neural networks", arXiv 1602.02830. The network of Bop (Helwegen et
al., NeurIPS 2019, arXiv 1906.02107) and of Larq's CIFAR-10 tutorial differ from the first paper in
one thing: their first convolution does not pad.
"""

from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.models._parts import LATENT, batch_norm, binary_conv
from larq_filter.models._shapes import image_shape

import larq

layers = tf.keras.layers
_SMALLEST = {"valid": 10, "same": 8}


def binarynet(
    input_shape: Sequence[int] = (32, 32, 3),
    num_classes: int = 10,
    width: int = 128,
    first_padding: str = "valid",
) -> Any:
    """Six binary convolutions and three binary dense layers; no real-valued kernel.

    With width 128, 32x32x3 images and 10 classes it has 10,352,000 binary weights, or 14,022,016
    with `first_padding="same"`. The pixels that go into the first layer are real-valued.

    Args:
        input_shape: (height, width, channels); height and width >= 10, or >= 8 with "same".
        num_classes: number of classes, >= 2.
        width: channels of the first two convolutions, >= 1; the others have 2 and 4 times as many,
            the dense layers 8 times as many units.
        first_padding: "valid", as Bop and Larq's tutorial have it, or "same", as the first paper.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: an argument that is not as above.
    """
    shape = image_shape(input_shape)
    if first_padding not in _SMALLEST:
        raise ValueError(f'first_padding must be "valid" or "same", got {first_padding!r}')
    smallest = _SMALLEST[first_padding]
    if min(shape[:2]) < smallest:
        raise ValueError(
            f"binarynet takes images of {smallest}x{smallest} and more, got {shape[0]}x{shape[1]}: "
            f"load the data with image_size={smallest}, better 32"
        )
    validate_integer("width", width)
    image = layers.Input(shape)
    x = binary_conv(image, width, input_quantizer=None, padding=first_padding)
    x = batch_norm(x, scale=False)
    x = _pair_end(x, width)
    for filters in (2 * width, 4 * width):
        x = batch_norm(binary_conv(x, filters, input_quantizer="ste_sign"), scale=False)
        x = _pair_end(x, filters)
    x = layers.Flatten()(x)
    for units in (8 * width, 8 * width, validate_integer("num_classes", num_classes, 2)):
        x = larq.layers.QuantDense(units, input_quantizer="ste_sign", **LATENT)(x)
        x = batch_norm(x, scale=False)
    x = layers.Activation("softmax", dtype="float32")(x)
    return tf.keras.Model(image, x, name="binarynet")


def _pair_end(x, filters):
    """The second convolution of a pair; the maximum of its sums, before they are normalised."""
    x = layers.MaxPooling2D(2)(binary_conv(x, filters, input_quantizer="ste_sign"))
    return batch_norm(x, scale=False)
