"""A program that uses larq_filter as its users do, for ``mypy --strict``; it is never run.

Each line that ends in ``# wrong`` must be an error there, and no other.
"""

import pathlib

import numpy as np
from numpy.typing import NDArray

import larq_filter as lf
from larq_filter import FilterOptimizer, LatentOptimizer, filters, flips, presets

import tensorflow as tf


def train(
    model: tf.keras.Model, images: NDArray[np.float32], labels: NDArray[np.int32]
) -> FilterOptimizer:
    """With every kind of optimizer."""
    schedule = tf.keras.optimizers.schedules.CosineDecay(1e-3, 1000)
    cascade = filters.CascadedEMA(alpha=schedule, gamma=0.1)
    optimizer = FilterOptimizer(cascade, flips.Threshold(1e-8), "adam", warm_start=0.1)
    optimizers = [
        optimizer,
        presets.bop(gamma=1e-4),
        presets.quist2023(alpha=1e-3, default_optimizer=None),
        presets.prob_bop(steps_per_epoch=100),
        FilterOptimizer(filters.butterworth(2, 0.01)),
        FilterOptimizer(filters.Cascade((filters.EMA(0.1), filters.FIR((0.5, 0.5))))),
    ]
    latent = LatentOptimizer("sgd", default_optimizer=tf.keras.optimizers.Adam(1e-3))
    for each in (*optimizers, latent):
        free = lf.to_latent_free(model)
        free.compile(each, "sparse_categorical_crossentropy")
        free.fit(images, labels, callbacks=[lf.callbacks.FlipMonitor(pathlib.Path("flips.csv"))])
    optimizer.reset_filters()
    values: dict[str, float] = optimizer.rate_values()
    print(values, optimizer.skipped_steps)
    return optimizer


def look(model: tf.keras.Model) -> list[str]:
    """What there is to ask."""
    said = [f"{each.severity} {each}" for each in lf.check(model)]
    suggestion = lf.hyperparameters.suggest(steps_per_epoch=100, epochs=20)
    translation = lf.hyperparameters.filter_from_sgd(0.1, weight_decay=5e-4, momentum=0.9)
    frequencies, gains = lf.analysis.gain(translation.filter, steps_per_epoch=100.0)
    memory: float = lf.analysis.time_constant(filters.EMA(0.1)) + float(gains[0])
    lf.plots.bode(translation.filter).savefig("bode.pdf")
    return [*said, str(suggestion), str(memory), str(frequencies.shape)]


def run(folder: pathlib.Path) -> float:
    """The training by config, and the way to a device."""
    data = lf.datasets.load("digits", image_size=16)
    model = lf.models.build("mlp", input_shape=data.input_shape, num_classes=data.num_classes)
    for finding in lf.export.lint(model):
        print(finding)
    images, labels = next(iter(data.validation(100)))
    flatbuffer: bytes = lf.export.convert(model)
    report = lf.export.verify(model, flatbuffer, images, labels, allow_float=["dense"])
    knobs = lf.methods.Knobs(alpha=1e-3)
    config = lf.training.Config(dataset="digits", model="mlp", epochs=2, knobs=knobs)
    result = lf.training.run(config, folder, data=data, callbacks=[])
    return result.accuracy if report.ok else 0.0


def mistakes(model: tf.keras.Model) -> None:
    """Of every kind that a type checker can see."""
    FilterOptimizer(gradient_filter=0.1)  # wrong
    FilterOptimizer(filters.EMA(0.1), jit_compile="yes")  # wrong
    flips.Threshold(threshold="low")  # wrong
    filters.EMA()  # wrong
    presets.quist2023(1e-3)  # wrong
    lf.models.build("mlp", (8, 8, 1), 10)  # wrong
    lf.hyperparameters.suggest("100", 20)  # wrong
    lf.export.verify(model, "model.tflite", [])  # wrong
    print(lf.filter_optimizer)  # wrong
    accuracy: str = lf.training.run(lf.training.Config(), "run").accuracy  # wrong
    print(accuracy)
