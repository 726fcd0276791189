"""A small network with latent kernels, its optimizer and rules, for tests of both."""

import numpy as np

import networks
from larq_filter import binary, conversion
from larq_filter._keras import keras, tf
from larq_filter.latent_rules import Clip, GlorotScale, Metaplastic, SilentWeights
from larq_filter.optimizers.latent_optimizer import LatentOptimizer

optimizers = keras.optimizers
KERNEL = {
    "momentum": lambda: optimizers.SGD(
        optimizers.schedules.CosineDecay(0.5, 30), 0.9, weight_decay=1e-2
    ),
    "adam": lambda: optimizers.Adam(1e-2),
}
DECAY = optimizers.schedules.PolynomialDecay
RULES = [
    SilentWeights(0.5, 0.05, momentum=0.7, threshold=0.05, start=1.0),  # silent from the 9th step
    GlorotScale(),
    Metaplastic(2.0),
    Clip(DECAY(1.0, 12, 0.6)),
]


def make(kernel="momentum", **arguments):
    return LatentOptimizer(KERNEL[kernel](), optimizers.Adam(3e-3), **arguments)


def latent_model(
    normalization=lambda: keras.layers.BatchNormalization(momentum=0.9), magnitude=0.5
):
    keras.utils.set_random_seed(0)
    return conversion.to_latent(networks.small_network(normalization), magnitude=magnitude)


def values(variables):
    return [binary.latent(variable).numpy() for variable in variables]


def split(variables):
    kernels, rest = split_pairs(variables, variables)
    return [variable for variable, _ in kernels], [variable for variable, _ in rest]


def split_pairs(items, variables):
    """(item, variable) pairs of the latent kernels, and those of the rest."""
    parts = [], []
    for item, variable in zip(items, variables, strict=True):
        parts[not hasattr(variable, "latent_variable")].append((item, variable))
    return parts


def gradients_of(variables, steps):
    random = np.random.default_rng(0)
    return [
        [tf.constant(random.normal(size=v.shape), tf.float32) for v in variables]
        for _ in range(steps)
    ]


def data():
    random = np.random.default_rng(1)
    return random.normal(size=(64, 8)).astype("float32"), random.integers(0, 3, 64)


def fit(model, epochs, first=0):
    x, y = data()
    model.fit(x, y, 16, epochs=epochs, initial_epoch=first, shuffle=False, verbose=0)
