"""The ResNet-20 of CIFAR with 1-bit weights and activations and no batch normalisation (BNN-BN).

Constants do what the statistics of batches did, as in the networks without normalisation of Brock
et al.: a branch with inputs and outputs of variance 1, of which a small share is added.

    x = RPReLU(shortcut(x) + alpha f(RSign(beta x))),  alpha = 0.2
    f = gain_c / sqrt(n) * conv(sign, sign(w)),  n = 9 channels, the weights of a filter
    beta = 1 / sqrt(1 + k alpha^2),  k branches have been added since the last stride

A sum of n products of signs has variance n: f starts at 1. Each branch adds alpha^2 to that of x,
which beta divides by; at a stride it begins again at 1, after the branch at the stride has seen
what came before. The sign does not see beta; its gradient, 0 beyond 1, does. `gain` is learned, one
a filter, from 1. Here a scale of the kernels is not inert: no normalisation divides by it.

As published: alpha, beta, the gains, RSign and RPReLU, no normalisation anywhere. Simplified: the
released kernels are standardised and scaled by their mean magnitude, which makes 0.8 / sqrt(n) of
1 / sqrt(n); that is for latent kernels only, and a method's business (the knob `standardization`).
The first convolution is not standardised but starts with variance 1 / n. The shortcut at a stride
is that of `birealnet20`; the released one is a binary 1x1 convolution of beta x. The released code
does not count the first branch of a stage, so its k is smaller by one; here it counts, as the
derivation asks. RPReLU after the sum changes the variance too, which neither accounts for. The
published training clips gradients by the weights' norms (AGC, 0.02), Adam 5e-4 linear to 0, two
steps; that is a method's business as well.

Source: Chen et al., "BNN - BN = ? Training binary neural networks without batch normalization",
CVPR workshops 2021, arXiv 2104.08215, and the authors' code.
"""

import math
from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter.models._parts import binary_conv
from larq_filter.models.activations import ChannelShift, RPReLU
from larq_filter.models.birealnet import resnet20, shortcut
from larq_filter.models.scales import OutputScale

layers = tf.keras.layers

ALPHA = 0.2
"""The share of a branch, as published."""


def birealnet20_nobn(
    input_shape: Sequence[int] = (32, 32, 3), num_classes: int = 10, width: int = 16
) -> Any:
    """`birealnet20` without batch normalisation; the images should have variance 1.

    Args:
        input_shape: as in `birealnet20`.
        num_classes: number of classes, >= 2.
        width: channels of the first stage, >= 1.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a size outside the intervals of `birealnet20`.
    """
    return resnet20("birealnet20_nobn", _block, input_shape, num_classes, width, norm=lambda x: x)


def _block(x, filters, strides, convolution):
    added = convolution or (6 if strides > 1 else 0)
    fan_in = 9 * x.shape[-1]
    branch = layers.Rescaling(1 / math.sqrt(1 + added * ALPHA**2))(x)
    branch = binary_conv(ChannelShift()(branch), filters, strides=strides)
    branch = OutputScale("channel", factor=ALPHA / math.sqrt(fan_in))(branch)
    return RPReLU()(layers.Add()([branch, shortcut(x, filters, strides)]))
