"""XNOR-Net++ on the ResNet-20 of CIFAR: learned scales of the outputs of binary convolutions.

    x = PReLU(shortcut(x) + BN(Gamma . conv(sign(x), sign(w))))

Gamma is an `OutputScale`; all else is `birealnet20`. Published on AlexNet and ResNet-18 for
ImageNet; the ResNet-20 is this package's. Source and what is not verified: `models.scales`.
"""

from collections.abc import Sequence
from typing import Any

from larq_filter._keras import tf
from larq_filter.models._parts import batch_norm, binary_conv, prelu
from larq_filter.models.birealnet import resnet20, shortcut
from larq_filter.models.scales import OutputScale

layers = tf.keras.layers


def xnorpp20(
    input_shape: Sequence[int] = (32, 32, 3),
    num_classes: int = 10,
    width: int = 16,
    form: str = "factors",
) -> Any:
    """`birealnet20` with an `OutputScale` behind each binary convolution.

    Args:
        input_shape: as in `birealnet20`.
        num_classes: number of classes, >= 2.
        width: channels of the first stage, >= 1.
        form: of `OutputScale`; "factors" is the last case of the publication. The batch
            normalisation undoes "channel" and "scalar".

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ValueError: unknown form, a size outside the intervals of `birealnet20`.
    """

    def block(x, filters, strides, convolution):
        past = shortcut(x, filters, strides)
        x = OutputScale(form)(binary_conv(x, filters, strides=strides))
        return prelu(layers.Add()([batch_norm(x), past]))

    return resnet20("xnorpp20", block, input_shape, num_classes, width)
