"""ResNet-18 for CIFAR with 1-bit weights and activations, with the shortcuts of Bi-Real net.

Four stages of four 3x3 convolutions, each with its own shortcut, as in `birealnet20`:

    x = PReLU(shortcut(x) + BN(conv(sign(x), sign(w))))

Unlike there, the shortcut of a stride has parameters, a real-valued 1x1 convolution of the
averaged pixels, as in Liu et al., "Bi-Real net", ECCV 2018, arXiv 1808.00278, and as in published
results of binary ResNet-18. On 32x32 images the first convolution is 3x3 without stride and there
is no max-pooling.
"""

from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.models._parts import batch_norm, binary_conv, classifier, prelu
from larq_filter.models._shapes import divisible

layers = tf.keras.layers


def resnet18_cifar(
    input_shape: Sequence[int] = (32, 32, 3), num_classes: int = 10, width: int = 64
) -> Any:
    """A real convolution, 16 binary ones in four stages, a real classifier.

    With width 64, 3 channels and 10 classes: 10,985,472 binary weights and 188,490 real-valued
    trainable parameters beside the 3,904 slopes of the PReLUs; without these the 11,173,962 of the
    ResNet-18 that is known as CIFAR's.

    Args:
        input_shape: (height, width, channels); height and width are multiples of 8, >= 8. Below
            24x24 the last stage sees maps smaller than 3x3, for which the default convolution of
            Larq Compute Engine 0.16 is wrong with zero padding: compare outputs after an export.
        num_classes: number of classes, >= 2.
        width: channels of the first stage, >= 1; the others have 2, 4 and 8 times as many.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a size outside the interval above.
    """
    shape = divisible("resnet18_cifar", input_shape, 8, low=8)
    validate_integer("width", width)
    image = layers.Input(shape)
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(image)
    x = prelu(batch_norm(x))
    for stage in range(4):
        for convolution in range(4):
            x = _binary_block(x, width * 2**stage, strides=2 if stage and not convolution else 1)
    x = layers.GlobalAveragePooling2D()(x)
    x = classifier(x, validate_integer("num_classes", num_classes, 2))
    return tf.keras.Model(image, x, name="resnet18_cifar")


def _binary_block(x, filters, strides):
    shortcut = x
    if strides > 1:
        shortcut = layers.AveragePooling2D(strides)(shortcut)
        shortcut = batch_norm(layers.Conv2D(filters, 1, use_bias=False)(shortcut))
    x = binary_conv(x, filters, strides=strides)
    return prelu(layers.Add()([batch_norm(x), shortcut]))
