"""Elastic-Link on the ResNet-20 of CIFAR: real-valued inputs added to outputs, as much as learned.

    x = PReLU(gamma R(x) + BN(conv(sign(x), sign(w))))

R fits the input to the output: where the channels double, it is the averaged pixels twice over
(Expand); else it is the input itself. gamma is one number a link, learned from 1. With gamma 1 and
zeros in place of Expand this is `birealnet20`.

**The formula is not verified.** The publication's abstract says that input features are added to
the convolution's output, adaptively; summaries, that Squeeze and Expand fit the sizes and that a
learned factor gamma balances the two. Where the batch normalisation stands, what gamma starts at,
whether there is one a channel, and what Squeeze and Expand compute is this package's reading.
Squeeze, for fewer channels, does not occur here: no ResNet-20 has a layer that needs it. Published
on ResNet-26 (57.9 to 64.0 % on ImageNet), with the network's own shortcuts beside the links; here
the links are the shortcuts.

Source: Hu et al., "Elastic-Link for binarized neural networks", AAAI 2022, arXiv 2112.10149.
"""

from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter.models._parts import batch_norm, binary_conv, prelu
from larq_filter.models.birealnet import resnet20
from larq_filter.models.scales import OutputScale

layers = tf.keras.layers


def elasticlink20(
    input_shape: Sequence[int] = (32, 32, 3), num_classes: int = 10, width: int = 16
) -> Any:
    """`birealnet20` with a learned factor on each shortcut, and no zeros in any.

    Args:
        input_shape: as in `birealnet20`.
        num_classes: number of classes, >= 2.
        width: channels of the first stage, >= 1.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: a size outside the intervals of `birealnet20`.
    """
    return resnet20("elasticlink20", _block, input_shape, num_classes, width)


def _block(x, filters, strides, convolution):
    link = x
    if strides > 1:
        link = layers.AveragePooling2D(strides)(x)
        link = layers.Concatenate()([link, link])
    x = batch_norm(binary_conv(x, filters, strides=strides))
    return prelu(layers.Add()([x, OutputScale("scalar")(link)]))
