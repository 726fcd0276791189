"""Binary networks by name: `build("birealnet20", input_shape=(32, 32, 3), num_classes=10)`.

Every model ends in a float32 softmax, as the models of larq-zoo do, and takes any number of
channels. `birealnet20` and `mlp` need Larq alone; all models of larq-zoo come with the extra `zoo`.
"""

import difflib
import inspect

from larq_filter.models.birealnet import PadChannels, birealnet20
from larq_filter.models.mlp import mlp
from larq_filter.models.zoo import LITERATURE, SOTA, zoo_model

__all__ = ["PadChannels", "birealnet20", "build", "mlp", "names", "zoo_model"]

_OWN = {"birealnet20": birealnet20, "mlp": mlp}


def names():
    """The names that `build` takes: this package's models, then those of larq-zoo."""
    return (*_OWN, *SOTA, *LITERATURE)


def build(name, *, input_shape, num_classes, **kwargs):
    """Builds a model.

    Args:
        name: one of `names()`.
        input_shape: (height, width, channels) of the images.
        num_classes: number of classes, >= 2.
        **kwargs: what the model takes besides: `width` (birealnet20), `width` and `depth` (mlp),
            `weights` (larq-zoo: None, "imagenet", or the path of a weights file).

    Returns:
        An uncompiled `tf.keras.Model` with fresh weights, unless `weights` says otherwise.

    Raises:
        ImportError: a larq-zoo model without the extra `zoo`.
        ValueError: unknown name, an argument that the model does not take, or a shape that the
            model cannot take.
    """
    if name not in names():
        lower = {known.lower(): known for known in names()}
        close = difflib.get_close_matches(str(name).lower(), lower, n=3)
        hint = ", ".join(lower[match] for match in close) or ", ".join(names())
        raise ValueError(f"unknown model {name!r}: did you mean {hint}?")
    fixed = ("input_shape", "num_classes", "name")
    builder = _OWN.get(name, zoo_model)
    takes = [key for key in inspect.signature(builder).parameters if key not in fixed]
    unknown = [key for key in kwargs if key not in takes]
    if unknown:
        raise ValueError(
            f"{name} takes no argument {', '.join(unknown)}: it takes {', '.join(takes)}"
        )
    if not (isinstance(num_classes, int) and num_classes >= 2):
        raise ValueError(f"num_classes must be an integer >= 2, got {num_classes!r}")
    own = {} if name in _OWN else {"name": name}
    return builder(**own, input_shape=input_shape, num_classes=num_classes, **kwargs)
