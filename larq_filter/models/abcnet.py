"""ABC-Net on the ResNet-20 of CIFAR: several binary weights and activations for one convolution.

    y = sum_n beta_n sum_m alpha_m conv(H_n(x), B_m)
    H_n(x) = sign(x + v_n - 1/2), its gradient 1 where 0 <= x + v_n <= 1
    x = PReLU(shortcut(x) + BN(y))

As published: M weight bases B_m, each shared by all N activation bases H_n; one alpha, beta and v
for each basis, beta and v learned; the gradient of H. M = N = 3 or 5 there.

Simplified: each B_m is a binary kernel of its own, and alpha is learned from 1/M. Published are
`B_m = sign(w - mean(w) + u_m std(w))`, all of one latent w, with u_m from -1 to 1, and the alpha
that fit w best. Kernels of their own can be those M and more, and need no w: so every method can
train them, with latent weights or without. Rejected: one latent kernel under M quantizers, which
filters have no use for.

The v start spread, so that the thresholds `1/2 - v_n` lie evenly in (-1/2, 1/2). In the
implementation that was read (layog/Accurate-Binary-Convolution-Network, not the authors') they all
start at 0, and N bases that start alike, with the same gradient, stay alike. The authors' start is
not verified, nor that the real-valued network they begin with can be left out, as here.

Source: Lin, Zhao and Pan, "Towards accurate binary convolutional neural network", NeurIPS 2017,
arXiv 1711.11294.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.models._parts import LATENT, batch_norm, prelu
from larq_filter.models.birealnet import resnet20, shortcut

import larq

layers = tf.keras.layers


@tf.keras.utils.register_keras_serializable(package="larq_filter")
class Shifts(layers.Layer):
    """The list of `x + v_n - 1/2`, one learned number v_n for each of `count` copies of x."""

    def __init__(self, count, **kwargs):
        super().__init__(**kwargs)
        self.count = validate_integer("count", count)

    def build(self, input_shape):
        spread = tf.constant_initializer((np.arange(self.count) + 0.5) / self.count)
        self.v = self.add_weight("v", shape=(self.count,), initializer=spread)
        super().build(input_shape)

    def call(self, inputs):
        return [inputs + (self.v[n] - 0.5) for n in range(self.count)]

    def get_config(self):
        return {**super().get_config(), "count": self.count}


@tf.keras.utils.register_keras_serializable(package="larq_filter")
class SumOfBases(layers.Layer):
    """`sum_n beta_n sum_m alpha_m x_nm`: x_n is input n, x_nm a part of its channels.

    Args:
        parts: M, the equal parts that each input is cut into. alpha starts at 1/M, beta at 1.
    """

    def __init__(self, parts, **kwargs):
        super().__init__(**kwargs)
        self.parts = validate_integer("parts", parts)

    def build(self, input_shape):
        start = tf.constant_initializer(1 / self.parts)
        self.alpha = self.add_weight("alpha", shape=(self.parts,), initializer=start)
        self.beta = self.add_weight("beta", shape=(len(input_shape),), initializer="ones")
        super().build(input_shape)

    def call(self, inputs):
        summed = tf.add_n([self.beta[n] * x for n, x in enumerate(inputs)])
        parts = tf.split(summed, self.parts, axis=-1)
        return tf.add_n([self.alpha[m] * part for m, part in enumerate(parts)])

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}


def abcnet20(
    input_shape: Sequence[int] = (32, 32, 3),
    num_classes: int = 10,
    width: int = 16,
    weight_bases: int = 3,
    activation_bases: int = 3,
) -> Any:
    """`birealnet20` with M x N binary convolutions in place of each.

    Args:
        input_shape: as in `birealnet20`.
        num_classes: number of classes, >= 2.
        width: channels of the first stage, >= 1.
        weight_bases: M, >= 1; the network has M times as many binary weights as `birealnet20`.
        activation_bases: N, >= 1; the M binary convolutions of a layer run N times.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a size outside the interval above.
    """
    validate_integer("weight_bases", weight_bases)
    validate_integer("activation_bases", activation_bases)

    def block(x, filters, strides, convolution):
        shared = larq.layers.QuantConv2D(
            filters * weight_bases,
            3,
            strides=strides,
            padding="same",
            input_quantizer=larq.quantizers.SteSign(clip_value=0.5),
            **LATENT,
        )
        bases = [shared(each) for each in Shifts(activation_bases)(x)]
        y = batch_norm(SumOfBases(weight_bases)(bases))
        return prelu(layers.Add()([y, shortcut(x, filters, strides)]))

    return resnet20("abcnet20", block, input_shape, num_classes, width)
