"""Flip counts against counting by hand."""

import numpy as np
import pytest

from larq_filter import binary, callbacks
from larq_filter._keras import keras
from larq_filter.optimizers import FilterOptimizer

import larq as lq


def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 8)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def model_of(quantizer="ste_sign"):
    kernel = {"kernel_quantizer": quantizer, "kernel_constraint": "weight_clip"}
    return keras.Sequential(
        [
            keras.Input((8,)),
            lq.layers.QuantDense(16, name="first", **kernel),
            keras.layers.BatchNormalization(),
            lq.layers.QuantDense(12, input_quantizer="ste_sign", name="second", **kernel),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


def negative(model):
    return [binary.latent(kernel).numpy() < 0 for _, kernel in binary.binary_kernels(model)]


class ByHand(keras.callbacks.Callback):
    """Compares the signs after every batch: right when one batch is one step."""

    def on_train_begin(self, logs=None):
        self.before = negative(self.model)
        self.flips, self.steps = np.zeros(2), 0

    def on_train_batch_end(self, batch, logs=None):
        now = negative(self.model)
        self.flips += [np.sum(a != b) for a, b in zip(now, self.before, strict=True)]
        self.before, self.steps = now, self.steps + 1


OPTIMIZERS = {
    "filter": lambda: FilterOptimizer(),
    "latent adam": lambda: keras.optimizers.Adam(0.05),
    "latent sgd": lambda: keras.optimizers.SGD(5.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("quantizer", ["ste_sign", "magnitude_aware_sign"])
def test_flip_ratio_is_the_count_by_hand(name, quantizer):
    x, y = data()
    model = model_of(quantizer)
    model.compile(OPTIMIZERS[name](), "sparse_categorical_crossentropy")
    if name == "filter":
        model.optimizer.build(model.trainable_variables)
    flips, hand = callbacks.FlipRatio(), ByHand()
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[flips, hand]).history
    sizes = np.array([8 * 16, 16 * 12])
    expected = hand.flips / hand.steps
    assert hand.flips.min() > 0
    assert history["flip_ratio"][0] == pytest.approx(expected.sum() / sizes.sum(), abs=1e-12)
    assert flips.per_layer["first"] == pytest.approx(expected[0] / sizes[0], abs=1e-12)
    assert flips.per_layer["second"] == pytest.approx(expected[1] / sizes[1], abs=1e-12)


def test_counts_every_step_under_steps_per_execution():
    """The same training in executions of 1 and of 4 steps counts the same flips."""
    x, y = data()
    ratios = []
    for steps in (1, 4):
        keras.utils.set_random_seed(0)
        model = model_of()
        model.compile(
            FilterOptimizer(), "sparse_categorical_crossentropy", steps_per_execution=steps
        )
        callback = callbacks.FlipRatio()
        fit = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
        ratios.append(model.fit(x, y, callbacks=[callback], **fit).history["flip_ratio"])
    assert ratios[0] == ratios[1]
    assert min(ratios[0]) > 0


def test_frozen_kernels_count_zero():
    x, y = data()
    model = model_of()
    for layer, _ in binary.binary_kernels(model):
        layer.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    callback = callbacks.FlipRatio()
    history = model.fit(x, y, verbose=0, callbacks=[callback]).history
    assert history["flip_ratio"] == [0.0]
    assert callback.per_layer == {"first": 0.0, "second": 0.0}


def test_the_model_is_left_as_it_was():
    x, y = data()
    model = model_of()
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0, callbacks=[callbacks.FlipRatio()])
    assert "train_step" not in vars(model)
    model.fit(x, y, verbose=0)  # traces the model's own step again
    model.fit(x, y, verbose=0, callbacks=[callbacks.FlipRatio()])


def test_replicas_count_once(strategy):
    """Under two replicas the ratio is that of one device, not twice it."""
    x, y = data()
    with strategy.scope():
        model = model_of()
        model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
    flips, hand = callbacks.FlipRatio(), ByHand()
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[flips, hand]).history
    expected = hand.flips.sum() / hand.steps / (8 * 16 + 16 * 12)
    assert expected > 0
    assert history["flip_ratio"][0] == pytest.approx(expected, abs=1e-12)


def test_nothing_to_count():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    x, _ = data()
    with pytest.raises(ValueError, match="FlipRatio has nothing to count"):
        model.fit(x, np.zeros((64, 3)), verbose=0, callbacks=[callbacks.FlipRatio()])
