"""ReActNet-A: MobileNet with 1-bit convolutions and learned shifts around its activations.

A real 3x3 convolution of stride 2, then 13 blocks of a binary 3x3 and a binary 1x1 convolution:

    x = RPReLU(pool(x)    + BN(conv3x3(RSign(x))))
    x = RPReLU([x] or [x, x] + BN(conv1x1(RSign(x))))

Where a block doubles the channels, its shortcut is x twice over. The authors write that half as two
1x1 convolutions with normalisations of their own, side by side on the same input; one of twice the
channels is the same network and one binary convolution less to run. Nothing here scales the
kernels: the authors' latent ones have a scale per filter, which the batch normalisation after them
undoes.

Source: Liu et al., "ReActNet", ECCV 2020, arXiv 2003.03488, and the authors' code.
"""

from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.models._parts import batch_norm, binary_conv, classifier
from larq_filter.models._shapes import divisible
from larq_filter.models.activations import ChannelShift, RPReLU

layers = tf.keras.layers

# Channels after each block, in units of the first convolution's.
_CHANNELS = (2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)


def reactnet_a(
    input_shape: Sequence[int] = (224, 224, 3), num_classes: int = 1000, width: int = 32
) -> Any:
    """A real convolution, 13 blocks of two binary ones, a real classifier.

    With width 32, 3 channels and 1,000 classes: 28,253,184 binary weights, 29.3 M in all.

    Args:
        input_shape: (height, width, channels); height and width are multiples of 32, >= 32. The
            last maps are 32 times smaller than the image: below 96x96 smaller than 3x3, for which
            the default convolution of Larq Compute Engine 0.16 is wrong with zero padding.
        num_classes: number of classes, >= 2.
        width: channels of the first convolution, >= 1; the last ones have 32 times as many.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a size outside the interval above.
    """
    shape = divisible("reactnet_a", input_shape, 32, low=32)
    validate_integer("width", width)
    image = layers.Input(shape)
    x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(image)
    x = batch_norm(x)
    for block, multiple in enumerate(_CHANNELS):
        doubles = width * multiple > x.shape[-1]
        x = _block(x, doubles, strides=2 if doubles and block else 1)
    x = layers.GlobalAveragePooling2D()(x)
    x = classifier(x, validate_integer("num_classes", num_classes, 2))
    return tf.keras.Model(image, x, name="reactnet_a")


def _block(x, doubles, strides):
    channels = x.shape[-1]
    shortcut = layers.AveragePooling2D(strides)(x) if strides > 1 else x
    x = binary_conv(ChannelShift()(x), channels, strides=strides)
    x = RPReLU()(layers.Add()([batch_norm(x), shortcut]))
    shortcut = layers.Concatenate()([x, x]) if doubles else x
    x = binary_conv(ChannelShift()(x), channels * (1 + doubles), size=1)
    return RPReLU()(layers.Add()([batch_norm(x), shortcut]))
