"""Kernel quantizers of latent training that Larq does not have.

A model that trains without latent weights needs none of these: they are for the methods to compare
with.
"""

from larq_filter import serialization
from larq_filter._keras import tf
from larq_filter._validation import validate_flag

import larq


@serialization.register
class StandardizedSign(larq.quantizers.SteSign):
    """The sign of a kernel standardised per output filter.

        z = (w - mean(w)) / std(w)
        q = sign(z)

    mean and std over all axes but the last. Half of the bits of a filter then are about +1,
    whatever the latent weights drift to. The gradient passes the sign unchanged and the
    standardisation by its derivative, so it has neither a constant nor a radial part: latent
    weights are pushed apart and not away from 0. With ``scaled`` z is divided by the root of the
    fan-in besides, which changes no sign and makes the gradient smaller by that factor.

    Args:
        scaled: divide by ``sqrt(fan_in)``.

    Source: zscore: IR-Net, Qin et al., CVPR 2020, arXiv 1909.10788 (its libra parameter
    binarisation, without the power-of-two scale); scaled: scaled weight standardisation, as in
    Chen et al., "BNN - BN = ?", CVPR Workshops 2021, arXiv 2104.08215.
    """

    def __init__(self, scaled: bool = False, **kwargs):
        kwargs.setdefault("clip_value", None)
        super().__init__(**kwargs)
        self.scaled = validate_flag("scaled", scaled)

    def call(self, inputs):
        axes = list(range(len(inputs.shape) - 1))
        # Not in float16: the derivative of 1/std is beyond its range for kernels of usual size.
        exact = inputs if inputs.dtype == tf.float64 else tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(exact, axes, keepdims=True)
        # Where all weights of a filter are alike, 0 over almost 0: +1 everywhere.
        z = (exact - mean) * tf.math.rsqrt(variance + 1e-12)
        if self.scaled:
            z = z / tf.sqrt(tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), z.dtype))
        return tf.cast(super().call(z), inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "scaled": self.scaled}


@serialization.register
class ClipToUnit(larq.quantizers.Quantizer):
    """``clip(x, -1, 1)``: the real-valued activation whose gradient stands in for the sign's.

    A layer and not a function: Keras 2.15 gives Larq the name of a function back, not the function.
    """

    def call(self, inputs):
        return tf.clip_by_value(inputs, -1.0, 1.0)
