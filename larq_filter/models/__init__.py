"""Binary networks by name: `build("birealnet20", input_shape=(32, 32, 3), num_classes=10)`.

Every model ends in a float32 softmax, as the models of larq-zoo do, and takes any number of
channels. Those of this package need Larq alone; all models of larq-zoo come with the extra `zoo`.

| name | for | binary weights |
|---|---|---|
| `birealnet20` | CIFAR: the ResNet-20 of the method's authors | 0.27 M |
| `resnet18_cifar` | CIFAR: ResNet-18 with the shortcuts of Bi-Real net | 11.0 M |
| `binarynet` | CIFAR: the VGG of Bop, binary everywhere | 10.4 M |
| `reactnet_a` | ImageNet: MobileNet with learned shifts | 28.3 M |
| `starter` | first runs: every layer as Larq Compute Engine likes it | 0.11 M |
| `mlp` | small images and quick experiments | as told |
| `xnorpp20` | CIFAR: `birealnet20` with learned scales of outputs (XNOR-Net++) | 0.27 M |
| `abcnet20` | CIFAR: `birealnet20` of 3 x 3 binary convolutions each (ABC-Net) | 0.80 M |
| `elasticlink20` | CIFAR: `birealnet20` with learned shares of shortcuts (Elastic-Link) | 0.27 M |
| `birealnet20_nobn` | CIFAR: `birealnet20` without batch normalisation (BNN-BN) | 0.27 M |

The last four are structures: any method trains them. docs/models.md says what of each is published.
"""

import difflib
import inspect
import os
from collections.abc import Sequence
from typing import Any

from larq_filter._validation import validate_integer
from larq_filter.models import packed, pretrained, zoo
from larq_filter.models.abcnet import Shifts, SumOfBases, abcnet20
from larq_filter.models.activations import ChannelShift, RPReLU
from larq_filter.models.binarynet import binarynet
from larq_filter.models.birealnet import PadChannels, birealnet20
from larq_filter.models.elasticlink import elasticlink20
from larq_filter.models.mlp import mlp
from larq_filter.models.nobn import birealnet20_nobn
from larq_filter.models.packed import Packed, pack, unpack
from larq_filter.models.pretrained import model_card, pretrained_file, pretrained_names
from larq_filter.models.reactnet import reactnet_a
from larq_filter.models.resnet18 import resnet18_cifar
from larq_filter.models.scales import OutputScale
from larq_filter.models.starter import starter
from larq_filter.models.xnorpp import xnorpp20
from larq_filter.models.zoo import LITERATURE, SOTA, zoo_model

__all__ = [
    "ChannelShift",
    "OutputScale",
    "Packed",
    "PadChannels",
    "RPReLU",
    "Shifts",
    "SumOfBases",
    "abcnet20",
    "binarynet",
    "birealnet20",
    "birealnet20_nobn",
    "build",
    "elasticlink20",
    "load",
    "mlp",
    "model_card",
    "names",
    "pack",
    "pretrained_file",
    "pretrained_names",
    "reactnet_a",
    "resnet18_cifar",
    "smallest_image",
    "starter",
    "unpack",
    "xnorpp20",
    "zoo_model",
]

_OWN = {
    builder.__name__: builder
    for builder in (
        birealnet20,
        starter,
        mlp,
        resnet18_cifar,
        binarynet,
        reactnet_a,
        xnorpp20,
        abcnet20,
        elasticlink20,
        birealnet20_nobn,
    )
}
_SMALLEST = {
    "birealnet20": 8,
    "starter": 1,
    "mlp": 1,
    "resnet18_cifar": 8,
    "binarynet": 10,
    "reactnet_a": 32,
    "xnorpp20": 8,
    "abcnet20": 8,
    "elasticlink20": 8,
    "birealnet20_nobn": 8,
}


def names() -> tuple[str, ...]:
    """The names that `build` takes: this package's models, then those of larq-zoo."""
    return (*_OWN, *SOTA, *LITERATURE)


def smallest_image(name: str) -> int:
    """The smallest square image, in pixels a side, that the model takes with its defaults.

    Raises:
        ValueError: unknown name.
    """
    _require_known(name)
    return _SMALLEST[name] if name in _SMALLEST else zoo.smallest_image(name)


