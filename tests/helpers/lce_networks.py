"""Small networks for Larq Compute Engine, and what the tests ask of their reports."""

import numpy as np

from larq_filter import binary
from larq_filter._keras import keras

import larq

layers = keras.layers
NOOP = larq.quantizers.NoOp(precision=1)


def conv(filters=32, size=3, **options):
    """A convolution that LCE runs on bits, unless the options say otherwise."""
    defaults = dict(
        padding="same",
        pad_values=1,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        use_bias=False,
    )
    return larq.layers.QuantConv2D(filters, size, **{**defaults, **options})


def chain(*parts, shape=(6, 6, 32)):
    return keras.Sequential([keras.Input(shape), *parts])


def classifier(*parts, shape=(6, 6, 32), classes=5):
    head = [layers.BatchNormalization(), layers.Flatten(), layers.Dense(classes)]
    return chain(*parts, *head, layers.Activation("softmax", dtype="float32"), shape=shape)


def inputs_of(model, count=24):
    return np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype("float32")


def settled(model):
    """``model`` with batch statistics as after training: no signal is far from zero."""
    for layer in binary.layers_of(model):
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(inputs_of(model), training=True)
    return model


def claim(report, name):
    (found,) = [claim for claim in report.claims if claim.name == name]
    return found


def only(findings):
    (found,) = findings
    return found
