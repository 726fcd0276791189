"""The activations of ReActNet: sign and PReLU with learned shifts.

What becomes of an activation after a sign depends on where its distribution lies, so ReActNet
learns one shift per channel before the sign and one on each side of the PReLU:

    RSign(x)  = sign(x + b)                                      -> ChannelShift, then the sign
    RPReLU(x) = PReLU(x + before) + after,  PReLU(z) = max(z, 0) + slope * min(z, 0)

`RSign` is no layer of its own here: the sign stays the `input_quantizer` of the binary layer that
comes next (`"approx_sign"`, the authors' polynomial gradient), where Larq's summary, the converter
of Larq Compute Engine and the methods that train real-valued stages look for it.

Source: Liu et al., "ReActNet: towards precise binary neural network with generalized activation
functions", ECCV 2020, arXiv 2003.03488, equations 3 and 4; the signs of the shifts as in the
authors' code, where they are added.
"""

from larq_filter._keras import tf


@tf.keras.utils.register_keras_serializable(package="larq_filter")
class ChannelShift(tf.keras.layers.Layer):
    """`x + b`, one `b` per channel that starts at 0. Inputs (batch, ..., channels).

    Before a layer with a sign as `input_quantizer` this is RSign: with `"approx_sign"` its gradient
    with respect to x and b is `2 - 2 * abs(x + b)` where `abs(x + b) <= 1`, else 0.
    """

    def build(self, input_shape):
        self.shift = self.add_weight("shift", shape=(input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs):
        return inputs + self.shift

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(input_shape)


@tf.keras.utils.register_keras_serializable(package="larq_filter")
class RPReLU(tf.keras.layers.Layer):
    """`PReLU(x + before) + after`, all three parameters per channel. Inputs (batch, ..., channels).

    Args:
        slope: initial slope of the negative part; PyTorch's 0.25, since 0 would make it a ReLU, and
            every sign after it +1.
    """

    def __init__(self, slope=0.25, **kwargs):
        super().__init__(**kwargs)
        self.initial_slope = float(slope)

    def build(self, input_shape):
        shape, constant = (input_shape[-1],), tf.keras.initializers.Constant
        self.before = self.add_weight("before", shape=shape, initializer="zeros")
        self.slope = self.add_weight("slope", shape=shape, initializer=constant(self.initial_slope))
        self.after = self.add_weight("after", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, inputs):
        z = inputs + self.before
        # Keras' own form of PReLU, which TensorFlow Lite turns into one operation.
        return tf.nn.relu(z) - self.slope * tf.nn.relu(-z) + self.after

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(input_shape)

    def get_config(self):
        return {**super().get_config(), "slope": self.initial_slope}
