"""Bi-Real ResNet-20: the ResNet of CIFAR with 1-bit weights and activations.

Every binary convolution has its own shortcut, so a real-valued signal runs from the first
convolution to the classifier and each layer adds a binary correction to it:

    x = PReLU(shortcut(x) + BN(conv(sign(x), sign(w))))

The shortcut is the identity; at the two strides it averages 2x2 pixels and fills the new channels
with zeros, so it has no parameters (He et al. 2016, option A; Liu et al. 2018 for the rest).
"""

from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.models._parts import batch_norm, binary_conv, classifier, prelu
from larq_filter.models._shapes import divisible

layers = tf.keras.layers


@tf.keras.utils.register_keras_serializable(package="larq_filter")
class PadChannels(layers.Layer):
    """Adds zero channels, as many before as after (one more after where the number is odd).

    Args:
        channels: number of channels to add, >= 0.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = validate_integer("channels", channels, 0)

    def call(self, inputs):
        before = self.channels // 2
        return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [before, self.channels - before]])

    def compute_output_shape(self, input_shape):
        *rest, channels = tf.TensorShape(input_shape).as_list()
        return tf.TensorShape([*rest, channels + self.channels])

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def birealnet20(
    input_shape: Sequence[int] = (32, 32, 3), num_classes: int = 10, width: int = 16
) -> Any:
    """A real convolution, 18 binary ones in three stages, a real classifier.

    Args:
        input_shape: (height, width, channels); height and width are multiples of 4, >= 8. On 8x8
            images the last stage sees 2x2 maps, for which the default convolution of Larq Compute
            Engine 0.16 is wrong with zero padding: compare outputs after an export.
        num_classes: number of classes, >= 2.
        width: channels of the first stage, >= 1; the others have twice and four times as many. 16
            is the published network with 0.27 M binary weights.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a size outside the interval above.
    """
    return resnet20("birealnet20", _binary_block, input_shape, num_classes, width)


def resnet20(name, block, input_shape, num_classes, width, norm=batch_norm):
    """The network of `birealnet20` around any binary block; its relatives are made of it.

    Rejected: their blocks as an argument of `birealnet20`. A run names its network by one word, and
    each of them has a source and words of its own.

    Args:
        name: of the model.
        block: `block(x, filters, strides, convolution)`, the last counted from 0 in each stage.
        input_shape: as in `birealnet20`.
        num_classes: number of classes, >= 2.
        width: channels of the first stage, >= 1.
        norm: what normalises the first convolution and the input of the classifier.
    """
    shape = divisible(name, input_shape, 4, low=8)
    validate_integer("width", width)
    image = layers.Input(shape)
    # Without a normalisation behind it the start itself has to give outputs of variance 1.
    start = "glorot_uniform" if norm is batch_norm else "lecun_normal"
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=start)(image)
    x = prelu(norm(x))
    for stage, filters in enumerate((width, 2 * width, 4 * width)):
        for convolution in range(6):
            strides = 2 if stage and not convolution else 1
            x = block(x, filters, strides, convolution)
    x = norm(layers.GlobalAveragePooling2D()(x))
    x = classifier(x, validate_integer("num_classes", num_classes, 2))
    return tf.keras.Model(image, x, name=name)


def shortcut(x, filters, strides):
    """`x`, or at a stride its averaged pixels with zeros for the new channels: no parameters."""
    if strides == 1:
        return x
    pooled = layers.AveragePooling2D(strides)(x)
    return PadChannels(filters - x.shape[-1])(pooled)


def _binary_block(x, filters, strides, convolution):
    """`PReLU(shortcut(x) + BN(conv(sign(x), sign(w))))`, the shortcut without parameters."""
    past = shortcut(x, filters, strides)
    return prelu(layers.Add()([batch_norm(binary_conv(x, filters, strides=strides)), past]))