def build(
    name: str,
    *,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    **kwargs: Any,
) -> Any:
    """Builds a model.

    Args:
        name: one of `names()`.
        input_shape: (height, width, channels) of the images; needed, unless `weights` says it.
        num_classes: number of classes, >= 2; needed, unless `weights` says it.
        **kwargs: what the model takes besides: `width` (all of this package), `depth` (mlp),
            `first_padding` (binarynet), `form` (xnorpp20), `weight_bases` and `activation_bases`
            (abcnet20), and `weights`. For a model of this package these are None, "cifar10" if it
            comes trained so (`pretrained_names`), or the path of a file that `pack` made; what the
            model card in there says of the network is taken from it where it is not given. For one
            of larq-zoo they are None, "imagenet", or the path of a weights file of Keras.

    Returns:
        An uncompiled `tf.keras.Model` with fresh weights, unless `weights` says otherwise.

    Raises:
        FileNotFoundError: there is no file `weights`.
        ImportError: a larq-zoo model without the extra `zoo`.
        TypeError: a number that is no integer; `input_shape` or `num_classes` is missing.
        ValueError: unknown name, an argument that the model does not take, a shape that the
            model cannot take, weights of a network of other shapes, or an argument that a network
            that comes trained was not trained with.
    """
    _require_known(name)
    fixed = ("input_shape", "num_classes", "name")
    builder = _OWN.get(name, zoo_model)
    takes = [key for key in inspect.signature(builder).parameters if key not in fixed]
    weights = None
    if name in _OWN:
        takes.append("weights")
        weights = kwargs.pop("weights", None)
    unknown = [key for key in kwargs if key not in takes]
    if unknown:
        raise ValueError(
            f"{name} takes no argument {', '.join(unknown)}: it takes {', '.join(takes)}"
        )
    if num_classes is not None:
        validate_integer("num_classes", num_classes, 2)
    shapes = {"input_shape": input_shape, "num_classes": num_classes}
    arguments = {key: value for key, value in (shapes | kwargs).items() if value is not None}
    if weights is not None:
        path = pretrained.find(name, weights)
        content = unpack(path)
        known = _arguments_in(content.about, name)
        if pretrained.is_own(path):
            pretrained.refuse_others(weights, known, arguments)
        arguments = known | arguments
    missing = [key for key in shapes if key not in arguments]
    if missing:
        raise TypeError(f"{name} can't be built without {' and '.join(missing)}: give them.")
    own = {} if name in _OWN else {"name": name}
    model = builder(**own, **arguments)
    if weights is not None:
        packed.set_weights(model, content, path)
    return model


def load(path: str | os.PathLike[str]) -> Any:
    """The network in a file of `pack` whose model card says which it is.

    Args:
        path: `.npz`; its `about` has `network`, the name of a model of this package, and what
            `build` was given besides: `input_shape`, `num_classes`, `width`...

    Returns:
        An uncompiled `tf.keras.Model`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, is damaged, or does not say what it is.
    """
    about = unpack(path).about
    missing = [name for name in ("network", "input_shape", "num_classes") if not about.get(name)]
    if missing:
        raise ValueError(
            f"{os.fspath(path)} does not say {' and '.join(missing)} of its network. Build it by "
            "models.build(name, ..., weights=path), or pack it with these in `about`."
        )
    name = about["network"]
    if not isinstance(name, str) or name not in _OWN:
        raise ValueError(
            f"{os.fspath(path)} is of the network {name!r}, which is none of this package. Build "
            "it, and model.set_weights(models.unpack(path).weights)."
        )
    return build(name, weights=path)


def _arguments_in(about, name):
    """What a model card says of the arguments of a model, if it is of that one."""
    takes = inspect.signature(_OWN[name]).parameters if about.get("network") == name else ()
    return {key: about[key] for key in takes if about.get(key) is not None}


def _require_known(name):
    if name not in names():
        lower = {known.lower(): known for known in names()}
        close = difflib.get_close_matches(name.lower(), lower, n=3) if isinstance(name, str) else ()
        hint = ", ".join(lower[match] for match in close) or ", ".join(names())
        raise ValueError(f"unknown model {name!r}: did you mean {hint}?")
