"""Binary networks by name: `build("birealnet20", input_shape=(32, 32, 3), num_classes=10)`.

Every model ends in a float32 softmax, as the models of larq-zoo do, and takes any number of
channels. Those of this package need Larq alone; all models of larq-zoo come with the extra `zoo`.

| name | for | binary weights |
|---|---|---|
| `birealnet20` | CIFAR: the ResNet-20 of the method's authors | 0.27 M |
| `resnet18_cifar` | CIFAR: ResNet-18 with the shortcuts of Bi-Real net | 11.0 M |
| `binarynet` | CIFAR: the VGG of Bop, binary everywhere | 10.4 M |
| `reactnet_a` | ImageNet: MobileNet with learned shifts | 28.3 M |
| `mlp` | small images and quick experiments | as told |
"""

import difflib
import inspect

from larq_filter._validation import validate_integer
from larq_filter.models import zoo
from larq_filter.models.activations import ChannelShift, RPReLU
from larq_filter.models.binarynet import binarynet
from larq_filter.models.birealnet import PadChannels, birealnet20
from larq_filter.models.mlp import mlp
from larq_filter.models.reactnet import reactnet_a
from larq_filter.models.resnet18 import resnet18_cifar
from larq_filter.models.zoo import LITERATURE, SOTA, zoo_model

__all__ = [
    "ChannelShift",
    "PadChannels",
    "RPReLU",
    "binarynet",
    "birealnet20",
    "build",
    "mlp",
    "names",
    "reactnet_a",
    "resnet18_cifar",
    "smallest_image",
    "zoo_model",
]

_OWN = {
    builder.__name__: builder
    for builder in (birealnet20, mlp, resnet18_cifar, binarynet, reactnet_a)
}
_SMALLEST = {
    "birealnet20": 8,
    "mlp": 1,
    "resnet18_cifar": 8,
    "binarynet": 10,
    "reactnet_a": 32,
}


def names():
    """The names that `build` takes: this package's models, then those of larq-zoo."""
    return (*_OWN, *SOTA, *LITERATURE)


def smallest_image(name):
    """The smallest square image, in pixels a side, that the model takes with its defaults.

    Raises:
        ValueError: unknown name.
    """
    _require_known(name)
    return _SMALLEST[name] if name in _SMALLEST else zoo.smallest_image(name)


def build(name, *, input_shape, num_classes, **kwargs):
    """Builds a model.

    Args:
        name: one of `names()`.
        input_shape: (height, width, channels) of the images.
        num_classes: number of classes, >= 2.
        **kwargs: what the model takes besides: `width` (all of this package), `depth` (mlp),
            `first_padding` (binarynet), `weights` (larq-zoo: None, "imagenet", or the path of a
            weights file).

    Returns:
        An uncompiled `tf.keras.Model` with fresh weights, unless `weights` says otherwise.

    Raises:
        ImportError: a larq-zoo model without the extra `zoo`.
        TypeError: a number that is no integer.
        ValueError: unknown name, an argument that the model does not take, or a shape that the
            model cannot take.
    """
    _require_known(name)
    fixed = ("input_shape", "num_classes", "name")
    builder = _OWN.get(name, zoo_model)
    takes = [key for key in inspect.signature(builder).parameters if key not in fixed]
    unknown = [key for key in kwargs if key not in takes]
    if unknown:
        raise ValueError(
            f"{name} takes no argument {', '.join(unknown)}: it takes {', '.join(takes)}"
        )
    validate_integer("num_classes", num_classes, 2)
    own = {} if name in _OWN else {"name": name}
    return builder(**own, input_shape=input_shape, num_classes=num_classes, **kwargs)


def _require_known(name):
    if name not in names():
        lower = {known.lower(): known for known in names()}
        close = difflib.get_close_matches(str(name).lower(), lower, n=3)
        hint = ", ".join(lower[match] for match in close) or ", ".join(names())
        raise ValueError(f"unknown model {name!r}: did you mean {hint}?")
