"""Bi-Real ResNet-20: the ResNet of CIFAR with 1-bit weights and activations.

Every binary convolution has its own shortcut, so a real-valued signal runs from the first
convolution to the classifier and each layer adds a binary correction to it:

    x = PReLU(shortcut(x) + BN(conv(sign(x), sign(w))))

The shortcut is the identity; at the two strides it averages 2x2 pixels and fills the new channels
with zeros, so it has no parameters (He et al. 2016, option A; Liu et al. 2018 for the rest).
"""

from larq_filter._keras import tf
from larq_filter.models._checks import at_least, image_shape

import larq

layers = tf.keras.layers


@tf.keras.utils.register_keras_serializable(package="larq_filter")
class PadChannels(layers.Layer):
    """Adds zero channels, as many before as after (one more after where the number is odd).

    Args:
        channels: number of channels to add, >= 0.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = at_least("channels", channels, 0)

    def call(self, inputs):
        before = self.channels // 2
        return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [before, self.channels - before]])

    def compute_output_shape(self, input_shape):
        *rest, channels = tf.TensorShape(input_shape).as_list()
        return tf.TensorShape([*rest, channels + self.channels])

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def birealnet20(input_shape=(32, 32, 3), num_classes=10, width=16):
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
    shape = image_shape(input_shape)
    if any(size % 4 or size < 8 for size in shape[:2]):
        raise ValueError(
            f"birealnet20 halves the image twice: height and width must be multiples of 4, >= 8, "
            f"got {shape[0]}x{shape[1]}: load the data with image_size={_nearest(shape)}"
        )
    at_least("width", width)
    image = layers.Input(shape)
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(image)
    x = _prelu(_batch_norm(x))
    for stage, filters in enumerate((width, 2 * width, 4 * width)):
        for convolution in range(6):
            x = _binary_block(x, filters, strides=2 if stage and not convolution else 1)
    x = _batch_norm(layers.GlobalAveragePooling2D()(x))
    x = layers.Dense(at_least("num_classes", num_classes, 2))(x)
    x = layers.Activation("softmax", dtype="float32")(x)
    return tf.keras.Model(image, x, name="birealnet20")


def _binary_block(x, filters, strides):
    shortcut = x
    if strides > 1:
        shortcut = layers.AveragePooling2D(strides)(shortcut)
        shortcut = PadChannels(filters - x.shape[-1])(shortcut)
    x = larq.layers.QuantConv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        input_quantizer="approx_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        kernel_initializer="glorot_normal",
        use_bias=False,
    )(x)
    return _prelu(layers.Add()([_batch_norm(x), shortcut]))


def _batch_norm(x):
    # Statistics over about 10 steps, not Keras' 100: they have to keep up with flipping weights.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _prelu(x):
    # Keras' initial slope 0 would make this a ReLU, and the sign of what comes next always +1.
    slope = tf.keras.initializers.Constant(0.25)
    return layers.PReLU(alpha_initializer=slope, shared_axes=[1, 2])(x)


def _nearest(shape):
    return max(8, -(-max(shape[:2]) // 4) * 4)
