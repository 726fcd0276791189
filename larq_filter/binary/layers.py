"""Layers of a model that have binary kernels, and the order in which a model calls its layers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from larq_filter._keras import keras
from larq_filter.binary.kernels import is_binary, is_quantized


def require_built(model) -> None:
    """Raises unless ``model`` is a Keras model with variables.

    Raises:
        TypeError: no Keras model.
        ValueError: no variables yet.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a tf.keras.Model, not {model!r}.")
    if not model.built:
        raise ValueError(
            f"The model {model.name} has no variables yet: give it an Input or call "
            "model.build(input_shape) first."
        )


def layers_of(model) -> list:
    """All layers that own variables, nested models opened, each once, in the model's order."""
    layers = {}
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if not isinstance(layer, keras.Model):
            layers[id(layer)] = layer
    return list(layers.values())


def binary_kernels(model: keras.Model, trainable_only: bool = True) -> list[tuple]:
    """``(layer, variable)`` for every binary kernel of ``model``, shared ones once.

    Args:
        model: a built Keras model.
        trainable_only: leave out the kernels of layers with ``trainable=False``.
    """
    return [found for found in quantized_kernels(model, trainable_only) if is_binary(found[1])]


def quantized_kernels(model: keras.Model, trainable_only: bool = True) -> list[tuple]:
    """The same for every kernel with a quantizer, of any number of bits."""
    kernels = {}
    for layer in layers_of(model):
        if layer.trainable or not trainable_only:
            for variable in layer._trainable_weights:
                if is_quantized(variable):
                    kernels.setdefault(id(variable.latent_variable), (layer, variable))
    return list(kernels.values())


def binary_kernels_of(layer: Any) -> Iterator[tuple[str, Any, Any]]:
    """``(prefix, quantizer, variable)`` for each 1-bit kernel of one layer, by its attributes."""
    return (found for found in quantized_kernels_of(layer) if is_binary(found[2]))


def quantized_kernels_of(layer: Any) -> Iterator[tuple[str, Any, Any]]:
    """The same for each kernel with a quantizer, of any number of bits."""
    for attribute in [key for key in vars(layer) if key.endswith("_quantizer")]:
        prefix = attribute.removesuffix("_quantizer")
        for name in (prefix, f"{prefix}_kernel"):
            variable = getattr(layer, name, None)
            if prefix != "input" and is_quantized(variable):
                yield prefix, getattr(layer, attribute), variable


def nodes_of(model) -> list:
    """The calls of layers in the graph of ``model``, each after those whose outputs it takes."""
    by_depth = model._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def describe(output: np.ndarray) -> str:
    """The values of ``output`` as text: each if they are few, else their range."""
    values = np.unique(output)
    if len(values) > 4:
        return f"{len(values)} different values from {values[0]:.3g} to {values[-1]:.3g}"
    return " and ".join(f"{value:.3g}" for value in values)
