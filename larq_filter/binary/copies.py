"""What a copy of a layer needs besides its config and the values of its variables.

A config holds no function that has no name, a frozen part lists its variables elsewhere, and a
``Normalization`` computes with what it last derived from its variables: with each of these lost, a
copy computes something else, and nothing says so.
"""

import types
import warnings

from larq_filter._keras import keras
from larq_filter._validation import last_line


def config_of(layer) -> dict:
    """The configuration of ``layer``, with the functions themselves that a config can't name.

    Raises:
        TypeError: the layer has no configuration.
    """
    try:
        with warnings.catch_warnings():  # of lambdas, in whose place the functions are put below
            warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
            config = layer.get_config()
    except Exception as error:  # whatever a class of the user's makes of it
        raise TypeError(
            f"{layer.name} ({type(layer).__name__}) can't be copied, since its get_config raises "
            f"{type(error).__name__}: write one that gives the arguments of its constructor."
        ) from error
    for key in config.keys() - {"function"}:  # that of a Lambda has a form of its own
        value = getattr(layer, key, None)
        quantizer = key.endswith("_quantizer") and not isinstance(value, keras.layers.Layer)
        if value is not None and (quantizer or isinstance(value, types.FunctionType)):
            config[key] = value
    return config


def remake(layer, config: dict):
    """A new layer of the kind of ``layer`` from a changed ``config``.

    Raises:
        TypeError: the class doesn't take its own configuration.
    """
    try:
        return type(layer).from_config(config)
    except Exception as error:
        raise TypeError(
            f"{layer.name} ({type(layer).__name__}) can't be copied, since it can't be made from "
            f"its own configuration: {last_line(error)}"
        ) from error


def freeze_alike(pairs) -> None:
    """Gives each copy, and the layers in it, the ``trainable`` flags of what it is a copy of.

    Before values are copied by position: ``weights`` lists what is trainable first.

    Args:
        pairs: ``(layer, copy)``, a list; a model after its layers.
    """
    # `trainable` of what holds layers sets that of everything inside: the outer ones first.
    for old, clone in reversed(pairs):
        clone.trainable = old.trainable
        if not isinstance(old, keras.Model):
            parts = zip(old._flatten_layers(), clone._flatten_layers(), strict=False)
            for part, its_clone in parts:
                its_clone.trainable = part.trainable


def settle(layer) -> None:
    """Has ``layer`` and the layers in it derive anew what they compute with from their variables.

    To be called once the variables have been assigned; a ``Normalization`` needs it.
    """
    for part in layer._flatten_layers():
        part.finalize_state()
